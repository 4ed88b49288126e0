"""Jobs over HTTP: create, list, change, delete, cancel."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from app.artifacts import ArtifactStore
from app.jobs import JobError, JobStatus
from app.specs import BEST, JobSpec, StopReason
from app.store import JobStore
from app.store.lifecycle import TRANSITIONS
from tests.values import EVALUATION, claimed, files, row


def test_an_empty_object_is_exercise_1(api: TestClient) -> None:
    answer = api.post("/jobs", json={})
    assert answer.status_code == 201
    job = answer.json()
    assert answer.headers["location"] == f"/jobs/{job['id']}" == job["links"]["self"]
    assert job["spec"] == JobSpec().model_dump(mode="json")
    assert (job["status"], job["attempt"], job["queue_position"]) == ("queued", 0, 1)
    assert job["created_at"].endswith("Z")
    assert api.get(job["links"]["self"]).json() == job


def test_the_examples_of_swagger_ui_are_valid_specs(api: TestClient) -> None:
    operation = api.get("/openapi.json").json()["paths"]["/jobs"]["post"]["requestBody"]["content"]
    examples = operation["application/json"]["examples"]
    assert len(examples) >= 3
    for example in examples.values():
        assert api.post("/jobs?dry_run=true", json=example["value"]).status_code == 200
    yaml = operation["application/yaml"]["example"]
    assert api.post("/jobs", content=yaml, headers={"Content-Type": "application/yaml"}).status_code == 201


def test_a_dry_run_resolves_the_spec_and_creates_nothing(api: TestClient) -> None:
    answer = api.post("/jobs?dry_run=true", json={"optimizer": {"kind": "sgd"}})
    assert answer.status_code == 200
    assert answer.json()["optimizer"] == {
        **{"kind": "sgd", "lr": 0.1, "weight_decay": 0.0, "momentum": 0.9, "nesterov": False}
    }
    assert api.post("/jobs?dry_run=true", json={"seed": -1}).status_code == 422
    assert api.get("/jobs").json() == {"data": [], "next": None}


def test_a_repeated_key_gives_the_same_job_and_another_body_409(api: TestClient) -> None:
    key = {"Idempotency-Key": "one"}
    first = api.post("/jobs", json={"seed": 1}, headers=key)
    again = api.post("/jobs", json={"seed": 1, "priority": 0}, headers=key)  # the same, its default written out
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    other = api.post("/jobs", json={"seed": 2}, headers=key)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    assert len(api.get("/jobs").json()["data"]) == 1


def test_a_list_leaves_out_what_only_one_job_has_room_for(api: TestClient, api_store: JobStore) -> None:
    job_id = api.post("/jobs", json={}).json()["id"]
    lease = claimed(api_store).lease
    api_store.record_epoch(lease, row(1), files(1), {}, ())
    api_store.succeed(lease, StopReason.MAX_EPOCHS, EVALUATION)
    (listed,) = api.get("/jobs").json()["data"]
    whole = api.get(f"/jobs/{job_id}").json()
    assert whole["evaluation"].keys() - listed["evaluation"].keys() == {"per_class", "confusion_matrix", "mistakes"}
    assert {**whole, "evaluation": listed["evaluation"], "sparkline": None} == listed


def test_jobs_are_filtered_sorted_and_paged(api: TestClient, api_store: JobStore) -> None:
    for number in range(5):
        spec = {"name": f"run-{number}", "tags": ["odd" if number % 2 else "even"], "max_attempts": 1}
        api.post("/jobs", json={**spec, "dataset": {"name": "digits" if number == 4 else "mnist"}})
        lease = claimed(api_store).lease
        api_store.record_epoch(lease, row(1, val_loss=1.0 - number / 10), files(1), {}, ())

    def names(query: str) -> list[str]:
        return [job["name"] for job in api.get(f"/jobs?{query}").json()["data"]]

    assert names("") == ["run-4", "run-3", "run-2", "run-1", "run-0"]
    assert names("order=asc&limit=2") == ["run-0", "run-1"]
    assert names("tag=odd") == ["run-3", "run-1"]
    assert names("tag=odd&tag=even") == []
    assert names("dataset=digits") == names("name=-4") == ["run-4"]
    assert names("model=mlp&status=running&sort=val_loss") == ["run-4", "run-3", "run-2", "run-1", "run-0"]
    assert names("status=failed&status=cancelled") == []
    seen, cursor = [], ""
    while cursor is not None:
        page = api.get(
            "/jobs", params={"limit": 2, "sort": "val_loss", "order": "desc"} | ({"cursor": cursor} if cursor else {})
        )
        seen += [job["name"] for job in page.json()["data"]]
        cursor = page.json()["next"]
    assert seen == ["run-0", "run-1", "run-2", "run-3", "run-4"]


def test_name_and_tags_can_be_changed_and_only_they_and_the_priority(api: TestClient) -> None:
    here = api.post("/jobs", json={"name": "a", "tags": ["x"]}).json()["links"]["self"]
    assert api.patch(here, json={"name": "b"}).json()["tags"] == ["x"]
    changed = api.patch(here, json={"name": None, "tags": ["y"], "priority": 7}).json()
    assert (changed["name"], changed["tags"], changed["priority"]) == (None, ["y"], 7)
    refused = api.patch(here, json={"seed": 1})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "#/seed")
    assert changed["spec"]["seed"] == 0


def test_deleting_a_job_deletes_its_files(api: TestClient, api_store: JobStore, api_artifacts: ArtifactStore) -> None:
    here = api.post("/jobs", json={}).json()["links"]["self"]
    lease = claimed(api_store).lease
    file = api_artifacts.put(lease.job_id, 1, 1, BEST, lambda out: out.write(b"weights") and None)
    api_store.record_epoch(lease, row(1), {BEST: file}, {}, ())
    assert api.delete(here).status_code == 409
    assert api.post(f"{here}/cancel").json()["status"] == "cancelled"
    assert api.delete(here).status_code == 204
    assert api.get(here).status_code == 404
    assert not api_artifacts.path(file.key).exists()


def test_a_job_shows_its_attempts(api: TestClient, api_store: JobStore) -> None:
    here = api.post("/jobs", json={}).json()["links"]["self"]
    assert api.get(f"{here}/attempts").json() == []
    api_store.give_back(claimed(api_store).lease)
    lease = claimed(api_store, "worker-2").lease
    api_store.record_epoch(lease, row(1), files(1), {}, ())
    found = api.get(f"{here}/attempts").json()
    assert [(attempt["number"], attempt["outcome"]) for attempt in found] == [(1, "given_back"), (2, None)]


@pytest.mark.parametrize("status", [status for status in JobStatus if status not in TRANSITIONS["cancel"].sources])
def test_what_has_ended_cannot_be_cancelled(api: TestClient, api_store: JobStore, status: JobStatus) -> None:
    here = api.post("/jobs", json={}).json()["links"]["self"]
    if status is JobStatus.CANCELLED:
        api.post(f"{here}/cancel")
    else:
        _end(api_store, status)
    answer = api.post(f"{here}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "illegal_transition")
    assert f"is {status}" in answer.json()["detail"]


def _end(store: JobStore, status: JobStatus) -> None:

    lease = claimed(store).lease
    if status is JobStatus.SUCCEEDED:
        store.succeed(lease, StopReason.MAX_EPOCHS, EVALUATION)
    else:
        store.fail(lease, JobError(type="diverged", message="train_loss is nan"))
