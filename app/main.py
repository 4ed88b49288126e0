"""create_app(settings): the HTTP API, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline

from app import __version__, problems
from app.artifacts import ArtifactStore
from app.datasets import Datasets
from app.door import Door
from app.routes import checkpoints, datasets, health, jobs, metrics, workers
from app.settings import Settings
from app.store import JobStore

DESCRIPTION = """\
Submit a training job for an image classifier, watch its curves, download the best weights.

`POST /jobs` with `{}` trains the lab's Exercise 1. Errors are `application/problem+json` (RFC 9457).
"""


def create_app(settings: Settings) -> FastAPI:
    """The API over the database and the files that `settings` name. Applies migrations.

    Raises StoreUnavailable where the database cannot be used.
    """
    store = JobStore(settings.resolved_database_url)
    store.migrate()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        store.close()

    # FastAPIOffline serves the assets of Swagger UI and ReDoc from its package: /docs works without internet.
    app = FastAPIOffline(
        title="Whistlestop",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        # Highlighting a long answer takes the browser many seconds, in which the page stands still.
        swagger_ui_parameters={"tryItOutEnabled": True, "displayRequestDuration": True, "syntaxHighlight": False},
    )
    app.state.store = store
    app.state.artifacts = ArtifactStore(settings.data_dir / "checkpoints")
    app.state.datasets = Datasets(settings.dataset_folders)
    app.state.datasets.sweep()
    app.state.max_upload_bytes = settings.max_upload_bytes
    app.state.lease_seconds = settings.lease_seconds
    problems.install(app)
    app.add_middleware(Door)
    for resource in (jobs, metrics, checkpoints, datasets, workers, health):
        app.include_router(resource.router)

    @app.get("/", include_in_schema=False)
    def root() -> RedirectResponse:
        return RedirectResponse("/docs")

    plain_openapi = app.openapi

    def openapi() -> dict[str, object]:
        schema = plain_openapi()
        components = schema["components"]["schemas"]
        if "Problem" not in components:
            described = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            components |= described.pop("$defs")
            components["Problem"] = described
            components.pop("HTTPValidationError", None)
            components.pop("ValidationError", None)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app
