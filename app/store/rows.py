"""From rows to values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from app.jobs import Attempt, Best, Checkpoint, Event, Job, JobError, JobStatus, LogLine, Progress, Runtime
from app.specs import EpochRow, Evaluation, JobSpec, StopReason

Row = sa.Row[Any]


def job_of(row: Row, tags: tuple[str, ...], children: tuple[str, ...], queue_position: int | None) -> Job:
    """A row of `jobs` with what belongs to it."""
    status = JobStatus(row.status)
    return Job(
        id=row.id,
        name=row.name,
        tags=tags,
        status=status,
        stop_reason=StopReason(row.stop_reason) if row.stop_reason else None,
        priority=row.priority,
        progress=_progress(row, status),
        best=Best(epoch=row.best_epoch, val_loss=row.val_loss, val_acc=row.val_acc) if row.best_epoch else None,
        evaluation=Evaluation.model_validate_json(row.evaluation) if row.evaluation else None,
        error=_error(row),
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        runtime=_runtime(row),
        queue_position=queue_position,
        parent=row.parent_id,
        children=children,
        created_at=row.created_at,
        stop_requested=row.stop_requested,
        not_before=row.not_before,
        started_at=row.started_at,
        finished_at=row.finished_at,
        spec=JobSpec.model_validate_json(row.spec),
    )


def _progress(row: Row, status: JobStatus) -> Progress:
    percent = 100.0 if status is JobStatus.SUCCEEDED else round(100 * row.epoch / row.max_epochs, 1)
    eta = None
    if status is JobStatus.RUNNING and row.epoch:
        eta = round((row.max_epochs - row.epoch) * row.train_seconds / row.epoch, 1)
    return Progress(epoch=row.epoch, max_epochs=row.max_epochs, percent=percent, eta_seconds=eta)


def _error(row: Row) -> JobError | None:
    return JobError(type=row.error_type, message=row.error_message) if row.error_type else None


def _runtime(row: Row) -> Runtime | None:
    return Runtime.model_validate_json(row.runtime) if row.runtime else None


def _columns(row: Row) -> Mapping[str, Any]:
    return {name: value for name, value in row._mapping.items() if name != "job_id"}


def attempt_of(row: Row) -> Attempt:
    """A row of `attempts`."""
    return Attempt.model_validate({**_columns(row), "error": _error(row), "runtime": _runtime(row)})


def epoch_of(row: Row) -> EpochRow:
    """A row of `epochs`."""
    return EpochRow.model_construct(**_columns(row))


def event_of(row: Row) -> Event:
    """A row of `events`."""
    return Event.model_construct(**row._mapping)


def line_of(row: Row) -> LogLine:
    """A row of `lines`."""
    return LogLine.model_construct(**_columns(row))


def checkpoint_of(row: Row) -> Checkpoint:
    """A row of `checkpoints`."""
    return Checkpoint.model_construct(**_columns(row))
