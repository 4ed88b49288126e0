"""What the routes need: the store and the artifacts, from the application that `create_app` made."""

from typing import Annotated

from fastapi import Depends, Path, Request

from app.artifacts import ArtifactStore
from app.datasets import Datasets
from app.guard import Caller
from app.jobs import NotYours
from app.store import JobStore


# Coroutines, for a plain function would be called in a thread, and a call of the API has several of these.
async def _store(request: Request) -> JobStore:
    store: JobStore = request.app.state.store
    return store


async def _artifacts(request: Request) -> ArtifactStore:
    artifacts: ArtifactStore = request.app.state.artifacts
    return artifacts


async def _datasets(request: Request) -> Datasets:
    datasets: Datasets = request.app.state.datasets
    return datasets


async def _caller(request: Request) -> Caller:
    caller: Caller = request.scope["caller"]
    return caller


def may_act(store: JobStore, caller: Caller, job_id: str) -> None:
    """Raises NotYours where the caller's key may not act on this job, JobNotFound."""
    if not caller.is_admin and store.owner(job_id) != caller.key_id:
        raise NotYours(job_id)


Store = Annotated[JobStore, Depends(_store)]
Artifacts = Annotated[ArtifactStore, Depends(_artifacts)]
CallerHere = Annotated[Caller, Depends(_caller)]
DatasetsHere = Annotated[Datasets, Depends(_datasets)]
JobId = Annotated[
    str, Path(description="Id of a job.", max_length=64, examples=["0193a5b0-7c11-7d4e-8f00-5a3b1c9d2e4f"])
]
