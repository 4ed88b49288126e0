"""Images in image-folder layout into arrays: what `app.imagefolder` reads, scaled to one size."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from app.imagefolder import SPLITS, BadImageFolder, entries, fitted, survey
from worker.training.data import DatasetBroken
from worker.training.prepare import Images


def read_images(source: Path) -> Images:
    """All images of a source, in order of their names.

    Images of another size than the most frequent one are scaled to cover it and cut at the centre. Raises
    DatasetBroken, OSError.
    """
    try:
        return _read(source)
    except BadImageFolder as error:
        raise DatasetBroken(str(error)) from error


def _read(source: Path) -> Images:
    summary = survey(source)
    channels, height, width = summary.shape
    classes = tuple(summary.classes)
    number = {label: index for index, label in enumerate(classes)}
    counts = summary.counts
    images = {split: np.empty((counts[split], *summary.shape), dtype=np.uint8) for split in SPLITS}
    labels = {split: np.empty(counts[split], dtype=np.int64) for split in SPLITS}
    members: dict[str, list[str]] = {split: [] for split in SPLITS}
    filled: Counter[str] = Counter()
    for split, label, member, image in entries(source):
        row = filled[split]
        filled[split] += 1
        try:
            with warnings.catch_warnings(action="ignore"):
                pixels = np.asarray(fitted(image, channels, (width, height)))
        except Exception as error:
            # Pillow raises what its plugins happen to: OSError, ValueError, SyntaxError, struct.error, ...
            raise DatasetBroken(f"{source.name}: {member} cannot be decoded ({error}).") from error
        images[split][row] = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
        labels[split][row] = number[label]
        members[split].append(f"{label}/{Path(member).name}")
    # An archive may hold its members in any order: the same images give the same data set.
    order = {split: np.argsort(members[split], kind="stable") for split in SPLITS}
    sorted_images = {split: images[split][order[split]] for split in SPLITS}
    sorted_labels = {split: labels[split][order[split]] for split in SPLITS}
    return Images(sorted_images["train"], sorted_labels["train"], sorted_images["test"], sorted_labels["test"], classes)
