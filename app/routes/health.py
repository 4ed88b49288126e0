"""Probes: is the process alive, and can it serve."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import Field

from app import __version__
from app.jobs import Record
from app.problems import responses
from app.routes.dependencies import Store

router = APIRouter(tags=["health"])


class Health(Record):
    """A probe's answer."""

    status: str = Field(description="ok", examples=["ok"])
    version: str = Field(description="Version of the service.", examples=["0.1.0"])


@router.get("/healthz", response_model=Health)
def healthz() -> Health:
    """Whether the process is alive. Asks nobody else."""
    return Health(status="ok", version=__version__)


@router.get("/readyz", response_model=Health, responses=responses())
def readyz(store: Store) -> Health:
    """Whether the database answers."""
    store.ping()
    return Health(status="ok", version=__version__)
