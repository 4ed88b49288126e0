"""Images in image-folder layout, `train/<class>/*` and `test/<class>/*`, as a folder, a .tar or a .zip.

What is read may come from anybody. Nothing is unpacked to disk, no name of a member is used as a path, and what a
member says of its size is checked before its content is decoded. Knows nothing of jobs, HTTP or PyTorch.

`python -m app.imagefolder ARCHIVE` looks an archive through, images too, and prints what it found as JSON.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from PIL import Image, ImageOps
from pydantic import BaseModel

SPLITS = ("train", "test")
SUFFIXES = (".tar", ".tar.gz", ".zip")
MAX_SIDE = 224  # pixels of a side after scaling
MAX_PIXELS = 50_000_000  # of one image before scaling
MAX_FILE_BYTES = 64 << 20
MAX_MEMBERS = 2_000_000
MAX_CLASSES = 10_000
MAX_UNPACKED_RATIO, MAX_UNPACKED_FREE = 100, 100 << 20  # images are compressed already: unpacking gains little
MAX_PREPARED_BYTES = 16 << 30
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
_GREY = ("1", "L", "LA", "I;16")
_SHOWN = 10


class BadImageFolder(ValueError):
    """An archive or folder that is no data set, with the member that shows it."""


class Entry(NamedTuple):
    """One image, opened but not decoded."""

    split: str
    label: str
    member: str
    image: Image.Image


class ClassCounts(BaseModel):
    """Images of one class."""

    train: int
    test: int


class Summary(BaseModel):
    """A whole source. `shape` is (C, H, W): the most frequent size of the training images, no side longer than
    MAX_SIDE, and one channel where all images are grey, else three. Classes are in order of their names."""

    shape: tuple[int, int, int]
    classes: dict[str, ClassCounts]

    @property
    def counts(self) -> dict[str, int]:
        """Images of each split."""
        return {split: sum(getattr(count, split) for count in self.classes.values()) for split in SPLITS}


def find_images(name: str, folders: Sequence[Path]) -> Path | None:
    """The archive or folder with a data set's images, in the first of `folders` that has one."""
    for folder in folders:
        for suffix in SUFFIXES:
            if (folder / f"{name}{suffix}").is_file():
                return folder / f"{name}{suffix}"
        if all((folder / name / split).is_dir() for split in SPLITS):
            return folder / name
    return None


def survey(source: Path, *, decode: bool = False) -> Summary:
    """What a source holds; with `decode`, every image is decoded too. Raises BadImageFolder, OSError."""
    sizes: Counter[tuple[int, int]] = Counter()
    found: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    grey, undecodable = True, []
    for split, label, member, image in entries(source):
        if split == "train":
            sizes[image.size] += 1
        found[split][label] += 1
        grey = grey and image.mode in _GREY
        if decode and (why := _why_undecodable(image)):
            undecodable.append(f"{member} ({why})")
    if undecodable:
        more = f" and {len(undecodable) - _SHOWN} more" if len(undecodable) > _SHOWN else ""
        raise BadImageFolder(
            f"{len(undecodable)} of {sum(map(Counter.total, found.values()))} images cannot be decoded: "
            f"{', '.join(undecodable[:_SHOWN])}{more}."
        )
    for split in SPLITS:
        if not found[split]:
            raise BadImageFolder(f"{source.name} has no image in {split}/<class>/.")
    unknown = sorted(found["test"].keys() - found["train"].keys())
    if unknown:
        raise BadImageFolder(
            f"{source.name} has test images of classes without training images: {', '.join(unknown[:_SHOWN])}."
        )
    single = sorted(label for label, count in found["train"].items() if count < 2)
    if single:
        raise BadImageFolder(
            f"{source.name} has a single training image of {', '.join(single[:_SHOWN])}; a class needs at least two, "
            "one to train on and one to validate."
        )
    classes = sorted(found["train"])
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise BadImageFolder(
            f"{source.name} has {len(classes)} class ({classes[0]}); a classifier needs at least two."
            if len(classes) < 2
            else f"{source.name} has {len(classes):,} classes; at most {MAX_CLASSES:,}."
        )
    (width, height), _ = sizes.most_common(1)[0]
    factor = min(1.0, MAX_SIDE / max(width, height))
    shape = 1 if grey else 3, max(1, round(height * factor)), max(1, round(width * factor))
    needed = sum(map(Counter.total, found.values())) * shape[0] * shape[1] * shape[2]
    if needed > MAX_PREPARED_BYTES:
        raise BadImageFolder(
            f"{source.name} takes {needed >> 30} GiB at {shape[2]} x {shape[1]} pixels an image; at most "
            f"{MAX_PREPARED_BYTES >> 30} GiB. Scale the images down or leave some out."
        )
    return Summary(
        shape=shape,
        classes={label: ClassCounts(train=found["train"][label], test=found["test"][label]) for label in classes},
    )


