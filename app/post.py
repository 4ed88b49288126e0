"""A POST to an address that a user has named: private ones only where that is allowed, no redirects, no proxy."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
import ssl
from collections.abc import Mapping

import httpx

_TIMEOUT = 10.0


class NotDelivered(Exception):
    """Why a POST has not arrived; `final` where it never will."""

    def __init__(self, why: str, *, final: bool = False) -> None:
        super().__init__(why)
        self.final = final


async def post(url: str, body: str, headers: Mapping[str, str], *, private: bool) -> None:
    """Send `body`. Raises NotDelivered unless it is answered with 2xx within ten seconds."""
    try:
        parsed = httpx.URL(url)
        # The address that was checked is the one that is called: a name may point elsewhere a moment later.
        pinned = parsed.copy_with(host=await _address(parsed, private))
        async with httpx.AsyncClient(verify=_tls(), timeout=_TIMEOUT, trust_env=False) as client:
            host = {"Host": parsed.netloc.decode()}
            request = client.build_request("POST", pinned, content=body, headers={**headers, **host})
            request.extensions["sni_hostname"] = parsed.host
            response = await client.send(request, stream=True)
            await response.aclose()
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise NotDelivered(f"{type(error).__name__}: {error}"[:300]) from error
    if not response.is_success:
        raise NotDelivered(f"HTTP {response.status_code}")


@functools.cache
def _tls() -> ssl.SSLContext:
    # Reading the certificates takes longer than all the rest.
    return httpx.create_ssl_context(trust_env=False)


async def _address(url: httpx.URL, private: bool) -> str:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(url.host, url.port or {"https": 443}.get(url.scheme, 80), type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        parsed = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(parsed, "ipv4_mapped", None) or parsed
        if not private and (not mapped.is_global or mapped.is_multicast):
            words = f"{url.host} is the private address {address}; WHISTLESTOP_WEBHOOK_PRIVATE=true allows such."
            raise NotDelivered(words, final=True)
    return addresses[0]
