"""The asynchronous client: what the synchronous one has, to be awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx
from httpx_sse import aconnect_sse

from app.client import calls, outcomes
from app.client.calls import Call, ListedJob, Spec, Told
from app.client.outcomes import Unreachable
from app.datasets import Dataset
from app.jobs import ApiKey, Attempt, Checkpoint, Event, Job, LogLine, WorkerState
from app.specs import BEST, EpochRow, Evaluation, JobSpec

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")


class AsyncClient:
    """As Client, for `async` code."""

    def __init__(
        self, url: str | None = None, key: str | None = None, *, timeout: float = 30, retries: int = 5
    ) -> None:
        self.http = httpx.AsyncClient(**calls.options(url, key, timeout))
        self._retries = retries

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.http.aclose()

    async def submit(self, spec: Spec | None = None, *, reuse: bool = False) -> AsyncRunningJob:
        """As Client.submit."""
        return AsyncRunningJob(self, (await self._send(calls.submission(spec, reuse))).id)

    async def check(self, spec: Spec) -> JobSpec:
        """As Client.check."""
        return await self._send(calls.check(spec))

    async def job(self, job_id: str) -> AsyncRunningJob:
        """As Client.job."""
        return AsyncRunningJob(self, (await self._send(calls.one(job_id))).id)

    async def jobs(self, **filters: Any) -> AsyncIterator[ListedJob]:
        """As Client.jobs."""
        cursor: str | int | None = None
        while True:
            page = await self._send(calls.listing(filters, cursor))
            for job in page.data:
                yield job
            cursor = page.next
            if cursor is None:
                return

    async def compare(self, *job_ids: str) -> dict[str, Any]:
        """As Client.compare."""
        found: dict[str, Any] = await self._send(calls.compare(job_ids))
        return found

    async def datasets(self) -> list[Dataset]:
        """As Client.datasets."""
        return (await self._send(calls.datasets())).data

    async def upload_dataset(self, name: str, archive: Path, told: Told | None = None) -> Dataset:
        """As Client.upload_dataset."""
        size = archive.stat().st_size

        async def content() -> AsyncIterator[bytes]:
            sent = 0
            with archive.open("rb") as file:
                while chunk := await asyncio.to_thread(file.read, calls.CHUNK):
                    yield chunk
                    sent += len(chunk)
                    if told is not None:
                        told(sent, size)

        return await self._send(calls.upload(name, size, content))

    async def delete_dataset(self, name: str) -> None:
        """As Client.delete_dataset."""
        await self._send(calls.delete(f"/datasets/{name}"))

    async def workers(self) -> list[WorkerState]:
        """As Client.workers."""
        return (await self._send(calls.workers())).data

    async def keys(self) -> list[ApiKey]:
        """As Client.keys."""
        return (await self._send(calls.keys())).data

    async def events(self, after: int | None = None) -> AsyncIterator[Event]:
        """As Client.events."""
        async for event in self._listen("/events", after, lambda event: event.serial):
            yield event

    async def _send(self, call: Call[T]) -> T:
        attempt = 0
        while True:
            outcome: outcomes.Outcome
            try:
                outcome = await self.http.request(call.method, call.path, **call.options())
            except httpx.TransportError as error:
                outcome = error
            answer = outcomes.settled(call, outcome, self.http.base_url, last=attempt >= self._retries)
            if answer is not None:
                return call.answer.validate_json(answer.content or b"null")
            await asyncio.sleep(outcomes.pause(attempt, outcome))
            attempt += 1

    async def _receive(self, call: Call[Any], file: outcomes.Receiving) -> None:
        attempt = 0
        while True:
            outcome: outcomes.Outcome
            try:
                async with self.http.stream(call.method, call.path, headers=file.headers()) as outcome:
                    if outcome.is_success:
                        file.begin(outcome)
                        async for chunk in outcome.aiter_bytes():
                            await asyncio.to_thread(file.take, chunk)
                            file.tell()
                            attempt = 0
                        return
                    await outcome.aread()
            except httpx.TransportError as error:
                outcome = error
            outcomes.settled(call, outcome, self.http.base_url, last=attempt >= self._retries)
            await asyncio.sleep(outcomes.pause(attempt, outcome))
            attempt += 1

    async def _listen(self, path: str, after: int | None, number: Callable[[Event], int]) -> AsyncIterator[Event]:
        attempt = 0
        while True:
            try:
                async with aconnect_sse(self.http, "GET", path, **calls.listening(after)) as source:
                    if source.response.status_code == 204:
                        return
                    if not source.response.is_success:
                        await source.response.aread()
                        raise outcomes.refusal(source.response)
                    async for sent in source.aiter_sse():
                        attempt = 0
                        event = outcomes.event_of(sent)
                        if event is not None:
                            after = number(event)
                            yield event
            except httpx.TransportError as error:
                if attempt >= self._retries:
                    raise Unreachable(str(self.http.base_url), error) from error
            await asyncio.sleep(outcomes.pause(attempt))
            attempt += 1


class AsyncRunningJob(calls.OfJob[AsyncClient]):
    """A job of an AsyncClient. What it says is asked for anew at every call."""

    async def get(self) -> Job:
        """As RunningJob.get."""
        return await self._client._send(calls.one(self.id))

    async def wait(self, timeout: float | None = None, *, check: bool = True) -> Job:
        """As RunningJob.wait."""
        looks = outcomes.looks()
        try:
            async with asyncio.timeout(timeout):
                while not (job := await self.get()).status.final:
                    await asyncio.sleep(next(looks))
        except TimeoutError as error:
            raise TimeoutError(f"Job {self.id} has not ended after {timeout:g} s.") from error
        return outcomes.ended(job, check)

    async def events(self, after: int = 0) -> AsyncIterator[Event]:
        """As RunningJob.events."""
        async for event in self._client._listen(f"/jobs/{self.id}/events", after, lambda event: event.number):
            yield event

    async def epochs(self, after: int = 0) -> AsyncIterator[EpochRow]:
        """As RunningJob.epochs."""
        async for event in self.events():
            if event.type == "epoch" and event.data["epoch"] > after:
                yield outcomes.row_of(event)

    async def metrics(self, after: int = 0, max_points: int | None = None) -> list[EpochRow]:
        """As RunningJob.metrics."""
        return (await self._client._send(calls.epochs(self.id, after, max_points))).data

    async def to_pandas(self) -> pd.DataFrame:
        """As RunningJob.to_pandas."""
        return outcomes.frame(await self.metrics())

    async def logs(self, after: int = 0) -> list[LogLine]:
        """As RunningJob.logs."""
        return (await self._client._send(calls.logs(self.id, after))).data

    async def evaluation(self) -> Evaluation:
        """As RunningJob.evaluation."""
        return await self._client._send(calls.evaluation(self.id))

    async def attempts(self) -> list[Attempt]:
        """As RunningJob.attempts."""
        return await self._client._send(calls.attempts(self.id))

    async def checkpoints(self) -> list[Checkpoint]:
        """As RunningJob.checkpoints."""
        return (await self._client._send(calls.checkpoints(self.id))).data

    async def replay(self, **settings: Any) -> list[dict[str, Any]]:
        """As RunningJob.replay."""
        return (await self._client._send(calls.replay(self.id, settings))).data

    async def stop(self) -> Job:
        """As RunningJob.stop."""
        return await self._client._send(calls.action(self.id, "stop"))

    async def pause(self) -> Job:
        """As RunningJob.pause."""
        return await self._client._send(calls.action(self.id, "pause"))

    async def resume(self) -> Job:
        """As RunningJob.resume."""
        return await self._client._send(calls.action(self.id, "resume"))

    async def cancel(self) -> Job:
        """As RunningJob.cancel."""
        return await self._client._send(calls.action(self.id, "cancel"))

    async def retry(self) -> Job:
        """As RunningJob.retry."""
        return await self._client._send(calls.action(self.id, "retry"))

    async def delete(self) -> None:
        """As RunningJob.delete."""
        await self._client._send(calls.delete(f"/jobs/{self.id}"))

    async def download(self, name: str, to: Path | None = None, told: Told | None = None) -> Path:
        """As RunningJob.download."""
        target = to or Path(name)
        with outcomes.receiving(target, told) as file:
            await self._client._receive(calls.file(self.id, name), file)
        return target

    async def download_best(self, to: Path | None = None) -> Path:
        """As RunningJob.download_best."""
        return await self.download(BEST, to)
