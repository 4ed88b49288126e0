"""A job to look at: its curves, its confusion matrix, and a report that needs nothing else."""

from __future__ import annotations

import base64
from functools import cache
from typing import Annotated, Any

import yaml
from fastapi import APIRouter, Path, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from app import __version__, pictures
from app.datasets import NotPrepared, UnknownDataset
from app.jobs import Job
from app.problems import responses
from app.routes.dependencies import DatasetsHere, JobId, Store
from app.routes.metrics import thin
from app.specs import BEST, EpochRow
from app.specs.stopping import explained, replay
from app.store import NotRecorded

router = APIRouter(tags=["pictures"])

_POINTS = 1000
_SHOWN_MISTAKES = 12
Format = Annotated[pictures.Format, Path(description="Format of the picture.")]
_PICTURE: dict[int | str, dict[str, Any]] = {200: {"content": {"image/svg+xml": {}, "image/png": {}}}}


@router.get("/jobs/{job_id}/plot.{format}", response_class=Response, responses={**_PICTURE, **responses(404, 422)})
def get_plot(store: Store, job_id: JobId, format: Format) -> Response:
    """The curves of loss and accuracy so far, for a README or a chat."""
    job = store.job(job_id)
    rows = store.epochs(job_id)
    if not rows:
        raise NotRecorded(f"Job {job.id} ({job.status}) has no epoch yet, so there is no curve.")
    return _picture(_curves(job, rows, format), format)


@router.get("/jobs/{job_id}/confusion.{format}", response_class=Response, responses={**_PICTURE, **responses(404, 422)})
def get_confusion(store: Store, job_id: JobId, format: Format) -> Response:
    """The confusion matrix of the best weights on the test split."""
    evaluation = store.evaluation(job_id)
    return _picture(pictures.confusion(evaluation, _title(store.job(job_id)), format), format)


@router.get(
    "/jobs/{job_id}/report",
    response_class=HTMLResponse,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}, **responses(404, 422)},
)
def get_report(store: Store, datasets: DatasetsHere, job_id: JobId) -> HTMLResponse:
    """All of a job in one HTML file that needs nothing else: spec, curves, why it stopped, evaluation, environment,
    and how to load the weights."""
    job = store.job(job_id)
    rows = store.epochs(job_id)
    settings = job.spec.early_stopping
    state, _ = replay(settings, [row.val_loss for row in rows])
    evaluation = job.evaluation
    text = _report().render(
        job=job,
        title=_title(job),
        version=__version__,
        spec=yaml.safe_dump(job.spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        curves=_svg(_curves(job, rows, "svg")) if rows else None,
        confusion=_svg(pictures.confusion(evaluation, "Confusion matrix", "svg")) if evaluation else None,
        explanation=explained(settings, state, job.stop_reason),
        rows=thin(rows, 60),
        attempts=store.attempts(job_id),
        checkpoints=store.checkpoints(job_id),
        mistakes=_mistakes(job, datasets),
        best=BEST,
    )
    return HTMLResponse(text)


@cache
def _report() -> Any:
    loader = PackageLoader("app", "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True).get_template(
        "report.html"
    )


def _title(job: Job) -> str:
    return f"{job.name or job.id}: {job.spec.model.kind} on {job.spec.dataset.name}"


def _curves(job: Job, rows: list[EpochRow], format: pictures.Format) -> bytes:
    best = job.best.epoch if job.best else None
    return pictures.curves(thin(rows, _POINTS), _title(job), best, job.stop_reason, format)


def _picture(content: bytes, format: pictures.Format) -> Response:
    kind = "image/svg+xml" if format == "svg" else "image/png"
    return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})


def _svg(content: bytes) -> str:
    text = content.decode()
    return text[text.index("<svg") :]


def _mistakes(job: Job, datasets: DatasetsHere) -> list[dict[str, str]]:
    """The test images that were most confidently taken for others, where the data set is still there."""
    if job.evaluation is None:
        return []
    names = [each.name for each in job.evaluation.per_class]
    found = []
    for mistake in job.evaluation.mistakes[:_SHOWN_MISTAKES]:
        try:
            png = datasets.test_image(job.spec.dataset.name, mistake.index)
        except (UnknownDataset, NotPrepared, IndexError):
            return []
        words = f"{names[mistake.label]} taken for {names[mistake.predicted]} ({mistake.confidence:.1%})"
        found.append({"src": f"data:image/png;base64,{base64.b64encode(png).decode()}", "words": words})
    return found
