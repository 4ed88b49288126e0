"""Events as they happen, for any number of listeners: one poll of the store feeds them all.

A listener first gets what is recorded already, then what the poll brings; numbers tell where the two overlap. So
nothing is lost and nothing comes twice, whatever dies in between.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

from anyio import to_thread

from app.jobs import Event
from app.store import JobStore, StoreUnavailable

log = logging.getLogger("whistlestop.api")

POLL_SECONDS = 0.2
_PAGE = 1000
_MOST_WAITING = 5000  # events that a slow listener may be behind before it reads from the store again
_RETRY_SECONDS = 1.0


class _Listener:
    def __init__(self, job_id: str | None) -> None:
        self.job_id = job_id
        self.waiting: list[Event] = []
        self.behind = False
        self.news = asyncio.Event()

    def tell(self, event: Event) -> None:
        if self.job_id not in (None, event.job_id):
            return
        if len(self.waiting) >= _MOST_WAITING:
            self.waiting.clear()
            self.behind = True
        self.waiting.append(event)
        self.news.set()


class Stream:
    """The events of a store. `run` must run somewhere while others listen."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._listeners: set[_Listener] = set()
        self._wanted = asyncio.Event()
        self._following = asyncio.Event()  # set while everything behind the poll's place reaches every listener

    async def run(self) -> None:
        """Poll while somebody listens, for ever."""
        while True:
            await self._wanted.wait()
            try:
                serial = await to_thread.run_sync(self._store.newest_serial)
                self._following.set()
                while self._listeners:
                    found = await to_thread.run_sync(self._store.events_after, serial, _PAGE)
                    for event in found:
                        serial = event.serial
                        for listener in self._listeners:
                            listener.tell(event)
                    if len(found) < _PAGE:
                        await asyncio.sleep(POLL_SECONDS)
                self._following.clear()
                self._wanted.clear()
            except StoreUnavailable as error:
                log.error("%s Live events wait.", error)
                # What is recorded meanwhile is read from the store by each listener.
                self._following.clear()
                for listener in self._listeners:
                    listener.behind = True
                    listener.news.set()
                await asyncio.sleep(_RETRY_SECONDS)

    async def of_job(self, job_id: str, after: int) -> AsyncIterator[Event]:
        """Events of a job with a number above `after`: those there are, then those to come."""
        read: Callable[[int], list[Event]] = lambda place: self._store.events(job_id, place, _PAGE)  # noqa: E731
        async for event in self._follow(job_id, after, read, lambda event: event.number):
            yield event

    async def of_all(self, after: int | None) -> AsyncIterator[Event]:
        """Events of all jobs with a serial above `after`; None: those to come."""
        if after is None:
            after = await to_thread.run_sync(self._store.newest_serial)
        read: Callable[[int], list[Event]] = lambda place: self._store.events_after(place, _PAGE)  # noqa: E731
        async for event in self._follow(None, after, read, lambda event: event.serial):
            yield event

    async def _follow(
        self, job_id: str | None, place: int, read: Callable[[int], list[Event]], number: Callable[[Event], int]
    ) -> AsyncIterator[Event]:
        listener = _Listener(job_id)
        listener.behind = True
        self._listeners.add(listener)
        self._wanted.set()
        try:
            while True:
                if listener.behind:
                    listener.behind = False
                    await self._following.wait()
                    found = await to_thread.run_sync(read, place)
                    listener.behind = listener.behind or len(found) == _PAGE
                else:
                    listener.news.clear()
                    if not listener.waiting:
                        await listener.news.wait()
                    found, listener.waiting = listener.waiting, []
                for event in found:
                    if number(event) > place:
                        place = number(event)
                        yield event
        finally:
            self._listeners.discard(listener)
