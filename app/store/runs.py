"""What workers write: claims, heartbeats, epochs and ends, each under its lease."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from uuid_utils.compat import uuid7

from app.artifacts import Artifact
from app.jobs import Beat, Claim, JobError, JobStatus, Lease, Runtime, Usage, Worker
from app.specs import BEST, LAST, EpochRow, Evaluation, JobSpec, StopReason
from app.store import steps
from app.store.base import Base
from app.store.database import now
from app.store.errors import LeaseLost
from app.store.tables import UtcDateTime, attempts, epochs, jobs, workers

# What a worker may take; the poll asks with the same words as the claim.
_CLAIMABLE = f"""
status = '{JobStatus.QUEUED}' AND (not_before IS NULL OR not_before <= :now) AND NOT EXISTS (
    SELECT 1 FROM dependencies JOIN jobs AS others ON others.id = dependencies.after_id
    WHERE dependencies.job_id = jobs.id AND others.status <> '{JobStatus.SUCCEEDED}'
)"""
_ANY_CLAIMABLE = f"SELECT 1 FROM jobs WHERE {_CLAIMABLE} LIMIT 1"


class Runs(Base):
    """The workers' side of the store."""

    def register_worker(self, worker: Worker) -> None:
        """Make a worker known."""
        with self._db.write() as db:
            db.execute(workers.insert().values(**worker.model_dump(), started_at=now(), heartbeat_at=now()))

    def heartbeat(self, worker_id: str, leases: Iterable[Lease], usage: Usage | None = None) -> None:
        """Say that the worker lives and what it takes, and raise the beat of its jobs."""
        told = usage.model_dump() if usage else sa.null()
        with self._db.write() as db:
            alive = {"heartbeat_at": now(), "stopped": False, "usage": told}
            db.execute(workers.update().where(workers.c.id == worker_id).values(alive))
            for lease in leases:
                db.execute(jobs.update().where(*steps.held(lease)).values(beat=jobs.c.beat + 1))

    def deregister_worker(self, worker_id: str) -> None:
        """Say goodbye."""
        with self._db.write() as db:
            db.execute(workers.update().where(workers.c.id == worker_id).values(heartbeat_at=now(), stopped=True))

    def claim(self, worker_id: str) -> Claim | None:
        """Take the next job: highest priority, then oldest. None where nothing waits."""
        if not self._db.glance(_ANY_CLAIMABLE):
            return None
        following = (
            sa.select(jobs)
            .where(sa.text(_CLAIMABLE).bindparams(sa.bindparam("now", now(), UtcDateTime)))
            .order_by(jobs.c.priority.desc(), jobs.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with self._db.write() as db:
            row = db.execute(following).first()
            if row is None:
                return None
            job_id = row.id
            lease = Lease(job_id, row.attempt + 1, str(uuid7()))
            steps.transition(
                db,
                "claim",
                job_id,
                attempt=lease.attempt,
                lease_token=lease.token,
                worker_id=worker_id,
                started_at=row.started_at or now(),
                not_before=None,
                runtime=None,
            )
            db.execute(
                attempts.insert().values(job_id=job_id, number=lease.attempt, worker_id=worker_id, started_at=now())
            )
            steps.add_event(db, job_id, "started", worker_id=worker_id)
            waited = {} if row.started_at else {"wait_ms": int(1000 * (now() - row.created_at).total_seconds())}
            steps.bump(db, {"started": 1, **waited})
            spec = JobSpec.model_validate_json(row.spec)
            left = steps.files_of(db, job_id, (BEST, LAST))
            parent = steps.parent_checkpoint(db, spec.init_from)
            return Claim(lease, spec, left, parent, row.stop_requested)

    def still_held(self, leases: Sequence[Lease]) -> dict[Lease, bool]:
        """Those of the leases that are still their jobs' own, and whether the jobs are to stop."""
        if not leases:
            return {}
        ids = [lease.job_id for lease in leases]
        columns = (jobs.c.id, jobs.c.lease_token, jobs.c.stop_requested)
        with self._db.read() as db:
            found = {row.id: row for row in db.execute(sa.select(*columns).where(jobs.c.id.in_(ids)))}
        held = [lease for lease in leases if lease.job_id in found and found[lease.job_id].lease_token == lease.token]
        return {lease: found[lease.job_id].stop_requested for lease in held}

    def record_runtime(self, lease: Lease, runtime: Runtime, text: Sequence[str] = ()) -> None:
        """Training begins: note on what. Raises LeaseLost."""
        with self._db.write() as db:
            recorded = runtime.model_dump_json()
            steps.fenced(db, lease, runtime=recorded)
            db.execute(attempts.update().where(*steps.of_attempt(lease)).values(runtime=recorded))
            steps.add_lines(db, lease.job_id, text)
            steps.add_event(db, lease.job_id, "training", **runtime.model_dump())

    def record_event(self, lease: Lease, kind: str | None, data: Mapping[str, Any], text: Sequence[str] = ()) -> None:
        """Something happened: an event (unless `kind` is None) and console lines. Raises LeaseLost."""
        with self._db.write() as db:
            steps.fenced(db, lease)
            steps.add_lines(db, lease.job_id, text)
            if kind is not None:
                steps.add_event(db, lease.job_id, kind, **data)

    def record_epoch(
        self,
        lease: Lease,
        row: EpochRow,
        files: Mapping[str, Artifact],
        details: Mapping[str, Any],
        text: Sequence[str],
    ) -> list[str]:
        """An epoch with its checkpoints, in one transaction, so that a later attempt goes on behind exactly the rows
        that are recorded. Its event also tells `details`. Returns the keys of the files that these replace. Raises
        LeaseLost."""
        with self._db.write() as db:
            trained = jobs.c.train_seconds + row.seconds
            values: dict[str, Any] = {"epoch": row.epoch, "train_seconds": trained, "stuck": 0}
            if BEST in files:
                values |= {"best_epoch": row.epoch, "val_loss": row.val_loss, "val_acc": row.val_acc}
            steps.fenced(db, lease, **values)
            db.execute(epochs.insert().values(job_id=lease.job_id, **row.model_dump()))
            replaced = [
                steps.record_checkpoint(db, lease.job_id, name, file, row.epoch, row.val_loss)
                for name, file in files.items()
            ]
            steps.add_lines(db, lease.job_id, text)
            steps.add_event(db, lease.job_id, "epoch", **row.model_dump(), **details)
            steps.bump(db, {"epochs": 1, "run_ms": int(1000 * row.seconds)})
            if BEST in files:
                best = files[BEST]
                steps.add_event(
                    db,
                    lease.job_id,
                    "checkpoint",
                    name=BEST,
                    epoch=row.epoch,
                    sha256=best.sha256,
                    size=best.size,
                )
            return [key for key in replaced if key]

    def succeed(
        self,
        lease: Lease,
        stop_reason: StopReason,
        evaluation: Evaluation,
        text: Sequence[str] = (),
        exports: Mapping[str, Artifact] | None = None,
    ) -> None:
        """Training ended and the best weights are evaluated; `exports` are the same weights in other formats. Raises
        LeaseLost."""
        with self._db.write() as db:
            steps.transition(
                db,
                "succeed",
                lease.job_id,
                lease=lease,
                finished_at=now(),
                stop_reason=stop_reason,
                evaluation=evaluation.model_dump_json(),
                test_acc=evaluation.accuracy,
                error_type=None,
                error_message=None,
            )
            best = steps.checkpoint(db, lease.job_id, BEST)
            for name, file in (exports or {}).items():
                if best is not None:
                    steps.record_checkpoint(db, lease.job_id, name, file, best.epoch, best.val_loss)
            steps.end_attempt(db, lease.job_id, "succeeded")
            steps.add_lines(db, lease.job_id, text)
            if stop_reason in (StopReason.STAGNATION, StopReason.OVERFITTING):
                steps.add_event(db, lease.job_id, "early_stop", stop_reason=stop_reason)
            figures = evaluation.model_dump(include={"loss", "accuracy", "precision", "recall", "f1"})
            steps.has_ended(db, lease.job_id, status=JobStatus.SUCCEEDED, stop_reason=stop_reason, **figures)

    def fail(self, lease: Lease, error: JobError, text: Sequence[str] = ()) -> None:
        """The job cannot succeed, however often it is tried. Raises LeaseLost."""
        with self._db.write() as db:
            steps.add_lines(db, lease.job_id, text)
            steps.fail(db, lease, error, "failed")

    def crash(self, lease: Lease, error: JobError, text: Sequence[str] = ()) -> None:
        """The attempt ended without a word: try again, unless `max_attempts` have. Raises LeaseLost."""
        with self._db.write() as db:
            steps.add_lines(db, lease.job_id, text)
            steps.crash(db, lease, error, "crashed")

    def give_back(self, lease: Lease, text: Sequence[str] = ()) -> None:
        """The worker shuts down: the job waits for another one, and no attempt is charged. Raises LeaseLost."""
        with self._db.write() as db:
            steps.transition(db, "give_back", lease.job_id, lease=lease)
            steps.add_lines(db, lease.job_id, text)
            steps.end_attempt(db, lease.job_id, "given_back")
            steps.add_event(db, lease.job_id, "given_back")

    def beats(self) -> list[Beat]:
        """The pulse of all running jobs, for whoever watches for silent workers."""
        columns = (jobs.c.id, jobs.c.attempt, jobs.c.lease_token, jobs.c.beat)
        with self._db.read() as db:
            found = db.execute(sa.select(*columns).where(jobs.c.status == JobStatus.RUNNING))
            return [Beat(Lease(row.id, row.attempt, row.lease_token), row.beat) for row in found]

    def expire(self, beat: Beat, lease_seconds: float) -> bool:
        """Take the lease from a worker whose pulse has stood still; False if it has moved after all."""
        error = JobError(
            type="lease_expired",
            message=f"The worker was silent for {lease_seconds:g} s; its lease has expired.",
        )
        with self._db.write() as db:
            try:
                steps.fenced(db, beat.lease, jobs.c.beat == beat.count)
            except LeaseLost:
                return False
            steps.crash(db, beat.lease, error, "lease_expired")
            steps.bump(db, {"leases_lost": 1})
            return True
