"""Data sets over HTTP."""

from __future__ import annotations

from starlette.testclient import TestClient

from app.settings import Settings


def test_an_own_data_set_can_be_named_by_a_job_as_soon_as_it_is_there(api: TestClient, settings: Settings) -> None:
    spec = {"dataset": {"name": "fruit"}}
    assert api.post("/jobs", json=spec).json()["errors"][0]["pointer"] == "#/dataset/name"
    (folder,) = settings.dataset_folders
    folder.mkdir(parents=True)
    (folder / "fruit.tar").touch()
    assert api.post("/jobs", json=spec).status_code == 201
    listed = api.get("/datasets").json()["data"]
    assert listed[-1] == api.get("/datasets/fruit").json()
    assert listed[-1] == {"name": "fruit", "kind": "own", "description": None, "prepared": False}
