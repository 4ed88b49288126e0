"""One training child for one claimed job: its process, its messages, its end. The store hears of it only from here.

Children come from a forkserver that has torch imported already, so one starts in milliseconds, and whatever a job
does (a crash, out of memory) ends its own process and nothing else.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from app.artifacts import ArtifactStore
from app.jobs import Claim, JobError
from app.store import JobNotFound, JobStore, LeaseLost, StoreUnavailable
from worker.messages import (
    Assignment,
    EpochDone,
    Failed,
    Happened,
    Machine,
    Message,
    Places,
    Started,
    Stop,
    Succeeded,
    Yield,
)

log = logging.getLogger("whistlestop.worker")

_TAIL_LINES = 30
# Besides our own: what torch's optimisers and wandb.init import when they are first called (1 s and 0.4 s).
_PRELOADED = [
    "worker.run",
    "worker.supervisor",
    "torch._dynamo",
    "torch.onnx",
    "onnx",
    "wandb",
    "wandb.apis.public",
    "wandb.sdk.launch",
]
_PROBES = 3
_context = multiprocessing.get_context("forkserver")


class CannotTrain(RuntimeError):
    """This machine cannot run training children."""


def warm_up(device: str) -> Machine:
    """Start the forkserver, have it import torch, and ask a first child what jobs will run on. Raises CannotTrain."""
    _context.set_forkserver_preload(_PRELOADED)
    for _ in range(_PROBES):
        connection, process = _start(_probe, device)
        try:
            answer = connection.recv()
        except EOFError:
            answer = None
        process.join()
        if isinstance(answer, Machine):
            return answer
        if answer is not None:
            raise CannotTrain(answer.error.message)
        # One that somebody, or the kernel for want of memory, has killed says nothing of the next one.
        if (process.exitcode or 0) >= 0:
            break
    raise CannotTrain(
        "A training process cannot start; what it printed stands above. "
        "Is the worker's part installed (pip install '.[worker]')?"
    )


class Run:
    """A claimed job in its child. `over` once the store knows how it ended, or that the lease is lost."""

    def __init__(
        self, claim: Claim, store: JobStore, artifacts: ArtifactStore, places: Places, device: str, cores: int
    ) -> None:
        self.lease = claim.lease
        self.over = False
        self.superseded: list[str] = []
        self._store, self._artifacts = store, artifacts
        self._yielding = False
        self._stopping = claim.stop_requested  # a claim's request is known to the child
        self._waiting: Message | None = None  # said by the child, not yet taken by the store
        self._log = places.logs / f"{self.lease.job_id}-{self.lease.attempt}.txt"
        artifacts.sweep(self.lease.job_id, {checkpoint.key for checkpoint in claim.checkpoints.values()})
        self.connection, self._process = _start(_child, Assignment(claim, device, cores, places), self._log)

    def attend(self) -> None:
        """Take what the child has said to the store. Raises StoreUnavailable: call again, nothing is lost."""
        try:
            while not self.over and (self._waiting is not None or self.connection.poll()):
                if self._waiting is None:
                    self._waiting = self.connection.recv()
                self._record(self._waiting)
                self._waiting = None
        except LeaseLost as lost:
            log.info("%s The attempt ends here.", lost)
            self.end()
        except (EOFError, OSError):
            self._ended_without_a_word()
        except StoreUnavailable:
            raise
        except Exception as error:
            log.exception("job %s: what its child said cannot be recorded", self.lease.job_id)
            words = JobError(type="internal_error", message=f"{type(error).__name__}: {error}")
            self._store.fail(self.lease, words)
            self._last_word("failed: a fault of the service")

    def give_back(self) -> None:
        """Ask the child to exit as soon as no bookkeeping is half done; the job goes back to the queue then."""
        self._yielding = True
        with contextlib.suppress(OSError):  # it may be gone already, which `attend` will see
            self.connection.send(Yield())

    def stop(self) -> None:
        """Ask the child to end training after the running epoch."""
        if not self._stopping:
            self._stopping = True
            with contextlib.suppress(OSError):  # likewise
                self.connection.send(Stop())

    def kill(self) -> None:
        """End the child at once; `attend` sees to the rest."""
        self._process.kill()

    def end(self) -> None:
        """The job is no longer this run's: end the child, and leave no file of its behind."""
        self._process.kill()
        self._process.join()
        self.connection.close()
        self._log.unlink(missing_ok=True)
        self.over = True
        self._tidy()

    def _record(self, message: Message) -> None:
        store, lease = self._store, self.lease
        match message:
            case Started(runtime, text):
                store.record_runtime(lease, runtime, text)
            case Happened(kind, data, text):
                store.record_event(lease, kind, data, text)
            case EpochDone(row, files, stopping, gradients, text):
                extra = {} if gradients is None else {"gradients": dict(gradients)}
                self.superseded += store.record_epoch(
                    lease, row, files, {"early_stopping": dict(stopping), **extra}, text
                )
            case Succeeded(stop_reason, evaluation, text, exports):
                store.succeed(lease, stop_reason, evaluation, text, exports)
                self._last_word(f"succeeded ({stop_reason})")
            case Failed(error, passing, text):
                words = f"failed: {error.type}: {error.message}"
                (store.crash if passing else store.fail)(lease, error, [*text, words])
                self._last_word(words)
            case Machine():
                raise TypeError("a child with a job sent the answer of one without")

    def _last_word(self, words: str) -> None:
        log.info(words, extra={"job": self.lease.job_id, "attempt": self.lease.attempt})
        self.end()

    def _ended_without_a_word(self) -> None:
        self._process.join(timeout=5)
        if self._yielding:
            self._store.give_back(self.lease, ("given back: the worker shuts down",))
            self._last_word("given back to the queue")
            return
        error = JobError(type="crashed", message=f"The training process {_how_it_ended(self._process.exitcode)}")
        self._store.crash(self.lease, error, [*_tail(self._log), error.message])
        self._last_word(error.message)

    def _tidy(self) -> None:
        job_id = self.lease.job_id
        try:
            if self._store.job(job_id).status.final:
                recorded = {checkpoint.key for checkpoint in self._store.checkpoints(job_id)}
                self._artifacts.sweep(job_id, recorded | set(self.superseded))
        except JobNotFound:
            self._artifacts.delete_job(job_id)


