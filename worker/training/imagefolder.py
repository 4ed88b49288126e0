"""Images in image-folder layout: `train/<class>/*` and `test/<class>/*`, as a folder, a .tar or a .zip.

What is read may come from anybody: only regular files count, and an image's size is known before it is decoded.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from worker.training.data import DatasetBroken

MAX_SIDE = 224
MAX_PIXELS = 50_000_000  # of one image before scaling
_SPLITS = ("train", "test")
_GREY = ("1", "L", "LA", "I;16")


@dataclass(frozen=True)
class Images:
    """A data set in memory: images `[N, C, H, W] uint8` and labels `[N]`."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]


def read_image_folder(source: Path) -> Images:
    """All images of a source, scaled to one size.

    The size is the most frequent one of the training images, no side longer than MAX_SIDE; other images are scaled
    to cover it and cut at the centre. Images are grey where all of them are, else RGB. Classes are in order of their
    names. Raises DatasetBroken, OSError.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    counts_of: dict[str, Counter[str]] = {split: Counter() for split in _SPLITS}
    grey = True
    for split, label, image in _images(source):
        if split == "train":
            sizes[image.size] += 1
        counts_of[split][label] += 1
        grey = grey and image.mode in _GREY
    counts = {split: found.total() for split, found in counts_of.items()}
    names = {split: set(found) for split, found in counts_of.items()}
    for split in _SPLITS:
        if not counts[split]:
            raise DatasetBroken(f"{source} has no image in {split}/<class>/.")
    if names["test"] - names["train"]:
        unknown = ", ".join(sorted(names["test"] - names["train"])[:5])
        raise DatasetBroken(f"{source} has test images of classes without training images: {unknown}.")
    single = [label for label, count in counts_of["train"].items() if count < 2]
    if single:
        raise DatasetBroken(
            f"{source} has a single training image of {', '.join(sorted(single)[:5])}; a class needs at least two, one "
            "to train on and one to validate."
        )
    classes = tuple(sorted(names["train"]))
    (width, height), _ = sizes.most_common(1)[0]
    factor = min(1.0, MAX_SIDE / max(width, height))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    mode, channels = ("L", 1) if grey else ("RGB", 3)
    images = {split: np.empty((counts[split], channels, size[1], size[0]), dtype=np.uint8) for split in _SPLITS}
    labels = {split: np.empty(counts[split], dtype=np.int64) for split in _SPLITS}
    filled: Counter[str] = Counter()
    for split, label, image in _images(source):
        row = filled[split]
        filled[split] += 1
        try:
            pixels = np.asarray(_fitted(image, mode, size))
        except (OSError, ValueError, SyntaxError) as error:
            raise DatasetBroken(f"{source}: {image.info['member']} cannot be decoded ({error}).") from error
        images[split][row] = pixels[None] if grey else pixels.transpose(2, 0, 1)
        labels[split][row] = classes.index(label)
    return Images(images["train"], labels["train"], images["test"], labels["test"], classes)


def _fitted(image: Image.Image, mode: str, size: tuple[int, int]) -> Image.Image:
    converted = image.convert(mode)
    return converted if converted.size == size else ImageOps.fit(converted, size, Image.Resampling.BILINEAR)


def _images(source: Path) -> Iterator[tuple[str, str, Image.Image]]:
    """Split, class and opened (not yet decoded) image of each member, in order of their paths."""
    for member, content in _members(source):
        parts = PurePosixPath(member).parts
        if len(parts) < 3 or parts[-3] not in _SPLITS or parts[-1].startswith("."):
            continue
        try:
            image = Image.open(io.BytesIO(content))
        except (OSError, ValueError, SyntaxError) as error:
            raise DatasetBroken(f"{source}: {member} is no image ({error}).") from error
        if image.width * image.height > MAX_PIXELS:
            raise DatasetBroken(
                f"{source}: {member} has {image.width} x {image.height} pixels; at most {MAX_PIXELS:,}."
            )
        image.info["member"] = member
        yield parts[-3], parts[-2], image


def _members(source: Path) -> Iterator[tuple[str, bytes]]:
    try:
        if source.is_dir():
            for file in sorted(source.rglob("*")):
                if file.is_file() and not file.is_symlink():
                    yield file.relative_to(source.parent).as_posix(), file.read_bytes()
        elif source.suffix == ".zip":
            with zipfile.ZipFile(source) as archive:
                for entry in sorted(archive.infolist(), key=lambda entry: entry.filename):
                    if not entry.is_dir():
                        yield entry.filename, archive.read(entry)
        else:
            with tarfile.open(source) as archive:
                for member in sorted(archive.getmembers(), key=lambda member: member.name):
                    content = archive.extractfile(member) if member.isreg() else None
                    if content is not None:
                        yield member.name, content.read()
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise DatasetBroken(f"{source} cannot be read ({error}).") from error
