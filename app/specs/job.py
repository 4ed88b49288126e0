"""JobSpec, and the parts of it that are no unions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, StringConstraints, model_validator

from app.specs.models import LinearProbeSpec, MLPSpec, ModelSpec
from app.specs.optimizers import AdamSpec, NoSchedulerSpec, OptimizerSpec, SchedulerSpec
from app.specs.value import Value

BEST: Literal["best_model.pth"] = "best_model.pth"
LAST: Literal["last.pth"] = "last.pth"

Tag = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[\w.:/=+-]+$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


def _written_out(value: Any) -> Any:
    """A number could be a time in seconds, or in milliseconds."""
    if isinstance(value, int | float):
        raise ValueError("a time is a text such as 2030-01-31T08:00:00Z")
    return value


Time = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_written_out)]
JobId = Annotated[str, StringConstraints(min_length=1, max_length=64)]
After = Annotated[tuple[JobId, ...], Field(strict=False, max_length=100)]
Webhook = Annotated[str, StringConstraints(max_length=2000, pattern=r"^https?://[^\s/?#@]+([/?][^\s#]*)?$")]
DatasetName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Tags = Annotated[tuple[Tag, ...], Field(strict=False, max_length=32)]


class DatasetSpec(Value):
    """What to train on, and how its training images are split and varied."""

    name: DatasetName = Field(
        "mnist",
        description="`mnist`, `fashion_mnist`, `cifar10`, `cifar100`, `digits` (1,797 real 8x8 digits, no download), "
        "or an own data set; `GET /datasets` lists them all.",
        examples=["mnist"],
    )
    val_fraction: float = Field(
        0.1,
        gt=0,
        le=0.5,
        description="Share of the training images that is held out for validation, stratified by class.",
        examples=[0.1],
    )
    split_seed: int = Field(
        0,
        ge=0,
        lt=2**32,
        description="Seed of the training/validation split. It is apart from `seed`, so that runs with "
        "different seeds, and a fine-tuned child of a job, hold out the same images.",
        examples=[0],
    )
    augment: Literal["none", "light", "standard", "strong"] = Field(
        "none",
        description="`standard`: random crop with reflection padding (an eighth of the side), and a horizontal flip "
        "where a mirrored image keeps its class (not for digits). `light`: half as much of the crop, for short runs. "
        "`strong`: `standard` and a random square of an eighth to a half of the side cut out (cutout).",
        examples=["none"],
    )


class TrainingSpec(Value):
    """The training loop."""

    max_epochs: int = Field(50, ge=1, le=100_000, description="Most epochs to train.", examples=[50])
    batch_size: int = Field(128, ge=1, le=65_536, description="Images in a step.", examples=[128])
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Label smoothing of the training loss (never of val_loss).",
        examples=[0.0],
    )
    mixup: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Mix each batch with itself in another order, in shares from Beta(mixup, mixup), labels too "
        "(Zhang et al., 2018). 0: off.",
        examples=[0.2],
    )
    cutmix: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Paste a rectangle of another image into each, its share from Beta(cutmix, cutmix), labels too "
        "(Yun et al., 2019). 0: off; with `mixup`, each batch takes one of the two by lot.",
        examples=[1.0],
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none",
        description="`balanced`: rare classes count more in the training loss, in inverse proportion to their images.",
        examples=["none"],
    )
    clip_norm: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="Scale gradients down to this norm where theirs is above; null: never.",
        examples=[1.0],
    )
    micro_batches: int = Field(
        1,
        ge=1,
        le=4096,
        description="Compute each batch in so many parts and add their gradients up: less memory, the same step.",
        examples=[1],
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Validate and keep an exponential moving average of the weights with this decay per step "
        "(smaller during the first steps); null: the weights themselves.",
        examples=[0.999],
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="Number format of the forward pass. `auto` takes bf16 for convolutions where the hardware "
        "multiplies it, else fp32; the choice is recorded with the attempt.",
        examples=["auto"],
    )
    max_seconds: float | None = Field(
        None,
        gt=0,
        le=31_536_000,
        description="Training time, in seconds over all attempts, after which training ends with the running "
        "epoch (stop reason `time_limit`). null: no limit.",
        examples=[3600.0],
    )


class EarlyStoppingSpec(Value):
    """When to stop. Each criterion is switched off with null."""

    patience: int | None = Field(
        5,
        ge=1,
        le=100_000,
        description="Stagnation: stop after this many epochs in a row in which val_loss did not fall below the "
        "reference value by more than `min_delta`. null: off.",
        examples=[5],
    )
    min_delta: float = Field(
        1e-4,
        ge=0,
        le=1e6,
        description="The smallest fall of val_loss that counts as progress.",
        examples=[1e-4],
    )
    delta_overfit: float | None = Field(
        0.1,
        ge=0,
        le=1e6,
        description="Overfitting: count epochs whose val_loss is above the best so far by more than this. null: off.",
        examples=[0.1],
    )
    overfit_patience: int | None = Field(
        3,
        ge=1,
        le=100_000,
        description="Overfitting: stop after this many such epochs in a row. null: off.",
        examples=[3],
    )


class InitFromSpec(Value):
    """Fine-tuning: start from another job's checkpoint, or from weights that torchvision offers. A head for another
    number of classes is replaced."""

    job: JobId | None = Field(
        None,
        description="Id of the job whose weights to start from.",
        examples=["0193a5b0-7c11-7d4e-8f00-5a3b1c9d2e4f"],
    )
    pretrained: Annotated[str, StringConstraints(pattern=r"^\w{1,64}$")] | None = Field(
        None,
        description="Instead of `job`, for a model of kind `torchvision`: the name of its pretrained weights, such as "
        "`IMAGENET1K_V1`, or `DEFAULT` for the best.",
        examples=[None],
    )
    checkpoint: Literal["best_model.pth"] = Field(BEST, description="Which of its checkpoints.", examples=[BEST])
    freeze: Annotated[str, StringConstraints(pattern=r"^(none|backbone|until:[\w.]+)$")] = Field(
        "none",
        description="`backbone`: train the last layer only. `until:<block>`: train this block of layers and those "
        "behind it, e.g. `until:blocks.6`; the error for an unknown block lists them.",
        examples=["none"],
    )
    freeze_norms: bool = Field(
        False, description="Leave batch norms, statistics and weights, as the parent has them.", examples=[False]
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Learning rate of each block as a share of that of the block behind it; the head has `lr`.",
        examples=[0.8],
    )
    unfreeze_every: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Gradual unfreezing: begin with the head, and let one more block train every so many epochs. "
        "null: all at once.",
        examples=[1],
    )

    @model_validator(mode="after")
    def _one_origin(self) -> InitFromSpec:
        if (self.job is None) == (self.pretrained is None):
            raise ValueError("init_from takes either job or pretrained; give one of the two")
        return self


class WandbSpec(Value):
    """Weights & Biases."""

    project: Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[\w.-]+$")] = Field(
        "whistlestop", description="The W&B project.", examples=["whistlestop"]
    )
    entity: Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[\w.-]+$")] | None = Field(
        None,
        description="The W&B team or user; null: the default of the worker's key.",
        examples=["our-lab"],
    )
    mode: Literal["online", "offline", "disabled"] = Field(
        "offline",
        description="`online` needs a key on the worker (WANDB_API_KEY) and falls back to `offline` without one.",
        examples=["offline"],
    )


class TrackingSpec(Value):
    """Where the metrics go besides the service itself."""

    wandb: WandbSpec | None = Field(
        default_factory=WandbSpec, description="Weights & Biases; null switches it off.", examples=[None]
    )


class JobSpec(Value):
    """What the user asks for, fully resolved. It never changes after submission."""

    name: Name | None = Field(None, description="A name to find the job by.", examples=["ex1-mlp-mnist"])
    tags: Tags = Field((), description="Labels to filter by.", examples=[["lab1"]])
    dataset: DatasetSpec = Field(default_factory=DatasetSpec, description="The data.")
    model: ModelSpec = Field(default_factory=MLPSpec, description="The network.")
    optimizer: OptimizerSpec = Field(default_factory=AdamSpec, description="The optimiser.")
    scheduler: SchedulerSpec = Field(default_factory=NoSchedulerSpec, description="The learning-rate schedule.")
    training: TrainingSpec = Field(
        default_factory=TrainingSpec, description="How long, in which batches, in which precision."
    )
    early_stopping: EarlyStoppingSpec | None = Field(
        default_factory=EarlyStoppingSpec,
        description="When to stop early; null trains all epochs.",
    )
    init_from: InitFromSpec | None = Field(
        None, description="Start from another job's weights; null: from scratch.", examples=[None]
    )
    tracking: TrackingSpec | None = Field(
        default_factory=TrackingSpec, description="Experiment tracking; null switches it off."
    )
    diagnostics: Literal["none", "gradients"] = Field(
        "none",
        description="`gradients`: each `epoch` event also holds the mean gradient norm of every block of layers.",
        examples=["none"],
    )
    seed: int = Field(
        0,
        ge=0,
        lt=2**32,
        description="Seed of initial weights, data order, dropout and augmentation. The same spec and seed on "
        "the same device give bit-identical weights.",
        examples=[0],
    )
    priority: int = Field(0, ge=-1000, le=1000, description="Higher runs first; equal ones by age.", examples=[0])
    not_before: Time | None = Field(
        None,
        description="Do not start before this time (RFC 3339); null: as soon as a slot is free.",
        examples=[None],
    )
    after: After = Field(
        (),
        description="Ids of jobs that must have succeeded first. Where one fails or is cancelled, this job fails. "
        "`init_from.job` may be one of them.",
        examples=[[]],
    )
    webhook: Webhook | None = Field(
        None, description="URL that is POSTed to when the job has ended (docs/operations.md).", examples=[None]
    )
    max_attempts: int = Field(
        3,
        ge=1,
        le=100,
        description="Attempts that may end in a crash before the job fails. Being handed back by a worker that "
        "is shut down does not count.",
        examples=[3],
    )

    @model_validator(mode="before")
    @classmethod
    def _a_probe_has_one_epoch(cls, spec: Any) -> Any:
        model = spec.get("model") if isinstance(spec, dict) else None
        training = spec.get("training", {}) if isinstance(spec, dict) else None
        if isinstance(model, dict) and model.get("kind") == "linear_probe" and isinstance(training, dict):
            return {**spec, "training": {"max_epochs": 1, **training}}
        return spec

    @model_validator(mode="after")
    def _parts_that_need_each_other(self) -> JobSpec:
        origin = self.init_from
        if isinstance(self.model, LinearProbeSpec):
            if origin is None or origin.job is None:
                raise ValueError("a linear_probe needs init_from.job, the job whose features it classifies")
            if self.training.max_epochs != 1:
                raise ValueError("a linear_probe is fitted at once: leave training.max_epochs out, or give 1")
        if origin is not None and origin.pretrained is not None and self.model.kind != "torchvision":
            raise ValueError(
                f"init_from.pretrained takes a model of kind torchvision, not {self.model.kind}; or start from a job"
            )
        return self
