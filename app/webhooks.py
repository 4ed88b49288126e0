"""Webhooks: the end of a job, POSTed to where its spec says, signed, and tried again until it is answered.

Signatures follow Standard Webhooks (https://www.standardwebhooks.com): `webhook-id`, `webhook-timestamp` and
`webhook-signature`, an HMAC-SHA256 over `id.timestamp.body`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
import os
import secrets
import time
from pathlib import Path

from anyio import to_thread

from app.jobs import Delivery
from app.store import JobStore, StoreUnavailable

log = logging.getLogger("whistlestop.api")

POLL_SECONDS = 1.0
_PREFIX = "whsec_"


class BadSecret(ValueError):
    """The webhooks' secret is not of the form that it must have."""


def secret_of(given: str | None, data_dir: Path) -> bytes:
    """The key of the signatures: the one that was given, or one that is made once and kept in the data folder.

    Raises BadSecret, OSError.
    """
    if given is None:
        file = data_dir / "webhook-secret"
        if not file.exists():
            data_dir.mkdir(parents=True, exist_ok=True)
            made = _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w") as out:
                out.write(made)
        given = file.read_text().strip()
    try:
        return base64.b64decode(given.removeprefix(_PREFIX), validate=True)
    except binascii.Error as error:
        raise BadSecret("WHISTLESTOP_WEBHOOK_SECRET must be base64, with whsec_ before it or not.") from error


def signature(secret: bytes, message_id: str, timestamp: str, body: str) -> str:
    """The value of `webhook-signature`."""
    digest = hmac.digest(secret, f"{message_id}.{timestamp}.{body}".encode(), hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


class Webhooks:
    """Delivers what is in the store's outbox. `run` must run somewhere; several processes may."""

    def __init__(self, store: JobStore, secret: bytes, *, private: bool) -> None:
        self._store, self._secret, self._private = store, secret, private

    async def run(self) -> None:
        """Deliver what is due, for ever."""
        while True:
            try:
                delivery = await to_thread.run_sync(self._store.take_delivery)
                if delivery is not None:
                    await self._deliver(delivery)
                    continue
            except StoreUnavailable as error:
                log.error("%s Webhooks wait.", error)
            await asyncio.sleep(POLL_SECONDS)

    async def _deliver(self, delivery: Delivery) -> None:
        # With the first delivery: an HTTP client is a tenth of the API's start and of its memory.
        from app.post import NotDelivered, post  # noqa: PLC0415

        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "whistlestop",
            "webhook-id": delivery.id,
            "webhook-timestamp": timestamp,
            "webhook-signature": signature(self._secret, delivery.id, timestamp, delivery.body),
        }
        try:
            await post(delivery.url, delivery.body, headers, private=self._private)
        except NotDelivered as error:
            why, final = str(error), error.final
            await to_thread.run_sync(lambda: self._store.not_delivered(delivery, why, final=final))
        else:
            await to_thread.run_sync(self._store.delivered, delivery)
