"""A prepared data set: mapped, split, and put on the device.

Every job maps the same file, so jobs on the CPU share its pages and none decodes an image.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from sklearn.model_selection import train_test_split
from torch import Tensor

from app.specs import DatasetSpec

_AHEAD = 4  # batches that are gathered before they are asked for
_RESIDENT_SHARE = 0.5  # of a GPU's free memory; the rest is for activations
_DIGITS = ("mnist", "digits")  # a mirrored digit is another digit, or none


class DatasetUnavailable(RuntimeError):
    """No source of the data set could be reached, and its files are not there."""


class DatasetBroken(RuntimeError):
    """The data set's files are there but are not what they should be."""


@dataclass(frozen=True)
class Split:
    """Rows `index` of `images` (`[N, C, H, W] uint8`) and `labels` (`[N] int64`), all on one device, except that
    `streamed` images stay in the mapped file.

    The images are those of the whole file: a split is a list of rows, not a copy.
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    streamed: bool = False

    def __len__(self) -> int:
        return len(self.index)

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of the rows `order`, `size` at a time, on the labels' device: the same ones whether the
        images are resident or streamed."""
        chunks = torch.split(order, size)
        if not self.streamed:
            for rows in chunks:
                # A sixth of the time of images[rows], for the same bytes.
                yield self.images.index_select(0, rows), self.labels[rows]
            return
        device = self.labels.device

        def gather(rows: Tensor) -> Tensor:
            images = self.images.index_select(0, rows)
            return images.pin_memory() if device.type == "cuda" else images

        with ThreadPoolExecutor(1) as pool:
            # Some batches ahead of the compute, and no more: an epoch of them may not fit in memory either.
            gathered = deque(pool.submit(gather, rows) for rows in torch.split(order[: size * _AHEAD].cpu(), size))
            later = iter(torch.split(order[size * _AHEAD :].cpu(), size))
            for rows in chunks:
                images = gathered.popleft().result()
                following = next(later, order[:0])
                if len(following):
                    gathered.append(pool.submit(gather, following))
                yield images.to(device, non_blocking=True), self.labels[rows]


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


def load(path: Path, spec: DatasetSpec, device: torch.device, *, resident: bool | None = None) -> Data:
    """Map a prepared file and split it as the spec says. Images are `resident` on the device, or streamed to it;
    None: resident where they fit. Raises DatasetBroken."""
    try:
        with safe_open(path, framework="pt") as file:
            classes = tuple(json.loads(file.metadata()["classes"]))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (no mapping)
        images, labels = tensors["train_images"], tensors["train_labels"]
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise _damaged(path, error) from error
    split = _split_of(path, spec, images, labels)
    if resident is None:
        resident = _fits(tensors, device)
    moved = {key: tensor.to(device) for key, tensor in tensors.items() if resident or key.endswith("labels")}
    images, test_images = ((moved if resident else tensors)[f"{split}_images"] for split in ("train", "test"))
    labels, test_labels = moved["train_labels"], moved["test_labels"]
    _, channels, height, width = images.shape
    return Data(
        train=Split(images, labels, split["train"].to(device), not resident),
        val=Split(images, labels, split["val"].to(device), not resident),
        test=Split(test_images, test_labels, torch.arange(len(test_labels), device=device), not resident),
        classes=classes,
        shape=(channels, height, width),
        mean=split["mean"],
        std=split["std"],
        flips=spec.name not in _DIGITS,
    )


def _fits(tensors: dict[str, Tensor], device: torch.device) -> bool:
    """Whether images may be resident. On the CPU the mapped file is resident as it is."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return sum(tensor.nbytes for tensor in tensors.values()) <= _RESIDENT_SHARE * free


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
        try:
            train, val = split_indices(labels.numpy(), spec.val_fraction, spec.split_seed)
        except ValueError as error:
            raise DatasetBroken(
                f"{spec.name} cannot be split with dataset.val_fraction {spec.val_fraction:g}: {error}. Each class "
                "needs an image in either split; choose another val_fraction."
            ) from error
        mean, std = statistics(images, torch.from_numpy(train))
        indices = {"train": torch.from_numpy(train), "val": torch.from_numpy(val)}
        save(target, {**indices, "mean": mean, "std": std}, {})
    try:
        return load_file(target)
    except SafetensorError as error:
        raise _damaged(target, error) from error


def _damaged(path: Path, error: Exception) -> DatasetBroken:
    return DatasetBroken(f"{path} is damaged ({error}). Delete it; it will be prepared again.")


def statistics(images: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
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


def save(target: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a prepared file whole or not at all."""
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
