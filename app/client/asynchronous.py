"""The asynchronous client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from httpx_sse import aconnect_sse

from app.client import calls
from app.client.calls import Call, ListedJob, Spec, Unreachable
from app.jobs import Event, Job
from app.specs import BEST, EpochRow

T = TypeVar("T")


class AsyncClient:
    """Client for `async` code."""

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

    async def job(self, job_id: str) -> AsyncRunningJob:
        """A handle of a job that is there."""
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

    async def _send(self, call: Call[T]) -> T:
        attempt = 0
        while True:
            outcome: calls.Outcome
            try:
                outcome = await self.http.request(call.method, call.path, **call.options())
            except httpx.TransportError as error:
                outcome = error
            answer = calls.settled(call, outcome, self.http.base_url, last=attempt >= self._retries)
            if answer is not None:
                return call.answer.validate_json(answer.content or b"null")
            await asyncio.sleep(calls.pause(attempt, outcome))
            attempt += 1

    async def _listen(self, path: str, after: int) -> AsyncIterator[Event]:
        attempt = 0
        while True:
            try:
                async with aconnect_sse(self.http, "GET", path, **calls.listening(after)) as source:
                    if source.response.status_code == 204:
                        return
                    if not source.response.is_success:
                        await source.response.aread()
                        raise calls.refusal(source.response)
                    async for sent in source.aiter_sse():
                        attempt = 0
                        event = calls.event_of(sent)
                        if event is not None:
                            after = event.number
                            yield event
            except httpx.TransportError as error:
                if attempt >= self._retries:
                    raise Unreachable(str(self.http.base_url), error) from error
            await asyncio.sleep(calls.pause(attempt))
            attempt += 1


class AsyncRunningJob(calls.OfJob[AsyncClient]):
    """A job of an AsyncClient."""

    async def get(self) -> Job:
        """The job now."""
        return await self._client._send(calls.one(self.id))

    async def wait(self, *, check: bool = True) -> Job:
        """The job once it has ended; `asyncio.timeout` limits that. Raises JobFailed, unless `check` is False."""
        looks = calls.looks()
        while not (job := await self.get()).status.final:
            await asyncio.sleep(next(looks))
        return calls.ended(job, check)

    async def events(self, after: int = 0) -> AsyncIterator[Event]:
        """Its events: those there are, then those to come, until it has ended."""
        async for event in self._client._listen(f"/jobs/{self.id}/events", after):
            yield event

    async def metrics(self, after: int = 0, max_points: int | None = None) -> list[EpochRow]:
        """Its epoch rows so far."""
        return (await self._client._send(calls.epochs(self.id, after, max_points))).data

    async def stop(self) -> Job:
        """End training after the running epoch and keep the best weights."""
        return await self._client._send(calls.action(self.id, "stop"))

    async def cancel(self) -> Job:
        """Give it up."""
        return await self._client._send(calls.action(self.id, "cancel"))

    async def download_best(self, to: Path | None = None) -> Path:
        """Download `best_model.pth`."""
        target = to or Path(BEST)
        async with self._client.http.stream("GET", f"/jobs/{self.id}/checkpoints/{BEST}") as answer:
            if not answer.is_success:
                await answer.aread()
                raise calls.refusal(answer)
            with calls.whole(target) as part, part.open("wb") as out:
                async for chunk in answer.aiter_bytes(calls.CHUNK):
                    out.write(chunk)
        return target
