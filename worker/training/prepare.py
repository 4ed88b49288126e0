"""Raw files of a data set, as they come, into one prepared file. Done once a machine.

A prepared file holds `uint8` images `[N, C, H, W]` and `int64` labels of both splits (safetensors, so it is mapped
and never unpickled), the names of the classes with their counts, and the mean and standard deviation of the training
images' channels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from worker.training.data import DatasetBroken, DatasetUnavailable, save, split_indices, statistics

_DIGITS_TEST_FRACTION = 0.2
_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_TEN = tuple("0123456789")
_COUNTS = {"mnist": (60_000, 10_000), "fashion_mnist": (60_000, 10_000)} | dict.fromkeys(
    ("cifar10", "cifar100"), (50_000, 10_000)
)

Fetch = Callable[[str], Path]


@dataclass(frozen=True)
class Images:
    """A data set in memory: images `[N, C, H, W] uint8` and labels `[N]`."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Own:
    """Images that somebody placed: an archive or a folder, and what reads it."""

    source: Path
    read: Callable[[Path], Images]


def prepare(name: str, raw_folders: Sequence[Path], own: Own | None, target: Path, fetch: Fetch) -> Path:
    """`target`, the prepared file of a data set, made now if it was not before, or if own images are newer.

    Where `own` is None, raw files of a built-in data set are looked for in `raw_folders` in torchvision's layout,
    and else `fetch(name)` gets them and says into which folder. Raises DatasetUnavailable, DatasetBroken, OSError.
    """

    def is_there() -> bool:
        return target.exists() and (own is None or own.source.stat().st_mtime <= target.stat().st_mtime)

    if is_there():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{name}.lock")):  # two jobs at once: one prepares, the other waits
        if not is_there():
            found = _digits() if name == "digits" else _found(name, raw_folders, own, fetch)
            for outdated in target.parent.glob(f"{target.stem}-split-*"):
                outdated.unlink()
            tensors = {
                "train_images": torch.from_numpy(np.ascontiguousarray(found.train_images)),
                "train_labels": _labels(found.train_labels),
                "test_images": torch.from_numpy(np.ascontiguousarray(found.test_images)),
                "test_labels": _labels(found.test_labels),
            }
            mean, std = statistics(tensors["train_images"], torch.arange(len(found.train_labels)))
            labels = {"train": found.train_labels, "test": found.test_labels}
            counts = {
                split: np.bincount(values, minlength=len(found.classes)).tolist() for split, values in labels.items()
            }
            told = {"classes": found.classes, "counts": counts, "mean": mean.tolist(), "std": std.tolist()}
            save(target, tensors, {key: json.dumps(value) for key, value in told.items()})
    return target


def _labels(labels: np.ndarray) -> Tensor:
    return torch.from_numpy(labels.astype(np.int64))


def _found(name: str, raw_folders: Sequence[Path], own: Own | None, fetch: Fetch) -> Images:
    found = _checked(name, own.source, own.read(own.source)) if own is not None else None
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