def fitted(image: Image.Image, channels: int, size: tuple[int, int]) -> Image.Image:
    """An image as a network has it: grey or RGB, scaled to cover `size` (width, height) and cut at the centre. Raises
    what Pillow's plugins happen to."""
    converted = image.convert("L" if channels == 1 else "RGB")
    return converted if converted.size == size else ImageOps.fit(converted, size, Image.Resampling.BILINEAR)


def entries(source: Path) -> Iterator[Entry]:
    """Every image of a source, in the source's own order. Raises BadImageFolder where a member is none."""
    seen: set[str] = set()
    folders: dict[str, set[str]] = {split: set() for split in SPLITS}
    filled: dict[str, set[str]] = {split: set() for split in SPLITS}
    top: str | None = None
    for name, content in _members(source):
        parts = _parts(source, name)
        if not parts or parts[0] == "__MACOSX" or any(part.startswith(".") for part in parts):
            continue
        # `train/...` may lie in one folder, as it does when a folder is packed.
        if parts[0] not in SPLITS:
            if len(parts) == 1 or parts[1] not in SPLITS:
                continue  # a read-me, say
            if top not in (None, parts[0]):
                raise BadImageFolder(f"{source.name}: {name} and {top}/ are two data sets; pack one.")
            top, parts = parts[0], parts[1:]
        split = parts[0]
        if content is None:
            folders[split] |= {parts[1]} if len(parts) == 2 else set()
            continue
        member = "/".join(parts)
        if len(parts) != 3:
            raise BadImageFolder(f"{source.name}: {name} is not at {split}/<class>/<image>.")
        if member in seen:
            raise BadImageFolder(f"{source.name} holds {name} twice.")
        seen.add(member)
        filled[split].add(parts[1])
        yield Entry(split, parts[1], name, _opened(source, name, content))
    for split in SPLITS:
        empty = sorted(folders[split] - filled[split])
        if empty:
            raise BadImageFolder(f"{source.name}: the class {split}/{empty[0]} is empty.")


