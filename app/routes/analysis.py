"""Questions about curves that are there already: other early stopping, and jobs side by side."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field, ValidationError

from app.jobs import Record
from app.problems import BODY, BadField, responses
from app.routes.dependencies import JobId, Store
from app.routes.jobs import ListedJob
from app.routes.metrics import thin
from app.specs import EarlyStoppingSpec, EpochRow, StopReason, Value
from app.specs.stopping import explained, replay

router = APIRouter(tags=["analysis"])

MAX_SETTINGS = 1000
_CURVE_POINTS = 500

_Several = Field(strict=False, min_length=1, max_length=100)
Counts = Annotated[tuple[int | None, ...], _Several]
Numbers = Annotated[tuple[float | None, ...], _Several]


class ReplayRequest(Value):
    """Settings of early stopping, or several of each: all combinations are answered. Fields that are left out stay as
    in the job's spec."""

    patience: Counts | int | None = Field(None, description="One or several.", examples=[[2, 5, 10]])
    min_delta: Numbers | float = Field(1e-4, description="One or several.", examples=[1e-4])
    delta_overfit: Numbers | float | None = Field(None, description="One or several.", examples=[[None, 0.1]])
    overfit_patience: Counts | int | None = Field(None, description="One or several.", examples=[3])


class Replayed(Record):
    """Where one setting would have stopped, and what that would have cost or saved."""

    settings: EarlyStoppingSpec = Field(description="The settings.")
    stop_reason: StopReason | None = Field(description="Why; null: the curve ends before these settings stop.")
    epoch: int = Field(description="The last epoch that would have been trained, of those recorded.", examples=[9])
    best_epoch: int = Field(description="The epoch whose weights would have been kept.", examples=[7])
    best_val_loss: float | None = Field(description="Their validation loss.", examples=[0.081])
    epochs_saved: int = Field(description="Recorded epochs that would not have been trained.", examples=[4])
    seconds_saved: float = Field(description="Their duration, in seconds.", examples=[2.8])
    val_loss_given_up: float = Field(description="How much lower the whole curve's best is.", examples=[0.0])


class Replay(Record):
    """The answers, in order of the combinations."""

    recorded_epochs: int = Field(description="Epochs that the job has recorded.", examples=[13])
    data: list[Replayed] = Field(description="One for each combination of settings.")


class StoppingState(Record):
    """Where early stopping stands."""

    settings: EarlyStoppingSpec | None = Field(description="The job's settings; null: off.")
    epoch: int = Field(description="Epochs trained.", examples=[12])
    stagnation: int = Field(description="Epochs in a row without progress.", examples=[3])
    overfitting: int = Field(description="Epochs in a row with val_loss far above the best.", examples=[0])
    reference: float | None = Field(description="The val_loss that progress is measured from.", examples=[0.081])
    stop_reason: StopReason | None = Field(description="Why training ended; null until it has.")
    explanation: str = Field(description="All of that in words.")


@router.get("/jobs/{job_id}/early-stopping", response_model=StoppingState, responses=responses(404, 422))
def get_early_stopping(store: Store, job_id: JobId) -> StoppingState:
    """Where both criteria stand, or why training stopped, in numbers and in words."""
    job = store.job(job_id)
    settings = job.spec.early_stopping
    state, _ = replay(settings, store.curve(job_id))
    return StoppingState(
        settings=settings,
        epoch=state.epoch,
        stagnation=state.stagnation,
        overfitting=state.overfitting,
        reference=state.reference if math.isfinite(state.reference) else None,
        stop_reason=job.stop_reason,
        explanation=explained(settings, state, job.stop_reason),
    )


@router.post(
    "/jobs/{job_id}/early-stopping/replay",
    response_model=Replay,
    responses=responses(*BODY, 404, 422),
)
def replay_early_stopping(store: Store, job_id: JobId, request: ReplayRequest) -> Replay:
    """Where other settings of early stopping would have stopped this job's curve. Nothing is trained or changed."""
    own = store.job(job_id).spec.early_stopping or EarlyStoppingSpec()
    asked = {name: value for name, value in request if name in request.model_fields_set}
    choices = {name: value if isinstance(value, tuple) else (value,) for name, value in asked.items()}
    count = math.prod(map(len, choices.values()))
    if count > MAX_SETTINGS:
        raise BadField("", f"{count:,} combinations of settings; ask for at most {MAX_SETTINGS:,} at a time")
    rows = store.epochs(job_id)
    data = []
    for values in itertools.product(*choices.values()):
        chosen = dict(zip(choices, values, strict=True))
        try:
            settings = EarlyStoppingSpec.model_validate({**own.model_dump(), **chosen})
        except ValidationError as error:
            first = error.errors()[0]
            raise BadField(str(first["loc"][0]), f"{first['msg']}; got {first['input']!r}") from error
        data.append(_replayed(settings, rows))
    return Replay(recorded_epochs=len(rows), data=data)


def _replayed(settings: EarlyStoppingSpec, rows: list[EpochRow]) -> Replayed:
    at, reason = replay(settings, [row.val_loss for row in rows])
    best = min((row.val_loss for row in rows), default=0.0)
    return Replayed(
        settings=settings,
        stop_reason=reason,
        epoch=at.epoch,
        best_epoch=at.best_epoch,
        best_val_loss=at.best_val_loss if rows else None,
        epochs_saved=len(rows) - at.epoch,
        seconds_saved=sum(row.seconds for row in rows[at.epoch :]),
        val_loss_given_up=at.best_val_loss - best if rows else 0.0,
    )


class Difference(Record):
    """A field of the spec in which the jobs differ."""

    field: str = Field(description="Its path.", examples=["model.residual"])
    values: list[Any] = Field(description="Its value in each job; null where a job has no such field.")


class Curve(Record):
    """A job's epoch rows."""

    job: str = Field(description="Id of the job.")
    data: list[EpochRow] = Field(description="At most 500 rows; the curves keep shape and extremes.")


class Comparison(Record):
    """Jobs side by side, in the order that was asked for."""

    jobs: list[ListedJob] = Field(description="The jobs, with their evaluations.")
    differences: list[Difference] = Field(description="What differs in their specs, names and tags apart.")
    curves: list[Curve] = Field(description="Their curves.")


@router.get("/compare", response_model=Comparison, responses=responses(404, 422))
def compare_jobs(
    store: Store,
    job: Annotated[tuple[str, ...], Query(min_length=2, max_length=20, description="Ids of two jobs or more.")],
) -> Comparison:
    """Specs' differences, curves and evaluations of some jobs side by side."""
    found = [store.job(job_id) for job_id in job]
    specs = [_flat(each.spec.model_dump(mode="json", exclude={"name", "tags"})) for each in found]
    fields = list(dict.fromkeys(field for spec in specs for field in spec))
    by_field = {field: [spec.get(field) for spec in specs] for field in fields}
    differences = [
        Difference(field=field, values=values)
        for field, values in by_field.items()
        if any(value != values[0] for value in values)
    ]
    curves = [Curve(job=job_id, data=thin(store.epochs(job_id), _CURVE_POINTS)) for job_id in job]
    return Comparison(jobs=[ListedJob.of(each) for each in found], differences=differences, curves=curves)


def _flat(value: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, part in value.items():
        if isinstance(part, Mapping):
            found |= _flat(part, f"{path}{name}.")
        else:
            found[path + name] = part
    return found
