"""What happened and what happens: events as pages, or live as server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import Field
from sse_starlette import EventSourceResponse, ServerSentEvent

from app.jobs import Event, Record
from app.problems import responses
from app.routes.dependencies import JobId, Store
from app.stream import Stream

router = APIRouter(tags=["metrics"])

HEARTBEAT_SECONDS = 15
_LARGEST = 2**31 - 1
_LIVE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
    204: {"description": "Live: the job has ended and you have all its events."},
}

After = Annotated[int, Query(ge=0, le=_LARGEST, description="Only what has a number above this.")]
Limit = Annotated[int, Query(ge=1, le=10_000, description="Events on a page.")]
LastEventId = Annotated[
    int | None, Header(ge=0, le=_LARGEST, description="Live: the `id` of the last event that you have.")
]


class EventPage(Record):
    """A page of events."""

    data: list[Event] = Field(description="The events, oldest first.")
    next: int | None = Field(description="Pass as `after` to go on; null where nothing more is recorded yet.")


def _wants_live(request: Request) -> bool:
    return "text/event-stream" in request.headers.get("accept", "")


def _live(events: AsyncIterator[ServerSentEvent]) -> Response:
    return EventSourceResponse(events, ping=HEARTBEAT_SECONDS, headers={"Cache-Control": "no-store"})


def _sent(event: Event, number: int) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(event.model_dump(mode="json")), event=event.type, id=str(number))


@router.get("/jobs/{job_id}/events", response_model=EventPage, responses={**_LIVE, **responses(404, 422)})
async def get_events(
    request: Request,
    store: Store,
    job_id: JobId,
    after: After = 0,
    limit: Limit = 1000,
    newest: Annotated[
        int | None,
        Query(ge=1, le=10_000, description="Only the last so many events, whatever `after` and `limit` say."),
    ] = None,
    last_event_id: LastEventId = None,
) -> Any:
    """What happened to the job, numbered from 1 without gaps. With `Accept: text/event-stream`, live: what is recorded
    first, then what happens, until the job has ended. A client that reconnects sends `Last-Event-ID`."""
    if not _wants_live(request):
        if newest is not None:
            return EventPage(data=await to_thread.run_sync(store.newest_events, job_id, newest), next=None)
        found = await to_thread.run_sync(store.events, job_id, after, limit + 1)
        return EventPage(data=found[:limit], next=found[limit - 1].number if len(found) > limit else None)
    place = after if last_event_id is None else last_event_id
    job = await to_thread.run_sync(store.job, job_id)
    if job.status.final and not await to_thread.run_sync(store.events, job_id, place, 1):
        return Response(status_code=204)  # tells an EventSource to stop reconnecting
    stream: Stream = request.app.state.stream

    async def events() -> AsyncIterator[ServerSentEvent]:
        async for event in stream.of_job(job_id, place):
            yield _sent(event, event.number)
            if event.type == "finished" and (await to_thread.run_sync(store.job, job_id)).status.final:
                return

    return _live(events())


@router.get("/events", response_model=EventPage, responses={200: _LIVE[200], **responses(422)})
async def get_all_events(
    request: Request, store: Store, after: After = 0, limit: Limit = 1000, last_event_id: LastEventId = None
) -> Any:
    """What happened to all jobs, in the order in which it was recorded; `after` and `next` are serials. With
    `Accept: text/event-stream`, live from now on, or behind `Last-Event-ID`."""
    if not _wants_live(request):
        found = await to_thread.run_sync(store.events_after, after, limit + 1)
        return EventPage(data=found[:limit], next=found[limit - 1].serial if len(found) > limit else None)
    stream: Stream = request.app.state.stream
    place = last_event_id if last_event_id is not None else after or None

    async def events() -> AsyncIterator[ServerSentEvent]:
        async for event in stream.of_all(place):
            yield _sent(event, event.serial)

    return _live(events())
