"""Data sets that jobs can name: built in, or own ones whose images lie in a folder. Knows nothing of jobs.

An own data set is `<name>.tar`, `<name>.zip` or a folder `<name>/` with `train/<class>/*` and `test/<class>/*` in it.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from app.jobs import Record

BUILT_IN = {
    "mnist": "Handwritten digits: 60,000 and 10,000 grey images of 28x28 pixels in 10 classes.",
    "fashion_mnist": "Clothes: 60,000 and 10,000 grey images of 28x28 pixels in 10 classes.",
    "cifar10": "Animals and vehicles: 50,000 and 10,000 colour images of 32x32 pixels in 10 classes.",
    "cifar100": "Things: 50,000 and 10,000 colour images of 32x32 pixels in 100 classes.",
    "digits": "Handwritten digits: 1,437 and 360 grey images of 8x8 pixels in 10 classes; needs no download.",
}
SPLITS = ("train", "test")
_SUFFIXES = (".tar", ".tar.gz", ".zip")


class Dataset(Record):
    """A data set that jobs can name."""

    name: str = Field(description="Name, for `dataset.name` of a spec.", examples=["cifar10"])
    kind: Literal["built-in", "own"] = Field(description="Where it comes from.", examples=["built-in"])
    description: str | None = Field(description="What a built-in data set is.", examples=[BUILT_IN["cifar10"]])
    prepared: bool = Field(description="Whether a job has prepared it already.", examples=[True])


class UnknownDataset(Exception):
    """There is no such data set."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}"
        super().__init__(f"there is no data set '{name}'; {hint}")


def find_images(name: str, folders: Sequence[Path]) -> Path | None:
    """The archive or folder with a data set's images, in the first of `folders` that has one."""
    for folder in folders:
        for suffix in _SUFFIXES:
            if (folder / f"{name}{suffix}").is_file():
                return folder / f"{name}{suffix}"
        if all((folder / name / split).is_dir() for split in SPLITS):
            return folder / name
    return None


class Datasets:
    """The data sets in some folders; what is prepared lies in the last of them."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders

    def list(self) -> list[Dataset]:
        """Built-in ones first, then own ones by name."""
        files = [file.name for folder in self._folders if folder.is_dir() for file in folder.iterdir()]
        stems = {file.removesuffix(suffix) for file in files for suffix in ("", *_SUFFIXES)} - BUILT_IN.keys()
        own = sorted(stem for stem in stems if find_images(stem, self._folders) is not None)
        return [self._of(name) for name in (*BUILT_IN, *own)]

    def get(self, name: str) -> Dataset:
        """One of them. Raises UnknownDataset."""
        if name not in BUILT_IN and find_images(name, self._folders) is None:
            raise UnknownDataset(name, [dataset.name for dataset in self.list()])
        return self._of(name)

    def _of(self, name: str) -> Dataset:
        prepared = (self._folders[-1] / "prepared" / f"{name}-v1.safetensors").exists()
        kind: Literal["built-in", "own"] = "built-in" if name in BUILT_IN else "own"
        return Dataset(name=name, kind=kind, description=BUILT_IN.get(name), prepared=prepared)
