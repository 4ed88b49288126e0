"""create_app(settings): the HTTP API, put together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

from app import __version__, housekeeping, problems
from app.artifacts import ArtifactStore
from app.datasets import Datasets
from app.door import Door
from app.guard import Guard, is_loopback
from app.predict import Predictor
from app.routes import (
    analysis,
    checkpoints,
    dashboard,
    datasets,
    events,
    health,
    jobs,
    keys,
    lifecycle,
    metrics,
    parameters,
    pictures,
    predictions,
    prometheus,
    workers,
)
from app.settings import Settings
from app.store import JobStore
from app.stream import Stream
from app.webhooks import Webhooks, secret_of

DESCRIPTION = """\
Submit a training job for an image classifier, watch its curves, download the best weights.

`POST /jobs` with `{}` trains the lab's Exercise 1. Errors are `application/problem+json` (RFC 9457).
"""


def create_app(settings: Settings) -> FastAPI:
    """The API over the database and the files that `settings` name. Applies migrations.

    Raises StoreUnavailable where the database cannot be used, BadSecret.
    """
    store = JobStore(settings.resolved_database_url)
    store.migrate()
    artifacts = ArtifactStore(settings.data_dir / "checkpoints")
    stream = Stream(store)
    given = settings.webhook_secret.get_secret_value() if settings.webhook_secret else None
    webhooks = Webhooks(store, secret_of(given, settings.data_dir), private=settings.webhook_private)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        background = [
            asyncio.create_task(each)
            for each in (
                stream.run(),
                webhooks.run(),
                housekeeping.run(store, artifacts, settings.keep_state_days, settings.keep_jobs_days),
            )
        ]
        yield
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
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
    app.state.artifacts = artifacts
    app.state.datasets = Datasets(settings.dataset_folders)
    app.state.datasets.sweep()
    app.state.stream = stream
    app.state.predictor = Predictor()
    app.state.max_upload_bytes = settings.max_upload_bytes
    app.state.lease_seconds = settings.lease_seconds
    app.state.registry, histogram = prometheus.registry_of(store, settings.lease_seconds)
    problems.install(app)
    loopback = is_loopback(settings.host) if settings.loopback_only is None else settings.loopback_only
    # The last that is added is the first that a call meets.
    app.add_middleware(Door)
    app.add_middleware(
        Guard,
        store=store,
        locked=settings.auth == "on" or (settings.auth == "auto" and not loopback),
        loopback=loopback,
        origins=settings.cors_origins,
        per_minute=settings.rate_limit,
    )
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(settings.cors_origins), allow_methods=["*"], allow_headers=["*"]
        )
    app.add_middleware(prometheus.Latency, histogram=histogram)
    for resource in (
        jobs,
        lifecycle,
        metrics,
        events,
        analysis,
        pictures,
        checkpoints,
        predictions,
        datasets,
        workers,
        keys,
        health,
        prometheus,
        dashboard,
    ):
        app.include_router(resource.router, dependencies=[Depends(parameters.check)])
    app.mount("/dashboard", dashboard.Files())

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
            schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{}, {"key": []}]
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app
