"""Replays of early stopping, and jobs side by side."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from app.specs import LAST
from app.store import JobStore
from tests.values import claimed, files, row

LOSSES = [1.0, 0.5, 0.6, 0.4, 0.45, 0.45, 0.6, 0.7, 0.39, 0.8]


def curve(api: TestClient, store: JobStore, losses: list[float], **spec: object) -> str:
    job_id = str(api.post("/jobs", json=spec).json()["id"])
    lease = claimed(store).lease
    for epoch, loss in enumerate(losses, 1):
        store.record_epoch(lease, row(epoch, loss), files(epoch, LAST), {}, ())
    return job_id


@pytest.mark.parametrize(
    ("other", "epoch", "reason", "best", "given_up"),
    [
        ({"patience": 1, "delta_overfit": None}, 3, "stagnation", 2, 0.11),
        ({"patience": 2, "delta_overfit": None}, 6, "stagnation", 4, 0.01),
        ({"patience": None, "delta_overfit": 0.1, "overfit_patience": 2}, 8, "overfitting", 4, 0.01),
        ({"patience": None, "delta_overfit": None}, 10, None, 9, 0.0),
        ({"patience": 3, "min_delta": 0.2, "delta_overfit": None}, 5, "stagnation", 4, 0.01),
    ],
)
def test_a_replay_says_where_it_stops_and_what_that_costs(
    api: TestClient,
    api_store: JobStore,
    other: dict[str, object],
    epoch: int,
    reason: str | None,
    best: int,
    given_up: float,
) -> None:
    job_id = curve(api, api_store, LOSSES)
    answer = api.post(f"/jobs/{job_id}/early-stopping/replay", json=other).json()
    (found,) = answer["data"]
    assert answer["recorded_epochs"] == 10
    assert (found["epoch"], found["stop_reason"], found["best_epoch"]) == (epoch, reason, best)
    assert found["val_loss_given_up"] == pytest.approx(given_up)
    assert (found["epochs_saved"], found["seconds_saved"]) == (10 - epoch, 2.0 * (10 - epoch))


def test_a_grid_is_answered_in_order_with_what_is_left_out_from_the_spec(api: TestClient, api_store: JobStore) -> None:
    job_id = curve(api, api_store, LOSSES, early_stopping={"patience": 7, "overfit_patience": 9})
    path = f"/jobs/{job_id}/early-stopping/replay"
    found = api.post(path, json={"patience": [1, None], "delta_overfit": [None, 0.1]}).json()["data"]
    asked = [(each["settings"]["patience"], each["settings"]["delta_overfit"]) for each in found]
    assert asked == [(1, None), (1, 0.1), (None, None), (None, 0.1)]
    assert {each["settings"]["overfit_patience"] for each in found} == {9}
    (own,) = api.post(path, json={}).json()["data"]
    assert own["settings"]["patience"] == 7


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"patience": 0}, "#/patience"),
        ({"patience": [3, 0]}, "#/patience"),
        ({"patience": ["x"]}, "#/patience"),
        ({"patience": []}, "#/patience"),
        ({"min_delta": -1}, "#/min_delta"),
        ({"min_delta": None}, "#/min_delta"),
        ({"patient": 3}, "#/patient"),
        ({"patience": list(range(1, 50)), "overfit_patience": list(range(1, 50))}, "#"),
    ],
)
def test_a_bad_setting_is_named(api: TestClient, api_store: JobStore, body: dict[str, object], pointer: str) -> None:
    answer = api.post(f"/jobs/{curve(api, api_store, LOSSES)}/early-stopping/replay", json=body)
    assert answer.status_code == 422, answer.text
    assert any(error["pointer"].startswith(pointer) for error in answer.json()["errors"])


def test_a_job_without_epochs_has_nothing_to_replay(api: TestClient) -> None:
    job_id = api.post("/jobs", json={}).json()["id"]
    answer = api.post(f"/jobs/{job_id}/early-stopping/replay", json={}).json()
    assert (answer["recorded_epochs"], answer["data"][0]["epoch"], answer["data"][0]["best_val_loss"]) == (0, 0, None)


def test_jobs_are_compared_in_the_order_that_was_asked_for(api: TestClient, api_store: JobStore) -> None:
    plain = curve(api, api_store, LOSSES, name="a", model={"hidden": [9]})
    deep = curve(api, api_store, LOSSES[:3], name="b", model={"kind": "cnn"}, seed=1)
    found = api.get("/compare", params={"job": [deep, plain]}).json()
    assert [job["id"] for job in found["jobs"]] == [deep, plain]
    differences = {each["field"]: each["values"] for each in found["differences"]}
    assert differences["model.kind"] == ["cnn", "mlp"]
    assert differences["model.hidden"] == [None, [9]]
    assert differences["seed"] == [1, 0]
    assert "name" not in differences
    assert "optimizer.lr" not in differences
    assert [len(each["data"]) for each in found["curves"]] == [3, 10]
    assert api.get("/compare", params={"job": [plain]}).status_code == 422
    assert api.get("/compare", params={"job": [plain, "none"]}).status_code == 404
