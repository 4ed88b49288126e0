"""Networks, built from a job's spec. Each takes uint8 images and gives logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from app.specs import ModelSpec
from worker.training.models.mlp import MLP

__all__ = ["MLP", "Classifier", "build_net"]


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

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch."""
        logits: Tensor = self.net(torch.addcmul(self.shift, images.to(self.scale.dtype), self.scale))
        return logits

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Tensor:
        """Class probabilities `[N, classes]` of `[N, C, H, W] uint8` images, in evaluation mode."""
        self.eval()
        return self(images).softmax(dim=1)  # type: ignore[no-any-return]


def build_net(spec: ModelSpec, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The network of a spec for images of `shape` (C, H, W), with PyTorch's own initial weights."""
    return MLP(shape, classes, spec.hidden, spec.dropout, spec.residual)
