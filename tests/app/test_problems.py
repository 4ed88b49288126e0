"""Bad input: problem+json with the right status and words that help; and nothing is changed by it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings

JSON = {"Content-Type": "application/json"}
NOBODY = "0193a5b0-7c11-7d4e-8f00-5a3b1c9d2e4f"


# body, pointer, words of the message
@pytest.mark.parametrize(
    ("body", "pointer", "words"),
    [
        ({"lr": 1}, "#/lr", "unknown field 'lr'"),
        ({"modle": {}}, "#/modle", "did you mean 'model'?"),
        ({"dataset": {"nmae": "mnist"}}, "#/dataset/nmae", "did you mean 'name'?"),
        ({"optimizer": {"kind": "sgd", "momentun": 0.9}}, "#/optimizer/momentun", "did you mean 'momentum'?"),
        ({"optimizer": {"kind": "adamm"}}, "#/optimizer", "unknown kind 'adamm'; known: 'adam', 'adamw', 'sgd'"),
        ({"dataset": {"name": "imagenet"}}, "#/dataset/name", "no data set 'imagenet'; known here: mnist, fashion"),
        ({"dataset": {"name": "minst"}}, "#/dataset/name", "did you mean 'mnist'?"),
        ({"dataset": {"name": "../secrets"}}, "#/dataset/name", "match pattern"),
        ({"model": {"kind": "cnn", "blocs": 3}}, "#/model/blocs", "did you mean 'blocks'?"),
        ({"model": {"kind": "torchvision", "name": "resnet19"}}, "#/model/name", "resnet(18|34|50|101|152)"),
        ({"dataset": "mnist"}, "#/dataset", "expected an object with fields, got str"),
        ({"seed": "seven"}, "#/seed", 'should be a valid integer; got "seven"'),
        ({"seed": 2**40}, "#/seed", "less than 4294967296; got 1099511627776"),
        ({"model": {"hidden": [128, -3]}}, "#/model/hidden/1", "greater than or equal to 1; got -3"),
        ({"model": {"hidden": []}}, "#/model/hidden", "at least 1 item"),
        ({"model": {"dropout": 1.5}}, "#/model/dropout", "less than 1; got 1.5"),
        ({"training": {"max_epochs": 0}}, "#/training/max_epochs", "greater than or equal to 1; got 0"),
        ({"training": None}, "#/training", "expected an object"),
        ({"name": 5}, "#/name", "valid string; got 5"),
        ({"tags": ["ok", "not ok"]}, "#/tags/1", "match pattern"),
        ({"early_stopping": {"min_delta": -1}}, "#/early_stopping/min_delta", "greater than or equal to 0"),
        ({"optimizer": {"kind": "sgd", "nesterov": True, "momentum": 0}}, "#/optimizer", "nesterov needs momentum > 0"),
        ({"init_from": {"job": NOBODY}}, "#/init_from/job", "has no checkpoint 'best_model.pth'"),
        ([], "#", "expected an object with fields, got list"),
        ("text", "#", "expected an object"),
        (None, "#", "a body is needed"),
    ],
)
def test_a_bad_spec_is_answered_with_the_field_and_what_was_expected(
    api: TestClient, body: Any, pointer: str, words: str
) -> None:
    answer = api.post("/jobs", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["code"], problem["status"], problem["instance"]) == ("invalid", 422, "/jobs")
    (field,) = problem["errors"]
    assert field["pointer"] == pointer
    assert words in field["message"]
    assert words in problem["detail"]
    assert api.get("/jobs").json()["data"] == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not JSON"),
        (b'{"seed": 1,}', "not JSON"),
        (b"\xff", "UTF-8"),
        (b'{"seed": 1}{"seed": 2}', "not JSON"),
    ],
)
def test_a_body_that_is_not_json_is_answered_with_400(api: TestClient, body: bytes, words: str) -> None:
    answer = api.post("/jobs", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (400, "unreadable_body")
    assert words in answer.json()["detail"]
    assert api.get("/jobs").json()["data"] == []


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"1e999", b"-1e999"])
def test_what_is_no_finite_number_is_refused(api: TestClient, number: bytes) -> None:
    answer = api.post("/jobs", content=b'{"optimizer": {"lr": %s}}' % number, headers=JSON)
    assert answer.status_code in (400, 422), answer.text
    assert api.get("/jobs").json()["data"] == []


def test_half_a_surrogate_pair_is_no_text(api: TestClient) -> None:
    answer = api.post("/jobs", content=rb'{"name": "\ud800"}', headers=JSON)
    assert answer.status_code in (400, 422), answer.text
    assert api.get("/jobs").json()["data"] == []


def test_a_body_of_a_thousand_brackets_is_an_error_of_the_sender(api: TestClient) -> None:
    answer = api.post("/jobs", content=b"[" * 100_000, headers=JSON)
    assert answer.status_code in (400, 422), answer.text


def test_many_bad_fields_are_all_named(api: TestClient) -> None:
    answer = api.post("/jobs", json={"seed": -1, "model": {"dropout": 2, "hiden": [1]}, "training": {"batch_size": 0}})
    pointers = {field["pointer"] for field in answer.json()["errors"]}
    assert pointers == {"#/seed", "#/model/dropout", "#/model/hiden", "#/training/batch_size"}
    assert answer.json()["detail"].startswith("4 fields are wrong: ")


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "words"),
    [
        ("GET", f"/jobs/{NOBODY}", 404, "job_not_found", "GET /jobs lists"),
        ("GET", "/jobs/not-an-id", 404, "job_not_found", "not-an-id"),
        ("GET", f"/jobs/{'x' * 65}", 422, "invalid", "job_id"),
        ("GET", f"/jobs/{NOBODY}/metrics", 404, "job_not_found", NOBODY),
        ("GET", f"/jobs/{NOBODY}/events", 404, "job_not_found", NOBODY),
        ("GET", f"/jobs/{NOBODY}/logs", 404, "job_not_found", NOBODY),
        ("GET", f"/jobs/{NOBODY}/attempts", 404, "job_not_found", NOBODY),
        ("GET", f"/jobs/{NOBODY}/evaluation", 404, "job_not_found", NOBODY),
        ("GET", f"/jobs/{NOBODY}/checkpoints", 404, "job_not_found", NOBODY),
        ("GET", f"/jobs/{NOBODY}/checkpoints/best_model.pth", 404, "job_not_found", NOBODY),
        ("POST", f"/jobs/{NOBODY}/cancel", 404, "job_not_found", NOBODY),
        ("DELETE", f"/jobs/{NOBODY}", 404, "job_not_found", NOBODY),
        ("GET", "/jobs?limit=0", 422, "invalid", "limit"),
        ("GET", "/jobs?limit=many", 422, "invalid", "limit"),
        ("GET", "/jobs?status=done", 422, "invalid", "status"),
        ("GET", "/jobs?sort=name", 422, "invalid", "sort"),
        ("GET", "/jobs?cursor=nonsense", 422, "invalid", "not a cursor of this listing"),
        ("GET", "/datasets/minst", 404, "unknown_dataset", "did you mean 'mnist'?"),
        ("GET", "/nothing", 404, "not_found", "/docs lists"),
        ("PUT", "/jobs", 405, "method_not_allowed", "PUT"),
        ("GET", "/jobs/..%2f..%2fetc%2fpasswd", 404, "not_found", "nothing at"),
    ],
)
def test_a_bad_call_is_answered_with_a_problem(
    api: TestClient, method: str, path: str, status: int, code: str, words: str
) -> None:
    answer = api.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"]


def test_an_illegal_transition_says_what_the_status_is(api: TestClient) -> None:
    job_id = api.post("/jobs", json={}).json()["id"]
    deleted = api.delete(f"/jobs/{job_id}")
    assert (deleted.status_code, deleted.json()["code"]) == (409, "illegal_transition")
    assert f"Job {job_id} is queued; 'delete' takes a job that is succeeded or failed" in deleted.json()["detail"]
    assert api.post(f"/jobs/{job_id}/cancel").status_code == 200
    again = api.post(f"/jobs/{job_id}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "illegal_transition")
    assert "is cancelled" in again.json()["detail"]


def test_a_full_disk_is_507_and_nothing_is_lost(settings: Settings) -> None:
    app = create_app(settings)
    with TestClient(app) as api:
        before = api.post("/jobs", json={}).json()["id"]
        engine = app.state.store._db.engine
        with engine.connect() as connection:
            # The pool hands this very connection out again: its database may not grow from here on.
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        engine.pool.dispose()
        from sqlalchemy import event  # noqa: PLC0415

        event.listen(engine, "connect", lambda raw, _: raw.execute(f"PRAGMA max_page_count={pages}"))
        statuses = [api.post("/jobs", json={"name": "x" * 200}).status_code for _ in range(60)]
        assert statuses[-1] == 507
        answer = api.post("/jobs", json={"name": "x" * 200})
        assert answer.json()["code"] == "disk_full"
        assert "Free some space" in answer.json()["detail"]
        assert api.get(f"/jobs/{before}").json()["status"] == "queued"
        accepted = [job["id"] for job in api.get("/jobs?limit=200").json()["data"]]
        assert len(accepted) == 1 + statuses.count(201)


def test_a_database_that_is_gone_is_503_without_a_traceback(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with TestClient(create_app(settings)) as api, caplog.at_level(logging.ERROR):
        api.get("/jobs")
        for file in settings.data_dir.glob("whistlestop.db*"):
            file.unlink()
        Path(settings.data_dir / "whistlestop.db").mkdir()
        api.app.state.store._db.dispose()  # type: ignore[attr-defined]
        answer = api.post("/jobs", json={})
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert answer.headers["retry-after"] == "5"
        assert api.get("/readyz").status_code == 503
        assert api.get("/healthz").status_code == 200
        assert "Traceback" not in answer.text
