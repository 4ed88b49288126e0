"""The prepared file of a data set, as the API reads it: what is in it, and a picture of it. No torch, no numpy.

It is a safetensors file (a length, a JSON header, the tensors' bytes): images `[N, C, H, W] uint8` and labels
`[N] int64` of both splits. `worker.training.prepare` writes it.
"""

from __future__ import annotations

import array
import io
import json
from pathlib import Path
from typing import IO, Any, NamedTuple

from PIL import Image

_VERSION = 2  # of the prepared files; a new one lets old files lie
_SHEET_CLASSES, _SHEET_IMAGES, _SHEET_SIDE = 40, 10, 64


def prepared_file(datasets: Path, name: str) -> Path:
    """Where a data set's prepared file is, or will be, in the folder for data sets."""
    return datasets / "prepared" / f"{name}-v{_VERSION}.safetensors"


class Prepared(NamedTuple):
    """What a prepared file says of itself. `counts` are images of each split by class, `mean` and `std` of each
    channel of the training images, of pixels scaled to 0..1."""

    shape: tuple[int, int, int]
    classes: list[str]
    counts: dict[str, list[int]]
    mean: list[float]
    std: list[float]


def read_prepared(path: Path) -> Prepared:
    """Raises ValueError or KeyError where the file is damaged, and OSError."""
    header, _ = _header(path)
    told = {key: json.loads(value) for key, value in header["__metadata__"].items()}
    shape = tuple(header["train_images"]["shape"][1:])
    return Prepared(shape, told["classes"], told["counts"], told["mean"], told["std"])


def contact_sheet(path: Path) -> bytes:
    """A PNG with a row of training images for each class, the first ones of the file. Raises as read_prepared."""
    header, start = _header(path)
    count, _, height, width = header["train_images"]["shape"]
    classes = len(json.loads(header["__metadata__"]["classes"]))
    factor = max(1, _SHEET_SIDE // max(height, width))
    cell = (width * factor, height * factor)
    rows: dict[int, list[int]] = {label: [] for label in range(min(classes, _SHEET_CLASSES))}
    with path.open("rb") as file:
        file.seek(start + header["train_labels"]["data_offsets"][0])
        for row, label in enumerate(array.array("q", file.read(8 * count))):
            if label in rows and len(rows[label]) < _SHEET_IMAGES:
                rows[label].append(row)
        sheet = Image.new("RGB", (_SHEET_IMAGES * (cell[0] + 2) - 2, len(rows) * (cell[1] + 2) - 2), "white")
        for line, chosen in enumerate(rows.values()):
            for column, row in enumerate(chosen):
                image = _image(file, header, start, "train", row)
                place = column * (cell[0] + 2), line * (cell[1] + 2)
                sheet.paste(image.resize(cell, Image.Resampling.NEAREST), place)
    return _png(sheet)


def test_image(path: Path, index: int) -> bytes:
    """One image of the test split as a PNG. Raises IndexError, and as read_prepared."""
    header, start = _header(path)
    count = header["test_images"]["shape"][0]
    if not 0 <= index < count:
        raise IndexError(f"there is no test image {index}; they are numbered from 0 to {count - 1}")
    with path.open("rb") as file:
        return _png(_image(file, header, start, "test", index))


def _image(file: IO[bytes], header: dict[str, Any], start: int, split: str, row: int) -> Image.Image:
    _, channels, height, width = header[f"{split}_images"]["shape"]
    file.seek(start + header[f"{split}_images"]["data_offsets"][0] + row * channels * height * width)
    planes = [Image.frombytes("L", (width, height), file.read(height * width)) for _ in range(channels)]
    return planes[0] if channels == 1 else Image.merge("RGB", planes)


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The JSON header, and where the tensors' bytes begin."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
    return header, 8 + length
