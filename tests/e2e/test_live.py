"""Live events: nothing lost, nothing twice, across reconnects, a dead API and five hundred listeners."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.service import LONG, Json, Service, until

LIVE = {"Accept": "text/event-stream"}


def events(service: Service, path: str, last: int | None = None) -> Iterator[tuple[int, str, Json]]:
    """Id, type and data of server-sent events, until the server ends them."""
    headers = LIVE if last is None else {**LIVE, "Last-Event-ID": str(last)}
    with (
        httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client,
        client.stream("GET", path, headers=headers) as answer,
    ):
        assert answer.status_code in (200, 204), answer.status_code
        found: dict[str, str] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if line:
                found[name] = value
            elif "data" in found:
                yield int(found["id"]), found["event"], json.loads(found["data"])
                found = {}


def test_a_job_is_followed_to_its_end_and_from_where_one_was(shared: Service) -> None:
    job_id = shared.submit({"dataset": {"name": "digits"}, "training": {"max_epochs": 6}, "tracking": None})
    followed = list(events(shared, f"/jobs/{job_id}/events"))
    assert [number for number, _, _ in followed] == list(range(1, len(followed) + 1))
    assert followed[-1][1] == "finished"
    recorded = shared.get(f"/jobs/{job_id}/events")["data"]
    assert [data for _, _, data in followed] == recorded
    assert list(events(shared, f"/jobs/{job_id}/events", last=5)) == followed[5:]
    assert list(events(shared, f"/jobs/{job_id}/events", last=len(followed))) == []
    done = shared.http.get(f"/jobs/{job_id}/events", headers={**LIVE, "Last-Event-ID": str(len(followed))})
    assert done.status_code == 204, "an EventSource stops reconnecting"
    assert shared.http.get("/jobs/none/events", headers=LIVE).status_code == 404
    assert shared.http.get(f"/jobs/{job_id}/events", headers={**LIVE, "Last-Event-ID": "x"}).status_code == 422


def test_no_event_is_lost_or_repeated_when_the_api_dies(service: Service) -> None:
    api = service.api()
    service.worker()
    job_id = service.submit({**LONG, "training": {"max_epochs": 60, "batch_size": 64}})
    got: list[tuple[int, str, Json]] = []
    kills = 0
    while not got or got[-1][1] != "finished":
        try:
            for event in events(service, f"/jobs/{job_id}/events", got[-1][0] if got else None):
                got.append(event)
                if kills < 3 and len(got) % 25 == 0:
                    kills += 1
                    api.stop(signal.SIGKILL)
        except httpx.TransportError:
            api = service.api()
    assert kills == 3
    if api.popen.poll() is not None:  # the last kill may have come behind the last event
        service.api()
    assert [number for number, _, _ in got] == list(range(1, len(got) + 1))
    assert [data for _, _, data in got] == service.get(f"/jobs/{job_id}/events", limit=1000)["data"]
    epochs = [data["data"]["epoch"] for _, kind, data in got if kind == "epoch"]
    assert epochs == list(range(1, 61))


def test_all_jobs_are_followed_in_one_order(shared: Service) -> None:
    start = shared.get("/events", after=0, limit=10_000)["data"][-1]["serial"] if shared.get("/events")["data"] else 0
    jobs = [
        shared.submit({"dataset": {"name": "digits"}, "training": {"max_epochs": 3}, "tracking": None})
        for _ in range(4)
    ]
    ended: set[str] = set()
    serials = []
    for serial, kind, data in events(shared, "/events", last=start):
        serials.append(serial)
        assert data["serial"] == serial
        if kind == "finished" and data["job_id"] in jobs:
            ended.add(data["job_id"])
        if len(ended) == len(jobs):
            break
    assert serials == sorted(set(serials))


@pytest.mark.timeout(120)
def test_five_hundred_listeners_on_one_api(service: Service) -> None:
    service.api()
    service.worker()
    waiting = service.submit({**LONG, "not_before": "2100-01-01T00:00:00Z"})
    seen: list[list[int]] = [[] for _ in range(500)]

    def listen(index: int) -> None:
        for number, _, _ in events(service, f"/jobs/{waiting}/events"):
            seen[index].append(number)

    threads = [threading.Thread(target=listen, args=(index,), daemon=True) for index in range(500)]
    for thread in threads:
        thread.start()
    until("all listen", lambda: all(seen), 60)
    for priority in range(5):
        service.http.patch(f"/jobs/{waiting}", json={"priority": priority})
    began = time.monotonic()
    service.http.post(f"/jobs/{waiting}/cancel")
    for thread in threads:
        thread.join(60)
    took = time.monotonic() - began
    assert all(numbers == list(range(1, 8)) for numbers in seen)
    assert took < 20, "seconds until the last of them has heard of the end"
    assert service.http.get("/healthz").is_success
