"""What can be done to a job under way. Each call answers with the job as it is then; 409 says why it is not allowed."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter

from app.jobs import Job
from app.problems import responses
from app.routes.dependencies import CallerHere, JobId, Store, may_act
from app.routes.jobs import JobView
from app.store import JobStore

router = APIRouter(tags=["jobs"])

_PROBLEMS = responses(404, 409, 422)


def _act(store: JobStore, caller: CallerHere, job_id: str, action: Callable[..., Job]) -> JobView:
    may_act(store, caller, job_id)
    return JobView.of(action(job_id, by=caller.by))


@router.post("/jobs/{job_id}/stop", response_model=JobView, responses=_PROBLEMS)
def stop_job(store: Store, caller: CallerHere, job_id: JobId) -> JobView:
    """End training after the running epoch, keep and evaluate the best weights so far: the job succeeds, with stop
    reason `requested`."""
    return _act(store, caller, job_id, store.stop)


@router.post("/jobs/{job_id}/pause", response_model=JobView, responses=_PROBLEMS)
def pause_job(store: Store, caller: CallerHere, job_id: JobId) -> JobView:
    """Free the slot and keep the state. `resume` goes on behind the last finished epoch, to the same weights as if it
    had not been paused."""
    return _act(store, caller, job_id, store.pause)


@router.post("/jobs/{job_id}/resume", response_model=JobView, responses=_PROBLEMS)
def resume_job(store: Store, caller: CallerHere, job_id: JobId) -> JobView:
    """Queue a paused job again."""
    return _act(store, caller, job_id, store.resume)


@router.post("/jobs/{job_id}/cancel", response_model=JobView, responses=_PROBLEMS)
def cancel_job(store: Store, caller: CallerHere, job_id: JobId) -> JobView:
    """Give a job up. What it has recorded so far stays."""
    return _act(store, caller, job_id, store.cancel)


@router.post("/jobs/{job_id}/retry", response_model=JobView, responses=_PROBLEMS)
def retry_job(store: Store, caller: CallerHere, job_id: JobId) -> JobView:
    """Queue a failed job again, with all its attempts, from its last finished epoch."""
    return _act(store, caller, job_id, store.retry)
