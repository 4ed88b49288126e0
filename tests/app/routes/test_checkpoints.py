"""Downloads: whole, in ranges, by ETag."""

from __future__ import annotations

import hashlib

import pytest
from starlette.testclient import TestClient

from app.artifacts import ArtifactStore
from app.specs import BEST, LAST
from app.store import JobStore
from tests.values import claimed, row

WEIGHTS = bytes(range(256)) * 500


@pytest.fixture
def here(api: TestClient, api_store: JobStore, api_artifacts: ArtifactStore) -> str:
    """The path of a running job with both checkpoints."""
    links = api.post("/jobs", json={}).json()["links"]
    record(api_store, api_artifacts, 1, WEIGHTS)
    checkpoints: str = links["checkpoints"]
    return checkpoints


def record(store: JobStore, artifacts: ArtifactStore, epoch: int, content: bytes) -> list[str]:
    """An epoch with its files, written by the worker that runs the only job; the keys that it superseded."""
    beats = store.beats()
    lease = beats[0].lease if beats else claimed(store).lease
    names = (BEST, LAST)
    put = {name: artifacts.put(lease.job_id, 1, epoch, name, lambda out: out.write(content) and None) for name in names}
    return store.record_epoch(lease, row(epoch, 1 / epoch), put, {}, ())


def test_the_list_promises_what_the_download_gives(api: TestClient, here: str) -> None:
    listed = api.get(here).json()["data"]
    assert [(file["name"], file["epoch"], file["size"]) for file in listed] == [
        (BEST, 1, len(WEIGHTS)),
        (LAST, 1, len(WEIGHTS)),
    ]
    assert "key" not in listed[0]
    answer = api.get(f"{here}/{BEST}")
    assert hashlib.sha256(answer.content).hexdigest() == listed[0]["sha256"]
    assert answer.headers["etag"] == f'"{listed[0]["sha256"]}"'
    assert answer.headers["content-disposition"].endswith(f'{BEST}"')
    assert answer.headers["content-length"] == str(len(WEIGHTS))


def test_head_ranges_and_etags_work(api: TestClient, here: str) -> None:
    file = f"{here}/{BEST}"
    head = api.head(file)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(WEIGHTS)))
    part = api.get(file, headers={"Range": "bytes=1000-1999"})
    assert (part.status_code, part.content) == (206, WEIGHTS[1000:2000])
    assert part.headers["content-range"] == f"bytes 1000-1999/{len(WEIGHTS)}"
    assert api.get(file, headers={"Range": "bytes=-10"}).content == WEIGHTS[-10:]
    etag = head.headers["etag"]
    assert api.get(file, headers={"If-None-Match": etag}).status_code == 304
    assert api.get(file, headers={"If-None-Match": '"other"'}).status_code == 200
    stale = api.get(file, headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (stale.status_code, len(stale.content)) == (200, len(WEIGHTS)), "the file changed meanwhile: all of it"


@pytest.mark.parametrize(("asked", "status"), [(f"bytes={len(WEIGHTS) + 5}-", 416), ("bytes=9-3", 400), ("x", 400)])
def test_a_range_outside_the_file_is_a_problem(api: TestClient, here: str, asked: str, status: int) -> None:
    answer = api.get(f"{here}/{BEST}", headers={"Range": asked})
    assert (answer.status_code, answer.json()["code"]) == (status, "range_not_satisfiable")
    assert answer.headers["content-type"] == "application/problem+json"
    assert repr(asked) in answer.json()["detail"]
    assert answer.headers.get("content-range") == (f"bytes */{len(WEIGHTS)}" if status == 416 else None)


def test_the_newest_file_is_served(
    api: TestClient, here: str, api_store: JobStore, api_artifacts: ArtifactStore
) -> None:
    before = api.head(f"{here}/{BEST}").headers["etag"]
    superseded = record(api_store, api_artifacts, 2, b"better")
    assert api_artifacts.path(superseded[0]).exists(), "a reader may still be at it; the worker discards it later"
    answer = api.get(f"{here}/{BEST}", headers={"If-None-Match": before})
    assert (answer.status_code, answer.content) == (200, b"better")


def test_a_file_that_somebody_deleted_is_a_404_that_says_so(
    api: TestClient, here: str, api_artifacts: ArtifactStore
) -> None:
    for file in api_artifacts.root.glob(f"*/*{BEST}"):
        file.unlink()
    answer = api.get(f"{here}/{BEST}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_recorded")
    assert "is gone from the data folder" in answer.json()["detail"]


@pytest.mark.parametrize("name", ["other.pth", "..%2f..%2fwhistlestop.db", "%2e%2e", "1-1-best_model.pth"])
def test_nothing_but_recorded_checkpoints_is_served(api: TestClient, here: str, name: str) -> None:
    answer = api.get(f"{here}/{name}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
