"""What a training child records of an epoch, written beside the training: files first, then the word to the worker.

An epoch's state is copied into memory at its end; a thread writes and syncs it while the next epoch trains. At most
one epoch waits, so a full disk holds training up instead of filling the memory.
"""

from __future__ import annotations

import io
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from app.artifacts import Artifact

Content = dict[str, memoryview]
"""Checkpoint names and what is to be in the files."""


def in_memory(write: Callable[[IO[bytes]], None]) -> memoryview:
    """What `write` writes."""
    out = io.BytesIO()
    write(out)
    return out.getbuffer()


@dataclass(frozen=True)
class _Finished:
    epoch: int
    content: Content
    say: Callable[[dict[str, Artifact]], None]


class Recorder:
    """Writes epochs in order, on a thread of its own. `put` is called with a name, the epoch and the content; `lock`
    is held while an epoch's files and its word belong together."""

    def __init__(self, put: Callable[[str, int, memoryview], Artifact], lock: threading.Lock) -> None:
        self._put, self._lock = put, lock
        self._waiting: queue.Queue[_Finished | None] = queue.Queue(maxsize=1)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    def record(self, epoch: int, content: Content, say: Callable[[dict[str, Artifact]], None]) -> None:
        """Write an epoch's files, then `say` which. Returns at once, unless the epoch before is not written yet.
        Raises what writing an earlier epoch raised."""
        self._waiting.put(_Finished(epoch, content, say))
        self._check()

    def finish(self) -> None:
        """Wait until everything is recorded. Raises what writing raised."""
        self._waiting.put(None)
        self._thread.join()
        self._check()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        while (finished := self._waiting.get()) is not None:
            if self._failure is not None:
                continue  # nothing may be recorded behind a gap
            try:
                with self._lock:
                    files = {name: self._put(name, finished.epoch, data) for name, data in finished.content.items()}
                    finished.say(files)
            except Exception as error:  # noqa: BLE001  (raised again where the training thread asks)
                self._failure = error