def _parts(source: Path, name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    odd = any(ord(char) < 32 or ord(char) == 127 or 0xD800 <= ord(char) < 0xE000 for char in name)
    if name.startswith("/") or ".." in parts or "\\" in name or (parts and parts[0][1:2] == ":"):
        raise BadImageFolder(f"{source.name}: the name {name!r} leads out of the archive.")
    if odd or any(len(part) > 255 for part in parts):
        raise BadImageFolder(f"{source.name}: {name[:100]!r} is no name for a file: control characters or too long.")
    return parts


def _opened(source: Path, member: str, content: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings(action="ignore"):
            image = Image.open(io.BytesIO(content), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise BadImageFolder(
            f"{source.name}: {member} has far too many pixels; at most {MAX_PIXELS:,} ({error})."
        ) from error
    except Exception as error:
        # Pillow raises what its plugins happen to: OSError, ValueError, SyntaxError, struct.error, ...
        raise BadImageFolder(f"{source.name}: {member} is no image (one of {', '.join(_FORMATS)}).") from error
    if image.width * image.height > MAX_PIXELS:
        raise BadImageFolder(
            f"{source.name}: {member} has {image.width} x {image.height} pixels; at most {MAX_PIXELS:,}."
        )
    return image


def _why_undecodable(image: Image.Image) -> str | None:
    try:
        with warnings.catch_warnings(action="ignore"):
            image.load()
    except Exception as error:  # noqa: BLE001  (as above)
        return " ".join(str(error).split())[:100] or type(error).__name__
    return None


def _members(source: Path) -> Iterator[tuple[str, bytes | None]]:
    """Name and content of each member; None for a folder."""
    if source.is_dir():
        for file in sorted(source.rglob("*")):
            yield file.relative_to(source).as_posix(), None if file.is_dir() else file.read_bytes()
        return
    budget = _Budget(source)
    try:
        yield from _of_zip(source, budget) if source.suffix == ".zip" else _of_tar(source, budget)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadImageFolder(
            f"{source.name} cannot be read: it is damaged, cut off or encrypted ({reason})."
        ) from error


def _of_zip(source: Path, budget: _Budget) -> Iterator[tuple[str, bytes | None]]:
    with zipfile.ZipFile(source) as archive:
        for entry in archive.infolist():
            budget.member(entry.filename, entry.file_size)
            mode = entry.external_attr >> 16
            if mode & 0o170000 == 0o120000:
                raise BadImageFolder(f"{source.name}: {entry.filename} is a link; pack the image itself.")
            if entry.is_dir():
                yield entry.filename, None
                continue
            with archive.open(entry) as file:
                yield entry.filename, budget.content(entry.filename, file)


def _of_tar(source: Path, budget: _Budget) -> Iterator[tuple[str, bytes | None]]:
    with tarfile.open(source) as archive:
        for member in archive:
            budget.member(member.name, member.size)
            if member.isdir():
                yield member.name, None
                continue
            file = archive.extractfile(member) if member.isreg() else None
            if file is None:
                kind = "a link" if member.issym() or member.islnk() else "a device or pipe"
                raise BadImageFolder(f"{source.name}: {member.name} is {kind}; pack the image itself.")
            yield member.name, budget.content(member.name, file)
        # tarfile takes the end of the file for the end of the archive; only zeros end one.
        raw = archive.fileobj
        if raw is not None and (raw.seek(archive.offset), raw.read(512))[1] != bytes(512):
            raise BadImageFolder(f"{source.name} is cut off: it has no end mark.")


class _Budget:
    """What an archive may cost, told by its own size."""

    def __init__(self, source: Path) -> None:
        self._name = source.name
        self._bytes = source.stat().st_size * MAX_UNPACKED_RATIO + MAX_UNPACKED_FREE
        self._members = MAX_MEMBERS

    def member(self, name: str, declared: int) -> None:
        self._members -= 1
        if self._members < 0:
            raise BadImageFolder(f"{self._name} has more than {MAX_MEMBERS:,} members.")
        if declared > MAX_FILE_BYTES:
            raise BadImageFolder(f"{self._name}: {name} has {declared:,} bytes; at most {MAX_FILE_BYTES:,}.")

    def content(self, name: str, file: IO[bytes]) -> bytes:
        content = file.read(MAX_FILE_BYTES + 1)
        self._bytes -= len(content)
        if len(content) > MAX_FILE_BYTES or self._bytes < 0:
            raise BadImageFolder(
                f"{self._name}: {name} unpacks to far more than the archive's size suggests; this is no data set."
            )
        return content


def main() -> int:
    """Look one archive through; 0 and its Summary, or 1 and what is wrong with it."""
    try:
        print(survey(Path(sys.argv[1]), decode=True).model_dump_json())
    except BadImageFolder as error:
        print(json.dumps({"wrong": str(error)}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
