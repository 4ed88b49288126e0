"""The synchronous client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx
from httpx_sse import connect_sse

from app.client import calls, outcomes
from app.client.calls import Call, ListedJob, Spec, Told
from app.client.outcomes import Unreachable
from app.datasets import Dataset
from app.jobs import ApiKey, Attempt, Checkpoint, Event, Job, LogLine, WorkerState
from app.specs import BEST, EpochRow, Evaluation, JobSpec

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")


class Client:
    """The API at `url`, by default WHISTLESTOP_URL or this machine's. `key` is by default WHISTLESTOP_KEY.

    Every call raises ApiError where the API refuses, and Unreachable after `retries` attempts at no answer.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, timeout: float = 30, retries: int = 5
    ) -> None:
        self.http = httpx.Client(**calls.options(url, key, timeout))
        self._retries = retries

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.http.close()

    def submit(self, spec: Spec | None = None, *, reuse: bool = False) -> RunningJob:
        """Queue a job: a JobSpec, a mapping, or the path of a YAML file; None is Exercise 1. With `reuse`, a job of
        the same spec and seed that has succeeded is taken instead."""
        return RunningJob(self, self._send(calls.submission(spec, reuse)).id)

    def check(self, spec: Spec) -> JobSpec:
        """The spec with all defaults filled in; nothing is created."""
        return self._send(calls.check(spec))

    def job(self, job_id: str) -> RunningJob:
        """A handle of a job that is there."""
        return RunningJob(self, self._send(calls.one(job_id)).id)

    def jobs(self, **filters: Any) -> Iterator[ListedJob]:
        """All jobs that match, page by page: `status`, `tag`, `name`, `dataset`, `model`, `sort`, `order`."""
        cursor: str | int | None = None
        while True:
            page = self._send(calls.listing(filters, cursor))
            yield from page.data
            cursor = page.next
            if cursor is None:
                return

    def compare(self, *job_ids: str) -> dict[str, Any]:
        """Differences of specs, curves and evaluations, as `GET /compare` has them."""
        found: dict[str, Any] = self._send(calls.compare(job_ids))
        return found

    def datasets(self) -> list[Dataset]:
        """Data sets that jobs can name."""
        return self._send(calls.datasets()).data

    def upload_dataset(self, name: str, archive: Path, told: Told | None = None) -> Dataset:
        """Upload a .tar, .tar.gz or .zip with `train/<class>/*` and `test/<class>/*` in it; it is streamed. `told(sent,
        size)` hears of the progress, in bytes."""
        size = archive.stat().st_size

        def content() -> Iterator[bytes]:
            sent = 0
            with archive.open("rb") as file:
                while chunk := file.read(calls.CHUNK):
                    yield chunk
                    sent += len(chunk)
                    if told is not None:
                        told(sent, size)

        return self._send(calls.upload(name, size, content))

    def delete_dataset(self, name: str) -> None:
        """Delete an uploaded data set."""
        self._send(calls.delete(f"/datasets/{name}"))

    def workers(self) -> list[WorkerState]:
        """Workers that were heard of lately."""
        return self._send(calls.workers()).data

    def keys(self) -> list[ApiKey]:
        """API keys, without their secrets."""
        return self._send(calls.keys()).data

    def events(self, after: int | None = None) -> Iterator[Event]:
        """Events of all jobs as they happen, for ever; behind serial `after`, or from now on."""
        yield from self._listen("/events", after, lambda event: event.serial)

    def _send(self, call: Call[T]) -> T:
        attempt = 0
        while True:
            outcome: outcomes.Outcome
            try:
                outcome = self.http.request(call.method, call.path, **call.options())
            except httpx.TransportError as error:
                outcome = error
            answer = outcomes.settled(call, outcome, self.http.base_url, last=attempt >= self._retries)
            if answer is not None:
                return call.answer.validate_json(answer.content or b"null")
            time.sleep(outcomes.pause(attempt, outcome))
            attempt += 1

    def _receive(self, call: Call[Any], file: outcomes.Receiving) -> None:
        attempt = 0
        while True:
            outcome: outcomes.Outcome
            try:
                with self.http.stream(call.method, call.path, headers=file.headers()) as outcome:
                    if outcome.is_success:
                        file.begin(outcome)
                        for chunk in outcome.iter_bytes():
                            file.take(chunk)
                            file.tell()
                            attempt = 0
                        return
                    outcome.read()
            except httpx.TransportError as error:
                outcome = error
            outcomes.settled(call, outcome, self.http.base_url, last=attempt >= self._retries)
            time.sleep(outcomes.pause(attempt, outcome))
            attempt += 1

    def _listen(self, path: str, after: int | None, number: Callable[[Event], int]) -> Iterator[Event]:
        attempt = 0
        while True:
            try:
                with connect_sse(self.http, "GET", path, **calls.listening(after)) as source:
                    if source.response.status_code == 204:
                        return
                    if not source.response.is_success:
                        source.response.read()
                        raise outcomes.refusal(source.response)
                    for sent in source.iter_sse():
                        attempt = 0
                        event = outcomes.event_of(sent)
                        if event is not None:
                            after = number(event)
                            yield event
            except httpx.TransportError as error:
                if attempt >= self._retries:
                    raise Unreachable(str(self.http.base_url), error) from error
            time.sleep(outcomes.pause(attempt))
            attempt += 1


