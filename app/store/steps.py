"""The steps that the store's transactions are made of. Each works inside its caller's transaction."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

import sqlalchemy as sa
from uuid_utils.compat import uuid7

from app import __version__
from app.artifacts import Artifact
from app.jobs import Checkpoint, JobError, JobStatus, Lease, storable
from app.specs import InitFromSpec, JobSpec, LinearProbeSpec
from app.store import rows
from app.store.database import now
from app.store.errors import IllegalTransition, JobNotFound, LeaseLost, UnusableDependency, UnusableParent
from app.store.lifecycle import TRANSITIONS, backoff_seconds
from app.store.tables import (
    attempts,
    checkpoints,
    counters,
    deliveries,
    dependencies,
    events,
    jobs,
    lines,
    tags,
)

CrashOutcome = Literal["crashed", "lease_expired"]


def job_row(db: sa.Connection, job_id: str) -> rows.Row:
    row = db.execute(sa.select(jobs).where(jobs.c.id == job_id)).first()
    if row is None:
        raise JobNotFound(job_id)
    return row


def held(lease: Lease) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        jobs.c.id == lease.job_id,
        jobs.c.attempt == lease.attempt,
        jobs.c.lease_token == lease.token,
        jobs.c.status == JobStatus.RUNNING,
    )


def of_attempt(lease: Lease) -> tuple[sa.ColumnElement[bool], ...]:
    return attempts.c.job_id == lease.job_id, attempts.c.number == lease.attempt


def fenced(db: sa.Connection, lease: Lease, *conditions: sa.ColumnElement[bool], **values: Any) -> None:
    """Write to a job under its lease; on PostgreSQL this also locks the row to the end of the transaction."""
    update = jobs.update().where(*held(lease), *conditions).values(values or {"beat": jobs.c.beat})
    if db.execute(update).rowcount != 1:
        raise LeaseLost(f"Attempt {lease.attempt} of job {lease.job_id} no longer has the lease.")


def transition(db: sa.Connection, action: str, job_id: str, *, lease: Lease | None = None, **values: Any) -> None:
    """Change a status: the only statement that does. Leaving `running` ends the lease."""
    sources, target = TRANSITIONS[action]
    if lease is not None:
        fenced(db, lease)
    if target is not JobStatus.RUNNING:
        values |= {"lease_token": None, "worker_id": None}
    change = jobs.update().where(jobs.c.id == job_id, jobs.c.status.in_(sources)).values(status=target, **values)
    if db.execute(change).rowcount != 1:
        raise IllegalTransition(job_id, action, JobStatus(job_row(db, job_id).status), sources)


def has_ended(db: sa.Connection, job_id: str, **data: Any) -> None:
    """What follows from a final status: the event, the end of others' waits, the webhook. Call it last."""
    waiters = lock_waiters(db, job_id) if data["status"] != JobStatus.SUCCEEDED else []
    add_event(db, job_id, "finished", **data)
    failed = {f"failed:{data['error']['type']}": 1} if "error" in data else {}
    bump(db, {f"ended:{data['status']}": 1, **failed})
    for waiter in waiters:
        give_up(db, waiter, f"Job {job_id}, which this one was to run after, is {data['status']}.")
    row = job_row(db, job_id)
    webhook = JobSpec.model_validate_json(row.spec).webhook
    if webhook is not None:
        told = {"type": "job.finished", "time": row.finished_at.isoformat(), "job": job_id, "name": row.name, **data}
        body = json.dumps(told, default=str)
        values = {"id": str(uuid7()), "job_id": job_id, "url": webhook, "body": body, "tries": 0, "due_at": now()}
        db.execute(deliveries.insert().values(values))


def lock_waiters(db: sa.Connection, job_id: str) -> list[str]:
    """The jobs that wait for this one. On PostgreSQL, these and all that wait for them stay locked: the counters' rows
    come last in every transaction, or two of them could wait for each other."""
    direct: list[str] = []
    known, front = {job_id}, [job_id]
    while front:
        waiting = sa.select(dependencies.c.job_id).where(dependencies.c.after_id.in_(front)).distinct()
        front = [found for found in db.execute(waiting).scalars() if found not in known]
        direct = direct or list(front)
        known |= set(front)
    db.execute(sa.select(jobs.c.id).where(jobs.c.id.in_(known)).order_by(jobs.c.id).with_for_update()).all()
    return sorted(direct)


