"""A linear classifier on the features of another network."""

from __future__ import annotations

from torch import Tensor, nn


class LinearProbe(nn.Module):
    """`backbone`, its last layer (at the path `head`) replaced by a new linear one outside of it."""

    def __init__(self, backbone: nn.Module, head: str, classes: int) -> None:
        super().__init__()
        width = backbone.get_submodule(head).in_features
        assert isinstance(width, int)
        backbone.set_submodule(head, nn.Identity())
        self.backbone = backbone
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """`[N, C, H, W]` float images to `[N, classes]` logits."""
        logits: Tensor = self.head(self.backbone(images))
        return logits
