"""Data sets: prepared once into one memory-mapped file, split, and put on the device.

A prepared file holds `uint8` images `[N, C, H, W]` and `int64` labels. Every job maps it, so jobs on the CPU share
its pages and none decodes an image again.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from sklearn.model_selection import train_test_split
from torch import Tensor

from app.specs import DatasetSpec

_VERSION = 1  # of the prepared files; a new one lets old files lie
_DIGITS_TEST_FRACTION = 0.2
_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_TEN = tuple("0123456789")

Fetch = Callable[[str], Path]


class DatasetUnavailable(RuntimeError):
    """No source of the data set could be reached, and its files are not there."""


class DatasetBroken(RuntimeError):
    """The data set's files are there but are not what they should be."""


@dataclass(frozen=True)
class Split:
    """Rows `index` of `images` (`[N, C, H, W] uint8`) and `labels` (`[N] int64`), all on one device.

    The images are those of the whole file: a split is a list of rows, not a copy.
    """

    images: Tensor
    labels: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class Data:
    """A data set, ready to train on. `mean` and `std` ([C], of pixels scaled to 0..1) are of the training split."""

    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: Tensor
    std: Tensor
    flips: bool


def prepare(name: str, raw_folders: Sequence[Path], prepared: Path, fetch: Fetch) -> Path:
    """The prepared file of a data set, made now if it was not before.

    Raw files are looked for in `raw_folders`; where there are none, `fetch(name)` gets them and says into which
    folder. Raises DatasetUnavailable, DatasetBroken, OSError.
    """
    target = prepared / f"{name}-v{_VERSION}.safetensors"
    if target.exists():
        return target
    prepared.mkdir(parents=True, exist_ok=True)
    with FileLock(prepared / f".{name}.lock"):  # two jobs at once: one prepares, the other waits
        if not target.exists():
            tensors, classes = _digits() if name == "digits" else _mnist_like(name, raw_folders, fetch)
            _save(target, tensors, {"classes": json.dumps(classes)})
    return target


def load(path: Path, spec: DatasetSpec, device: torch.device) -> Data:
    """Map a prepared file and split it as the spec says. Raises DatasetBroken."""
    try:
        with safe_open(path, framework="pt") as file:
            classes = tuple(json.loads(file.metadata()["classes"]))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (no mapping)
        split = _split_of(path, spec, tensors["train_images"], tensors["train_labels"])
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DatasetBroken(f"{path} is damaged ({error}). Delete it; it will be prepared again.") from error
    tensors = {key: tensor.to(device) for key, tensor in tensors.items()}
    images, labels = tensors["train_images"], tensors["train_labels"]
    test_labels = tensors["test_labels"]
    _, channels, height, width = images.shape
    return Data(
        train=Split(images, labels, split["train"].to(device)),
        val=Split(images, labels, split["val"].to(device)),
        test=Split(tensors["test_images"], test_labels, torch.arange(len(test_labels), device=device)),
        classes=classes,
        shape=(channels, height, width),
        mean=split["mean"],
        std=split["std"],
        flips=spec.name == "fashion_mnist",  # a mirrored digit is another digit, or none
    )


def split_indices(labels: np.ndarray, val_fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the training and the validation split, each ascending: disjoint, stratified by label, and the same on
    every machine (NumPy's legacy generator is stable by contract)."""
    rows = np.arange(len(labels))
    train, val = train_test_split(rows, test_size=val_fraction, random_state=seed, stratify=labels)
    return np.sort(train), np.sort(val)


def _split_of(path: Path, spec: DatasetSpec, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The split's rows and statistics, kept beside the prepared file: computed once, not by every job."""
    target = path.with_name(f"{path.stem}-split-{spec.val_fraction!r}-{spec.split_seed}.safetensors")
    if not target.exists():
        train, val = split_indices(labels.numpy(), spec.val_fraction, spec.split_seed)
        mean, std = _statistics(images, torch.from_numpy(train))
        indices = {"train": torch.from_numpy(train), "val": torch.from_numpy(val)}
        _save(target, {**indices, "mean": mean, "std": std}, {})
    return load_file(target)


def _statistics(images: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel, of pixels scaled to 0..1: exact, from a histogram of the bytes."""
    values = np.arange(256) / 255
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    for rows in torch.split(index, 4096):
        chunk = images[rows].numpy()
        counts += np.stack([np.bincount(chunk[:, c].ravel(), minlength=256) for c in range(chunk.shape[1])])
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ values
    std = np.sqrt(np.maximum(share @ values**2 - mean**2, 1e-12))
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float()


def _save(target: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a file whole or not at all."""
    handle, temporary = tempfile.mkstemp(prefix=".writing-", dir=target.parent)
    os.close(handle)
    try:
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, temporary, metadata)
        Path(temporary).chmod(0o644)
        with Path(temporary).open("rb") as written:
            os.fsync(written.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _digits() -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """1,797 8x8 digits of scikit-learn; a stratified fifth, the same everywhere, is the test split."""
    from sklearn.datasets import load_digits  # noqa: PLC0415  (slow to import, and needed once a machine)

    found = load_digits()
    images = np.rint(found.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = found.target.astype(np.int64)
    train, test = split_indices(labels, _DIGITS_TEST_FRACTION, seed=0)
    return _tensors(images[train], labels[train], images[test], labels[test]), _TEN


def _mnist_like(name: str, raw_folders: Sequence[Path], fetch: Fetch) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    from torchvision.datasets import MNIST, FashionMNIST  # noqa: PLC0415  (likewise)

    kind, classes = (MNIST, _TEN) if name == "mnist" else (FashionMNIST, _FASHION)
    for folder in raw_folders:
        found = _read_torchvision(kind, folder)
        if found is not None:
            return found, classes
    found = _read_torchvision(kind, fetch(name))
    if found is None:
        raise DatasetBroken(f"The files of {name} were fetched but are not there.")
    return found, classes


def _read_torchvision(kind: Any, root: Path) -> dict[str, Tensor] | None:
    """The data set from raw files in torchvision's layout (`<root>/MNIST/raw/...`); None where they are not."""
    folder = root / kind.__name__ / "raw"
    if not all((folder / Path(packed).stem).exists() for packed, _ in kind.resources):
        return None
    try:
        train, test = (kind(root, train=train) for train in (True, False))
    except (RuntimeError, ValueError, KeyError, AssertionError, EOFError, OSError) as error:
        raise DatasetBroken(
            f"The raw files in {folder} cannot be read ({error}). Delete them to have them fetched again."
        ) from error
    if len(train.data) != 60_000 or len(test.data) != 10_000:
        raise DatasetBroken(f"{root / kind.__name__} holds {len(train.data)} and {len(test.data)} images, "
                            "not 60,000 and 10,000. Delete it to have it fetched again.")  # fmt: skip
    images = (train.data.numpy()[:, None], test.data.numpy()[:, None])
    return _tensors(images[0], train.targets.numpy(), images[1], test.targets.numpy())


def _tensors(
    train_images: np.ndarray, train_labels: np.ndarray, test_images: np.ndarray, test_labels: np.ndarray
) -> dict[str, Tensor]:
    arrays = {
        "train_images": train_images,
        "train_labels": train_labels.astype(np.int64),
        "test_images": test_images,
        "test_labels": test_labels.astype(np.int64),
    }
    return {key: torch.from_numpy(np.ascontiguousarray(array)) for key, array in arrays.items()}
