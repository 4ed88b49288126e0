"""Optimiser and learning-rate schedule of a job."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from app.specs.value import Value, default_kind


class _Optimizer(Value):
    lr: float = Field(1e-3, gt=0, le=10, description="Learning rate.", examples=[1e-3])
    weight_decay: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Weight decay (decoupled in `adamw`), of weight matrices and filters: never of biases and norms.",
        examples=[0.0],
    )


Beta = Annotated[float, Field(ge=0, lt=1)]


class AdamSpec(_Optimizer):
    """Adam (Kingma & Ba, 2015)."""

    kind: Literal["adam"] = Field("adam", description="The kind of optimiser.", examples=["adam"])
    betas: Annotated[tuple[Beta, Beta], Field(strict=False)] = Field(
        (0.9, 0.999), description="Decay rates of the two moment estimates.", examples=[[0.9, 0.999]]
    )


class AdamWSpec(_Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019)."""

    kind: Literal["adamw"] = Field("adamw", description="The kind of optimiser.", examples=["adamw"])
    weight_decay: float = Field(0.01, ge=0, le=1, description="Decoupled weight decay.", examples=[0.01])
    betas: Annotated[tuple[Beta, Beta], Field(strict=False)] = Field(
        (0.9, 0.999), description="Decay rates of the two moment estimates.", examples=[[0.9, 0.999]]
    )


class SGDSpec(_Optimizer):
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"] = Field("sgd", description="The kind of optimiser.", examples=["sgd"])
    lr: float = Field(0.1, gt=0, le=100, description="Learning rate.", examples=[0.1])
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum.", examples=[0.9])
    nesterov: bool = Field(False, description="Nesterov's momentum (needs momentum > 0).", examples=[False])

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> SGDSpec:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum > 0; set momentum (0.9 is usual) or nesterov: false")
        return self


OptimizerSpec = Annotated[AdamSpec | AdamWSpec | SGDSpec, Field(discriminator="kind"), default_kind("adam")]


class _Scheduler(Value):
    warmup_epochs: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="Epochs in which the learning rate rises from nearly 0 to `lr`, step by step.",
        examples=[0.0],
    )


class NoSchedulerSpec(_Scheduler):
    """A constant learning rate."""

    kind: Literal["none"] = Field("none", description="The kind of schedule.", examples=["none"])


class CosineSpec(_Scheduler):
    """Cosine annealing from `lr` to `min_lr` over `max_epochs` (Loshchilov & Hutter, 2017), stepped each epoch."""

    kind: Literal["cosine"] = Field("cosine", description="The kind of schedule.", examples=["cosine"])
    min_lr: float = Field(0.0, ge=0, le=10, description="Learning rate at the end.", examples=[0.0])


class OneCycleSpec(Value):
    """The 1cycle policy (Smith & Topin, 2018) over `max_epochs`; `lr` is its peak. Stepped each batch."""

    kind: Literal["onecycle"] = Field("onecycle", description="The kind of schedule.", examples=["onecycle"])
    warmup_fraction: float = Field(
        0.3, gt=0, lt=1, description="Share of the steps in which the learning rate rises.", examples=[0.3]
    )


class StepSpec(_Scheduler):
    """Multiply the learning rate by `gamma` every `every` epochs."""

    kind: Literal["step"] = Field("step", description="The kind of schedule.", examples=["step"])
    every: int = Field(10, ge=1, le=100_000, description="Epochs between two steps.", examples=[10])
    gamma: float = Field(0.1, gt=0, lt=1, description="The factor.", examples=[0.1])


class PlateauSpec(Value):
    """Multiply the learning rate by `factor` after `patience` epochs without a lower val_loss."""

    kind: Literal["plateau"] = Field("plateau", description="The kind of schedule.", examples=["plateau"])
    factor: float = Field(0.1, gt=0, lt=1, description="The factor.", examples=[0.1])
    patience: int = Field(2, ge=0, le=100_000, description="Epochs to wait.", examples=[2])


SchedulerSpec = Annotated[
    NoSchedulerSpec | CosineSpec | OneCycleSpec | StepSpec | PlateauSpec,
    Field(discriminator="kind"),
    default_kind("none"),
]
