"""What both clients have in common: the calls of the API, what their answers are, and when one is tried again."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import httpx
from httpx_sse import ServerSentEvent
from pydantic import BaseModel, TypeAdapter

from app import yaml12
from app.jobs import Event, Job, JobStatus
from app.specs import EpochRow, Figures, JobSpec

T = TypeVar("T")
C = TypeVar("C")
Spec = JobSpec | Mapping[str, Any] | Path

URL = "http://127.0.0.1:8000"
CHUNK = 1 << 20
_BUSY = (429, 502, 503, 504)


class ApiError(Exception):
    """The API refused. `status` is the HTTP status, `code` a word for programs, `errors` the bad fields."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(str(problem.get("detail", f"The API answered {status}.")))
        self.status, self.code = status, str(problem.get("code", "unknown"))
        self.errors: list[dict[str, Any]] = list(problem.get("errors", []))


class Unreachable(Exception):
    """The API does not answer."""

    def __init__(self, url: str, error: Exception) -> None:
        super().__init__(f"Nothing answers at {url} ({error}). Start it with `whistlestop up`, or set WHISTLESTOP_URL.")


class JobFailed(Exception):
    """A job that was waited for has failed or was cancelled. `job` is how it ended."""

    def __init__(self, job: Job) -> None:
        why = f": {job.error.type}: {job.error.message}" if job.error else ""
        super().__init__(f"Job {job.id} {job.status}{why}")
        self.job = job


class ListedJob(Job):
    """A job as lists have it: its evaluation without the classes and the confusion matrix."""

    evaluation: Figures | None  # type: ignore[assignment]


class Data(BaseModel, Generic[T]):
    """A list of the API, or a page of one."""

    data: list[T]
    next: str | int | None = None


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call and what its answer is. `safe`: it may be tried again, though it may have arrived."""

    method: str
    path: str
    answer: TypeAdapter[T]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    content: Callable[[], Iterator[bytes]] | None = None
    timeout: float | None = None
    safe: bool = True

    def options(self) -> dict[str, Any]:
        """For httpx."""
        options: dict[str, Any] = {"headers": dict(self.headers), "json": self.json}
        options["params"] = {name: value for name, value in self.parameters.items() if value is not None}
        if self.content is not None:
            options["content"] = self.content()
        return options if self.timeout is None else {**options, "timeout": self.timeout}


JSON: TypeAdapter[Any] = TypeAdapter(Any)
_JOB: TypeAdapter[Job] = TypeAdapter(Job)


def data(kind: type[T]) -> TypeAdapter[Data[T]]:
    """The answer of a call for a list."""
    return TypeAdapter(Data[kind])  # type: ignore[valid-type]


def submission(spec: Spec | None, reuse: bool) -> Call[Job]:
    """Queue a job; under a key of its own, so that it is queued once however often it is tried."""
    once = {"Idempotency-Key": str(uuid.uuid4())}
    parameters = {"reuse": "true"} if reuse else {}
    return Call("POST", "/jobs", _JOB, parameters, once, json=as_json(spec or {}))


def as_json(spec: Spec) -> Any:
    """A spec as the API takes it. Raises OSError, yaml.YAMLError."""
    if isinstance(spec, Path):
        return yaml12.load(spec.read_text()) or {}
    return spec.model_dump(mode="json") if isinstance(spec, JobSpec) else dict(spec)


def one(job_id: str) -> Call[Job]:
    """A job."""
    return Call("GET", f"/jobs/{job_id}", _JOB)


def listing(parameters: Mapping[str, Any], cursor: str | int | None) -> Call[Data[ListedJob]]:
    """A page of jobs."""
    return Call("GET", "/jobs", data(ListedJob), {**parameters, "cursor": cursor})


def action(job_id: str, name: str) -> Call[Job]:
    """stop, pause, resume, cancel or retry."""
    # A second stop or cancel is refused where the first one worked: not tried again.
    return Call("POST", f"/jobs/{job_id}/{name}", _JOB, safe=False)


def epochs(job_id: str, after: int, max_points: int | None = None) -> Call[Data[EpochRow]]:
    """Epoch rows."""
    parameters = {"after_epoch": after, "max_points": max_points}
    return Call("GET", f"/jobs/{job_id}/metrics", data(EpochRow), parameters)


def options(url: str | None, key: str | None, timeout: float) -> dict[str, Any]:
    """For a client of httpx."""
    key = key or os.environ.get("WHISTLESTOP_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    base = (url or os.environ.get("WHISTLESTOP_URL") or URL).rstrip("/")
    # Not through a proxy: the service is near, and its address may mean nothing to one.
    return {"base_url": base, "headers": headers, "timeout": timeout, "trust_env": False}


def listening(after: int | None) -> dict[str, Any]:
    """For a line of live events behind number `after`."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    return {"headers": headers, "timeout": httpx.Timeout(30, read=60)}


Outcome = httpx.Response | httpx.TransportError


def settled(call: Call[Any], outcome: Outcome, base: httpx.URL, *, last: bool) -> httpx.Response | None:
    """The answer to a call, or None where it is to be tried again. Raises ApiError, Unreachable."""
    if isinstance(outcome, httpx.TransportError):
        if last or not (call.safe or isinstance(outcome, httpx.ConnectError)):
            raise Unreachable(str(base), outcome) from outcome
        return None
    if outcome.status_code in _BUSY and call.safe and not last:
        return None
    if not outcome.is_success:
        raise refusal(outcome)
    return outcome


def refusal(response: httpx.Response) -> ApiError:
    """What the API said instead of an answer."""
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    return ApiError(response.status_code, problem if isinstance(problem, dict) else {})


def pause(attempt: int, outcome: Outcome | None = None) -> float:
    """Seconds to the next attempt."""
    told = outcome.headers.get("Retry-After", "") if isinstance(outcome, httpx.Response) else ""
    return min(10.0, float(told)) if told.isdigit() else min(8.0, 0.25 * 2.0**attempt)


def looks() -> Iterator[float]:
    """Seconds between looks at a job that is waited for."""
    seconds = 0.05
    while True:
        yield seconds
        seconds = min(1.0, seconds * 1.3)


def ended(job: Job, check: bool) -> Job:
    """The job. Raises JobFailed where it is to be checked and has not succeeded."""
    if check and job.status in (JobStatus.FAILED, JobStatus.CANCELLED):
        raise JobFailed(job)
    return job


def event_of(sent: ServerSentEvent) -> Event | None:
    """An event as it is sent; None for a heartbeat."""
    return Event.model_validate_json(sent.data) if sent.data else None


def row_of(event: Event) -> EpochRow:
    """The epoch row that an event of type `epoch` tells."""
    return EpochRow.model_validate({name: event.data[name] for name in EpochRow.model_fields})


@contextlib.contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Where to write a file that is to be at `target` whole or not at all."""
    part = target.with_name(f"{target.name}.part")
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


class OfJob(Generic[C]):
    """A job of a client. What it says is asked for anew at every call."""

    def __init__(self, client: C, job_id: str) -> None:
        self._client, self.id = client, job_id

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"
