"""One worker: polls the queue, claims jobs, supervises their children, keeps their leases."""

from __future__ import annotations

import logging
import os
import platform
import signal
import socket
import sys
import time
from multiprocessing.connection import wait

from pydantic import ValidationError
from uuid_utils.compat import uuid7

from app import __version__, logs
from app.artifacts import ArtifactStore
from app.jobs import Beat, Worker
from app.settings import Settings, in_words
from app.store import JobStore, StoreUnavailable
from worker.messages import Machine, Places
from worker.supervisor import CannotTrain, Run, warm_up
from worker.usage import Meter

log = logging.getLogger("whistlestop.worker")

POLL_SECONDS = 0.08  # an empty poll costs 0.2 ms
LEASE_CHECK_SECONDS = 0.25  # how soon a cancelled job's child is ended
GRACE_SECONDS = 5.0  # a reader that has just looked a checkpoint up may still open the file
GOODBYE_SECONDS = 10.0
_RETRY_SECONDS = 1.0


def main() -> int:
    """Work until a signal ends it; 2 where it cannot start."""
    try:
        settings = Settings()
        logs.configure(settings.log_format)
        places = Places.of(settings)
        for folder in (places.checkpoints, places.logs):
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(13, "Permission denied", str(folder))
        store = JobStore(settings.resolved_database_url)
        store.migrate()
        loop = WorkerLoop(settings, places, store)
        machine = warm_up(settings.device)
    except ValidationError as error:
        return _cannot_start(in_words(error))
    except OSError as error:
        return _cannot_start(
            f"The data folder cannot be used: {error.filename}: {error.strerror}. "
            "Set WHISTLESTOP_DATA_DIR to a folder that you may write to."
        )
    except (StoreUnavailable, CannotTrain) as error:
        return _cannot_start(str(error))
    loop.work(machine)
    return 0


def _cannot_start(why: str) -> int:
    print(f"whistlestop worker: {why}", file=sys.stderr)
    return 2


