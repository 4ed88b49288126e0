"""Optimisers and learning-rate schedules, built from a job's spec."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, optim
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from app.specs import (
    AdamSpec,
    AdamWSpec,
    CosineSpec,
    NoSchedulerSpec,
    OneCycleSpec,
    OptimizerSpec,
    PlateauSpec,
    SchedulerSpec,
    SGDSpec,
    StepSpec,
)


def build_optimizer(spec: OptimizerSpec, weights: Sequence[tuple[float, Sequence[Tensor]]]) -> optim.Optimizer:
    """PyTorch's fused optimiser of the spec, over groups of weights with their share of the learning rate. Biases and
    norms, which have one dimension, do not decay."""
    groups: list[dict[str, Any]] = []
    for share, parameters in weights:
        flat = [parameter for parameter in parameters if parameter.ndim < 2 and spec.weight_decay]
        rest = [parameter for parameter in parameters if parameter.ndim >= 2 or not spec.weight_decay]
        for chosen, decay in ((rest, spec.weight_decay), (flat, 0.0)):
            if chosen:
                groups.append({"params": chosen, "lr": spec.lr * share, "weight_decay": decay})
    match spec:
        case AdamSpec():
            return optim.Adam(groups, spec.lr, spec.betas, weight_decay=spec.weight_decay, fused=True)
        case AdamWSpec():
            return optim.AdamW(groups, spec.lr, spec.betas, weight_decay=spec.weight_decay, fused=True)
        case SGDSpec():
            return optim.SGD(
                groups,
                spec.lr,
                momentum=spec.momentum,
                weight_decay=spec.weight_decay,
                nesterov=spec.nesterov,
                fused=True,
            )


@dataclass
class Schedule:
    """A learning-rate schedule; all but `plateau` move after each batch."""

    scheduler: LRScheduler | None

    def after_batch(self) -> None:
        """Move, if this schedule does so after a batch."""
        if self.scheduler is not None and not isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step()

    def after_epoch(self, val_loss: float) -> None:
        """Move, if this schedule does so after an epoch."""
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(val_loss)


def build_schedule(spec: SchedulerSpec, optimizer: optim.Optimizer, epochs: int, steps_per_epoch: int) -> Schedule:
    """The schedule of the spec over `epochs` of `steps_per_epoch` batches."""
    match spec:
        case OneCycleSpec():
            peak = [group["lr"] for group in optimizer.param_groups]
            return Schedule(OneCycleLR(optimizer, peak, epochs * steps_per_epoch, pct_start=spec.warmup_fraction))
        case PlateauSpec():
            return Schedule(ReduceLROnPlateau(optimizer, factor=spec.factor, patience=spec.patience))
        case NoSchedulerSpec(warmup_epochs=0):
            return Schedule(None)
        case _:
            lowest = spec.min_lr / optimizer.param_groups[0]["lr"] if isinstance(spec, CosineSpec) else 0.0

            def factor(step: int) -> float:
                rise = min(1.0, (step + 1) / (spec.warmup_epochs * steps_per_epoch + 1))
                return rise * _factor(spec, step // steps_per_epoch, epochs, lowest)

            return Schedule(LambdaLR(optimizer, factor))


def _factor(spec: NoSchedulerSpec | CosineSpec | StepSpec, epoch: int, epochs: int, lowest: float) -> float:
    match spec:
        case CosineSpec():
            return lowest + (1 - lowest) * (1 + math.cos(math.pi * min(epoch, epochs) / epochs)) / 2
        case StepSpec():
            return spec.gamma ** (epoch // spec.every)
        case NoSchedulerSpec():
            return 1.0
