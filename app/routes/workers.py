"""The workers that train."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import Field

from app.jobs import Record, WorkerState
from app.problems import responses
from app.routes.dependencies import Store

router = APIRouter(tags=["workers"])


class WorkerList(Record):
    """Workers that were heard of in the last day."""

    data: list[WorkerState] = Field(description="Newest first.")


@router.get("/workers", response_model=WorkerList, responses=responses())
def list_workers(request: Request, store: Store) -> WorkerList:
    """Workers: host, device, slots, versions, what they run and whether they live."""
    return WorkerList(data=store.workers(request.app.state.lease_seconds))
