"""Random sequences of everything that can happen to jobs, on the real databases, against a model of a few lines."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from app.jobs import JobError, JobStatus, Lease
from app.specs import JobSpec, StopReason
from app.store import IllegalTransition, JobStore, LeaseLost, NothingToStop, StoreError
from tests.values import EVALUATION, files, row

BROKEN = JobError(type="crashed", message="ended by SIGKILL")
Q, R, P, S, F, C = JobStatus
ALLOWED = {"pause": {Q, R}, "resume": {P}, "cancel": {Q, R, P}, "retry": {F}, "stop": {Q, R, P}}
TARGET = {"pause": P, "resume": Q, "cancel": C, "retry": Q}


class Expected:
    """What the model knows of a job."""

    def __init__(self, after: str | None) -> None:
        self.status, self.epochs, self.crashes, self.attempt = Q, 0, 0, 0
        self.lease: Lease | None = None
        self.waits = False  # for the wait behind a crash to pass
        self.after = after


class Machine(RuleBasedStateMachine):
    """The store and the model, side by side."""

    make_store: Callable[[], JobStore]
    jobs = Bundle("jobs")
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.store = type(self).make_store()
        self.expected: dict[str, Expected] = {}

    def teardown(self) -> None:
        self.store.close()

    def _ended(self, job_id: str, status: JobStatus) -> None:
        """A job's end, and that of those that wait for it."""
        job = self.expected[job_id]
        job.status, job.lease = status, None
        if status is not S:
            for waiter, other in self.expected.items():
                if other.after == job_id and other.status in (Q, P):
                    self._ended(waiter, F)

    def _crashed(self, job_id: str) -> None:
        """One of a job's two attempts is gone."""
        job = self.expected[job_id]
        job.crashes += 1
        if job.crashes == 2:
            self._ended(job_id, F)
        else:
            job.status, job.lease, job.waits = Q, None, True

    @rule(target=jobs)
    def submit(self) -> str:
        job_id = self.store.submit(JobSpec(max_attempts=2))[0].id
        self.expected[job_id] = Expected(None)
        return job_id

    @rule(target=jobs, parent=jobs)
    def submit_after(self, parent: str) -> str:
        spec = JobSpec(max_attempts=2, after=(parent,))
        if parent not in self.expected or self.expected[parent].status in (F, C):
            with pytest.raises(StoreError):
                self.store.submit(spec)
            return parent
        job_id = self.store.submit(spec)[0].id
        self.expected[job_id] = Expected(parent)
        return job_id

    @rule(target=leases)
    def claim(self) -> object:
        claim = self.store.claim("worker")
        ready = [
            job_id
            for job_id, job in self.expected.items()
            if job.status is Q
            and (job.after is None or job.after not in self.expected or self.expected[job.after].status is S)
        ]
        due = [job_id for job_id in ready if not self.expected[job_id].waits]
        if claim is None:
            assert not due
            return multiple()
        # A wait behind a crash may have passed meanwhile.
        assert claim.lease.job_id in ready
        assert claim.lease.job_id == min([*due, claim.lease.job_id])
        job = self.expected[claim.lease.job_id]
        job.waits = False
        job.status, job.lease, job.attempt = R, claim.lease, job.attempt + 1
        assert claim.lease.attempt == job.attempt
        assert bool(claim.checkpoints) is bool(job.epochs)
        return claim.lease

    def _as_worker(self, lease: Lease, write: Callable[[], object]) -> bool:
        """Whether the store takes a write; it must refuse those of a lease that is not the job's own."""
        job = self.expected.get(lease.job_id)
        if job is not None and job.lease == lease:
            write()
            return True
        with pytest.raises(LeaseLost):
            write()
        return False

    @rule(lease=leases)
    def epoch(self, lease: Lease) -> None:
        job = self.expected.get(lease.job_id)
        number = job.epochs + 1 if job else 1
        if self._as_worker(lease, lambda: self.store.record_epoch(lease, row(number), files(number), {}, ())):
            self.expected[lease.job_id].epochs = number

    @rule(lease=consumes(leases))
    def succeed(self, lease: Lease) -> None:
        if self._as_worker(lease, lambda: self.store.succeed(lease, StopReason.MAX_EPOCHS, EVALUATION)):
            self._ended(lease.job_id, S)

    @rule(lease=consumes(leases))
    def fail(self, lease: Lease) -> None:
        if self._as_worker(lease, lambda: self.store.fail(lease, BROKEN)):
            self._ended(lease.job_id, F)

    @rule(lease=leases)
    def crash(self, lease: Lease) -> None:
        if self._as_worker(lease, lambda: self.store.crash(lease, BROKEN)):
            self._crashed(lease.job_id)

    @rule(lease=leases)
    def give_back(self, lease: Lease) -> None:
        if self._as_worker(lease, lambda: self.store.give_back(lease)):
            job = self.expected[lease.job_id]
            job.status, job.lease = Q, None

    @rule(lease=leases, moved=st.booleans())
    def expire(self, lease: Lease, moved: bool) -> None:
        beat = next((beat for beat in self.store.beats() if beat.lease == lease), None)
        assert (beat is not None) == (lease.job_id in self.expected and self.expected[lease.job_id].lease == lease)
        if beat is None:
            return
        if moved:
            self.store.heartbeat("worker", [lease])
        assert self.store.expire(beat, 30) is not moved
        if not moved:
            self._crashed(lease.job_id)

    @rule(job_id=jobs, action=st.sampled_from(sorted(ALLOWED)))
    def act(self, job_id: str, action: str) -> None:
        job = self.expected.get(job_id)
        act = getattr(self.store, action)
        if job is None or job.status not in ALLOWED[action]:
            with pytest.raises(StoreError):
                act(job_id)
            return
        if action == "stop" and job.status is not R and not job.epochs:
            with pytest.raises(NothingToStop):
                act(job_id)
            return
        parent = self.expected.get(job.after or "")
        if action == "retry" and parent is not None and parent.status in (F, C):
            with pytest.raises(StoreError):
                act(job_id)
            return
        act(job_id)
        if action == "stop":
            if job.status is P:
                job.status, job.waits = Q, False
        elif action == "cancel":
            self._ended(job_id, C)
        else:
            job.status, job.lease = TARGET[action], None
            if action == "retry":
                job.crashes, job.waits = 0, False

    @rule(job_id=jobs)
    def delete(self, job_id: str) -> None:
        job = self.expected.get(job_id)
        if job is None or not job.status.final:
            with pytest.raises((IllegalTransition, StoreError)):
                self.store.delete(job_id)
            return
        self.store.delete(job_id)
        if job.status is not S:
            self._ended(job_id, job.status)
        del self.expected[job_id]

    @invariant()
    def the_store_agrees_with_the_model(self) -> None:
        for job_id, job in self.expected.items():
            found = self.store.job(job_id)
            assert (found.status, found.progress.epoch, found.attempt) == (job.status, job.epochs, job.attempt)
            assert (found.finished_at is not None) == found.status.final
            numbers = [event.number for event in self.store.events(job_id)]
            assert numbers == list(range(1, len(numbers) + 1))
            assert [epoch.epoch for epoch in self.store.epochs(job_id)] == list(range(1, job.epochs + 1))
            running = [attempt for attempt in self.store.attempts(job_id) if attempt.ended_at is None]
            assert len(running) == (found.status is R)

    @invariant()
    def the_events_of_all_jobs_have_one_order(self) -> None:
        serials = [event.serial for event in self.store.events_after(0)]
        assert serials == sorted(set(serials))


def test_the_store_does_what_the_model_says(database_url: str) -> None:
    first = JobStore(database_url)
    first.migrate()

    def empty() -> JobStore:
        if database_url.startswith("sqlite"):
            handle, path = tempfile.mkstemp(dir=Path(first._db.url.database or "").parent)
            os.close(handle)
            store = JobStore(f"sqlite:///{path}")
            store.migrate()
            return store
        with first._db.write() as db:
            db.execute(sa.text("DELETE FROM jobs"))
        return JobStore(database_url)

    machine = type("Machine_", (Machine,), {"make_store": staticmethod(empty)})
    # The same sequences every time: a failure that depends on the day would only be run again.
    runs = settings(
        max_examples=12,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=runs)  # type: ignore[no-untyped-call]
    first.close()
