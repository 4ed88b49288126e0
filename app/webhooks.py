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
import ipaddress
import logging
import os
import secrets
import socket
import time
from pathlib import Path

import httpx
from anyio import to_thread

from app.jobs import Delivery
from app.store import JobStore, StoreUnavailable

log = logging.getLogger("whistlestop.api")

POLL_SECONDS = 1.0
_TIMEOUT = 10.0
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


class Forbidden(Exception):
    """The address must not be called."""


class Webhooks:
    """Delivers what is in the store's outbox. `run` must run somewhere; several processes may."""

    def __init__(self, store: JobStore, secret: bytes, *, private: bool) -> None:
        self._store, self._secret, self._private = store, secret, private

    async def run(self) -> None:
        """Deliver what is due, for ever."""
        async with httpx.AsyncClient(timeout=_TIMEOUT, follow_redirects=False, trust_env=False) as client:
            while True:
                try:
                    delivery = await to_thread.run_sync(self._store.take_delivery)
                    if delivery is not None:
                        await self._deliver(client, delivery)
                        continue
                except StoreUnavailable as error:
                    log.error("%s Webhooks wait.", error)
                await asyncio.sleep(POLL_SECONDS)

    async def _deliver(self, client: httpx.AsyncClient, delivery: Delivery) -> None:
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "whistlestop",
            "webhook-id": delivery.id,
            "webhook-timestamp": timestamp,
            "webhook-signature": signature(self._secret, delivery.id, timestamp, delivery.body),
        }
        why, final = "", False
        try:
            url = httpx.URL(delivery.url)
            # The address that was checked is the one that is called: a name may point elsewhere a moment later.
            pinned = url.copy_with(host=await self._address(url))
            headers["Host"] = url.netloc.decode()
            request = client.build_request("POST", pinned, content=delivery.body, headers=headers)
            request.extensions["sni_hostname"] = url.host
            response = await client.send(request, stream=True)
            await response.aclose()
            why = "" if response.is_success else f"HTTP {response.status_code}"
        except Forbidden as error:
            why, final = str(error), True
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            why = f"{type(error).__name__}: {error}"[:300]
        if why:
            await to_thread.run_sync(lambda: self._store.not_delivered(delivery, why, final=final))
        else:
            await to_thread.run_sync(self._store.delivered, delivery)

    async def _address(self, url: httpx.URL) -> str:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(
            url.host, url.port or {"https": 443}.get(url.scheme, 80), type=socket.SOCK_STREAM
        )
        addresses = [str(entry[4][0]) for entry in found]
        for address in addresses:
            parsed = ipaddress.ip_address(address.partition("%")[0])
            mapped = getattr(parsed, "ipv4_mapped", None) or parsed
            if not self._private and (not mapped.is_global or mapped.is_multicast):
                raise Forbidden(
                    f"{url.host} is the private address {address}; WHISTLESTOP_WEBHOOK_PRIVATE=true allows such."
                )
        return addresses[0]
