"""Who may call: API keys, scopes, rates, other sites' pages. Knows paths and methods, and nothing of jobs.

The door is open on loopback and locked elsewhere, unless WHISTLESTOP_AUTH says otherwise. Behind an open door on
loopback only calls that were addressed to this machine by its own names are answered: a web page that has its host
name point here (DNS rebinding) is not.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from anyio import to_thread
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.jobs import ApiKey
from app.problems import Refused
from app.store import JobStore

log = logging.getLogger("whistlestop.audit")

_PUBLIC = ("/healthz", "/readyz", "/docs", "/redoc", "/openapi.json", "/static-offline-docs/", "/dashboard/")
_SAFE = ("GET", "HEAD", "OPTIONS")
_WRONG_KEYS = RateLimitItemPerMinute(10)
_DOCS_CSP = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; worker-src blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_DASHBOARD_CSP = (
    "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_REPORT_CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
_CSP = "default-src 'none'; frame-ancestors 'none'"


@dataclass(frozen=True)
class Caller:
    """Who calls. `key_id` is None where the door is open."""

    name: str
    key_id: str | None
    is_admin: bool
    may_submit: bool
    max_jobs: int | None

    @property
    def by(self) -> str | None:
        """The name for events; None where the door is open."""
        return self.name if self.key_id else None

    @classmethod
    def of(cls, key: ApiKey) -> Caller:
        """The caller with this key."""
        admin = "admin" in key.scopes
        return cls(key.name, key.id, admin, admin or "submit" in key.scopes, key.max_jobs)


ANYBODY = Caller("anybody", None, True, True, None)


_TITLES = {401: "A key is needed", 403: "Not allowed", 421: "Not this machine's name", 429: "Too many calls"}


def _refused(status: int, code: str, detail: str, headers: dict[str, str] | None = None) -> Refused:
    return Refused(status, code, _TITLES[status], detail, headers)


class Guard:
    """ASGI middleware around the API."""

    def __init__(
        self, app: ASGIApp, store: JobStore, *, locked: bool, loopback: bool, origins: Sequence[str], per_minute: int
    ) -> None:
        self.app, self.store = app, store
        self._locked, self._loopback, self._origins = locked, loopback, frozenset(origins)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._rate = RateLimitItemPerMinute(per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, status = Headers(scope=scope), 0

        async def secured(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _secure(MutableHeaders(raw=message["headers"]), scope["path"])
            await send(message)

        began = time.perf_counter()
        caller = ANYBODY
        try:
            self._check_site(scope, headers)
            if self._locked and scope["path"] != "/" and not scope["path"].startswith(_PUBLIC):
                caller = await self._known(scope, headers)
        except Refused as refused:
            await refused.response(scope["path"])(scope, receive, secured)
            return
        finally:
            scope["caller"] = caller
        await self.app(scope, receive, secured)
        if scope["method"] not in _SAFE:
            milliseconds = round(1000 * (time.perf_counter() - began), 1)
            details = {"by": caller.name, "status": status, "milliseconds": milliseconds}
            log.info("%s %s", scope["method"], scope["path"], extra=details)

    def _check_site(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        if self._loopback and not self._locked and not _is_local(host):
            raise _refused(
                421,
                "unknown_host",
                f"The call is addressed to {host[:100]!r}; without keys only loopback's own names are answered. "
                "Set WHISTLESTOP_AUTH=on and use a key, or call http://127.0.0.1.",
            )
        origin = headers.get("origin")
        if origin is None or scope["method"] in _SAFE or origin in self._origins:
            return
        if urlsplit(origin).netloc != host:
            raise _refused(
                403,
                "cross_origin",
                f"The call comes from a page of {origin[:100]!r}. WHISTLESTOP_CORS_ORIGINS lists sites that may call.",
            )

    async def _known(self, scope: Scope, headers: Headers) -> Caller:
        address = scope["client"][0] if scope["client"] else "?"
        if not self._limiter.test(_WRONG_KEYS, "wrong", address):
            raise _refused(429, "too_many_wrong_keys", "Too many wrong keys; wait a minute.", {"Retry-After": "60"})
        scheme, _, secret = headers.get("authorization", "").partition(" ")
        given = secret.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        if not given:
            raise _refused(
                401,
                "key_needed",
                "Send your key as `Authorization: Bearer ws_...`; `whistlestop keys create NAME` makes one.",
                {"WWW-Authenticate": "Bearer"},
            )
        key = await to_thread.run_sync(self.store.key, given)
        if key is None:
            self._limiter.hit(_WRONG_KEYS, "wrong", address)
            raise _refused(401, "wrong_key", "The key is unknown or revoked.", {"WWW-Authenticate": "Bearer"})
        if not self._limiter.hit(self._rate, "calls", key.id):
            words = f"More than {self._rate.amount} calls a minute with this key; wait a little."
            raise _refused(429, "too_many_calls", words, {"Retry-After": "10"})
        caller = Caller.of(key)
        needed = _needed(scope["method"], scope["path"])
        allowed = {"read": True, "submit": caller.may_submit, "admin": caller.is_admin}[needed]
        if not allowed:
            words = (
                f"{scope['method']} {scope['path']} needs the scope {needed}; the key {key.name!r} does not have it."
            )
            raise _refused(403, "scope_missing", words)
        return caller


def _needed(method: str, path: str) -> str:
    if path.startswith("/keys") or (path.startswith("/datasets") and method == "DELETE"):
        return "admin"
    if method in _SAFE or path.endswith(("/early-stopping/replay", "/predict")):
        return "read"
    return "submit"


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_local(host: str) -> bool:
    """A page can have names of its own domain point here, but neither addresses nor names without a dot."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." not in name.removesuffix(".localhost")
    return True


def _secure(headers: MutableHeaders, path: str) -> None:
    headers["X-Content-Type-Options"] = "nosniff"
    headers["X-Frame-Options"] = "DENY"
    headers["Referrer-Policy"] = "no-referrer"
    headers["Content-Security-Policy"] = _policy(path)


def _policy(path: str) -> str:
    if path.startswith(("/docs", "/redoc")):
        return _DOCS_CSP
    if path == "/" or path.startswith("/dashboard/"):
        return _DASHBOARD_CSP
    return _REPORT_CSP if path.startswith("/jobs/") and path.endswith(("/report", ".svg")) else _CSP
