"""Which data sets there are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from app.datasets import BUILT_IN, Datasets, UnknownDataset
from app.imagefolder import find_images


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, ...]:
    """A folder that was given, and the service's own."""
    given, own = tmp_path / "given", tmp_path / "own"
    for split in ("train", "test"):
        (given / "pets" / split).mkdir(parents=True)
    (given / "half" / "train").mkdir(parents=True)
    own.mkdir()
    for name in ("fruit.zip", "leaves.tar", "notes.txt", "cifar10.tar"):
        (own / name).touch()
    return given, own


def test_own_data_sets_are_archives_and_folders_with_both_splits(folders: tuple[Path, ...]) -> None:
    found = Datasets(folders).list()
    assert [dataset.name for dataset in found] == [*BUILT_IN, "fruit", "leaves", "pets"]
    assert [dataset.kind for dataset in found[-3:]] == ["own"] * 3


def test_images_are_found_in_the_first_folder_that_has_them(folders: tuple[Path, ...]) -> None:
    given, own = folders
    assert find_images("fruit", folders) == own / "fruit.zip"
    assert find_images("pets", folders) == given / "pets"
    assert find_images("cifar10", folders) == own / "cifar10.tar", "a built-in one may be placed by hand"
    assert find_images("half", folders) is None


def test_an_unknown_one_is_told_with_the_nearest(folders: tuple[Path, ...]) -> None:
    with pytest.raises(UnknownDataset, match="did you mean 'leaves'"):
        Datasets(folders).get("leafs")
    assert [dataset.name for dataset in Datasets((folders[0] / "none",)).list()] == list(BUILT_IN)


def test_a_sweep_takes_what_was_cut_off_and_leaves_what_another_api_receives(tmp_path: Path) -> None:
    uploads = tmp_path / "uploaded"
    for name in (".receiving-dead", ".receiving-live"):
        (uploads / name).mkdir(parents=True)
        (uploads / name / "part").write_bytes(b"x")
    code = (
        "import fcntl, sys\n"
        "lock = open(sys.argv[1], 'wb')\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(uploads / ".receiving-live" / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        Datasets((tmp_path,)).sweep()
        assert [each.name for each in uploads.iterdir()] == [".receiving-live"]
    Datasets((tmp_path,)).sweep()
    assert list(uploads.iterdir()) == []
