"""Data sets that jobs can name: built in, or own ones whose images were uploaded or placed. Knows nothing of jobs.

An own data set is `<name>.tar`, `<name>.tar.gz`, `<name>.zip` or a folder `<name>/` with `train/<class>/*` and
`test/<class>/*` in it. Whatever the source, the first job makes one prepared file of it, which is read here too.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from anyio import to_thread
from pydantic import Field

from app.imagefolder import SUFFIXES, ClassCounts, Summary, find_images
from app.jobs import Record
from app.nearest import suggestion
from app.prepared import Prepared, contact_sheet, prepared_file, read_prepared, test_image

BUILT_IN = {
    "mnist": "Handwritten digits: 60,000 and 10,000 grey images of 28x28 pixels in 10 classes.",
    "fashion_mnist": "Clothes: 60,000 and 10,000 grey images of 28x28 pixels in 10 classes.",
    "cifar10": "Animals and vehicles: 50,000 and 10,000 colour images of 32x32 pixels in 10 classes.",
    "cifar100": "Things: 50,000 and 10,000 colour images of 32x32 pixels in 100 classes.",
    "digits": "Handwritten digits: 1,437 and 360 grey images of 8x8 pixels in 10 classes; needs no download.",
}
_CHECK_SECONDS = 1800
_LOCK = "lock"


class DatasetClass(ClassCounts):
    """One class of a data set."""

    name: str = Field(description="Its name.", examples=["cat"])
    train: int = Field(description="Training images, validation included.", examples=[5000])
    test: int = Field(description="Test images.", examples=[1000])


class Dataset(Record):
    """A data set that jobs can name."""

    name: str = Field(description="Name, for `dataset.name` of a spec.", examples=["cifar10"])
    kind: Literal["built-in", "own"] = Field(description="Where it comes from.", examples=["built-in"])
    description: str | None = Field(description="What a built-in data set is.", examples=[BUILT_IN["cifar10"]])
    prepared: bool = Field(description="Whether a job has prepared it already.", examples=[True])
    size: int | None = Field(description="Bytes of the prepared file, or of the archive; null: neither is there.")
    shape: tuple[int, int, int] | None = Field(
        description="Channels, height and width of its images; null until it is looked into.", examples=[[3, 32, 32]]
    )
    classes: tuple[DatasetClass, ...] | None = Field(description="Its classes; null until it is looked into.")
    mean: tuple[float, ...] | None = Field(
        description="Mean of each channel of the training images, of pixels scaled to 0..1; null until prepared.",
        examples=[[0.491, 0.482, 0.447]],
    )
    std: tuple[float, ...] | None = Field(description="Standard deviation, likewise.", examples=[[0.247, 0.243, 0.262]])


class UnknownDataset(Exception):
    """There is no such data set."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"there is no data set '{name}'; {suggestion(name, known)}")


class DatasetExists(Exception):
    """The name is taken."""

    def __init__(self, name: str) -> None:
        how = "is built in" if name in BUILT_IN else f"is there already; DELETE /datasets/{name} first"
        super().__init__(f"The data set '{name}' {how}, or choose another name.")


class DatasetFixed(Exception):
    """A data set that was not uploaded cannot be deleted over HTTP."""

    def __init__(self, name: str) -> None:
        how = "is built in" if name in BUILT_IN else "was placed on the machine by hand; delete it there"
        super().__init__(f"The data set '{name}' {how}.")


