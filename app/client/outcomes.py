"""What may come back from a call, for both clients: answers, refusals, silence, and when one is tried again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import httpx
from httpx_sse import ServerSentEvent

from app.artifacts import DamagedFile, Hashing
from app.client.calls import Call, Told
from app.jobs import Event, Job, JobStatus
from app.specs import EpochRow

if TYPE_CHECKING:
    import pandas as pd

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


def frame(epochs: Sequence[EpochRow]) -> pd.DataFrame:
    """Epoch rows by epoch. Needs pandas."""
    import pandas as pd  # noqa: PLC0415  (not everybody has it)

    columns = list(EpochRow.model_fields)
    return pd.DataFrame([row.model_dump() for row in epochs], columns=columns).set_index("epoch")


class Receiving:
    """A file on its way into `out`. Where the line breaks it goes on behind what has arrived, if the API still has the
    same bytes under the name; else from the start. `told(received, size)` hears of the progress; size is 0 where the
    API does not say it."""

    def __init__(self, out: BinaryIO, told: Told | None) -> None:
        self._out, self._told = out, told
        self._kept = Hashing(out)
        self._size, self._etag = 0, ""

    def headers(self) -> dict[str, str]:
        """Of the next request: what is still wanted, byte by byte as it is kept."""
        headers = {"Accept-Encoding": "identity"}
        if self._kept.size and self._etag:
            headers |= {"Range": f"bytes={self._kept.size}-", "If-Range": self._etag}
        return headers

    def begin(self, answer: httpx.Response) -> None:
        """Take note of what an answer is going to send."""
        if answer.status_code != httpx.codes.PARTIAL_CONTENT:
            self._out.seek(0)
            self._out.truncate()
            self._kept = Hashing(self._out)
        length = answer.headers.get("Content-Length")
        self._size = self._kept.size + int(length) if length else 0
        self._etag = answer.headers.get("ETag", "")

    def take(self, chunk: bytes) -> None:
        """Keep what has arrived."""
        self._kept.write(chunk)

    def tell(self) -> None:
        """Say how much has arrived."""
        if self._told is not None:
            self._told(self._kept.size, self._size)

    def check(self) -> None:
        """Raises DamagedFile where what has arrived is not what the API said it would be."""
        found, wanted = self._kept.digest.hexdigest(), self._etag.strip('"')
        if len(wanted) == len(found) and wanted != found:
            raise DamagedFile(
                f"The file's sha256 is {found}, and should be {wanted}: something on the way has changed it. "
                "Nothing was kept; try again, without a proxy if there is one."
            )


@contextlib.contextmanager
def receiving(target: Path, told: Told | None) -> Iterator[Receiving]:
    """A file that is to be at `target` whole and as it was sent, or not at all. Raises DamagedFile."""
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("wb") as out:
            file = Receiving(out, told)
            yield file
        file.check()
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
