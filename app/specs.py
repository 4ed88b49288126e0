"""The spec of a training job (Pydantic): the vocabulary that the API and the worker share.

This module imports nothing of ours. Every field has a default, a description, limits and an example,
so the OpenAPI page explains itself, and `JobSpec()` is the lab's Exercise 1.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

BEST: Literal["best_model.pth"] = "best_model.pth"
LAST: Literal["last.pth"] = "last.pth"

Tag = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[\w.:/=+-]+$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Tags = Annotated[tuple[Tag, ...], Field(strict=False, max_length=32)]
Width = Annotated[int, Field(ge=1, le=65_536)]


class StopReason(StrEnum):
    """Why training ended. Each of them is a success."""

    MAX_EPOCHS = "max_epochs"
    STAGNATION = "stagnation"
    OVERFITTING = "overfitting"
    TIME_LIMIT = "time_limit"
    REQUESTED = "requested"


class Value(BaseModel):
    """A frozen value: unknown fields are refused, types are not coerced, NaN and infinity are no numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _default_kind(kind: str) -> BeforeValidator:
    """A part of a union that names no kind is of the default kind, so that `{"lr": 0.01}` is a whole optimiser."""
    return BeforeValidator(lambda part: {"kind": kind, **part} if isinstance(part, dict) else part)


class DatasetSpec(Value):
    """What to train on, and how its training images are split and varied."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")] = Field(
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
    augment: Literal["none", "standard", "strong"] = Field(
        "none",
        description="`standard`: random crop with reflection padding, and a horizontal flip where a mirrored "
        "image keeps its class (not for digits). `strong`: also a random square of an eighth to a half of the "
        "side cut out (cutout).",
        examples=["none"],
    )


class MLPSpec(Value):
    """A multilayer perceptron: `input -> hidden... -> Dropout -> classes`."""

    kind: Literal["mlp"] = Field("mlp", description="The kind of model.", examples=["mlp"])
    hidden: Annotated[tuple[Width, ...], Field(strict=False, min_length=1, max_length=256)] = Field(
        (128, 64), description="Widths of the hidden layers, first to last.", examples=[[128, 64]]
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout probability before the last layer.", examples=[0.2])
    residual: bool = Field(
        False,
        description="Add a skip connection around each hidden layer: the identity where the widths agree, a "
        "linear projection where they do not.",
        examples=[False],
    )
    norm: Literal["none", "batch", "layer"] = Field(
        "none", description="Normalisation after each hidden linear layer.", examples=["none"]
    )
    activation: Literal["relu", "gelu", "silu", "tanh"] = Field(
        "relu", description="Activation after each hidden layer.", examples=["relu"]
    )


class CNNSpec(Value):
    """A stack of convolutional blocks of two 3x3 convolutions each: `stem -> stages of blocks -> mean -> classes`.

    `2 * blocks * len(channels) + 2` layers have weights. `residual` adds a skip connection around each block and
    changes nothing else: the plain and the residual network have the same parameters.
    """

    kind: Literal["cnn"] = Field(description="The kind of model.", examples=["cnn"])
    channels: Annotated[tuple[Width, ...], Field(strict=False, min_length=1, max_length=5)] = Field(
        (16, 32, 64),
        description="Channels of the stages; each stage but the first halves height and width.",
        examples=[[16, 32, 64]],
    )
    blocks: int = Field(3, ge=0, le=100, description="Blocks in each stage.", examples=[3])
    residual: bool = Field(
        False,
        description="Add a skip connection around each block (where the shape changes: every second pixel, new "
        "channels zero; no parameters).",
        examples=[True],
    )
    norm: Literal["none", "batch"] = Field(
        "batch", description="Normalisation after each convolution.", examples=["batch"]
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout probability before the last layer.", examples=[0.0])


class ResNetSpec(Value):
    """Residual networks for small images."""

    kind: Literal["resnet"] = Field(description="The kind of model.", examples=["resnet"])
    variant: Literal["resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "fast"] = Field(
        "resnet20",
        description="`resnet20` to `resnet110`: the CIFAR family of He et al. (2016), section 4.2. `fast`: a short, "
        "wide one of ResNet-9's kind, for good accuracy in few epochs.",
        examples=["resnet20"],
    )
    width: float = Field(1.0, gt=0, le=16, description="Factor of the channels of every layer.", examples=[1.0])


# The classifiers of torchvision.models.
_TORCHVISION = (
    r"^(alexnet|convnext_(tiny|small|base|large)|densenet(121|161|169|201)|efficientnet_(b[0-7]|v2_[sml])|googlenet"
    r"|inception_v3|maxvit_t|mnasnet(0_5|0_75|1_0|1_3)|mobilenet_(v2|v3_large|v3_small)"
    r"|regnet_x_(400mf|800mf|1_6gf|3_2gf|8gf|16gf|32gf)|regnet_y_(400mf|800mf|1_6gf|3_2gf|8gf|16gf|32gf|128gf)"
    r"|resnet(18|34|50|101|152)|resnext(50_32x4d|101_32x8d|101_64x4d)|shufflenet_v2_x(0_5|1_0|1_5|2_0)"
    r"|squeezenet1_[01]|swin(_v2)?_[tsb]|vgg(11|13|16|19)(_bn)?|vit_(b_16|b_32|l_16|l_32|h_14)|wide_resnet(50|101)_2)$"
)


class TorchvisionSpec(Value):
    """A classifier of `torchvision.models` with a head for the data set's classes."""

    kind: Literal["torchvision"] = Field(description="The kind of model.", examples=["torchvision"])
    name: Annotated[str, StringConstraints(pattern=_TORCHVISION)] = Field(
        "resnet18", description="Name of the model in `torchvision.models`.", examples=["resnet18"]
    )
    image_size: int | None = Field(
        None,
        ge=8,
        le=1024,
        description="Side in pixels that images are scaled to (bilinear, on the device) before the network; "
        "null: as the data set has them.",
        examples=[64],
    )


