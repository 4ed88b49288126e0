"""Raw files of a data set, as they come, into one prepared file. Done once a machine.

A prepared file holds `uint8` images `[N, C, H, W]` and `int64` labels of both splits (safetensors, so it is mapped
and never unpickled), and the names of the classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from worker.training.data import DatasetBroken, save, split_indices
from worker.training.imagefolder import Images, find_image_folder, read_image_folder

_VERSION = 1  # of the prepared files; a new one lets old files lie
_DIGITS_TEST_FRACTION = 0.2
_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_TEN = tuple("0123456789")
_COUNTS = {"mnist": (60_000, 10_000), "fashion_mnist": (60_000, 10_000)} | dict.fromkeys(
    ("cifar10", "cifar100"), (50_000, 10_000)
)

Fetch = Callable[[str], Path]


def prepare(name: str, raw_folders: Sequence[Path], prepared: Path, fetch: Fetch) -> Path:
    """The prepared file of a data set, made now if it was not before.

    Raw files are looked for in `raw_folders`: in torchvision's layout, then as `<name>.tar`, `<name>.zip` or a folder
    `<name>/` in image-folder layout. Where there are none, `fetch(name)` gets them and says into which folder.
    Raises DatasetUnavailable, DatasetBroken, OSError.
    """
    target = prepared / f"{name}-v{_VERSION}.safetensors"
    if target.exists():
        return target
    prepared.mkdir(parents=True, exist_ok=True)
    with FileLock(prepared / f".{name}.lock"):  # two jobs at once: one prepares, the other waits
        if not target.exists():
            images = _digits() if name == "digits" else _found(name, raw_folders, fetch)
            tensors = {
                "train_images": torch.from_numpy(np.ascontiguousarray(images.train_images)),
                "train_labels": _labels(images.train_labels),
                "test_images": torch.from_numpy(np.ascontiguousarray(images.test_images)),
                "test_labels": _labels(images.test_labels),
            }
            save(target, tensors, {"classes": json.dumps(images.classes)})
    return target


def _labels(labels: np.ndarray) -> Tensor:
    return torch.from_numpy(labels.astype(np.int64))


def _found(name: str, raw_folders: Sequence[Path], fetch: Fetch) -> Images:
    for folder in raw_folders:
        found = _read(name, folder)
        if found is not None:
            return found
    found = _read(name, fetch(name))
    if found is None:
        raise DatasetBroken(f"The files of {name} were fetched but are not there.")
    return found


def _read(name: str, root: Path) -> Images | None:
    found = _read_torchvision(name, root)
    source = find_image_folder(root, name)
    if found is None and source is not None:
        found = read_image_folder(source)
    if found is None:
        return None
    counts, expected = (len(found.train_labels), len(found.test_labels)), _COUNTS[name]
    if counts != expected:
        raise DatasetBroken(
            f"The raw files of {name} in {root} hold {counts[0]} training and {counts[1]} test images, not "
            f"{expected[0]} and {expected[1]}. Delete them to have them fetched again."
        )
    return found


def _digits() -> Images:
    """1,797 8x8 digits of scikit-learn; a stratified fifth, the same everywhere, is the test split."""
    from sklearn.datasets import load_digits  # noqa: PLC0415  (slow to import, and needed once a machine)

    found = load_digits()
    images = np.rint(found.images * (255 / 16)).astype(np.uint8)[:, None]
    train, test = split_indices(found.target, _DIGITS_TEST_FRACTION, seed=0)
    return Images(images[train], found.target[train], images[test], found.target[test], _TEN)


def _read_torchvision(name: str, root: Path) -> Images | None:
    """The data set from raw files in torchvision's layout (`<root>/MNIST/raw/...`); None where they are not."""
    from torchvision.datasets import CIFAR10, CIFAR100, MNIST, FashionMNIST  # noqa: PLC0415  (likewise)

    kind: Any = {"mnist": MNIST, "fashion_mnist": FashionMNIST, "cifar10": CIFAR10, "cifar100": CIFAR100}[name]
    if kind in (MNIST, FashionMNIST):
        folder = root / kind.__name__ / "raw"
        files = [Path(packed).stem for packed, _ in kind.resources]
    else:
        folder = root / kind.base_folder
        files = [file for file, _ in [*kind.train_list, *kind.test_list]]
    if not all((folder / file).exists() for file in files):
        return None
    try:
        train, test = (kind(root, train=train) for train in (True, False))
    except (RuntimeError, ValueError, KeyError, AssertionError, EOFError, OSError) as error:
        raise DatasetBroken(
            f"The raw files in {folder} cannot be read ({error}). Delete them to have them fetched again."
        ) from error
    classes = {"mnist": _TEN, "fashion_mnist": _FASHION}.get(name) or tuple(train.classes)
    labels = [torch.as_tensor(split.targets).numpy() for split in (train, test)]
    return Images(_pixels(train.data), labels[0], _pixels(test.data), labels[1], classes)


def _pixels(data: Tensor | np.ndarray) -> np.ndarray:
    """torchvision's `[N, H, W]` tensor or `[N, H, W, C]` array as `[N, C, H, W]`."""
    array = data.numpy() if isinstance(data, Tensor) else data
    return array[:, None] if array.ndim == 3 else array.transpose(0, 3, 1, 2)
