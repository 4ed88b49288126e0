"""The steps that the store's transactions are made of. Each works inside its caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal

import sqlalchemy as sa

from app.artifacts import Artifact
from app.jobs import Checkpoint, JobError, JobStatus, Lease, storable
from app.specs import EpochRow, InitFromSpec, JobSpec, LinearProbeSpec
from app.store import rows
from app.store.database import now
from app.store.errors import IllegalTransition, JobNotFound, LeaseLost, UnusableParent
from app.store.lifecycle import TRANSITIONS, backoff_seconds
from app.store.tables import attempts, checkpoints, events, jobs, lines, tags

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


def end_attempt(db: sa.Connection, job_id: str, outcome: str, error: JobError | None = None) -> None:
    change = attempts.update().where(attempts.c.job_id == job_id, attempts.c.ended_at.is_(None))
    failure = {"error_type": error.type, "error_message": error.message} if error else {}
    db.execute(change.values(ended_at=now(), outcome=outcome, **failure))


def fail(db: sa.Connection, lease: Lease, error: JobError, outcome: str) -> None:
    words = {"error_type": error.type, "error_message": error.message}
    transition(db, "fail", lease.job_id, lease=lease, finished_at=now(), **words)
    end_attempt(db, lease.job_id, outcome, error)
    add_event(db, lease.job_id, "finished", status="failed", error=error.model_dump())


def crash(db: sa.Connection, lease: Lease, error: JobError, outcome: CrashOutcome) -> None:
    row = job_row(db, lease.job_id)
    crashes = row.crashes + 1
    if crashes >= row.max_attempts:
        fail(db, lease, error, outcome)
        return
    wait = backoff_seconds(crashes)
    transition(
        db,
        "try_again",
        lease.job_id,
        lease=lease,
        crashes=crashes,
        not_before=now() + timedelta(seconds=wait),
        error_type=error.type,
        error_message=error.message,
    )
    end_attempt(db, lease.job_id, outcome, error)
    add_event(db, lease.job_id, "retrying", error=error.model_dump(), after_seconds=wait)


def add_event(db: sa.Connection, job_id: str, kind: str, **data: Any) -> None:
    numbered = jobs.update().where(jobs.c.id == job_id).values(last_event=jobs.c.last_event + 1)
    row = db.execute(numbered.returning(jobs.c.last_event, jobs.c.attempt)).one()
    data = {name: storable(value) if isinstance(value, str) else value for name, value in data.items()}
    db.execute(
        events.insert().values(
            job_id=job_id, number=row.last_event, type=kind, time=now(), attempt=row.attempt, data=data
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


def checkpoint(db: sa.Connection, job_id: str, name: str) -> Checkpoint | None:
    wanted = sa.select(checkpoints).where(checkpoints.c.job_id == job_id, checkpoints.c.name == name)
    row = db.execute(wanted).first()
    return rows.checkpoint_of(row) if row else None


def replace_checkpoint(db: sa.Connection, job_id: str, name: str, file: Artifact, row: EpochRow) -> str | None:
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
            epoch=row.epoch,
            val_loss=row.val_loss,
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
    if parent_checkpoint(db, origin) is None:
        raise UnusableParent(
            f"Job '{origin.job}' has no checkpoint '{origin.checkpoint}'. "
            "Give the id of a job that has finished an epoch; GET /jobs?status=succeeded lists such jobs."
        )
    if not isinstance(spec.model, LinearProbeSpec) or spec.model.backbone is not None:
        return spec
    theirs = JobSpec.model_validate_json(job_row(db, origin.job).spec).model
    backbone = theirs.backbone if isinstance(theirs, LinearProbeSpec) else theirs
    return spec.model_copy(update={"model": spec.model.model_copy(update={"backbone": backbone})})


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
