"""Attacks on the wire, on a live API: all refused, nothing changed, and it still answers.

Others are in tests/app/test_guard.py (keys, other sites), tests/app/test_webhooks.py (SSRF),
tests/app/routes/test_datasets.py (archives) and tests/worker/ (pickles).
"""

from __future__ import annotations

import contextlib
import gzip
import socket
import time

import pytest

from tests.e2e.service import Json, Service

HEAD = "POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"

# What goes over the wire, and the statuses that may come back; 0: the line is cut.
WIRE: dict[str, tuple[bytes, set[int]]] = {
    "a header that is smuggled in": (
        b"GET /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX",
        {0, 200, 400},
    ),
    "two lengths": (f"{HEAD}Content-Length: 2\r\nContent-Length: 200\r\n\r\n{{}}".encode(), {400}),
    "a length that is none": (f"{HEAD}Content-Length: -1\r\n\r\n{{}}".encode(), {400}),
    "a chunk that is none": (f"{HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n{{}}".encode(), {400}),
    "headers without end": (HEAD.encode() + b"X: " + b"a" * 200_000, {400, 431}),
    "a line without end": (b"GET /" + b"a" * 200_000, {400, 414}),
    "a NUL in the path": (b"GET /jobs/\x00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", {400}),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {0, 400}),
    "a path that climbs": (b"GET /../../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", {404}),
    "a path that climbs in disguise": (
        b"GET /jobs/x/checkpoints/..%2f..%2f..%2fetc%2fpasswd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        {404},
    ),
    "another host": (b"GET /jobs HTTP/1.1\r\nHost: evil.example\r\n\r\n", {421}),
    "another site": (
        f"{HEAD}Origin: https://evil.example\r\nContent-Length: 2\r\n\r\n{{}}".encode(),
        {403},
    ),
    "a form": (
        b"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
        {415},
    ),
    "a packed body": (
        f"{HEAD}Content-Encoding: gzip\r\nContent-Length: {len(gzip.compress(b'{}'))}\r\n\r\n".encode()
        + gzip.compress(b"{}"),
        {400, 415, 422},
    ),
    "a body that is too large": (f"{HEAD}Content-Length: 99999999\r\n\r\n".encode() + b" " * 2_000_000, {413}),
    "YAML that would run code": (
        b"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/yaml\r\nContent-Length: 38\r\n\r\n"
        b"!!python/object/apply:os.system ['id']",
        {400},
    ),
    "YAML that grows": (
        b"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/yaml\r\nContent-Length: 40\r\n\r\n"
        b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b,*b,*b]",
        {400},
    ),
}


def status_of(service: Service, sent: bytes) -> int:
    """The status that a message gets; 0 where the line is cut without one."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as line:
        with contextlib.suppress(OSError):  # the server may hang up while it is still told
            line.sendall(sent)
        answer = b""
        with contextlib.suppress(OSError):
            while b"\r\n" not in answer and (part := line.recv(4096)):
                answer += part
    return int(answer.split()[1]) if answer.startswith(b"HTTP/") else 0


def state(service: Service) -> Json:
    return service.get("/jobs", limit=200)


@pytest.mark.parametrize("what", WIRE)
def test_an_attack_on_the_wire_is_refused_and_changes_nothing(shared: Service, what: str) -> None:
    before = [job["id"] for job in state(shared)["data"]]
    sent, statuses = WIRE[what]
    assert status_of(shared, sent) in statuses
    assert [job["id"] for job in state(shared)["data"]] == before
    assert shared.http.get("/healthz").is_success


def test_bodies_that_come_in_drops_keep_nobody_else_waiting(shared: Service) -> None:
    with contextlib.ExitStack() as lines:
        for _ in range(200):
            line = lines.enter_context(socket.create_connection(("127.0.0.1", shared.port)))
            line.sendall(f"{HEAD}Content-Length: 1000\r\n\r\n{{".encode())
        took = []
        for _ in range(20):
            began = time.monotonic()
            assert shared.http.get("/jobs", params={"limit": 1}).is_success
            took.append(time.monotonic() - began)
        assert sorted(took)[10] < 0.5