class RunningJob(calls.OfJob[Client]):
    """A job of a Client. What it says is asked for anew at every call."""

    def get(self) -> Job:
        """The job now."""
        return self._client._send(calls.one(self.id))

    def wait(self, timeout: float | None = None, *, check: bool = True) -> Job:
        """The job once it has ended. Raises JobFailed where it failed or was cancelled, unless `check` is False, and
        TimeoutError after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        looks = outcomes.looks()
        while not (job := self.get()).status.final:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"Job {self.id} is {job.status} after {timeout:g} s.")
            time.sleep(next(looks))
        return outcomes.ended(job, check)

    def events(self, after: int = 0) -> Iterator[Event]:
        """Its events: those there are, then those to come, until it has ended."""
        yield from self._client._listen(f"/jobs/{self.id}/events", after, lambda event: event.number)

    def epochs(self, after: int = 0) -> Iterator[EpochRow]:
        """Its epoch rows: those there are, then those to come, until it has ended."""
        for event in self.events():
            if event.type == "epoch" and event.data["epoch"] > after:
                yield outcomes.row_of(event)

    def metrics(self, after: int = 0, max_points: int | None = None) -> list[EpochRow]:
        """Its epoch rows so far."""
        return self._client._send(calls.epochs(self.id, after, max_points)).data

    def to_pandas(self) -> pd.DataFrame:
        """Its epoch rows so far, by epoch. Needs pandas."""
        return outcomes.frame(self.metrics())

    def logs(self, after: int = 0) -> list[LogLine]:
        """Its console so far."""
        return self._client._send(calls.logs(self.id, after)).data

    def evaluation(self) -> Evaluation:
        """The best weights on the test split."""
        return self._client._send(calls.evaluation(self.id))

    def attempts(self) -> list[Attempt]:
        """Its attempts, first to last."""
        return self._client._send(calls.attempts(self.id))

    def checkpoints(self) -> list[Checkpoint]:
        """Files that can be downloaded now."""
        return self._client._send(calls.checkpoints(self.id)).data

    def replay(self, **settings: Any) -> list[dict[str, Any]]:
        """Where other settings of early stopping would have stopped; several values of a setting are a list."""
        return self._client._send(calls.replay(self.id, settings)).data

    def stop(self) -> Job:
        """End training after the running epoch and keep the best weights."""
        return self._client._send(calls.action(self.id, "stop"))

    def pause(self) -> Job:
        """Free the slot and keep the state."""
        return self._client._send(calls.action(self.id, "pause"))

    def resume(self) -> Job:
        """Go on from the last epoch."""
        return self._client._send(calls.action(self.id, "resume"))

    def cancel(self) -> Job:
        """Give it up."""
        return self._client._send(calls.action(self.id, "cancel"))

    def retry(self) -> Job:
        """Try a failed job again."""
        return self._client._send(calls.action(self.id, "retry"))

    def delete(self) -> None:
        """Delete it, with its metrics and files. It must have ended."""
        self._client._send(calls.delete(f"/jobs/{self.id}"))

    def download(self, name: str, to: Path | None = None, told: Told | None = None) -> Path:
        """Download a checkpoint into `to`, by default a file of that name here. Where the line breaks it goes on behind
        what has arrived; a file that was begun is not left behind. `told(received, size)` hears of the progress, in
        bytes. Raises DamagedFile where the file is not what the API sent."""
        target = to or Path(name)
        with outcomes.receiving(target, told) as file:
            self._client._receive(calls.file(self.id, name), file)
        return target

    def download_best(self, to: Path | None = None) -> Path:
        """Download `best_model.pth`."""
        return self.download(BEST, to)
