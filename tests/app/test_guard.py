"""The door: who may call what, how often, and from where."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.guard import is_loopback
from app.main import create_app
from app.settings import Settings
from app.store import JobStore
from tests.values import claimed

JSON = {"Content-Type": "application/json"}


def test_behind_a_port_that_is_published_on_loopback_the_door_is_open_for_local_names(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", host="0.0.0.0", loopback_only=True)
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000") as client:
        assert client.get("/jobs").status_code == 200
        assert client.get("/jobs", headers={"Host": "rebound.example"}).json()["code"] == "unknown_host"


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[TestClient]:
    """An API that listens on all addresses."""
    with TestClient(create_app(Settings(data_dir=tmp_path / "data", host="0.0.0.0"))) as client:
        yield client


@pytest.fixture
def keys(locked: TestClient) -> dict[str, dict[str, str]]:
    """Headers of some users."""
    store: JobStore = locked.app.state.store  # type: ignore[attr-defined]
    users = {"reader": "read", "alice": "submit", "bob": "submit", "root": "admin"}
    return {
        name: {"Authorization": f"Bearer {store.create_key(name, [scope])[1]}"}  # type: ignore[list-item]
        for name, scope in users.items()
    }


def test_elsewhere_than_on_loopback_a_key_is_needed(locked: TestClient, keys: dict[str, dict[str, str]]) -> None:
    for path in ("/jobs", "/metrics", "/events", "/workers", "/keys", "/nowhere"):
        answer = locked.get(path)
        assert (answer.status_code, answer.json()["code"]) == (401, "key_needed")
        assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
        assert locked.get(path).status_code == 200
    assert locked.get("/jobs", headers=keys["reader"]).status_code == 200
    secret = keys["reader"]["Authorization"].removeprefix("Bearer ")
    assert locked.get("/jobs", headers={"X-API-Key": secret}).status_code == 200


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("Bearer ws_wrong", "wrong_key"),
        ("Bearer ", "key_needed"),
        ("Basic d3M6d3M=", "key_needed"),
        ("Bearer ' OR 1=1 --", "wrong_key"),
        ("Bearer " + "a" * 5000, "wrong_key"),
    ],
)
def test_what_is_no_key_is_refused(locked: TestClient, given: str, code: str) -> None:
    answer = locked.get("/jobs", headers={"Authorization": given})
    assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert given[7:] not in answer.text or not given[7:].strip()


def test_each_scope_may_what_it_says(locked: TestClient, keys: dict[str, dict[str, str]]) -> None:
    def status(method: str, path: str, who: str) -> int:
        return locked.request(method, path, headers={**keys[who], **JSON}, content="{}").status_code

    assert status("POST", "/jobs", "reader") == 403
    assert status("POST", "/jobs", "alice") == 201
    assert status("POST", "/keys", "alice") == 403
    assert status("GET", "/keys", "alice") == 403
    assert status("DELETE", "/datasets/x", "alice") == 403
    assert status("DELETE", "/datasets/x", "root") == 404
    assert status("GET", "/keys", "root") == 200


def test_a_key_acts_on_its_own_jobs_only(locked: TestClient, keys: dict[str, dict[str, str]]) -> None:
    job = locked.post("/jobs", json={}, headers=keys["alice"]).json()["id"]
    assert locked.get(f"/jobs/{job}", headers=keys["bob"]).status_code == 200
    for call in ("stop", "pause", "resume", "cancel", "retry"):
        answer = locked.post(f"/jobs/{job}/{call}", headers=keys["bob"])
        assert (answer.status_code, answer.json()["code"]) == (403, "not_yours")
    assert locked.patch(f"/jobs/{job}", json={"name": "mine"}, headers=keys["bob"]).status_code == 403
    assert locked.delete(f"/jobs/{job}", headers=keys["bob"]).status_code == 403
    assert locked.post(f"/jobs/{job}/pause", headers=keys["alice"]).json()["status"] == "paused"
    assert locked.post(f"/jobs/{job}/cancel", headers=keys["root"]).json()["status"] == "cancelled"
    events = locked.get(f"/jobs/{job}/events", headers=keys["bob"]).json()["data"]
    told = [(event["type"], event["data"].get("by")) for event in events]
    assert told == [("queued", "alice"), ("paused", "alice"), ("finished", "root")], "events say who did what"


def test_two_users_may_choose_the_same_idempotency_key(locked: TestClient, keys: dict[str, dict[str, str]]) -> None:
    once = {"Idempotency-Key": "first"}
    jobs = {who: locked.post("/jobs", json={}, headers={**keys[who], **once}).json()["id"] for who in ("alice", "bob")}
    assert jobs["alice"] != jobs["bob"]
    assert locked.post("/jobs", json={}, headers={**keys["bob"], **once}).json()["id"] == jobs["bob"]


def test_a_revoked_key_is_none_at_once(locked: TestClient, keys: dict[str, dict[str, str]]) -> None:
    made = locked.post("/keys", json={"name": "guest", "scopes": ["read"]}, headers=keys["root"])
    assert made.status_code == 201
    guest = {"Authorization": f"Bearer {made.json()['secret']}"}
    assert locked.get("/jobs", headers=guest).status_code == 200
    assert locked.post("/keys/guest/revoke", headers=keys["root"]).json()["revoked_at"]
    assert locked.get("/jobs", headers=guest).json()["code"] == "wrong_key"
    assert locked.post("/keys/guest/revoke", headers=keys["root"]).status_code == 404
    assert locked.post("/keys", json={"name": "guest"}, headers=keys["root"]).json()["code"] == "key_exists"
    listed = locked.get("/keys", headers=keys["root"])
    assert [key["name"] for key in listed.json()["data"]] == ["reader", "alice", "bob", "root", "guest"]
    assert "secret" not in listed.text
    assert "hash" not in listed.text


def test_no_secret_is_stored_or_logged(
    locked: TestClient, tmp_path: Path, keys: dict[str, dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    locked.post("/jobs", json={}, headers=keys["alice"])
    secret = keys["alice"]["Authorization"].removeprefix("Bearer ")
    for file in (tmp_path / "data").glob("whistlestop.db*"):
        assert secret.encode() not in file.read_bytes()
    assert secret not in caplog.text


def test_guessing_is_stopped(locked: TestClient, keys: dict[str, dict[str, str]]) -> None:
    for guess in range(10):
        assert locked.get("/jobs", headers={"Authorization": f"Bearer ws_{guess}"}).status_code == 401
    answer = locked.get("/jobs", headers={"Authorization": "Bearer ws_10"})
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_wrong_keys")


def test_calls_and_jobs_are_limited_by_key(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", host="0.0.0.0", rate_limit=5)
    with TestClient(create_app(settings)) as api:
        store: JobStore = api.app.state.store  # type: ignore[attr-defined]
        one, other = ({"X-API-Key": store.create_key(name, ["submit"], max_jobs=2)[1]} for name in ("one", "other"))
        assert [api.post("/jobs", json={}, headers=one).status_code for _ in range(3)] == [201, 201, 429]
        store.cancel(claimed(store).lease.job_id)
        assert api.post("/jobs", json={}, headers=one).status_code == 201, "one has ended"
        assert api.get("/jobs", headers=one).status_code == 200
        answer = api.get("/jobs", headers=one)
        assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (
            *(429, "too_many_calls"),
            "10",
        )
        assert api.get("/jobs", headers=other).status_code == 200


def test_the_door_can_be_opened_and_locked_by_name(tmp_path: Path) -> None:
    for auth, host, status in (("off", "0.0.0.0", 200), ("on", "127.0.0.1", 401), ("auto", "::1", 200)):
        settings = Settings(data_dir=tmp_path / "data", host=host, auth=auth)  # type: ignore[arg-type]
        with TestClient(create_app(settings)) as api:
            assert api.get("/jobs").status_code == status


@pytest.mark.parametrize(
    ("host", "found"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("box", False)],
)
def test_loopback_is_told_apart(host: str, found: bool) -> None:
    assert is_loopback(host) is found


def test_pages_of_other_sites_can_neither_act_nor_read(api: TestClient) -> None:
    job = api.post("/jobs", json={}).json()["id"]
    evil = {"Origin": "https://evil.example"}
    for path in (f"/jobs/{job}/cancel", "/jobs"):
        answer = api.post(path, json={}, headers=evil)
        assert (answer.status_code, answer.json()["code"]) == (403, "cross_origin")
    assert api.get("/jobs", headers=evil).headers.get("access-control-allow-origin") is None
    preflight = {**evil, "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in api.options("/jobs", headers=preflight).headers
    assert api.post(f"/jobs/{job}/pause", headers={"Origin": "http://testserver"}).status_code == 200


def test_a_name_that_was_pointed_here_is_not_answered(api: TestClient) -> None:
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example"):
        answer = api.get("/jobs", headers={"Host": host})
        assert (answer.status_code, answer.json()["code"]) == (421, "unknown_host")
    for host in ("127.0.0.1:8000", "localhost", "[::1]:8000", "whistlestop.localhost:1"):
        assert api.get("/jobs", headers={"Host": host}).status_code == 200


def test_sites_that_are_listed_may_call(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", cors_origins=("https://lab.example",))
    with TestClient(create_app(settings)) as api:
        answer = api.post("/jobs", json={}, headers={"Origin": "https://lab.example"})
        assert answer.status_code == 201
        assert answer.headers["access-control-allow-origin"] == "https://lab.example"


def test_every_answer_has_its_security_headers(api: TestClient) -> None:
    for path in ("/jobs", "/nowhere", "/docs"):
        headers = api.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize("header", ["Idempotency-Key", "X-API-Key", "Last-Event-ID"])
def test_a_header_cannot_bring_another_header_with_it(api: TestClient, header: str) -> None:
    answer = api.post("/jobs", json={}, headers={header: "a\tb%0d%0aSet-Cookie: x=1"})
    assert "set-cookie" not in answer.headers
