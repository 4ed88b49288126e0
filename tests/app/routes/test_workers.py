"""Workers, as the service sees them."""

from __future__ import annotations

from starlette.testclient import TestClient

from app.store import JobStore
from tests.values import claimed, worker


def test_a_worker_shows_where_it_is_and_what_it_runs(api: TestClient, api_store: JobStore) -> None:
    assert api.get("/workers").json() == {"data": []}
    api_store.register_worker(worker("w1"))
    job_id = api.post("/jobs", json={}).json()["id"]
    claimed(api_store, "w1")
    (found,) = api.get("/workers").json()["data"]
    assert (found["id"], found["status"], found["running"], found["slots"]) == ("w1", "live", [job_id], 1)
    assert found["versions"] == {"torch": "2"}
    api_store.deregister_worker("w1")
    assert api.get("/workers").json()["data"][0]["status"] == "stopped"