class NotPrepared(Exception):
    """There are no pictures yet."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The data set '{name}' is not prepared yet; the first job that trains on it does that.")


class UploadRefused(Exception):
    """The archive is no data set, or is too large."""

    def __init__(self, message: str, *, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large


def uploads_of(folder: Path) -> list[tuple[Path, Path]]:
    """Uploaded archives in a folder for data sets, each with what is known of it."""
    found = [(find_images(about.stem, [folder]), about) for about in sorted((folder / "uploaded").glob("*.json"))]
    return [(archive, about) for archive, about in found if archive is not None]


class Datasets:
    """The data sets in some folders; what is uploaded and prepared lies in the last of them."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders

    @property
    def _uploads(self) -> Path:
        return self._folders[-1] / "uploaded"

    def list(self) -> list[Dataset]:
        """Built-in ones first, then own ones by name."""
        files = [file.name for folder in self._folders if folder.is_dir() for file in folder.iterdir()]
        stems = {file.removesuffix(suffix) for file in files for suffix in ("", *SUFFIXES)} - BUILT_IN.keys()
        own = sorted(stem for stem in stems if find_images(stem, self._folders) is not None)
        return [self._of(name) for name in (*BUILT_IN, *own)]

    def check(self, name: str) -> None:
        """Raises UnknownDataset."""
        if name not in BUILT_IN and find_images(name, self._folders) is None:
            raise UnknownDataset(name, [dataset.name for dataset in self.list()])

    def get(self, name: str) -> Dataset:
        """One of them. Raises UnknownDataset."""
        self.check(name)
        return self._of(name)

    async def add(self, name: str, archive: AsyncIterator[bytes], max_bytes: int) -> Dataset:
        """Store an uploaded archive and look it through, in a process of its own; nothing of a bad one stays.

        Raises DatasetExists, UploadRefused, OSError.
        """
        if name in BUILT_IN or find_images(name, self._folders) is not None:
            raise DatasetExists(name)
        self._uploads.mkdir(parents=True, exist_ok=True)
        # A folder of its own: what the archive is called while it is checked is what it will be called. The lock goes
        # with the process: a folder that nobody locks is a cut-off upload's.
        with (
            tempfile.TemporaryDirectory(prefix=".receiving-", dir=self._uploads) as made,
            (Path(made) / _LOCK).open("wb") as lock,
        ):
            fcntl.flock(lock, fcntl.LOCK_EX)
            part = Path(made) / "part"
            with part.open("wb") as out:
                await _receive(archive, out, max_bytes)
            checked = part.rename(part.with_name(f"{name}{_suffix(part)}"))
            about = await to_thread.run_sync(_look_through, checked, abandon_on_cancel=False)
            try:
                # A link fails where the name was taken meanwhile; a rename would replace what is there.
                os.link(checked, self._folders[-1] / checked.name)
            except FileExistsError as error:
                raise DatasetExists(name) from error
            self._about(name).write_text(about.model_dump_json())
        return self._of(name)

    def delete(self, name: str) -> None:
        """Forget an uploaded data set, its prepared file too. Raises UnknownDataset, DatasetFixed."""
        self.check(name)
        images = find_images(name, self._folders)
        if images is None or name in BUILT_IN or not self._about(name).exists():
            raise DatasetFixed(name)
        images.unlink(missing_ok=True)
        self._about(name).unlink(missing_ok=True)
        prepared = prepared_file(self._folders[-1], name)
        for file in [prepared, *prepared.parent.glob(f"{prepared.stem}-split-*")]:
            file.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Delete what uploads that were cut off left behind."""
        for left in self._uploads.glob(".receiving-*"):
            with contextlib.suppress(OSError), (left / _LOCK).open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where an API is receiving it now
                shutil.rmtree(left, ignore_errors=True)

    def contact_sheet(self, name: str) -> bytes:
        """A PNG with a row of training images for each class. Raises UnknownDataset, NotPrepared."""
        return contact_sheet(self._prepared_file(name))

    def test_image(self, name: str, index: int) -> bytes:
        """A PNG of one image of the test split. Raises UnknownDataset, NotPrepared, IndexError."""
        return test_image(self._prepared_file(name), index)

    def _prepared_file(self, name: str) -> Path:
        self.check(name)
        if self._prepared(name) is None:
            raise NotPrepared(name)
        return prepared_file(self._folders[-1], name)

    def _about(self, name: str) -> Path:
        return self._uploads / f"{name}.json"

    def _prepared(self, name: str) -> Prepared | None:
        file, images = prepared_file(self._folders[-1], name), find_images(name, self._folders)
        if not file.exists() or (images is not None and images.stat().st_mtime > file.stat().st_mtime):
            return None
        with contextlib.suppress(ValueError, KeyError, OSError):  # a damaged file is told to the job that maps it
            return read_prepared(file)
        return None

    def _of(self, name: str) -> Dataset:
        kind: Literal["built-in", "own"] = "built-in" if name in BUILT_IN else "own"
        images, prepared = find_images(name, self._folders), self._prepared(name)
        known: dict[str, Any] = dict.fromkeys(("size", "shape", "classes", "mean", "std"))
        if images is not None and images.is_file():
            known["size"] = images.stat().st_size
        if prepared is not None:
            counts = zip(prepared.classes, prepared.counts["train"], prepared.counts["test"], strict=True)
            known |= {"size": prepared_file(self._folders[-1], name).stat().st_size, "shape": prepared.shape}
            known["classes"] = tuple(DatasetClass(name=label, train=train, test=test) for label, train, test in counts)
            known |= {"mean": prepared.mean, "std": prepared.std}
        elif self._about(name).exists():
            about = Summary.model_validate_json(self._about(name).read_bytes())
            known["shape"] = about.shape
            known["classes"] = tuple(
                DatasetClass(name=label, **count.model_dump()) for label, count in about.classes.items()
            )
        described = BUILT_IN.get(name)
        return Dataset(name=name, kind=kind, description=described, prepared=prepared is not None, **known)


# --- uploads ---------------------------------------------------------------------------------------------


async def _receive(archive: AsyncIterator[bytes], out: IO[bytes], max_bytes: int) -> None:
    size = 0
    async for chunk in archive:
        size += len(chunk)
        if size > max_bytes:
            raise UploadRefused(
                f"The archive has more than {max_bytes:,} bytes, the most that this service takes "
                "(WHISTLESTOP_MAX_UPLOAD_BYTES).",
                too_large=True,
            )
        await to_thread.run_sync(out.write, chunk)
    out.flush()
    await to_thread.run_sync(os.fsync, out.fileno())


def _suffix(file: Path) -> str:
    with file.open("rb") as content:
        start = content.read(512)
    if start.startswith(b"PK"):
        return ".zip"
    if start.startswith(b"\x1f\x8b"):
        return ".tar.gz"
    if start[257:262] == b"ustar":
        return ".tar"
    raise UploadRefused(
        "The body is neither a .tar, nor a .tar.gz, nor a .zip. With curl: -X POST -T pets.tar "
        "-H 'Content-Type: application/x-tar'."
    )


def _look_through(archive: Path) -> Summary:
    """Decoding strangers' images is left to a process that may crash or be killed for its memory."""
    command = [sys.executable, "-m", "app.imagefolder", str(archive)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_CHECK_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise UploadRefused(f"Looking the archive through took longer than {_CHECK_SECONDS} s.") from error
    if done.returncode == 0:
        return Summary.model_validate_json(done.stdout)
    with contextlib.suppress(ValueError, KeyError):
        raise UploadRefused(json.loads(done.stdout)["wrong"])
    raise UploadRefused("The archive could not be looked through: the process that tried it crashed.")
