"""Webhooks: signed, tried again, and never to where they must not go."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.server
import json
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.jobs import JobError
from app.main import create_app
from app.settings import Settings
from app.specs import JobSpec, StopReason
from app.store import JobStore
from app.store.outbox import MAX_TRIES
from app.webhooks import BadSecret, Webhooks, secret_of
from tests.e2e.service import until
from tests.values import EVALUATION, claimed, files, row

SECRET = "whsec_" + b64encode(b"0123456789abcdef0123456789abcdef").decode()


@dataclass
class Receiver:
    """A server that answers with `statuses`, the last one for ever, and keeps what it is told."""

    statuses: list[int]
    calls: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@contextmanager
def receiver(*statuses: int) -> Iterator[Receiver]:
    kept = Receiver(list(statuses))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.calls.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(kept.statuses.pop(0) if len(kept.statuses) > 1 else kept.statuses[0])
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        kept.url = f"http://127.0.0.1:{server.server_port}/hook?x=1"
        yield kept
        server.shutdown()


def succeed(store: JobStore, url: str) -> str:
    job_id = store.submit(JobSpec(name="told", webhook=url))[0].id
    lease = claimed(store).lease
    store.record_epoch(lease, row(1), files(1), {}, ())
    store.succeed(lease, StopReason.MAX_EPOCHS, EVALUATION)
    return job_id


def told(store: JobStore, job_id: str) -> list[dict[str, object]]:
    return [event.data for event in store.events(job_id) if event.type == "webhook"]


def test_the_end_of_a_job_is_told_with_a_signature(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", webhook_secret=SECRET, webhook_private=True)  # type: ignore[arg-type]
    with receiver(500, 204) as there, TestClient(create_app(settings)) as api:
        store: JobStore = api.app.state.store  # type: ignore[attr-defined]
        job_id = succeed(store, there.url)
        until("the webhook is answered", lambda: told(store, job_id))
        assert told(store, job_id) == [{"delivered": True, "tries": 2}]
    (path, first, body), (_, headers, again) = there.calls
    assert (path, body) == ("/hook?x=1", again)
    assert first["webhook-id"] == headers["webhook-id"], "a receiver can tell that it has had it"
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(b64decode(SECRET[6:]), signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{b64encode(digest).decode()}"
    message = json.loads(body)
    assert (message["type"], message["job"], message["status"]) == ("job.finished", job_id, "succeeded")
    assert message["accuracy"] == EVALUATION.accuracy


def deliver(store: JobStore, url: str, *, private: bool) -> list[dict[str, object]]:
    """What one try has come to."""
    job_id = succeed(store, url)
    webhooks = Webhooks(store, b"secret", private=private)

    async def once() -> None:
        delivery = store.take_delivery()
        assert delivery is not None
        await webhooks._deliver(delivery)

    asyncio.run(once())
    return told(store, job_id)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "192.168.1.1", "169.254.169.254", "[::ffff:127.0.0.1]", "0.0.0.0"],
)
def test_private_addresses_are_not_called(store: JobStore, host: str) -> None:
    with receiver(200) as there:
        port = there.url.split(":")[2].split("/")[0]
        (outcome,) = deliver(store, f"http://{host}:{port}/hook", private=False)
        assert there.calls == []
    assert outcome["delivered"] is False
    assert "private address" in str(outcome["error"])


def test_a_redirect_is_not_followed_and_is_no_success(store: JobStore) -> None:
    with receiver(302) as there:
        assert deliver(store, there.url, private=True) == []
        assert len(there.calls) == 1


def test_a_webhook_that_is_never_answered_is_given_up_and_told(store: JobStore) -> None:
    job_id = store.submit(JobSpec(webhook="http://127.0.0.1:9/"))[0].id
    store.fail(claimed(store).lease, JobError(type="diverged", message="nan"))
    delivery = store.take_delivery()
    assert delivery is not None
    assert store.take_delivery() is None, "nobody else takes it meanwhile"
    for tries in range(1, MAX_TRIES + 1):
        assert told(store, job_id) == []
        store.not_delivered(type(delivery)(*(delivery.id, job_id, delivery.url, delivery.body, tries)), "no answer")
    assert told(store, job_id) == [{"delivered": False, "tries": MAX_TRIES, "error": "no answer"}]


@pytest.mark.parametrize("url", ["ftp://x/", "http://", "javascript:alert(1)", "http://user:pw@x/", "http://x/\n", "x"])
def test_what_is_no_address_is_refused_with_the_spec(api: TestClient, url: str) -> None:
    answer = api.post("/jobs", json={"webhook": url})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/webhook")


def test_a_secret_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    made = secret_of(None, tmp_path)
    assert len(made) == 32
    assert secret_of(None, tmp_path) == made
    assert (tmp_path / "webhook-secret").stat().st_mode & 0o077 == 0
    with pytest.raises(BadSecret, match="WHISTLESTOP_WEBHOOK_SECRET must be base64"):
        secret_of("whsec_???", tmp_path)
