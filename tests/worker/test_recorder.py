"""The recorder: epochs in order, files before words, and no word behind a failure."""

from __future__ import annotations

import threading
import time

import pytest

from app.artifacts import Artifact
from worker.recorder import Recorder


def test_epochs_are_recorded_in_order_beside_the_training() -> None:
    done: list[object] = []

    def put(name: str, epoch: int, content: memoryview) -> Artifact:
        time.sleep(0.05)
        done.append((name, epoch, bytes(content)))
        return Artifact(f"{epoch}-{name}", len(content), "")

    recorder = Recorder(put, threading.Lock())
    began = time.monotonic()
    recorder.record(1, {"best": memoryview(b"a"), "last": memoryview(b"b")}, lambda files: done.append(sorted(files)))
    assert time.monotonic() - began < 0.05, "the caller does not wait"
    for epoch in (2, 3):
        recorder.record(epoch, {"last": memoryview(b"c")}, lambda files: done.append(files["last"].key))
    recorder.finish()
    first = [("best", 1, b"a"), ("last", 1, b"b"), ["best", "last"]]
    assert done == [*first, ("last", 2, b"c"), "2-last", ("last", 3, b"c"), "3-last"]


def test_a_failure_is_raised_where_training_asks_and_nothing_is_said_behind_it() -> None:
    said: list[int] = []

    def put(name: str, epoch: int, content: memoryview) -> Artifact:
        if epoch == 2:
            raise OSError(5, "Input/output error")
        return Artifact(name, 0, "")

    recorder = Recorder(put, threading.Lock())
    with pytest.raises(OSError, match="Input/output"):
        for epoch in range(1, 10):
            recorder.record(epoch, {"last": memoryview(b"")}, lambda _, epoch=epoch: said.append(epoch))  # type: ignore[misc]
            time.sleep(0.01)
    with pytest.raises(OSError, match="Input/output"):
        recorder.finish()
    assert said == [1]
