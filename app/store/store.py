"""JobStore: what the API asks and what a worker writes, each call one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from uuid_utils.compat import uuid7

from app.artifacts import Artifact
from app.jobs import (
    Attempt,
    Beat,
    Checkpoint,
    Claim,
    Event,
    Job,
    JobError,
    JobStatus,
    Lease,
    LogLine,
    Page,
    Runtime,
    Worker,
    WorkerState,
)
from app.specs import BEST, LAST, EpochRow, Evaluation, JobSpec, StopReason
from app.store import rows, steps
from app.store.database import Database, now
from app.store.errors import (
    IdempotencyConflict,
    IllegalTransition,
    LeaseLost,
    NotRecorded,
    ParentInUse,
)
from app.store.listing import Filters, Sorting
from app.store.tables import (
    attempts,
    checkpoints,
    epochs,
    events,
    idempotency_keys,
    jobs,
    lines,
    tags,
    workers,
)

_WAITING = f"SELECT 1 FROM jobs WHERE status = '{JobStatus.QUEUED}' LIMIT 1"


class JobStore:
    """Jobs and all that belongs to them, on SQLite or PostgreSQL.

    Every method may raise StoreUnavailable; nothing is written then.
    """

    def __init__(self, url: str) -> None:
        self._db = Database(url)

    def migrate(self) -> None:
        """Create or update the tables. Call once when a process starts."""
        self._db.migrate()

    def close(self) -> None:
        """Close all connections."""
        self._db.dispose()

    def ping(self) -> None:
        """Raise StoreUnavailable if the database does not answer."""
        with self._db.read() as db:
            db.execute(sa.select(jobs.c.id).limit(1))

    # --- what the API asks -------------------------------------------------------------------------------

    def submit(self, spec: JobSpec, idempotency_key: str | None = None) -> tuple[Job, bool]:
        """Queue a job. With a key that was used before, the job of that time, and True.

        Raises IdempotencyConflict where the key's spec was another, UnusableParent.
        """
        fingerprint = hashlib.sha256(spec.model_dump_json().encode()).hexdigest()
        job_id = str(uuid7())
        with self._db.write() as db:
            if idempotency_key is not None:
                insert = steps.insert_or_ignore(db, idempotency_keys).values(
                    key=idempotency_key, fingerprint=fingerprint, job_id=job_id, created_at=now()
                )
                # On PostgreSQL a concurrent twin waits here for the end of this transaction.
                if db.execute(insert.returning(idempotency_keys.c.key)).first() is None:
                    used = db.execute(
                        sa.select(idempotency_keys).where(idempotency_keys.c.key == idempotency_key)
                    ).one()
                    if used.fingerprint != fingerprint:
                        raise IdempotencyConflict(idempotency_key, used.job_id)
                    return self._job(db, used.job_id), True
            spec = steps.resolve(db, spec)
            db.execute(
                jobs.insert().values(
                    id=job_id,
                    name=spec.name,
                    status=JobStatus.QUEUED,
                    priority=spec.priority,
                    dataset=spec.dataset.name,
                    model_kind=spec.model.kind,
                    spec=spec.model_dump_json(),
                    parent_id=spec.init_from.job if spec.init_from else None,
                    max_epochs=spec.training.max_epochs,
                    max_attempts=spec.max_attempts,
                    created_at=now(),
                )
            )
            steps.set_tags(db, job_id, spec.tags)
            steps.add_event(db, job_id, "queued")
            return self._job(db, job_id), False

    def resolve(self, spec: JobSpec) -> JobSpec:
        """The spec as `submit` would store it. Raises UnusableParent."""
        with self._db.read() as db:
            return steps.resolve(db, spec)

    def job(self, job_id: str) -> Job:
        """One job. Raises JobNotFound."""
        with self._db.read() as db:
            return self._job(db, job_id)

    def list_jobs(self, filters: Filters, sorting: Sorting, limit: int, cursor: str | None) -> Page:
        """A page of jobs. Raises InvalidCursor."""
        found = sa.select(jobs).where(*filters.conditions()).order_by(*sorting.columns()).limit(limit + 1)
        if cursor is not None:
            found = found.where(sorting.after(cursor))
        with self._db.read() as db:
            page = db.execute(found).all()
            shown = page[:limit]
            following = sorting.cursor_after(shown[-1]) if len(page) > limit else None
            return Page(self._jobs(db, shown), following)

    def update(self, job_id: str, changes: Mapping[str, Any]) -> Job:
        """Change name, tags or priority of a job. Raises JobNotFound; IllegalTransition for the priority of a job
        that waits no longer."""
        with self._db.write() as db:
            status = JobStatus(steps.job_row(db, job_id).status)
            waiting = (JobStatus.QUEUED, JobStatus.PAUSED)
            if "priority" in changes and status not in waiting:
                raise IllegalTransition(job_id, "change the priority", status, waiting)
            columns = {name: changes[name] for name in ("name", "priority") if name in changes}
            if columns:
                db.execute(jobs.update().where(jobs.c.id == job_id).values(columns))
            if "tags" in changes:
                steps.set_tags(db, job_id, changes["tags"])
            if changes:
                steps.add_event(db, job_id, "updated", **dict(changes))
            return self._job(db, job_id)

    def delete(self, job_id: str, *, force: bool = False) -> None:
        """Forget a job that is in a final status. Raises JobNotFound, IllegalTransition; ParentInUse, unless `force`,
        where jobs that have not ended start from its weights."""
        with self._db.write() as db:
            status = JobStatus(steps.job_row(db, job_id).status)
            if not status.final:
                final = tuple(status for status in JobStatus if status.final)
                raise IllegalTransition(job_id, "delete", status, final)
            waiting = [status for status in JobStatus if not status.final]
            using = db.execute(sa.select(jobs.c.id).where(jobs.c.parent_id == job_id, jobs.c.status.in_(waiting)))
            if not force and (children := using.scalars().all()):
                raise ParentInUse(job_id, children)
            db.execute(jobs.delete().where(jobs.c.id == job_id))

    def cancel(self, job_id: str) -> Job:
        """Give a job up. A running job's worker loses its lease with this. Raises JobNotFound, IllegalTransition."""
        with self._db.write() as db:
            steps.transition(db, "cancel", job_id, finished_at=now())
            steps.end_attempt(db, job_id, "cancelled")
            steps.add_event(db, job_id, "cancelled")
            return self._job(db, job_id)

    def attempts(self, job_id: str) -> list[Attempt]:
        """A job's attempts, first to last. Raises JobNotFound."""
        return [rows.attempt_of(row) for row in self._of_job(attempts, job_id, attempts.c.number, 0, 10_000)]

    def epochs(self, job_id: str, after: int = 0, limit: int = 1_000_000) -> list[EpochRow]:
        """Epoch rows with a number above `after`. Raises JobNotFound."""
        return [rows.epoch_of(row) for row in self._of_job(epochs, job_id, epochs.c.epoch, after, limit)]

    def events(self, job_id: str, after: int = 0, limit: int = 1000) -> list[Event]:
        """Events with a number above `after`. Raises JobNotFound."""
        return [rows.event_of(row) for row in self._of_job(events, job_id, events.c.number, after, limit)]

    def lines(self, job_id: str, after: int = 0, limit: int = 10_000) -> list[LogLine]:
        """Console lines with a number above `after`. Raises JobNotFound."""
        return [rows.line_of(row) for row in self._of_job(lines, job_id, lines.c.number, after, limit)]

    def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """The files that can be downloaded now. Raises JobNotFound."""
        with self._db.read() as db:
            steps.job_row(db, job_id)
            found = db.execute(sa.select(checkpoints).where(checkpoints.c.job_id == job_id).order_by("name"))
            return [rows.checkpoint_of(row) for row in found]

    def checkpoint(self, job_id: str, name: str) -> Checkpoint:
        """One of them. Raises JobNotFound, NotRecorded."""
        with self._db.read() as db:
            status = steps.job_row(db, job_id).status
            found = steps.checkpoint(db, job_id, name)
            if found is None:
                raise NotRecorded(
                    f"Job {job_id} ({status}) has no checkpoint '{name}'. "
                    f"GET /jobs/{job_id}/checkpoints lists those that it has."
                )
            return found

    def evaluation(self, job_id: str) -> Evaluation:
        """The evaluation of a job. Raises JobNotFound, NotRecorded."""
        with self._db.read() as db:
            row = steps.job_row(db, job_id)
            if row.evaluation is None:
                raise NotRecorded(
                    f"Job {job_id} ({row.status}) has no evaluation: a job is evaluated when its training ends."
                )
            return Evaluation.model_validate_json(row.evaluation)

    def workers(self, lease_seconds: float, forget_after: timedelta = timedelta(days=1)) -> list[WorkerState]:
        """Workers that were heard of lately, newest first."""
        time = now()
        with self._db.read() as db:
            running: dict[str, list[str]] = {}
            busy = sa.select(jobs.c.worker_id, jobs.c.id).where(jobs.c.status == JobStatus.RUNNING)
            for worker_id, job_id in db.execute(busy.order_by(jobs.c.id)):
                running.setdefault(worker_id, []).append(job_id)
            known = sa.select(workers).where(workers.c.heartbeat_at > time - forget_after)
            found = []
            for row in db.execute(known.order_by(workers.c.id.desc())):
                silent = time - row.heartbeat_at > timedelta(seconds=lease_seconds)
                status = "stopped" if row.stopped else "silent" if silent else "live"
                state = {**row._mapping, "status": status, "running": tuple(running.get(row.id, ()))}
                found.append(WorkerState.model_validate(state))
            return found

    # --- what a worker writes ----------------------------------------------------------------------------

    def register_worker(self, worker: Worker) -> None:
        """Make a worker known."""
        with self._db.write() as db:
            db.execute(workers.insert().values(**worker.model_dump(), started_at=now(), heartbeat_at=now()))

    def heartbeat(self, worker_id: str, leases: Iterable[Lease]) -> None:
        """Say that the worker lives, and raise the beat of its jobs."""
        with self._db.write() as db:
            db.execute(workers.update().where(workers.c.id == worker_id).values(heartbeat_at=now(), stopped=False))
            for lease in leases:
                db.execute(jobs.update().where(*steps.held(lease)).values(beat=jobs.c.beat + 1))

    def deregister_worker(self, worker_id: str) -> None:
        """Say goodbye."""
        with self._db.write() as db:
            db.execute(workers.update().where(workers.c.id == worker_id).values(heartbeat_at=now(), stopped=True))

    def claim(self, worker_id: str) -> Claim | None:
        """Take the next job: highest priority, then oldest. None where nothing waits."""
        if not self._db.glance(_WAITING):
            return None
        following = (
            sa.select(jobs.c.id)
            .where(jobs.c.status == JobStatus.QUEUED)
            .where(sa.or_(jobs.c.not_before.is_(None), jobs.c.not_before <= now()))
            .order_by(jobs.c.priority.desc(), jobs.c.id)
            .limit(1)
        )
        with self._db.read() as db:  # a poll while all that waits is not due must not take SQLite's write lock
            if db.execute(following).first() is None:
                return None
        with self._db.write() as db:
            job_id = db.execute(following.with_for_update(skip_locked=True)).scalar()
            if job_id is None:
                return None
            row = steps.job_row(db, job_id)
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
            spec = JobSpec.model_validate_json(row.spec)
            left = {file.name: file for name in (BEST, LAST) if (file := steps.checkpoint(db, job_id, name))}
            return Claim(lease, spec, left, steps.parent_checkpoint(db, spec.init_from))

    def still_held(self, leases: Sequence[Lease]) -> set[Lease]:
        """Those of the leases that are still their jobs' own."""
        if not leases:
            return set()
        ids = [lease.job_id for lease in leases]
        with self._db.read() as db:
            found = db.execute(sa.select(jobs.c.id, jobs.c.lease_token).where(jobs.c.id.in_(ids)))
            tokens = {row.id: row.lease_token for row in found}
        return {lease for lease in leases if tokens.get(lease.job_id) == lease.token}

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
            values: dict[str, Any] = {"epoch": row.epoch, "train_seconds": jobs.c.train_seconds + row.seconds}
            if BEST in files:
                values |= {"best_epoch": row.epoch, "val_loss": row.val_loss, "val_acc": row.val_acc}
            steps.fenced(db, lease, **values)
            db.execute(epochs.insert().values(job_id=lease.job_id, **row.model_dump()))
            replaced = [steps.replace_checkpoint(db, lease.job_id, name, file, row) for name, file in files.items()]
            steps.add_lines(db, lease.job_id, text)
            steps.add_event(db, lease.job_id, "epoch", **row.model_dump(), **details)
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

    def succeed(self, lease: Lease, stop_reason: StopReason, evaluation: Evaluation, text: Sequence[str] = ()) -> None:
        """Training ended and the best weights are evaluated. Raises LeaseLost."""
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
            steps.end_attempt(db, lease.job_id, "succeeded")
            steps.add_lines(db, lease.job_id, text)
            if stop_reason in (StopReason.STAGNATION, StopReason.OVERFITTING):
                steps.add_event(db, lease.job_id, "early_stop", stop_reason=stop_reason)
            figures = evaluation.model_dump(include={"loss", "accuracy", "precision", "recall", "f1"})
            steps.add_event(db, lease.job_id, "finished", status="succeeded", stop_reason=stop_reason, **figures)

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
            return True

    # --- values out of rows ------------------------------------------------------------------------------

    def _job(self, db: sa.Connection, job_id: str) -> Job:
        return self._jobs(db, [steps.job_row(db, job_id)])[0]

    def _jobs(self, db: sa.Connection, found: Sequence[rows.Row]) -> list[Job]:
        ids = [row.id for row in found]
        tagged: dict[str, list[str]] = {}
        wanted = sa.select(tags.c.job_id, tags.c.tag).where(tags.c.job_id.in_(ids))
        for job_id, tag in db.execute(wanted.order_by(tags.c.position)):
            tagged.setdefault(job_id, []).append(tag)
        children: dict[str, list[str]] = {}
        born = sa.select(jobs.c.parent_id, jobs.c.id).where(jobs.c.parent_id.in_(ids))
        for parent_id, job_id in db.execute(born.order_by(jobs.c.id)):
            children.setdefault(parent_id, []).append(job_id)
        positions = steps.queue_positions(db, [row for row in found if row.status == JobStatus.QUEUED])
        return [
            rows.job_of(row, tuple(tagged.get(row.id, ())), tuple(children.get(row.id, ())), positions.get(row.id))
            for row in found
        ]

    def _of_job(
        self, table: sa.Table, job_id: str, number: sa.ColumnElement[int], after: int, limit: int
    ) -> Sequence[rows.Row]:
        found = sa.select(table).where(table.c.job_id == job_id, number > after).order_by(number).limit(limit)
        with self._db.read() as db:
            result = db.execute(found).all()
            if not result:
                steps.job_row(db, job_id)
            return result
