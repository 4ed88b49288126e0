"""The calls of the API as values, for both clients: what is sent, and what the answer is."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter

from app import yaml12
from app.datasets import Dataset
from app.jobs import ApiKey, Attempt, Checkpoint, Job, LogLine, WorkerState
from app.specs import EpochRow, Evaluation, Figures, JobSpec

T = TypeVar("T")
C = TypeVar("C")
Spec = JobSpec | Mapping[str, Any] | Path
Told = Callable[[int, int], object]
Content = Iterator[bytes] | AsyncIterator[bytes]

URL = "http://127.0.0.1:8000"
CHUNK = 1 << 20


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
    content: Callable[[], Content] | None = None
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


def check(spec: Spec) -> Call[JobSpec]:
    """The spec with all defaults."""
    return Call("POST", "/jobs", TypeAdapter(JobSpec), {"dry_run": "true"}, json=as_json(spec))


def compare(job_ids: Sequence[str]) -> Call[Any]:
    """Jobs side by side."""
    return Call("GET", "/compare", JSON, {"job": list(job_ids)})


def datasets() -> Call[Data[Dataset]]:
    """Data sets that jobs can name."""
    return Call("GET", "/datasets", data(Dataset))


def workers() -> Call[Data[WorkerState]]:
    """Workers."""
    return Call("GET", "/workers", data(WorkerState))


def keys() -> Call[Data[ApiKey]]:
    """API keys."""
    return Call("GET", "/keys", data(ApiKey))


def upload(name: str, size: int, content: Callable[[], Content]) -> Call[Dataset]:
    """A new data set of `size` bytes."""
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
    answer = TypeAdapter(Dataset)
    return Call("POST", "/datasets", answer, {"name": name}, headers, content=content, timeout=1800, safe=False)


def delete(path: str) -> Call[Any]:
    """Delete what is at a path."""
    return Call("DELETE", path, JSON, safe=False)


def logs(job_id: str, after: int) -> Call[Data[LogLine]]:
    """Console lines."""
    return Call("GET", f"/jobs/{job_id}/logs", data(LogLine), {"after": after})


def evaluation(job_id: str) -> Call[Evaluation]:
    """The best weights on the test split."""
    return Call("GET", f"/jobs/{job_id}/evaluation", TypeAdapter(Evaluation))


def attempts(job_id: str) -> Call[list[Attempt]]:
    """Attempts."""
    return Call("GET", f"/jobs/{job_id}/attempts", TypeAdapter(list[Attempt]))


def checkpoints(job_id: str) -> Call[Data[Checkpoint]]:
    """Files."""
    return Call("GET", f"/jobs/{job_id}/checkpoints", data(Checkpoint))


def file(job_id: str, name: str) -> Call[Any]:
    """A file, to be streamed."""
    return Call("GET", f"/jobs/{job_id}/checkpoints/{name}", JSON)


def replay(job_id: str, settings: Mapping[str, Any]) -> Call[Data[dict[str, Any]]]:
    """What other settings of early stopping would have done."""
    return Call("POST", f"/jobs/{job_id}/early-stopping/replay", data(dict[str, Any]), json=dict(settings))


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


class OfJob(Generic[C]):
    """A job of a client. What it says is asked for anew at every call."""

    def __init__(self, client: C, job_id: str) -> None:
        self._client, self.id = client, job_id

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"