ModelSpec = Annotated[
    MLPSpec | CNNSpec | ResNetSpec | TorchvisionSpec, Field(discriminator="kind"), _default_kind("mlp")
]


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


OptimizerSpec = Annotated[AdamSpec | AdamWSpec | SGDSpec, Field(discriminator="kind"), _default_kind("adam")]


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
    _default_kind("none"),
]


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
    """Fine-tuning: start from another job's checkpoint. A head for another number of classes is replaced."""

    job: str = Field(
        min_length=1,
        max_length=64,
        description="Id of the job whose weights to start from.",
        examples=["0193a5b0-7c11-7d4e-8f00-5a3b1c9d2e4f"],
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
    max_attempts: int = Field(
        3,
        ge=1,
        le=100,
        description="Attempts that may end in a crash before the job fails. Being handed back by a worker that "
        "is shut down does not count.",
        examples=[3],
    )


class EpochRow(Value):
    """The metrics of one epoch. Losses are means over images; accuracies are shares of 1."""

    epoch: int = Field(ge=1, description="Number of the epoch, from 1.", examples=[1])
    train_loss: float = Field(description="Mean training loss, in training mode.", examples=[0.41])
    train_acc: float = Field(description="Training accuracy, in training mode.", examples=[0.88])
    val_loss: float = Field(description="Mean loss on the validation split.", examples=[0.19])
    val_acc: float = Field(description="Accuracy on the validation split.", examples=[0.94])
    lr: float = Field(description="Learning rate of the epoch's last step.", examples=[0.001])
    seconds: float = Field(description="Duration of training and validation, in seconds.", examples=[0.71])
    samples_per_second: float = Field(description="Training images per second.", examples=[84000.0])


class ClassFigures(Value):
    """One class of an evaluation."""

    label: int = Field(ge=0, description="Number of the class.", examples=[3])
    name: str = Field(description="Name of the class.", examples=["3"])
    precision: float = Field(description="Precision.", examples=[0.98])
    recall: float = Field(description="Recall.", examples=[0.97])
    f1: float = Field(description="F1.", examples=[0.975])
    support: int = Field(ge=0, description="Test images of the class.", examples=[1010])


class Evaluation(Value):
    """The best weights on the test split. Precision, recall and F1 are weighted by class support."""

    split: Literal["test"] = Field("test", description="The split.", examples=["test"])
    samples: int = Field(ge=1, description="Test images.", examples=[10000])
    loss: float = Field(description="Mean cross-entropy.", examples=[0.0824])
    accuracy: float = Field(description="Accuracy.", examples=[0.9768])
    precision: float = Field(description="Weighted precision.", examples=[0.9769])
    recall: float = Field(description="Weighted recall.", examples=[0.9768])
    f1: float = Field(description="Weighted F1.", examples=[0.9768])
    per_class: Annotated[tuple[ClassFigures, ...], Field(strict=False)] = Field(description="Each class.")
    confusion_matrix: Annotated[tuple[Annotated[tuple[int, ...], Field(strict=False)], ...], Field(strict=False)] = (
        Field(description="`confusion_matrix[i][j]`: images of class i that were taken for class j.")
    )