def bump(db: sa.Connection, by: Mapping[str, int]) -> None:
    """Raise counters of what operators watch. Only behind an event: see `lock_waiters`."""
    raised = counters.update().where(counters.c.name.in_(by))
    amount = sa.case(dict(by), value=counters.c.name)
    if db.execute(raised.values(value=counters.c.value + amount)).rowcount == len(by):
        return
    known = set(db.execute(sa.select(counters.c.name).where(counters.c.name.in_(by))).scalars())
    db.execute(counters.insert(), [{"name": name, "value": by[name]} for name in by if name not in known])


def give_up(db: sa.Connection, job_id: str, why: str) -> None:
    """End a job that waits for what will never be."""
    if JobStatus(job_row(db, job_id).status) not in TRANSITIONS["give_up"].sources:
        return
    error = JobError(type="dependency_failed", message=f"{why} Retry that one, then this one.")
    transition(db, "give_up", job_id, finished_at=now(), error_type=error.type, error_message=error.message)
    has_ended(db, job_id, status=JobStatus.FAILED, error=error.model_dump())


def end_attempt(db: sa.Connection, job_id: str, outcome: str, error: JobError | None = None) -> None:
    change = attempts.update().where(attempts.c.job_id == job_id, attempts.c.ended_at.is_(None))
    failure = {"error_type": error.type, "error_message": error.message} if error else {}
    db.execute(change.values(ended_at=now(), outcome=outcome, **failure))


def fail(db: sa.Connection, lease: Lease, error: JobError, outcome: str) -> None:
    words = {"error_type": error.type, "error_message": error.message}
    transition(db, "fail", lease.job_id, lease=lease, finished_at=now(), **words)
    end_attempt(db, lease.job_id, outcome, error)
    has_ended(db, lease.job_id, status=JobStatus.FAILED, error=error.model_dump())


def crash(db: sa.Connection, lease: Lease, error: JobError, outcome: CrashOutcome) -> None:
    row = job_row(db, lease.job_id)
    crashes = row.crashes + 1
    if crashes >= row.max_attempts:
        fail(db, lease, error, outcome)
        return
    wait = backoff_seconds(row.stuck + 1)
    transition(
        db,
        "try_again",
        lease.job_id,
        lease=lease,
        crashes=crashes,
        stuck=row.stuck + 1,
        not_before=now() + timedelta(seconds=wait),
        error_type=error.type,
        error_message=error.message,
    )
    end_attempt(db, lease.job_id, outcome, error)
    add_event(db, lease.job_id, "retrying", error=error.model_dump(), after_seconds=wait)
    bump(db, {f"failed:{error.type}": 1})


def add_event(db: sa.Connection, job_id: str, kind: str, **data: Any) -> None:
    numbered = jobs.update().where(jobs.c.id == job_id).values(last_event=jobs.c.last_event + 1)
    row = db.execute(numbered.returning(jobs.c.last_event, jobs.c.attempt)).one()
    # On PostgreSQL the counter's row stays locked to the end of the transaction: serials are in the order of commits.
    counted = counters.update().where(counters.c.name == "events").values(value=counters.c.value + 1)
    serial = db.execute(counted.returning(counters.c.value)).scalar_one()
    data = {name: storable(value) if isinstance(value, str) else value for name, value in data.items()}
    db.execute(
        events.insert().values(
            job_id=job_id,
            number=row.last_event,
            serial=serial,
            type=kind,
            time=now(),
            attempt=row.attempt,
            data=data,
        )
    )


def add_lines(db: sa.Connection, job_id: str, text: Sequence[str]) -> None:
    if not text:
        return
    numbered = jobs.update().where(jobs.c.id == job_id).values(last_line=jobs.c.last_line + len(text))
    row = db.execute(numbered.returning(jobs.c.last_line, jobs.c.attempt)).one()
    first = row.last_line - len(text) + 1
    db.execute(
        lines.insert(),
        [
            {
                "job_id": job_id,
                "number": first + index,
                "time": now(),
                "attempt": row.attempt,
                "text": storable(line),
            }
            for index, line in enumerate(text)
        ],
    )


def set_tags(db: sa.Connection, job_id: str, names: Sequence[str]) -> None:
    db.execute(tags.delete().where(tags.c.job_id == job_id))
    unique = list(dict.fromkeys(names))
    if unique:
        db.execute(
            tags.insert(),
            [{"job_id": job_id, "tag": tag, "position": index} for index, tag in enumerate(unique)],
        )


def files_of(db: sa.Connection, job_id: str, names: Sequence[str]) -> dict[str, Checkpoint]:
    """The recorded files of these names."""
    wanted = sa.select(checkpoints).where(checkpoints.c.job_id == job_id, checkpoints.c.name.in_(names))
    return {row.name: rows.checkpoint_of(row) for row in db.execute(wanted)}