def _start(target: object, *arguments: object) -> tuple[Connection, ForkServerProcess]:
    ours, theirs = _context.Pipe()
    process = _context.Process(target=target, args=(theirs, *arguments), daemon=True)  # type: ignore[arg-type]
    with _signals_held():
        process.start()
    theirs.close()
    return ours, process


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """The forkserver and its children inherit what is blocked while it starts: a Ctrl-C, or a SIGTERM to the whole
    group, is the worker's to act on. It gets the signal afterwards; none is lost."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _probe(connection: Connection, device: str) -> None:
    from worker.run import probe  # noqa: PLC0415  (in the child, where torch is at home)

    probe(connection, device)


def _child(connection: Connection, assignment: Assignment, log_file: Path) -> None:
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab", buffering=0) as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    faulthandler.enable()
    with contextlib.suppress(OSError):  # Linux only: where memory runs out, this process goes, not the API's
        Path("/proc/self/oom_score_adj").write_text("1000")
    from worker.run import main  # noqa: PLC0415  (in the child, where torch is at home)

    main(connection, assignment)


def _how_it_ended(exitcode: int | None) -> str:
    if exitcode is None:
        return "closed its pipe and hangs."
    if exitcode < 0:
        name = signal.Signals(-exitcode).name
        hint = " (often: the machine ran out of memory)" if -exitcode == signal.SIGKILL else ""
        return f"was ended by {name}{hint}."
    return f"ended without a word, with exit status {exitcode}."


def _tail(path: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return path.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
    return []
