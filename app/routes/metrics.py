"""What a run says of itself: epoch rows, console lines and the evaluation."""

from __future__ import annotations

import csv
import io
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from app.jobs import LogLine, Record
from app.problems import responses
from app.routes.dependencies import JobId, Store
from app.specs import EpochRow, Evaluation

router = APIRouter(tags=["metrics"])

_SERIES = ("train_loss", "train_acc", "val_loss", "val_acc")


class Metrics(Record):
    """A job's epoch rows."""

    data: list[EpochRow] = Field(description="One row an epoch.")


class LogPage(Record):
    """A page of console lines."""

    data: list[LogLine] = Field(description="The lines, oldest first.")
    next: int | None = Field(description="Pass as `after` to go on; null where nothing more is recorded yet.")


def thin(rows: list[EpochRow], max_points: int) -> list[EpochRow]:
    """At most `max_points` of the rows: the first, the last, and each series' extremes in equal stretches.

    The shape survives, and no extreme of any curve is lost.
    """
    if len(rows) <= max_points:
        return rows
    stretches = max(1, (max_points - 2) // (2 * len(_SERIES)))
    kept = {0, len(rows) - 1}
    for index in range(stretches):
        part = range(index * len(rows) // stretches, (index + 1) * len(rows) // stretches)
        for series in _SERIES:
            values = {row: getattr(rows[row], series) for row in part}
            kept |= {min(part, key=values.__getitem__), max(part, key=values.__getitem__)}
    return [rows[row] for row in sorted(kept)]


@router.get(
    "/jobs/{job_id}/metrics",
    response_model=Metrics,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}, **responses(404, 422)},
)
def get_metrics(
    store: Store,
    job_id: JobId,
    after_epoch: Annotated[int, Query(ge=0, le=1_000_000, description="Rows behind this epoch only.")] = 0,
    before_epoch: Annotated[
        int | None, Query(ge=1, le=1_000_000, description="Rows in front of this epoch only.")
    ] = None,
    max_points: Annotated[
        int | None,
        Query(ge=10, le=1_000_000, description="At most so many rows; the curves keep shape and extremes."),
    ] = None,
    format: Annotated[Literal["json", "csv"], Query(description="Format of the answer.")] = "json",
) -> Any:
    """The epoch rows so far."""
    found = store.epochs(job_id, after_epoch, before=before_epoch)
    data = thin(found, max_points) if max_points else found
    if format == "json":
        return Metrics(data=data)
    text = io.StringIO()
    table = csv.DictWriter(text, list(EpochRow.model_fields), lineterminator="\n")
    table.writeheader()
    table.writerows(dict(row) for row in data)
    disposition = f'attachment; filename="{job_id}-metrics.csv"'
    return Response(text.getvalue(), media_type="text/csv", headers={"Content-Disposition": disposition})


After = Annotated[int, Query(ge=0, le=2**31 - 1, description="Only what has a number above this.")]


@router.get(
    "/jobs/{job_id}/logs",
    response_model=LogPage,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **responses(404, 422)},
)
def get_logs(
    store: Store,
    job_id: JobId,
    after: After = 0,
    limit: Annotated[int, Query(ge=1, le=100_000, description="Lines on a page.")] = 10_000,
    format: Annotated[Literal["json", "text"], Query(description="`text` for eyes, `json` to follow.")] = "json",
) -> Any:
    """The console of the run. To follow it, pass the number of the last line that you have as `after`."""
    found = store.lines(job_id, after, limit + 1)
    if format == "text":
        return Response("".join(f"{line.text}\n" for line in found[:limit]), media_type="text/plain; charset=utf-8")
    return LogPage(data=found[:limit], next=found[limit - 1].number if len(found) > limit else None)


@router.get("/jobs/{job_id}/evaluation", response_model=Evaluation, responses=responses(404, 422))
def get_evaluation(store: Store, job_id: JobId) -> Evaluation:
    """The best weights on the test split."""
    return store.evaluation(job_id)
