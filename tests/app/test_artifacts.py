"""Files of weights: whole or not there."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path
from typing import IO

import pytest

from app.artifacts import ArtifactStore

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


def write(out: IO[bytes]) -> None:
    out.write(CONTENT)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_file_is_put_with_its_size_and_digest(artifacts: ArtifactStore) -> None:
    found = artifacts.put("job", 2, 7, "best_model.pth", write)
    assert (found.size, found.sha256) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert artifacts.path(found.key).read_bytes() == CONTENT


def test_a_disk_that_fills_up_half_way_leaves_nothing_behind(artifacts: ArtifactStore) -> None:
    kept = artifacts.put("job", 1, 1, "last.pth", write)

    def half(out: IO[bytes]) -> None:
        out.write(CONTENT[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        artifacts.put("job", 1, 2, "last.pth", half)
    assert names(artifacts.root / "job") == [Path(kept.key).name]


def test_two_attempts_never_write_the_same_file(artifacts: ArtifactStore) -> None:
    first = artifacts.put("job", 1, 3, "last.pth", write)
    second = artifacts.put("job", 2, 3, "last.pth", lambda out: out.write(b"other") and None)
    assert artifacts.path(first.key).read_bytes() == CONTENT
    assert artifacts.path(second.key).read_bytes() == b"other"


def test_a_sweep_keeps_what_is_recorded_and_nothing_else(artifacts: ArtifactStore) -> None:
    kept = artifacts.put("job", 1, 1, "best_model.pth", write)
    artifacts.put("job", 1, 2, "last.pth", write)
    (artifacts.root / "job" / ".writing-abc").write_bytes(b"half")
    other = artifacts.put("other", 1, 1, "last.pth", write)
    artifacts.sweep("job", {kept.key})
    assert names(artifacts.root / "job") == [Path(kept.key).name]
    assert artifacts.path(other.key).exists()


def test_what_is_gone_already_can_be_deleted_again(artifacts: ArtifactStore) -> None:
    found = artifacts.put("job", 1, 1, "last.pth", write)
    for _ in range(2):
        artifacts.discard([found.key])
        artifacts.delete_job("job")
        artifacts.sweep("job", ())
    assert not (artifacts.root / "job").exists()
