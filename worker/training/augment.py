"""Augmentation of whole batches on the device. Images stay uint8; shapes and labels stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Augment = Callable[[Tensor, torch.Generator], Tensor]


def build_augment(kind: Literal["none", "standard", "strong"], flips: bool) -> Augment | None:
    """The augmentation of a spec; `flips` says whether a mirrored image of this data set keeps its class."""
    match kind:
        case "none":
            return None
        case "standard":
            return lambda images, generator: crop_and_flip(images, generator, flips=flips)
        case "strong":
            return lambda images, generator: cutout(crop_and_flip(images, generator, flips=flips), generator)


def crop_and_flip(images: Tensor, generator: torch.Generator, *, flips: bool) -> Tensor:
    """Shift each of `[N, C, H, W]` images by up to an eighth of its side, reflecting at the border (the random crop
    with reflection padding of the CIFAR recipes), and mirror half of them where `flips`.

    One gather: row and column numbers are shifted, reflected and mirrored, and the pixels are taken by them.
    """
    count, _, height, width = images.shape
    device = images.device

    def shifted(side: int) -> Tensor:
        reach = max(1, side // 8)
        shift = torch.randint(-reach, reach + 1, (count, 1), generator=generator, device=generator.device)
        place = (torch.arange(side) + shift.cpu()).abs()
        return torch.where(place >= side, 2 * (side - 1) - place, place).to(device)

    rows, columns = shifted(height), shifted(width)
    if flips:
        mirrored = torch.rand(count, 1, generator=generator, device=generator.device) < 0.5
        columns = torch.where(mirrored.to(device), columns.flip(1), columns)
    sample = torch.arange(count, device=device)[:, None, None]
    return images.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cutout(images: Tensor, generator: torch.Generator) -> Tensor:
    """Set a random square of each of `[N, C, H, W]` images, of an eighth to a half of its side, to that image's mean
    (DeVries & Taylor, 2017, arXiv:1708.04552). The square's centre may lie anywhere, so it may be cut at the border."""
    count, _, height, width = images.shape
    device = images.device

    def drawn(low: int, high: int) -> Tensor:
        return torch.randint(low, high + 1, (count, 1), generator=generator, device=generator.device).to(device)

    side = drawn(max(1, min(height, width) // 8), max(1, min(height, width) // 2))
    top, left = drawn(0, height - 1) - side // 2, drawn(0, width - 1) - side // 2
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    inside = ((rows >= top) & (rows < top + side))[:, None, :, None] & ((columns >= left) & (columns < left + side))[
        :, None, None, :
    ]
    mean = images.float().mean((2, 3), keepdim=True).to(images.dtype)
    return torch.where(inside, mean, images)
