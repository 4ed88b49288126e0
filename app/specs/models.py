"""The network of a job."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from app.specs.value import Value, Width, default_kind


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
TORCHVISION = (
    r"^(alexnet|convnext_(tiny|small|base|large)|densenet(121|161|169|201)|efficientnet_(b[0-7]|v2_[sml])|googlenet"
    r"|inception_v3|maxvit_t|mnasnet(0_5|0_75|1_0|1_3)|mobilenet_(v2|v3_large|v3_small)"
    r"|regnet_x_(400mf|800mf|1_6gf|3_2gf|8gf|16gf|32gf)|regnet_y_(400mf|800mf|1_6gf|3_2gf|8gf|16gf|32gf|128gf)"
    r"|resnet(18|34|50|101|152)|resnext(50_32x4d|101_32x8d|101_64x4d)|shufflenet_v2_x(0_5|1_0|1_5|2_0)"
    r"|squeezenet1_[01]|swin(_v2)?_[tsb]|vgg(11|13|16|19)(_bn)?|vit_(b_16|b_32|l_16|l_32|h_14)|wide_resnet(50|101)_2)$"
)


class TorchvisionSpec(Value):
    """A classifier of `torchvision.models` with a head for the data set's classes."""

    kind: Literal["torchvision"] = Field(description="The kind of model.", examples=["torchvision"])
    name: Annotated[str, StringConstraints(pattern=TORCHVISION)] = Field(
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


class LinearProbeSpec(Value):
    """A linear classifier on the frozen features of another job's network: the baseline that fine-tuning must beat.

    scikit-learn's logistic regression fits it at once, so it has one epoch. `init_from.job` names the network.
    """

    kind: Literal["linear_probe"] = Field(description="The kind of model.", examples=["linear_probe"])
    C: float = Field(
        1.0,
        gt=0,
        le=1e9,
        description="Inverse of the strength of L2 regularisation, as in scikit-learn.",
        examples=[1.0],
    )
    max_iter: int = Field(1000, ge=1, le=1_000_000, description="Most iterations of L-BFGS.", examples=[1000])
    backbone: Backbone | None = Field(
        None, description="The network that gives the features; filled in from the parent's spec.", examples=[None]
    )


Backbone = Annotated[MLPSpec | CNNSpec | ResNetSpec | TorchvisionSpec, Field(discriminator="kind")]
ModelSpec = Annotated[
    MLPSpec | CNNSpec | ResNetSpec | TorchvisionSpec | LinearProbeSpec, Field(discriminator="kind"), default_kind("mlp")
]
LinearProbeSpec.model_rebuild()
