"""Networks, built from a job's spec. Each takes uint8 images and gives logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from app.specs import CNNSpec, LinearProbeSpec, MLPSpec, ModelSpec, ResNetSpec, TorchvisionSpec
from worker.training.models.cnn import CNN, FastNet
from worker.training.models.mlp import MLP
from worker.training.models.probe import LinearProbe
from worker.training.models.torchvision import ModelUnavailable, Torchvision, pretrained_url

__all__ = [
    "CNN",
    "MLP",
    "Classifier",
    "FastNet",
    "LinearProbe",
    "ModelUnavailable",
    "Torchvision",
    "block_of",
    "build_net",
    "head_names",
    "pretrained_url",
]

_CIFAR_CHANNELS = (16, 32, 64)
_FAST_WIDTH = 56


class Classifier(nn.Module):
    """A network with its normalisation: `[N, C, H, W] uint8` in, `[N, classes]` logits out.

    `mean` and `std` ([C], of pixels scaled to 0..1) are those of the training split. They are part of the weights,
    so that whoever loads a checkpoint cannot normalise in another way than training did.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, net: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.net = net
        # (x / 255 - mean) / std as one multiplication and one addition
        self.register_buffer("scale", (1 / (255 * std)).reshape(1, -1, 1, 1))
        self.register_buffer("shift", (-mean / std).reshape(1, -1, 1, 1))
        # Channels last is what convolutions are fast in, on the CPU and on tensor cores.
        convolves = any(isinstance(module, nn.Conv2d) for module in net.modules())
        self.memory_format = torch.channels_last if convolves else torch.contiguous_format
        self.to(memory_format=self.memory_format)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch."""
        logits: Tensor = self.net(self.normalised(images))
        return logits

    def normalised(self, images: Tensor) -> Tensor:
        """The images as the network sees them."""
        x = images.to(self.scale.dtype, memory_format=self.memory_format)
        return torch.addcmul(self.shift, x, self.scale)

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Tensor:
        """Class probabilities `[N, classes]` of `[N, C, H, W] uint8` images, in evaluation mode."""
        self.eval()
        return self(images).softmax(dim=1)  # type: ignore[no-any-return]


def build_net(spec: ModelSpec, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The network of a spec for images of `shape` (C, H, W), with fresh weights. Raises ModelUnavailable."""
    match spec:
        case MLPSpec():
            return MLP(shape, classes, spec.hidden, spec.dropout, spec.residual, spec.norm, spec.activation)
        case CNNSpec():
            norm = spec.norm == "batch"
            return CNN(shape, classes, spec.channels, spec.blocks, spec.residual, norm=norm, dropout=spec.dropout)
        case ResNetSpec(variant="fast"):
            return FastNet(shape, classes, _scaled(_FAST_WIDTH, spec.width))
        case ResNetSpec():
            depth = int(spec.variant.removeprefix("resnet"))
            channels = [_scaled(width, spec.width) for width in _CIFAR_CHANNELS]
            return CNN(shape, classes, channels, (depth - 2) // 6, residual=True)
        case TorchvisionSpec():
            return Torchvision(shape, classes, spec.name, spec.image_size)
        case LinearProbeSpec():
            if spec.backbone is None:
                raise ModelUnavailable("This linear_probe has no backbone; submit it with init_from.job.")
            head = _head_of(spec.backbone, shape)
            return LinearProbe(build_net(spec.backbone, shape, 2), head, classes)


def head_names(spec: ModelSpec, shape: tuple[int, int, int], classes: int) -> frozenset[str]:
    """Names, in a Classifier, of the weights whose shape follows from the number of classes."""
    with torch.device("meta"):
        ours, other = (build_net(spec, shape, count).state_dict() for count in (classes, classes + 1))
    return frozenset(f"net.{name}" for name, weight in ours.items() if weight.shape != other[name].shape)


def _head_of(spec: ModelSpec, shape: tuple[int, int, int]) -> str:
    """The path of a network's last layer. Raises ModelUnavailable where it is not linear."""
    (path,) = {name.removeprefix("net.").rpartition(".")[0] for name in head_names(spec, shape, 2)}
    with torch.device("meta"):
        head = build_net(spec, shape, 2).get_submodule(path)
    if not isinstance(head, nn.Linear):
        raise ModelUnavailable(f"A linear_probe needs a network whose last layer is linear; {spec.kind}'s is not.")
    return path


def block_of(name: str) -> str:
    """The block of layers that a Classifier's weight belongs to: `net.stages.1.halve.0.weight` is of `stages.1`,
    `net.head.bias` of `head`. In the order of a model's weights, blocks come from the first layer to the head."""
    parts = name.split(".")
    while parts[0] == "net":
        parts = parts[1:]
    numbered = next((index for index, part in enumerate(parts) if part[-1].isdigit() and index), 0)
    return ".".join(parts[: numbered + 1])


def _scaled(width: int, factor: float) -> int:
    return max(1, round(width * factor))
