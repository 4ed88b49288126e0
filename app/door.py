"""The door of the API: what a body may be (its type, size and pace), and YAML into JSON. Knows nothing of jobs."""

from __future__ import annotations

import json

import anyio
import yaml
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import yaml12
from app.problems import Refused

MAX_BODY_BYTES = 1 << 20
MAX_IMAGE_BYTES = 16 << 20
CHUNK_SECONDS = 30.0
_HANG_UP = {"Connection": "close"}  # the rest of the body is not read
_YAML = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
_ARCHIVES = (
    "application/x-tar",
    "application/tar",
    "application/gzip",
    "application/x-gzip",
    "application/zip",
    "application/x-zip-compressed",
    "application/octet-stream",
)

IMAGES = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp")


class Door:
    """ASGI middleware around the API."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        headers, patient = Headers(scope=scope), _patient(receive)
        try:
            if (scope["method"], scope["path"]) == ("POST", "/datasets"):
                if _media_type(headers) not in _ARCHIVES:
                    raise _unsupported(
                        headers, "application/x-tar, application/gzip or application/zip", "application/x-tar"
                    )
                await self.app(scope, patient, send)
                return
            if scope["path"].endswith("/predict"):
                if _media_type(headers) not in IMAGES:
                    raise _unsupported(headers, ", ".join(IMAGES), "image/png")
                await self.app(scope, _replay(await _read(headers, patient, MAX_IMAGE_BYTES), receive), send)
                return
            body = await _read(headers, patient, MAX_BODY_BYTES)
            if _media_type(headers) in _YAML:
                body = _json_of(body)
                scope = {**scope, "headers": list(scope["headers"])}
                changed = MutableHeaders(scope=scope)
                changed["content-type"], changed["content-length"] = "application/json", str(len(body))
            elif body and not _is_json(_media_type(headers)):
                raise _unsupported(headers, "application/json or application/yaml", "application/json")
        except Refused as refused:
            await refused.response(scope["path"])(scope, receive, send)
            return
        await self.app(scope, _replay(body, receive), send)


def _patient(receive: Receive) -> Receive:
    """`receive`, but not for ever: a body that comes in drops must not keep a connection."""

    async def patient() -> Message:
        try:
            with anyio.fail_after(CHUNK_SECONDS):
                return await receive()
        except TimeoutError as error:
            detail = f"Nothing of the body came for {CHUNK_SECONDS:g} s. Send it again."
            raise Refused(408, "body_too_slow", "The body is too slow", detail, _HANG_UP) from error

    return patient


async def _read(headers: Headers, receive: Receive, most: int) -> bytes:
    hint = "a job spec needs a few hundred" if most == MAX_BODY_BYTES else "scale the image down"
    too_large = Refused(
        413, "body_too_large", "The body is too large", f"A body may have {most} bytes; {hint}.", _HANG_UP
    )
    declared = headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > most:
        raise too_large
    chunks, size = [], 0
    while True:
        message = await receive()
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > most:
            raise too_large
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def _media_type(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _is_json(media_type: str) -> bool:
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))


def _unsupported(headers: Headers, expected: str, example: str) -> Refused:
    # A form or plain text can be posted by any web page that the user happens to open; these types cannot (CORS).
    return Refused(
        415,
        "unsupported_media_type",
        "The body is of a type that is not understood",
        f"Content-Type is {_media_type(headers)[:100] or 'missing'!r}, expected {expected}. "
        f"With curl, add -H 'Content-Type: {example}'.",
    )


def _replay(body: bytes, receive: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _json_of(body: bytes) -> bytes:
    # bytes of another encoding raise yaml.reader.ReaderError, a YAMLError; times and binaries become no JSON
    try:
        return json.dumps(yaml12.load(body), allow_nan=False).encode()
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        detail = f"The body is not YAML that can stand for JSON: {' '.join(str(error).split())}"
        raise Refused(400, "unreadable_body", "The body cannot be read", detail) from error
