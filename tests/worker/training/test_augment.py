"""Augmentation moves pixels and invents none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from worker.training.augment import build_augment, crop_and_flip, cutout, mix

IMAGES = torch.arange(3 * 2 * 16 * 16).reshape(3, 2, 16, 16).remainder(251).to(torch.uint8)


def drawn(seed: int, *, flips: bool, count: int = 256) -> torch.Tensor:
    images = IMAGES[:1].expand(count, -1, -1, -1)
    return crop_and_flip(images, torch.Generator().manual_seed(seed), flips=flips)


def every_result(*, flips: bool) -> set[bytes]:
    """By padding and cropping, as the recipe is told: side 16, so up to 2 pixels of reflection."""
    padded = F.pad(IMAGES[:1].float(), (2, 2, 2, 2), mode="reflect").to(torch.uint8)
    crops = [padded[0, :, row : row + 16, column : column + 16] for row in range(5) for column in range(5)]
    mirrored = [crop.flip(2) for crop in crops] if flips else []
    return {crop.contiguous().numpy().tobytes() for crop in crops + mirrored}


def test_none_is_nothing() -> None:
    assert build_augment("none", flips=True) is None


def test_standard_draws_every_crop_and_only_those() -> None:
    assert {image.numpy().tobytes() for image in drawn(0, flips=False)} == every_result(flips=False)


def test_a_flip_is_drawn_only_where_the_classes_allow_it() -> None:
    assert {image.numpy().tobytes() for image in drawn(0, flips=True, count=2000)} == every_result(flips=True)


def test_the_same_generator_draws_the_same() -> None:
    assert torch.equal(drawn(3, flips=True), drawn(3, flips=True))
    assert not torch.equal(drawn(3, flips=True), drawn(4, flips=True))


def test_strong_cuts_one_square_of_the_image_s_mean_out() -> None:
    images = IMAGES[:1].expand(500, -1, -1, -1)
    cut = cutout(images, torch.Generator().manual_seed(0))
    assert (cut.shape, cut.dtype) == (images.shape, torch.uint8)
    mean = images[0].float().mean((1, 2)).to(torch.uint8)
    changed = cut != images
    assert torch.equal(cut[changed], mean[None, :, None, None].expand_as(cut)[changed])
    for image in changed.any(1):
        rows, columns = image.any(1).nonzero(), image.any(0).nonzero()
        if len(rows):
            assert rows.max() - rows.min() < 8, "half of the side at most"
            assert columns.max() - columns.min() < 8
    assert changed.any((1, 2, 3)).float().mean() > 0.9
    assert build_augment("strong", flips=True)(images, torch.Generator()).dtype == torch.uint8  # type: ignore[misc]


def test_cutmix_pastes_a_rectangle_and_its_share_is_what_is_left() -> None:
    images = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 16, 16)
    labels = torch.arange(6)
    for seed in range(20):
        pasted, others, share = mix(images, labels, 0, 1.0, np.random.default_rng(seed))
        assert (pasted.shape, pasted.dtype) == (images.shape, torch.uint8)
        own = (pasted == labels[:, None, None, None]).float().mean((1, 2, 3))
        moved = others != labels
        assert own[moved].tolist() == pytest.approx([share] * int(moved.sum()), abs=1e-6)
        assert sorted(others.tolist()) == labels.tolist()


def test_mixup_blends_images_as_its_share_says() -> None:
    images = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)
    labels = torch.arange(6)
    blended, others, share = mix(images, labels, 0.4, 0, np.random.default_rng(0))
    assert 0 < share < 1
    expected = share * labels + (1 - share) * others
    assert torch.allclose(blended, expected[:, None, None, None].expand_as(blended), atol=1e-5)
