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

from worker.training.data import DatasetBroken, DatasetUnavailable, save, split_indices
from worker.training.imagefolder import Images, read_image_folder

_VERSION = 1  # of the prepared files; a new one lets old files lie
_DIGITS_TEST_FRACTION = 0.2
_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_TEN = tuple("0123456789")
_COUNTS = {"mnist": (60_000, 10_000), "fashion_mnist": (60_000, 10_000)} | dict.fromkeys(
    ("cifar10", "cifar100"), (50_000, 10_000)
)

Fetch = Callable[[str], Path]


def prepare(name: str, raw_folders: Sequence[Path], images: Path | None, prepared: Path, fetch: Fetch) -> Path:
    """The prepared file of a data set, made now if it was not before, or if `images` are newer.

    `images` is an archive or folder in image-folder layout. Where it is None, raw files of a built-in data set are
    looked for in `raw_folders` in torchvision's layout, and else `fetch(name)` gets them and says into which folder.
    Raises DatasetUnavailable, DatasetBroken, OSError.
    """
    target = prepared / f"{name}-v{_VERSION}.safetensors"

    def is_there() -> bool:
        return target.exists() and (images is None or images.stat().st_mtime <= target.stat().st_mtime)

    if is_there():
        return target
    prepared.mkdir(parents=True, exist_ok=True)
    with FileLock(prepared / f".{name}.lock"):  # two jobs at once: one prepares, the other waits
        if not is_there():
            found = _digits() if name == "digits" else _found(name, raw_folders, images, fetch)
            for outdated in prepared.glob(f"{target.stem}-split-*"):
                outdated.unlink()
            tensors = {
                "train_images": torch.from_numpy(np.ascontiguousarray(found.train_images)),
                "train_labels": _labels(found.train_labels),
                "test_images": torch.from_numpy(np.ascontiguousarray(found.test_images)),
                "test_labels": _labels(found.test_labels),
            }
            save(target, tensors, {"classes": json.dumps(found.classes)})
    return target


def _labels(labels: np.ndarray) -> Tensor:
    return torch.from_numpy(labels.astype(np.int64))


def _found(name: str, raw_folders: Sequence[Path], images: Path | None, fetch: Fetch) -> Images:
    found = _checked(name, images, read_image_folder(images)) if images is not None else None
    if name not in _COUNTS:
        if found is None:
            raise DatasetUnavailable(
                f"There is no data set {name} on the worker's machine. Put {name}.tar, {name}.zip or a folder {name}/ "
                f"with train/<class>/* and test/<class>/* in it into {raw_folders[-1]}."
            )
        return found
    for folder in raw_folders:
        found = found or _read_torchvision(name, folder)
    if found is None:
        found = _read_torchvision(name, fetch(name))
    if found is None:
        raise DatasetBroken(f"The files of {name} were fetched but are not there.")
    return found


def _checked(name: str, source: Path, found: Images) -> Images:
    counts, expected = (len(found.train_labels), len(found.test_labels)), _COUNTS.get(name)
    if expected is not None and counts != expected:
        raise DatasetBroken(
            f"{source} holds {counts[0]} training and {counts[1]} test images; {name} has {expected[0]} and "
            f"{expected[1]}. Give it another name to train on it as it is."
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
    return _checked(name, folder, Images(_pixels(train.data), labels[0], _pixels(test.data), labels[1], classes))


def _pixels(data: Tensor | np.ndarray) -> np.ndarray:
    """torchvision's `[N, H, W]` tensor or `[N, H, W, C]` array as `[N, C, H, W]`."""
    array = data.numpy() if isinstance(data, Tensor) else data
    return array[:, None] if array.ndim == 3 else array.transpose(0, 3, 1, 2)
