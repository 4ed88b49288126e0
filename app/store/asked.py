"""What users ask of jobs: to be queued, told of, changed, stopped, paused, cancelled, tried again, forgotten."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from uuid_utils.compat import uuid7

from app.jobs import Attempt, Checkpoint, Event, Job, JobStatus, LogLine, Page, WorkerState
from app.specs import BEST, LAST, EpochRow, Evaluation, JobSpec
from app.store import rows, steps
from app.store.base import Base
from app.store.database import now
from app.store.errors import (
    IdempotencyConflict,
    IllegalTransition,
    NothingToStop,
    NotRecorded,
    ParentInUse,
    QuotaExceeded,
)
from app.store.listing import Filters, Sorting
from app.store.tables import (
    attempts,
    checkpoints,
    counters,
    dependencies,
    epochs,
    events,
    idempotency_keys,
    jobs,
    lines,
    workers,
)


def _by(name: str | None) -> dict[str, str]:
    """Who did it, for an event; nothing where the door is open and anybody may have."""
    return {} if name is None else {"by": name}


class Jobs(Base):
    """The users' side of the store. `by` is the name of the key that asks; the event tells it."""

    def submit(
        self,
        spec: JobSpec,
        idempotency_key: str | None = None,
        *,
        key_id: str | None = None,
        max_jobs: int | None = None,
        by: str | None = None,
    ) -> tuple[Job, bool]:
        """Queue a job, for the API key `key_id`, which may have `max_jobs` that have not ended. With an idempotency
        key that was used before, the job of that time, and True.

        Raises IdempotencyConflict where the key's spec was another, UnusableParent, UnusableDependency, QuotaExceeded.
        """
        asked = hashlib.sha256(spec.model_dump_json().encode()).hexdigest()
        job_id = str(uuid7())
        with self._db.write() as db:
            if idempotency_key is not None:
                once = f"{key_id}:{idempotency_key}" if key_id else idempotency_key
                insert = steps.insert_or_ignore(db, idempotency_keys).values(
                    key=once, fingerprint=asked, job_id=job_id, created_at=now()
                )
                # On PostgreSQL a concurrent twin waits here for the end of this transaction.
                if db.execute(insert.returning(idempotency_keys.c.key)).first() is None:
                    used = db.execute(sa.select(idempotency_keys).where(idempotency_keys.c.key == once)).one()
                    if used.fingerprint != asked:
                        raise IdempotencyConflict(idempotency_key, used.job_id)
                    return self._job(db, used.job_id), True
            if max_jobs is not None:
                open_ones = sa.select(sa.func.count()).where(jobs.c.key_id == key_id, jobs.c.finished_at.is_(None))
                if db.execute(open_ones).scalar_one() >= max_jobs:
                    raise QuotaExceeded(max_jobs)
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
                    not_before=spec.not_before,
                    fingerprint=steps.fingerprint(spec),
                    key_id=key_id,
                )
            )
            steps.set_tags(db, job_id, spec.tags)
            steps.wait_for(db, job_id, spec)
            steps.add_event(db, job_id, "queued", **_by(by))
            return self._job(db, job_id), False

    def finished_twin(self, spec: JobSpec) -> Job | None:
        """The newest job that succeeded with a spec that ends in the same weights, under this version."""
        with self._db.read() as db:
            wanted = steps.fingerprint(steps.resolve(db, spec))
            twins = sa.select(jobs).where(jobs.c.fingerprint == wanted, jobs.c.status == JobStatus.SUCCEEDED)
            row = db.execute(twins.order_by(jobs.c.id.desc()).limit(1)).first()
            return self._jobs(db, [row])[0] if row else None

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
        # Ids first: an index may hold all that this asks for, and rows are long.
        wanted = sa.select(jobs.c.id).where(*filters.conditions()).order_by(*sorting.columns()).limit(limit + 1)
        if cursor is not None:
            wanted = wanted.where(sorting.after(cursor))
        with self._db.read() as db:
            ids = db.execute(wanted).scalars().all()
            page = db.execute(sa.select(jobs).where(jobs.c.id.in_(ids)).order_by(*sorting.columns())).all()
            shown = page[:limit]
            following = sorting.cursor_after(shown[-1]) if len(page) > limit else None
            return Page(self._jobs(db, shown), following)

    def update(self, job_id: str, changes: Mapping[str, Any], *, by: str | None = None) -> Job:
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
                steps.add_event(db, job_id, "updated", **dict(changes), **_by(by))
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
            if status is not JobStatus.SUCCEEDED:
                for waiter in steps.lock_waiters(db, job_id):
                    steps.give_up(db, waiter, f"Job {job_id}, which this one was to run after, was deleted.")
            db.execute(dependencies.delete().where(dependencies.c.after_id == job_id))
            db.execute(jobs.delete().where(jobs.c.id == job_id))

    def owner(self, job_id: str) -> str | None:
        """The API key that submitted a job; None where the door was open. Raises JobNotFound."""
        with self._db.read() as db:
            found: str | None = steps.job_row(db, job_id).key_id
            return found

    def cancel(self, job_id: str, *, by: str | None = None) -> Job:
        """Give a job up. A running job's worker loses its lease with this. Raises JobNotFound, IllegalTransition."""
        with self._db.write() as db:
            steps.transition(db, "cancel", job_id, finished_at=now())
            steps.end_attempt(db, job_id, "cancelled")
            steps.has_ended(db, job_id, status=JobStatus.CANCELLED, **_by(by))
            return self._job(db, job_id)

    def stop(self, job_id: str, *, by: str | None = None) -> Job:
        """End training after the running epoch and evaluate the best weights. A job that does not run now is queued
        for that. Raises JobNotFound, IllegalTransition, NothingToStop."""
        with self._db.write() as db:
            row = steps.job_row(db, job_id)
            status = JobStatus(row.status)
            if status.final:
                raise IllegalTransition(job_id, "stop", status, (JobStatus.RUNNING, JobStatus.QUEUED, JobStatus.PAUSED))
            if status is not JobStatus.RUNNING and not row.epoch:
                raise NothingToStop(job_id, status)
            if status is JobStatus.PAUSED:
                steps.transition(db, "resume", job_id, not_before=None)
            if not row.stop_requested:
                db.execute(jobs.update().where(jobs.c.id == job_id).values(stop_requested=True))
                steps.add_event(db, job_id, "stop_requested", **_by(by))
            return self._job(db, job_id)

    def pause(self, job_id: str, *, by: str | None = None) -> Job:
        """Free the slot and keep the state. A running job's worker loses its lease with this; the running epoch is
        trained again. Raises JobNotFound, IllegalTransition."""
        with self._db.write() as db:
            steps.transition(db, "pause", job_id)
            steps.end_attempt(db, job_id, "paused")
            steps.add_event(db, job_id, "paused", **_by(by))
            return self._job(db, job_id)

    def resume(self, job_id: str, *, by: str | None = None) -> Job:
        """Queue a paused job again; it goes on from its last epoch. Raises JobNotFound, IllegalTransition."""
        with self._db.write() as db:
            steps.transition(db, "resume", job_id, stop_requested=False)
            steps.add_event(db, job_id, "resume_requested", **_by(by))
            return self._job(db, job_id)

    def retry(self, job_id: str, *, by: str | None = None) -> Job:
        """Queue a failed job again, from its last epoch if it has one, with all its attempts.

        Raises JobNotFound, IllegalTransition, UnusableDependency.
        """
        with self._db.write() as db:
            fresh: dict[str, Any] = dict.fromkeys(("finished_at", "error_type", "error_message", "not_before"))
            steps.transition(db, "retry", job_id, crashes=0, stuck=0, stop_requested=False, **fresh)
            steps.check_waits(db, job_id)
            steps.add_event(db, job_id, "retry_requested", **_by(by))
            return self._job(db, job_id)

    def attempts(self, job_id: str) -> list[Attempt]:
        """A job's attempts, first to last. Raises JobNotFound."""
        return [rows.attempt_of(row) for row in self._of_job(attempts, job_id, attempts.c.number, 0, 10_000)]

    def epochs(self, job_id: str, after: int = 0, *, before: int | None = None) -> list[EpochRow]:
        """Epoch rows with a number above `after` and, where it is given, below `before`. Raises JobNotFound."""
        limit = 1_000_000 if before is None else max(0, before - after - 1)  # they have no gaps
        return [rows.epoch_of(row) for row in self._of_job(epochs, job_id, epochs.c.epoch, after, limit)]

    def curve(self, job_id: str) -> list[float]:
        """The val_loss of every epoch of a job; empty where there is none."""
        wanted = sa.select(epochs.c.val_loss).where(epochs.c.job_id == job_id).order_by(epochs.c.epoch)
        with self._db.read() as db:
            return list(db.execute(wanted).scalars())

    def val_losses(self, job_ids: Sequence[str], points: int) -> dict[str, list[float]]:
        """The course of val_loss of some jobs, each at no more than some `points` equally distant epochs."""
        # The epochs are counted out and looked up, one by one: a job may have a hundred thousand.
        one = sa.select(sa.literal(1).label("number")).cte(recursive=True)
        point = one.union_all(sa.select(one.c.number + 1).where(one.c.number < points))
        distance = sa.case((jobs.c.epoch > points, jobs.c.epoch // points + 1), else_=1)
        there = sa.and_(epochs.c.job_id == jobs.c.id, epochs.c.epoch == point.c.number * distance)
        wanted = (
            sa.select(epochs.c.job_id, epochs.c.val_loss)
            .select_from(sa.join(sa.join(jobs, point, sa.true()), epochs, there))
            .where(jobs.c.id.in_(job_ids))
            .order_by(epochs.c.job_id, epochs.c.epoch)
        )
        found: dict[str, list[float]] = {job_id: [] for job_id in job_ids}
        with self._db.read() as db:
            for job_id, val_loss in db.execute(wanted):
                found[job_id].append(val_loss)
        return found

    def events(self, job_id: str, after: int = 0, limit: int = 1000) -> list[Event]:
        """Events with a number above `after`. Raises JobNotFound."""
        return [rows.event_of(row) for row in self._of_job(events, job_id, events.c.number, after, limit)]

    def newest_events(self, job_id: str, count: int) -> list[Event]:
        """The last so many events, oldest first. Raises JobNotFound."""
        newest = sa.select(events).where(events.c.job_id == job_id).order_by(events.c.number.desc()).limit(count)
        with self._db.read() as db:
            steps.job_row(db, job_id)
            return [rows.event_of(row) for row in reversed(db.execute(newest).all())]

    def newest_serial(self) -> int:
        """The number of the newest event over all jobs."""
        with self._db.read() as db:
            found: int = db.execute(sa.select(counters.c.value).where(counters.c.name == "events")).scalar_one()
            return found

    def events_after(self, serial: int, limit: int = 1000) -> list[Event]:
        """Events of all jobs with a serial above `serial`, in the order in which they were recorded."""
        found = sa.select(events).where(events.c.serial > serial).order_by(events.c.serial).limit(limit)
        with self._db.read() as db:
            return [rows.event_of(row) for row in db.execute(found)]

    def lines(self, job_id: str, after: int = 0, limit: int = 10_000) -> list[LogLine]:
        """Console lines with a number above `after`. Raises JobNotFound."""
        return [rows.line_of(row) for row in self._of_job(lines, job_id, lines.c.number, after, limit)]

    def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """The files that can be downloaded now, the best weights first. Raises JobNotFound."""
        with self._db.read() as db:
            steps.job_row(db, job_id)
            found = db.execute(sa.select(checkpoints).where(checkpoints.c.job_id == job_id))
            files = [rows.checkpoint_of(row) for row in found]
        return sorted(files, key=lambda file: (file.name != BEST, file.name != LAST, file.name))

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
