"""A client of the API, synchronous and asynchronous: submit, wait, follow, download. Needs no torch.

    from app.client import Client

    job = Client().submit({"dataset": {"name": "digits"}}).wait()
    print(job.evaluation.accuracy)

Calls that change nothing, and submissions (under an idempotency key), are tried again when the line breaks or the
service is busy; a retry never submits twice.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import httpx
import yaml
from httpx_sse import ServerSentEvent, aconnect_sse, connect_sse
from pydantic import BaseModel, TypeAdapter

from app.datasets import Dataset
from app.jobs import ApiKey, Attempt, Checkpoint, Event, Job, JobStatus, LogLine, WorkerState
from app.specs import BEST, EpochRow, Evaluation, Figures, JobSpec

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
Told = Callable[[int, int], object]
Spec = JobSpec | Mapping[str, Any] | Path

URL = "http://127.0.0.1:8000"
_BUSY = (429, 502, 503, 504)
_CHUNK = 1 << 20


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


class _Data(BaseModel, Generic[T]):
    data: list[T]
    next: str | int | None = None


@dataclass(frozen=True)
class _Call(Generic[T]):
    """One call and what its answer is. `safe`: it may be tried again."""

    method: str
    path: str
    answer: TypeAdapter[T]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    content: bytes | None = None
    safe: bool = True

    def options(self) -> dict[str, Any]:
        parameters = {name: value for name, value in self.parameters.items() if value is not None}
        return {"params": parameters, "headers": dict(self.headers), "json": self.json, "content": self.content}


_JOB: TypeAdapter[Job] = TypeAdapter(Job)
_JSON: TypeAdapter[Any] = TypeAdapter(Any)


def _data(kind: type[T]) -> TypeAdapter[_Data[T]]:
    return TypeAdapter(_Data[kind])  # type: ignore[valid-type]


def _submission(spec: Spec, reuse: bool) -> _Call[Job]:
    once = {"Idempotency-Key": str(uuid.uuid4())}
    parameters = {"reuse": "true"} if reuse else {}
    return _Call("POST", "/jobs", _JOB, parameters, once, json=_as_json(spec))


def _as_json(spec: Spec) -> Any:
    if isinstance(spec, Path):
        return yaml.safe_load(spec.read_text()) or {}
    return spec.model_dump(mode="json") if isinstance(spec, JobSpec) else dict(spec)


def _listing(parameters: Mapping[str, Any], cursor: str | int | None) -> _Call[_Data[ListedJob]]:
    return _Call("GET", "/jobs", _data(ListedJob), {**parameters, "cursor": cursor})


def _action(job_id: str, name: str) -> _Call[Job]:
    # A second stop or cancel is refused where the first one worked: not tried again.
    return _Call("POST", f"/jobs/{job_id}/{name}", _JOB, safe=False)


def _epochs(job_id: str, after: int, max_points: int | None = None) -> _Call[_Data[EpochRow]]:
    parameters = {"after_epoch": after, "max_points": max_points}
    return _Call("GET", f"/jobs/{job_id}/metrics", _data(EpochRow), parameters)


def _lines(job_id: str, after: int) -> _Call[_Data[LogLine]]:
    return _Call("GET", f"/jobs/{job_id}/logs", _data(LogLine), {"after": after})


def _replayed(job_id: str, settings: Mapping[str, Any]) -> _Call[Any]:
    return _Call("POST", f"/jobs/{job_id}/early-stopping/replay", _JSON, json=dict(settings))


def _options(url: str | None, key: str | None, timeout: float) -> dict[str, Any]:
    key = key or os.environ.get("WHISTLESTOP_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    base = (url or os.environ.get("WHISTLESTOP_URL") or URL).rstrip("/")
    # Not through a proxy: the service is near, and its address may mean nothing to one.
    return {"base_url": base, "headers": headers, "timeout": timeout, "trust_env": False}


def _refusal(response: httpx.Response) -> ApiError:
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    return ApiError(response.status_code, problem if isinstance(problem, dict) else {})


def _pause(attempt: int, response: httpx.Response | None) -> float:
    told = response.headers.get("Retry-After", "") if response is not None else ""
    return min(10.0, float(told)) if told.isdigit() else min(8.0, 0.25 * 2.0**attempt)


def _ended(job: Job, check: bool) -> Job:
    if check and job.status in (JobStatus.FAILED, JobStatus.CANCELLED):
        raise JobFailed(job)
    return job


def _event_of(sent: ServerSentEvent) -> Event | None:
    return Event.model_validate_json(sent.data) if sent.data else None


def _frame(rows: list[EpochRow]) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415  (not everybody has it)

    return pd.DataFrame([row.model_dump() for row in rows], columns=list(EpochRow.model_fields)).set_index("epoch")


class Client:
    """The API at `url`, by default WHISTLESTOP_URL or this machine's. `key` is by default WHISTLESTOP_KEY.

    Every call raises ApiError where the API refuses, and Unreachable after `retries` attempts at no answer.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, timeout: float = 30, retries: int = 5
    ) -> None:
        self.http = httpx.Client(**_options(url, key, timeout))
        self._retries = retries

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.http.close()

    def submit(self, spec: Spec | None = None, *, reuse: bool = False) -> RunningJob:
        """Queue a job: a JobSpec, a mapping, or the path of a YAML file; None is Exercise 1. With `reuse`, a job of
        the same spec and seed that has succeeded is taken instead."""
        return RunningJob(self, self._send(_submission(spec or {}, reuse)).id)

    def check(self, spec: Spec) -> JobSpec:
        """The spec with all defaults filled in; nothing is created."""
        call = _Call("POST", "/jobs", TypeAdapter(JobSpec), {"dry_run": "true"}, json=_as_json(spec))
        return self._send(call)

    def job(self, job_id: str) -> RunningJob:
        """A handle of a job that is there."""
        return RunningJob(self, self._send(_Call("GET", f"/jobs/{job_id}", _JOB)).id)

    def jobs(self, **filters: Any) -> Iterator[ListedJob]:
        """All jobs that match, page by page: `status`, `tag`, `name`, `dataset`, `model`, `sort`, `order`."""
        cursor: str | int | None = None
        while True:
            page = self._send(_listing(filters, cursor))
            yield from page.data
            cursor = page.next
            if cursor is None:
                return

    def compare(self, *job_ids: str) -> dict[str, Any]:
        """Differences of specs, curves and evaluations, as `GET /compare` has them."""
        found: dict[str, Any] = self._send(_Call("GET", "/compare", _JSON, {"job": list(job_ids)}))
        return found

    def datasets(self) -> list[Dataset]:
        """Data sets that jobs can name."""
        return self._send(_Call("GET", "/datasets", _data(Dataset))).data

    def upload_dataset(self, name: str, archive: Path, told: Told | None = None) -> Dataset:
        """Upload a .tar, .tar.gz or .zip with `train/<class>/*` and `test/<class>/*` in it; it is streamed. `told(sent,
        size)` hears of the progress, in bytes."""
        size = archive.stat().st_size

        def content() -> Iterator[bytes]:
            sent = 0
            with archive.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
                    sent += len(chunk)
                    if told is not None:
                        told(sent, size)

        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        options = {"params": {"name": name}, "headers": headers, "timeout": 1800}
        answer = self._once("POST", "/datasets", content=content(), **options)
        return Dataset.model_validate_json(answer.content)

    def delete_dataset(self, name: str) -> None:
        """Delete an uploaded data set."""
        self._once("DELETE", f"/datasets/{name}")

    def workers(self) -> list[WorkerState]:
        """Workers that were heard of lately."""
        return self._send(_Call("GET", "/workers", _data(WorkerState))).data

    def keys(self) -> list[ApiKey]:
        """API keys, without their secrets."""
        return self._send(_Call("GET", "/keys", _data(ApiKey))).data

    def events(self, after: int | None = None) -> Iterator[Event]:
        """Events of all jobs as they happen, for ever; behind serial `after`, or from now on."""
        yield from self._listen("/events", after, lambda event: event.serial)

    def _send(self, call: _Call[T]) -> T:
        attempt = 0
        while True:
            answer: httpx.Response | None = None
            try:
                answer = self.http.request(call.method, call.path, **call.options())
            except httpx.TransportError as error:
                if attempt >= self._retries or not (call.safe or isinstance(error, httpx.ConnectError)):
                    raise Unreachable(str(self.http.base_url), error) from error
            if answer is not None and not (answer.status_code in _BUSY and call.safe and attempt < self._retries):
                if not answer.is_success:
                    raise _refusal(answer)
                return call.answer.validate_json(answer.content or b"null")
            time.sleep(_pause(attempt, answer))
            attempt += 1

    def _once(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = self.http.request(method, path, **options)
        except httpx.TransportError as error:
            raise Unreachable(str(self.http.base_url), error) from error
        if not answer.is_success:
            raise _refusal(answer)
        return answer

    def _listen(self, path: str, after: int | None, number: Any) -> Iterator[Event]:
        attempt = 0
        while True:
            headers = {} if after is None else {"Last-Event-ID": str(after)}
            try:
                with connect_sse(self.http, "GET", path, headers=headers, timeout=httpx.Timeout(30, read=60)) as source:
                    if source.response.status_code == 204:
                        return
                    if not source.response.is_success:
                        source.response.read()
                        raise _refusal(source.response)
                    for sent in source.iter_sse():
                        attempt = 0
                        event = _event_of(sent)
                        if event is not None:
                            after = number(event)
                            yield event
            except httpx.TransportError as error:
                if attempt >= self._retries:
                    raise Unreachable(str(self.http.base_url), error) from error
            time.sleep(_pause(attempt, None))
            attempt += 1


class RunningJob:
    """A job of a Client. What it says is asked for anew at every call."""

    def __init__(self, client: Client, job_id: str) -> None:
        self._client, self.id = client, job_id

    def __repr__(self) -> str:
        return f"RunningJob({self.id!r})"

    def get(self) -> Job:
        """The job now."""
        return self._client._send(_Call("GET", f"/jobs/{self.id}", _JOB))

    def wait(self, timeout: float | None = None, *, check: bool = True) -> Job:
        """The job once it has ended. Raises JobFailed where it failed or was cancelled, unless `check` is False, and
        TimeoutError after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.05
        while not (job := self.get()).status.final:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"Job {self.id} is {job.status} after {timeout:g} s.")
            time.sleep(pause)
            pause = min(1.0, pause * 1.3)
        return _ended(job, check)

    def events(self, after: int = 0) -> Iterator[Event]:
        """Its events: those there are, then those to come, until it has ended."""
        yield from self._client._listen(f"/jobs/{self.id}/events", after, lambda event: event.number)

    def epochs(self, after: int = 0) -> Iterator[EpochRow]:
        """Its epoch rows: those there are, then those to come, until it has ended."""
        for event in self.events():
            if event.type == "epoch" and event.data["epoch"] > after:
                yield EpochRow.model_validate({name: event.data[name] for name in EpochRow.model_fields})

    def metrics(self, after: int = 0, max_points: int | None = None) -> list[EpochRow]:
        """Its epoch rows so far."""
        return self._client._send(_epochs(self.id, after, max_points)).data

    def to_pandas(self) -> pd.DataFrame:
        """Its epoch rows so far, by epoch. Needs pandas."""
        return _frame(self.metrics())

    def logs(self, after: int = 0) -> list[LogLine]:
        """Its console so far."""
        return self._client._send(_lines(self.id, after)).data

    def evaluation(self) -> Evaluation:
        """The best weights on the test split."""
        return self._client._send(_Call("GET", f"/jobs/{self.id}/evaluation", TypeAdapter(Evaluation)))

    def attempts(self) -> list[Attempt]:
        """Its attempts, first to last."""
        return self._client._send(_Call("GET", f"/jobs/{self.id}/attempts", TypeAdapter(list[Attempt])))

    def checkpoints(self) -> list[Checkpoint]:
        """Files that can be downloaded now."""
        found = self._client._send(_Call("GET", f"/jobs/{self.id}/checkpoints", _JSON))["data"]
        return [Checkpoint.model_validate({**each, "key": ""}) for each in found]

    def replay(self, **settings: Any) -> list[dict[str, Any]]:
        """Where other settings of early stopping would have stopped; several values of a setting are a list."""
        found: list[dict[str, Any]] = self._client._send(_replayed(self.id, settings))["data"]
        return found

    def stop(self) -> Job:
        """End training after the running epoch and keep the best weights."""
        return self._client._send(_action(self.id, "stop"))

    def pause(self) -> Job:
        """Free the slot and keep the state."""
        return self._client._send(_action(self.id, "pause"))

    def resume(self) -> Job:
        """Go on from the last epoch."""
        return self._client._send(_action(self.id, "resume"))

    def cancel(self) -> Job:
        """Give it up."""
        return self._client._send(_action(self.id, "cancel"))

    def retry(self) -> Job:
        """Try a failed job again."""
        return self._client._send(_action(self.id, "retry"))

    def delete(self) -> None:
        """Delete it, with its metrics and files. It must have ended."""
        self._client._once("DELETE", f"/jobs/{self.id}")

    def download(self, name: str, to: Path | None = None, told: Told | None = None) -> Path:
        """Download a checkpoint into `to`, by default a file of that name here; a file that was begun is not left
        behind. `told(received, size)` hears of the progress, in bytes."""
        target = to or Path(name)
        part = target.with_name(f"{target.name}.part")
        try:
            with self._client.http.stream("GET", f"/jobs/{self.id}/checkpoints/{name}") as answer:
                if not answer.is_success:
                    answer.read()
                    raise _refusal(answer)
                size, received = int(answer.headers.get("Content-Length", 0)), 0
                with part.open("wb") as out:
                    for chunk in answer.iter_bytes(_CHUNK):
                        out.write(chunk)
                        received += len(chunk)
                        if told is not None:
                            told(received, size)
            part.replace(target)
        except httpx.TransportError as error:
            raise Unreachable(str(self._client.http.base_url), error) from error
        finally:
            part.unlink(missing_ok=True)
        return target

    def download_best(self, to: Path | None = None) -> Path:
        """Download `best_model.pth`."""
        return self.download(BEST, to)


class AsyncClient:
    """Client for `async` code."""

    def __init__(
        self, url: str | None = None, key: str | None = None, *, timeout: float = 30, retries: int = 5
    ) -> None:
        self.http = httpx.AsyncClient(**_options(url, key, timeout))
        self._retries = retries

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.http.aclose()

    async def submit(self, spec: Spec | None = None, *, reuse: bool = False) -> AsyncRunningJob:
        """As Client.submit."""
        return AsyncRunningJob(self, (await self._send(_submission(spec or {}, reuse))).id)

    async def job(self, job_id: str) -> AsyncRunningJob:
        """A handle of a job that is there."""
        return AsyncRunningJob(self, (await self._send(_Call("GET", f"/jobs/{job_id}", _JOB))).id)

    async def jobs(self, **filters: Any) -> AsyncIterator[ListedJob]:
        """As Client.jobs."""
        cursor: str | int | None = None
        while True:
            page = await self._send(_listing(filters, cursor))
            for job in page.data:
                yield job
            cursor = page.next
            if cursor is None:
                return

    async def _send(self, call: _Call[T]) -> T:
        attempt = 0
        while True:
            answer: httpx.Response | None = None
            try:
                answer = await self.http.request(call.method, call.path, **call.options())
            except httpx.TransportError as error:
                if attempt >= self._retries or not (call.safe or isinstance(error, httpx.ConnectError)):
                    raise Unreachable(str(self.http.base_url), error) from error
            if answer is not None and not (answer.status_code in _BUSY and call.safe and attempt < self._retries):
                if not answer.is_success:
                    raise _refusal(answer)
                return call.answer.validate_json(answer.content or b"null")
            await asyncio.sleep(_pause(attempt, answer))
            attempt += 1

    async def _listen(self, path: str, after: int) -> AsyncIterator[Event]:
        attempt = 0
        while True:
            headers, patience = {"Last-Event-ID": str(after)}, httpx.Timeout(30, read=60)
            try:
                async with aconnect_sse(self.http, "GET", path, headers=headers, timeout=patience) as source:
                    if source.response.status_code == 204:
                        return
                    if not source.response.is_success:
                        await source.response.aread()
                        raise _refusal(source.response)
                    async for sent in source.aiter_sse():
                        attempt = 0
                        event = _event_of(sent)
                        if event is not None:
                            after = event.number
                            yield event
            except httpx.TransportError as error:
                if attempt >= self._retries:
                    raise Unreachable(str(self.http.base_url), error) from error
            await asyncio.sleep(_pause(attempt, None))
            attempt += 1


class AsyncRunningJob:
    """A job of an AsyncClient."""

    def __init__(self, client: AsyncClient, job_id: str) -> None:
        self._client, self.id = client, job_id

    def __repr__(self) -> str:
        return f"AsyncRunningJob({self.id!r})"

    async def get(self) -> Job:
        """The job now."""
        return await self._client._send(_Call("GET", f"/jobs/{self.id}", _JOB))

    async def wait(self, *, check: bool = True) -> Job:
        """The job once it has ended; `asyncio.timeout` limits that. Raises JobFailed, unless `check` is False."""
        pause = 0.05
        while not (job := await self.get()).status.final:
            await asyncio.sleep(pause)
            pause = min(1.0, pause * 1.3)
        return _ended(job, check)

    async def events(self, after: int = 0) -> AsyncIterator[Event]:
        """Its events: those there are, then those to come, until it has ended."""
        async for event in self._client._listen(f"/jobs/{self.id}/events", after):
            yield event

    async def metrics(self, after: int = 0, max_points: int | None = None) -> list[EpochRow]:
        """Its epoch rows so far."""
        return (await self._client._send(_epochs(self.id, after, max_points))).data

    async def stop(self) -> Job:
        """End training after the running epoch and keep the best weights."""
        return await self._client._send(_action(self.id, "stop"))

    async def cancel(self) -> Job:
        """Give it up."""
        return await self._client._send(_action(self.id, "cancel"))

    async def download_best(self, to: Path | None = None) -> Path:
        """Download `best_model.pth`."""
        target = to or Path(BEST)
        part = target.with_name(f"{target.name}.part")
        try:
            async with self._client.http.stream("GET", f"/jobs/{self.id}/checkpoints/{BEST}") as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise _refusal(answer)
                with part.open("wb") as out:
                    async for chunk in answer.aiter_bytes(_CHUNK):
                        out.write(chunk)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return target
