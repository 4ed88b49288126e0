"""Jobs: create, list, get, change, delete, cancel."""

from __future__ import annotations

from typing import Annotated, Any, Self

from fastapi import APIRouter, Body, Header, Query, Response, status
from pydantic import ConfigDict, Field, model_validator
from starlette.responses import JSONResponse

from app.jobs import Attempt, Job, JobStatus, Record
from app.problems import BODY, responses
from app.routes.dependencies import Artifacts, CallerHere, DatasetsHere, JobId, Store, may_act
from app.specs import Figures, JobSpec, Name, Tag, Tags, Value
from app.store import Filters, Order, Sorting, SortKey

router = APIRouter(tags=["jobs"])

EXAMPLES: dict[str, Any] = {
    "exercise-1": {
        "summary": "Exercise 1: the default job",
        "description": "MLP 784 -> 128 -> 64 -> Dropout(0.2) -> 10 on MNIST.",
        "value": {},
    },
    "smoke-test": {
        "summary": "A few seconds on real digits, no download",
        "value": {"name": "smoke", "dataset": {"name": "digits"}, "training": {"max_epochs": 5}},
    },
    "residual": {
        "summary": "A deep MLP with residual connections",
        "value": {
            "name": "deep-residual",
            "tags": ["lab1", "residual"],
            "model": {"kind": "mlp", "hidden": [64, 64, 64, 64, 64, 64, 64, 64], "residual": True},
            "optimizer": {"kind": "adamw", "lr": 0.001, "weight_decay": 0.01},
        },
    },
    "patient": {
        "summary": "Other early stopping, a cosine schedule, three tries with seed 1",
        "value": {
            "dataset": {"name": "fashion_mnist", "augment": "standard"},
            "scheduler": {"kind": "cosine"},
            "early_stopping": {"patience": 10, "min_delta": 0.001, "delta_overfit": None},
            "seed": 1,
        },
    },
}

YAML_EXAMPLE = """\
name: ex1-mlp-mnist
tags: [lab1]
dataset: {name: mnist, val_fraction: 0.1}
model: {kind: mlp, hidden: [128, 64], dropout: 0.2}
optimizer: {kind: adam, lr: 1e-3}
early_stopping: {patience: 5}
"""


class Links(Record):
    """Where to go on."""

    self: str
    metrics: str
    events: str
    logs: str
    evaluation: str
    checkpoints: str
    attempts: str
    stop: str
    pause: str
    resume: str
    cancel: str
    retry: str


class JobView(Job):
    """A job with its links."""

    links: Links = Field(description="Paths of what belongs to the job.")

    @classmethod
    def of(cls, job: Job) -> Self:
        """The job, linked."""
        here = f"/jobs/{job.id}"
        parts = {name: f"{here}/{name}" for name in Links.model_fields if name != "self"}
        return cls(**dict(job), links=Links(self=here, **parts))


class ListedJob(JobView):
    """A job in a list: its evaluation without the classes and the confusion matrix, which `GET /jobs/{id}` has."""

    evaluation: Figures | None = Field(  # type: ignore[assignment]  # serialised as less than it is
        description="The best weights on the test split; null until then."
    )
    sparkline: tuple[float, ...] | None = Field(
        None, description="The course of val_loss, where it was asked for with `sparkline`.", examples=[[0.4, 0.2, 0.1]]
    )


class JobPage(Record):
    """A page of jobs."""

    data: list[ListedJob] = Field(description="The jobs.")
    next: str | None = Field(description="Pass as `cursor` for the next page; null on the last.")


