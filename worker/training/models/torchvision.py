"""Classifiers of `torchvision.models`, for any number of classes, image channels and image sizes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ModelUnavailable(RuntimeError):
    """The model does not take such images."""


class Torchvision(nn.Module):
    """One of them: grey images become three equal channels, and images are scaled to `image_size` where it is set.

    Raises ModelUnavailable where it cannot take images of this size.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, name: str, image_size: int | None) -> None:
        from torchvision.models import get_model  # noqa: PLC0415  (a second of imports that other models do without)

        super().__init__()
        self.image_size = image_size
        side = image_size or shape[1]
        options: dict[str, Any] = {"image_size": side} if name.startswith("vit_") else {}
        if name in ("googlenet", "inception_v3"):
            options = {"aux_logits": False, "init_weights": True}
        try:
            self.net = get_model(name, weights=None, num_classes=classes, **options)
            with torch.device("meta"):
                trial = get_model(name, weights=None, num_classes=classes, **options)
                trial(torch.empty(2, 3, side, image_size or shape[2]))
        except (RuntimeError, ValueError, AssertionError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelUnavailable(
                f"{name} does not take images of {side} pixels ({reason}). "
                "Set model.image_size; 224 is what most of torchvision's models are made for."
            ) from error

    def forward(self, images: Tensor) -> Tensor:
        """`[N, C, H, W]` float images to `[N, classes]` logits."""
        x = images.expand(-1, 3, -1, -1)
        if self.image_size is not None:
            x = F.interpolate(x, (self.image_size, self.image_size), mode="bilinear", align_corners=False)
        logits: Tensor = self.net(x)
        return logits


def pretrained_url(name: str, weights: str) -> str:
    """Where torchvision's pretrained weights of a model are. Raises ModelUnavailable where it has none of that name."""
    from torchvision.models import get_model_weights  # noqa: PLC0415  (likewise)

    offered = get_model_weights(name)
    if weights not in offered.__members__:
        raise ModelUnavailable(
            f"torchvision has no weights {weights!r} of {name}; it has {', '.join(offered.__members__) or 'none'}."
        )
    url: str = offered[weights].url
    return url