def checkpoint(db: sa.Connection, job_id: str, name: str) -> Checkpoint | None:
    return files_of(db, job_id, (name,)).get(name)


def record_checkpoint(
    db: sa.Connection, job_id: str, name: str, file: Artifact, epoch: int, val_loss: float
) -> str | None:
    """Record a file under its name; returns the key of the one before."""
    before = checkpoint(db, job_id, name)
    db.execute(checkpoints.delete().where(checkpoints.c.job_id == job_id, checkpoints.c.name == name))
    db.execute(
        checkpoints.insert().values(
            job_id=job_id,
            name=name,
            key=file.key,
            size=file.size,
            sha256=file.sha256,
            epoch=epoch,
            val_loss=val_loss,
            created_at=now(),
        )
    )
    return before.key if before else None


def parent_checkpoint(db: sa.Connection, origin: InitFromSpec | None) -> Checkpoint | None:
    """The weights that a spec starts from; None where it starts from no job, or from one that is gone."""
    if origin is None or origin.job is None:
        return None
    return checkpoint(db, origin.job, origin.checkpoint)


def resolve(db: sa.Connection, spec: JobSpec) -> JobSpec:
    """The spec with what only its parent knows. Raises UnusableParent."""
    origin = spec.init_from
    if origin is None or origin.job is None:
        return spec
    to_come = origin.job in spec.after
    if to_come:
        job_row(db, origin.job)
    elif parent_checkpoint(db, origin) is None:
        raise UnusableParent(
            f"Job '{origin.job}' has no checkpoint '{origin.checkpoint}'. "
            "Give the id of a job that has finished an epoch (GET /jobs?status=succeeded lists such jobs), "
            "or name it in `after` too, to wait for it."
        )
    if not isinstance(spec.model, LinearProbeSpec) or spec.model.backbone is not None:
        return spec
    theirs = JobSpec.model_validate_json(job_row(db, origin.job).spec).model
    backbone = theirs.backbone if isinstance(theirs, LinearProbeSpec) else theirs
    return spec.model_copy(update={"model": spec.model.model_copy(update={"backbone": backbone})})


def wait_for(db: sa.Connection, job_id: str, spec: JobSpec) -> None:
    """Note what a new job waits for. Raises UnusableDependency."""
    for after_id in dict.fromkeys(spec.after):
        status = db.execute(sa.select(jobs.c.status).where(jobs.c.id == after_id)).scalar()
        if status is None:
            raise UnusableDependency(f"There is no job '{after_id}' to run after; GET /jobs lists the jobs.")
        if status in (JobStatus.FAILED, JobStatus.CANCELLED):
            raise UnusableDependency(f"Job '{after_id}' is {status}: nothing can run after it. Retry it first.")
        db.execute(dependencies.insert().values(job_id=job_id, after_id=after_id))


def check_waits(db: sa.Connection, job_id: str) -> None:
    """Raises UnusableDependency where a job waits for one that has failed."""
    lost = (
        sa.select(dependencies.c.after_id, jobs.c.status)
        .join(jobs, jobs.c.id == dependencies.c.after_id)
        .where(dependencies.c.job_id == job_id, jobs.c.status.in_((JobStatus.FAILED, JobStatus.CANCELLED)))
    )
    row = db.execute(lost).first()
    if row is not None:
        raise UnusableDependency(f"Job '{row.after_id}', which this one runs after, is {row.status}; retry it first.")


def fingerprint(spec: JobSpec) -> str:
    """Equal for specs that end in the same weights under this version: without names, order and reporting."""
    apart = {"name", "tags", "priority", "max_attempts", "tracking", "not_before", "after", "webhook", "diagnostics"}
    text = f"{__version__} {spec.model_dump_json(exclude=apart)}"
    return hashlib.sha256(text.encode()).hexdigest()


def queue_positions(db: sa.Connection, queued: Sequence[rows.Row]) -> dict[str, int]:
    if not queued:
        return {}
    order = sa.func.row_number().over(order_by=(jobs.c.priority.desc(), jobs.c.id)).label("position")
    line = sa.select(jobs.c.id, order).where(jobs.c.status == JobStatus.QUEUED).subquery()
    found = db.execute(sa.select(line).where(line.c.id.in_([row.id for row in queued])))
    return {row.id: row.position for row in found}


def insert_or_ignore(db: sa.Connection, table: sa.Table) -> Any:
    if db.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert  # noqa: PLC0415

        return sqlite_insert(table).on_conflict_do_nothing()
    from sqlalchemy.dialects.postgresql import insert as postgres_insert  # noqa: PLC0415

    return postgres_insert(table).on_conflict_do_nothing()