class JobPatch(Value):
    """What may be changed. Fields that are left out stay as they are."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    name: Name | None = Field(None, description="A new name; null removes it.", examples=["ex1-again"])
    tags: Tags = Field((), description="The new tags, replacing the old.", examples=[["lab1", "best"]])
    priority: int = Field(0, ge=-1000, le=1000, description="A new priority, while queued.", examples=[10])

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("there is nothing to change: give name, tags or priority")
        return self


@router.post(
    "/jobs",
    status_code=status.HTTP_201_CREATED,
    response_model=JobView,
    responses={
        200: {
            "description": "Dry run: the resolved spec. Reuse: a job that has succeeded. Nothing was created.",
            "model": JobSpec | JobView,
        },
        **responses(*BODY, 409, 422, 507),
    },
    openapi_extra={
        "requestBody": {
            "content": {"application/yaml": {"schema": {"type": "object"}, "example": YAML_EXAMPLE}},
        }
    },
)
def create_job(
    store: Store,
    datasets: DatasetsHere,
    caller: CallerHere,
    response: Response,
    spec: Annotated[JobSpec, Body(openapi_examples=EXAMPLES)],
    dry_run: Annotated[bool, Query(description="Check and resolve the spec; create nothing.")] = False,
    reuse: Annotated[
        bool,
        Query(
            description="Where a job of the same spec and seed has succeeded under this version, answer with it (200) "
            "instead of training again. Names, tags, order and reporting may differ."
        ),
    ] = False,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            description="Any text of yours. A repeated call with the same key and body gives the same job, so a "
            "retry never submits twice; with another body it is refused (409).",
        ),
    ] = None,
) -> Any:
    """Submit a job. `{}` is Exercise 1. JSON, or YAML with `Content-Type: application/yaml`."""
    datasets.check(spec.dataset.name)
    if dry_run:
        return JSONResponse(store.resolve(spec).model_dump(mode="json"))
    twin = store.finished_twin(spec) if reuse else None
    if twin is not None:
        return JSONResponse(
            JobView.of(twin).model_dump(mode="json"), headers={"Location": f"/jobs/{twin.id}", "Job-Reused": "true"}
        )
    job, replayed = store.submit(spec, idempotency_key, key_id=caller.key_id, max_jobs=caller.max_jobs, by=caller.by)
    response.headers["Location"] = f"/jobs/{job.id}"
    if replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return JobView.of(job)


@router.get("/jobs", response_model=JobPage, responses=responses(422))
def list_jobs(
    store: Store,
    status: Annotated[tuple[JobStatus, ...], Query(description="Any of these statuses.")] = (),
    tag: Annotated[tuple[Tag, ...], Query(description="All of these tags.")] = (),
    name: Annotated[str | None, Query(max_length=200, description="Names that contain this text.")] = None,
    dataset: Annotated[str | None, Query(max_length=64, description="Name of the data set.")] = None,
    model: Annotated[str | None, Query(max_length=32, description="Kind of the model.")] = None,
    sort: Annotated[SortKey, Query(description="Jobs without such a value come last.")] = "created_at",
    order: Annotated[
        Order | None, Query(description="Default: newest first; lowest val_loss first; highest test_acc first.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="Jobs on a page.")] = 50,
    cursor: Annotated[str | None, Query(max_length=1000, description="`next` of the page before.")] = None,
    sparkline: Annotated[
        int | None, Query(ge=2, le=200, description="Add the course of val_loss, in about so many points.")
    ] = None,
) -> JobPage:
    """List jobs."""
    filters = Filters(status, tag, name, dataset, model)
    sorting = Sorting(sort, order or ("asc" if sort == "val_loss" else "desc"))
    page = store.list_jobs(filters, sorting, limit, cursor)
    listed = [ListedJob.of(job) for job in page.data]
    if sparkline:
        courses = store.val_losses([job.id for job in listed], sparkline)
        listed = [job.model_copy(update={"sparkline": tuple(courses[job.id])}) for job in listed]
    return JobPage(data=listed, next=page.next)


@router.get("/jobs/{job_id}", response_model=JobView, responses=responses(404, 422))
def get_job(store: Store, job_id: JobId) -> JobView:
    """One job: status, progress, best epoch, evaluation, error."""
    return JobView.of(store.job(job_id))


@router.patch("/jobs/{job_id}", response_model=JobView, responses=responses(*BODY, 404, 409, 422))
def update_job(store: Store, caller: CallerHere, job_id: JobId, patch: JobPatch) -> JobView:
    """Change name, tags or priority."""
    may_act(store, caller, job_id)
    changes = patch.model_dump(include=patch.model_fields_set)
    return JobView.of(store.update(job_id, changes, by=caller.by))


@router.delete("/jobs/{job_id}", status_code=204, response_class=Response, responses=responses(404, 409, 422))
def delete_job(
    store: Store,
    artifacts: Artifacts,
    caller: CallerHere,
    job_id: JobId,
    force: Annotated[
        bool, Query(description="Also where jobs that have not ended start from this job's weights; they fail then.")
    ] = False,
) -> Response:
    """Delete a job that has ended, with its metrics and files. Cancel it first if it has not."""
    may_act(store, caller, job_id)
    store.delete(job_id, force=force)
    artifacts.delete_job(job_id)
    return Response(status_code=204)


@router.get("/jobs/{job_id}/attempts", response_model=list[Attempt], responses=responses(404, 422))
def list_attempts(store: Store, job_id: JobId) -> list[Attempt]:
    """The job's attempts, first to last: which worker, on what, and how each ended."""
    store.job(job_id)
    return store.attempts(job_id)
