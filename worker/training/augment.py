"""Augmentation of whole batches on the device. Images stay uint8; shapes and labels stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

Augment = Callable[[Tensor, torch.Generator], Tensor]


def build_augment(kind: Literal["none", "light", "standard", "strong"], flips: bool) -> Augment | None:
    """The augmentation of a spec; `flips` says whether a mirrored image of this data set keeps its class."""
    match kind:
        case "none":
            return None
        case "light":
            return lambda images, generator: crop_and_flip(images, generator, flips=flips, share=16)
        case "standard":
            return lambda images, generator: crop_and_flip(images, generator, flips=flips)
        case "strong":
            return lambda images, generator: cutout(crop_and_flip(images, generator, flips=flips), generator)


def crop_and_flip(images: Tensor, generator: torch.Generator, *, flips: bool, share: int = 8) -> Tensor:
    """Shift each of `[N, C, H, W]` images by up to 1 / `share` of its side, reflecting at the border (the random crop
    with reflection padding of the CIFAR recipes), and mirror half of them where `flips`.

    One gather: row and column numbers are shifted, reflected and mirrored, and the pixels are taken by them.
    """
    count, _, height, width = images.shape
    device = images.device

    def shifted(side: int) -> Tensor:
        reach = max(1, side // share)
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


class Mixed(NamedTuple):
    """A batch of which each image is `share` its own and `1 - share` another's."""

    images: Tensor
    others: Tensor
    share: float


def mix(images: Tensor, labels: Tensor, mixup: float, cutmix: float, rng: np.random.Generator) -> Mixed:
    """Mix a batch with itself in another order: `mixup` (Zhang et al., 2018, arXiv:1710.09412) blends whole images
    (float, 0 to 255), `cutmix` (Yun et al., 2019, arXiv:1905.04899) pastes a rectangle; where both are on, by lot."""
    order = torch.from_numpy(rng.permutation(len(labels))).to(labels.device)
    paste = cutmix > 0 and (mixup == 0 or rng.random() < 0.5)
    share = float(rng.beta(cutmix, cutmix) if paste else rng.beta(mixup, mixup))
    if not paste:
        return Mixed(torch.lerp(images[order].float(), images.float(), share), labels[order], share)
    height, width = images.shape[2:]
    rows, columns = (round(side * (1 - share) ** 0.5) for side in (height, width))
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    pasted = images.clone()
    pasted[:, :, top : top + rows, left : left + columns] = images[order, :, top : top + rows, left : left + columns]
    return Mixed(pasted, labels[order], 1 - rows * columns / (height * width))
