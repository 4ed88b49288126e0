"""Prometheus metrics: counts from the store, so that they survive a restart, and the latency of this process."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.problems import responses
from app.store import JobStore

router = APIRouter(tags=["health"])


class StoreCollector:
    """The store's figures as metrics."""

    def __init__(self, store: JobStore, lease_seconds: float) -> None:
        self._store, self._lease_seconds = store, lease_seconds

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client."""
        figures = self._store.figures()
        jobs = GaugeMetricFamily("whistlestop_jobs", "Jobs by status.", labels=["status"])
        for status, count in figures.statuses.items():
            jobs.add_metric([status], count)
        yield jobs
        oldest = figures.oldest_wait_seconds
        yield GaugeMetricFamily("whistlestop_queue_oldest_seconds", "Age of the oldest job that waits.", oldest)
        ended = CounterMetricFamily("whistlestop_jobs_ended", "Jobs that ended.", labels=["status"])
        failures = CounterMetricFamily("whistlestop_failures", "Attempts that failed, by type.", labels=["type"])
        plain = {
            "started": ("whistlestop_attempts", "Attempts begun."),
            "epochs": ("whistlestop_epochs", "Epochs trained."),
            "leases_lost": ("whistlestop_leases_lost", "Leases that expired."),
            "wait_ms": ("whistlestop_wait_seconds", "Time that jobs waited for their first attempt."),
            "run_ms": ("whistlestop_train_seconds", "Time that epochs took."),
        }
        for name, value in figures.counters.items():
            kind, _, label = name.partition(":")
            if kind == "ended":
                ended.add_metric([label], value)
            elif kind == "failed":
                failures.add_metric([label], value)
        yield ended
        yield failures
        for name, (metric, words) in plain.items():
            found = figures.counters.get(name, 0)
            yield CounterMetricFamily(metric, words, found / 1000 if name.endswith("_ms") else found)
        workers = [worker for worker in self._store.workers(self._lease_seconds) if worker.status == "live"]
        yield GaugeMetricFamily("whistlestop_workers", "Live workers.", len(workers))
        yield GaugeMetricFamily("whistlestop_slots", "Their slots.", sum(worker.slots for worker in workers))
        yield GaugeMetricFamily("whistlestop_slots_busy", "Slots in use.", sum(len(each.running) for each in workers))


class Latency:
    """ASGI middleware: how long calls take, by the route's path."""

    def __init__(self, app: ASGIApp, histogram: Histogram) -> None:
        self.app, self._histogram = app, histogram

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._histogram.time() as timer:
            try:
                await self.app(scope, receive, noted)
            finally:
                # Nothing that a caller makes up may become a label.
                path = getattr(scope.get("route"), "path", "unknown")
                method = scope["method"] if scope["method"] in _METHODS else "other"
                timer.labels(method, path, str(status))


_METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS")


def registry_of(store: JobStore, lease_seconds: float) -> tuple[CollectorRegistry, Histogram]:
    """The metrics of one application."""
    registry = CollectorRegistry()
    registry.register(StoreCollector(store, lease_seconds))
    histogram = Histogram(
        "whistlestop_http_seconds", "Latency of calls.", ["method", "path", "status"], registry=registry
    )
    return registry, histogram


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **responses()})
def get_prometheus(request: Request) -> Response:
    """Metrics for Prometheus."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)
