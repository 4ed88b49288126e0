"""Where checkpoint files are. The only module that knows; it knows nothing of jobs' statuses or of SQL.

A file gets a key of its own at every write (`<job>/<attempt>-<epoch>-<name>`), so that a worker that lost its
lease can never touch a file that a reader may be served: what is served is what the store has recorded.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_REMEMBERED = 100_000


class DamagedFile(Exception):
    """A file is not as it was written."""


@dataclass(frozen=True)
class Artifact:
    """A complete, synced file. `size` in bytes, `sha256` in hexadecimal."""

    key: str
    size: int
    sha256: str


def sha256_of(path: Path) -> str:
    """The digest of a file, in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Hashing:
    """A binary writer that counts (`size`, in bytes) and hashes (`digest`, sha256) what passes through."""

    def __init__(self, out: IO[bytes]) -> None:
        self.out, self.digest, self.size = out, hashlib.sha256(), 0

    def write(self, data: Any) -> int:
        """Write `data`. Raises OSError."""
        view = memoryview(data)
        self.digest.update(view)
        self.size += view.nbytes
        return self.out.write(view)

    def flush(self) -> None:
        """As of the file behind."""
        self.out.flush()


class ArtifactStore:
    """Files of weights under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._intact: dict[str, tuple[int, int, int]] = {}

    def put(self, job_id: str, attempt: int, epoch: int, name: str, write: Callable[[IO[bytes]], None]) -> Artifact:
        """Write a file whole or not at all: temporary name, sync, rename, sync of the folder.

        Raises OSError (a full disk, say) and leaves nothing behind.
        """
        folder = self.root / job_id
        folder.mkdir(parents=True, exist_ok=True)
        key = f"{job_id}/{attempt}-{epoch}-{name}"
        handle, temporary = tempfile.mkstemp(prefix=".writing-", dir=folder)
        try:
            with os.fdopen(handle, "wb") as out:
                hashing = Hashing(out)
                write(hashing)  # type: ignore[arg-type]
                out.flush()
                os.fsync(out.fileno())
            Path(temporary).replace(self.root / key)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(temporary).unlink()
            raise
        _sync_folder(folder)
        return Artifact(key, hashing.size, hashing.digest.hexdigest())

    def path(self, key: str) -> Path:
        """The file behind a key that the store recorded."""
        return self.root / key

    def discard(self, keys: Collection[str]) -> None:
        """Delete files that the store no longer records."""
        for key in keys:
            with contextlib.suppress(FileNotFoundError):
                (self.root / key).unlink()

    def delete_job(self, job_id: str) -> None:
        """Delete all files of a job."""
        shutil.rmtree(self.root / job_id, ignore_errors=True)

    def files_older_than(self, timestamp: float) -> Iterator[tuple[str, set[str]]]:
        """Each job that has files, with the keys of those that were written before `timestamp` (seconds)."""
        for folder in self.root.iterdir() if self.root.is_dir() else ():
            if folder.is_dir():
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    old = {file.name for file in folder.iterdir() if file.stat().st_mtime < timestamp}
                    yield folder.name, {f"{folder.name}/{name}" for name in old}

    def is_intact(self, key: str, size: int, sha256: str) -> bool:
        """Whether a file is as it was recorded. It is read once, and again when its time or size has changed.

        Raises FileNotFoundError.
        """
        stat = (self.root / key).stat()
        seen = stat.st_size, stat.st_mtime_ns, stat.st_ino
        if self._intact.get(key) == seen:
            return True
        if stat.st_size != size or sha256_of(self.root / key) != sha256:
            return False
        if len(self._intact) >= _REMEMBERED:
            self._intact.clear()
        self._intact[key] = seen
        return True

    def sweep(self, job_id: str, keep: Collection[str]) -> None:
        """Delete what an attempt that was cut off left behind. For the holder of the job's lease, or of none."""
        folder = self.root / job_id
        if folder.is_dir():
            self.discard([key for file in folder.iterdir() if (key := f"{job_id}/{file.name}") not in keep])


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