class WorkerLoop:
    """The loop of one worker. Single-threaded: each turn looks after leases, claims, and hears what children say."""

    def __init__(self, settings: Settings, places: Places, store: JobStore) -> None:
        self.id = str(uuid7())
        self._store, self._places = store, places
        self._artifacts = ArtifactStore(places.checkpoints)
        self._slots, self._lease_seconds = settings.slots, settings.lease_seconds
        # Two jobs with threads on all cores take four times as long as one (`benchmarks/convolutions.py`).
        self._cores = max(1, (os.cpu_count() or 1) // settings.slots)
        self._runs: list[Run] = []
        self._superseded: list[tuple[float, str]] = []
        self._silence = Silence(settings.lease_seconds)
        self._heartbeat = Every(settings.lease_seconds / 3)
        self._watch = Every(settings.lease_seconds / 6)
        self._lease_check = Every(LEASE_CHECK_SECONDS)
        self._poll = Every(POLL_SECONDS)
        self._stopping = self._draining = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGUSR1, self._drain)

    def work(self, machine: Machine) -> None:
        """Work until SIGTERM or SIGINT; then give the jobs back and say goodbye."""
        self._meter = Meter(machine.device)
        known = False
        while not self._stopping and not (self._draining and not self._runs):
            try:
                if not known:
                    self._register(machine)
                    known = True
                self._turn(machine.device)
            except StoreUnavailable as error:
                log.error("%s Trying again every %g s; nothing is lost.", error, _RETRY_SECONDS)
                time.sleep(_RETRY_SECONDS)
        self._say_goodbye()

    def _stop(self, number: int, _frame: object) -> None:
        log.info("%s: shutting down", signal.Signals(number).name)
        self._stopping = True

    def _drain(self, number: int, _frame: object) -> None:
        log.info("%s: taking no more jobs; ends when those that run have ended", signal.Signals(number).name)
        self._draining = True

    def _register(self, machine: Machine) -> None:
        versions = {"whistlestop": __version__, "python": platform.python_version(), "torch": machine.torch}
        worker = Worker(
            id=self.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            device=machine.device,
            device_name=machine.device_name,
            slots=self._slots,
            versions=versions,
        )
        self._store.register_worker(worker)
        log.info("worker %s ready: %s (%s), slots: %d", self.id, machine.device, machine.device_name, self._slots)

    def _turn(self, device: str) -> None:
        if self._heartbeat.due():
            self._store.heartbeat(self.id, [run.lease for run in self._runs], self._meter.read())
        if self._watch.due():
            for beat in self._silence.observe(self._store.beats()):
                if self._store.expire(beat, self._lease_seconds):
                    log.warning("job %s: its worker is silent; it is up for another attempt", beat.lease.job_id)
        if self._runs and self._lease_check.due():
            held = self._store.still_held([run.lease for run in self._runs])
            for run in self._runs:
                if run.lease not in held:
                    run.end()
                elif held[run.lease]:
                    run.stop()
        free = len(self._runs) < self._slots and not self._draining
        claimed = free and self._poll.due() and self._claim(device)
        timeout = 0 if claimed else POLL_SECONDS if free else LEASE_CHECK_SECONDS
        wait([run.connection for run in self._runs if not run.over], timeout)
        self._attend()

    def _claim(self, device: str) -> bool:
        claim = self._store.claim(self.id)
        if claim is None:
            return False
        log.info("claimed", extra={"job": claim.lease.job_id, "attempt": claim.lease.attempt})
        self._runs.append(Run(claim, self._store, self._artifacts, self._places, device, self._cores))
        self._poll.at_once()
        return True

    def _attend(self) -> None:
        for run in self._runs:
            if not run.over:
                run.attend()
            if run.over:
                self._poll.at_once()
            due = time.monotonic() + GRACE_SECONDS
            self._superseded += [(due, key) for key in run.superseded]
            run.superseded.clear()
        self._runs = [run for run in self._runs if not run.over]
        now = time.monotonic()
        self._artifacts.discard([key for due, key in self._superseded if due <= now])
        self._superseded = [(due, key) for due, key in self._superseded if due > now]

    def _say_goodbye(self) -> None:
        for run in self._runs:
            run.give_back()
        deadline = time.monotonic() + GOODBYE_SECONDS
        while self._runs:
            if time.monotonic() > deadline:
                for run in self._runs:
                    run.kill()
            wait([run.connection for run in self._runs], 0.5)
            try:
                self._attend()
            except StoreUnavailable as error:
                log.error("%s", error)
                if time.monotonic() > deadline + GOODBYE_SECONDS:
                    break  # the leases expire by themselves
                time.sleep(_RETRY_SECONDS)
        self._artifacts.discard([key for _, key in self._superseded])
        try:
            self._store.deregister_worker(self.id)
        except StoreUnavailable as error:
            log.error("%s", error)
        self._store.close()
        log.info("worker %s ended", self.id)


class Every:
    """A timer that is due at once and then every `seconds`, by the monotonic clock: clock jumps do not touch it."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._next = seconds, 0.0

    def due(self) -> bool:
        """Whether it is time; if so, the next time is `seconds` from now."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self.seconds
        return True

    def at_once(self) -> None:
        """Be due now."""
        self._next = 0.0


class Silence:
    """Which running jobs' workers have been silent for a lease, by this process's own monotonic clock.

    Only time in which the beats could be read counts: while the database is away, nobody can renew a lease.
    """

    def __init__(self, lease_seconds: float) -> None:
        self._lease_seconds = lease_seconds
        self._silent: dict[Beat, float] = {}
        self._observed = time.monotonic()

    def observe(self, beats: list[Beat]) -> list[Beat]:
        """Take note of the beats as they are now; those that have stood still for too long."""
        now = time.monotonic()
        passed = min(now - self._observed, self._lease_seconds / 3)
        self._observed = now
        self._silent = {beat: self._silent.get(beat, -passed) + passed for beat in beats}
        return [beat for beat, seconds in self._silent.items() if seconds >= self._lease_seconds]
