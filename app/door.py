"""The door of the API: limits the size of a body, and turns a YAML body into JSON. Knows nothing of jobs."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.problems import ProblemResponse

MAX_BODY_BYTES = 1 << 20
_YAML = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")


class _Loader(yaml.SafeLoader):
    """YAML with neither anchors (a small text could stand for a huge value) nor repeated keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.composer.ComposerError(None, None, "anchors and aliases are not taken", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key) for key, _ in node.value]
        if len(keys) != len(set(map(str, keys))):
            raise yaml.constructor.ConstructorError(None, None, "a key is repeated", node.start_mark)
        return super().construct_mapping(node, deep)


# PyYAML is of YAML 1.1, where 1e-3 is text. People mean the number (as in YAML 1.2).
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


class Door:
    """ASGI middleware around the API."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            body = await _read(headers, receive)
            if _media_type(headers) in _YAML:
                body = _json_of(body)
                scope = {**scope, "headers": list(scope["headers"])}
                changed = MutableHeaders(scope=scope)
                changed["content-type"], changed["content-length"] = "application/json", str(len(body))
            elif body:
                _must_be_json(headers)
        except _Refused as refused:
            status, code, title = refused.status, refused.code, refused.title
            extra = {"Connection": "close"} if status == 413 else None
            refusal = ProblemResponse(status, code, title, str(refused), instance=scope["path"], headers=extra)
            await refusal(scope, receive, send)
            return
        await self.app(scope, _replay(body, receive), send)


class _Refused(Exception):
    def __init__(self, status: int, code: str, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.title = status, code, title


async def _read(headers: Headers, receive: Receive) -> bytes:
    too_large = _Refused(
        413,
        "body_too_large",
        "The body is too large",
        f"A body may have {MAX_BODY_BYTES} bytes; a job spec needs a few hundred.",
    )
    declared = headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise too_large
    chunks, size = [], 0
    while True:
        message = await receive()
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise too_large
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def _media_type(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _must_be_json(headers: Headers) -> None:
    # A form or plain text can be posted by any web page that the user happens to open; JSON cannot (CORS).
    found = _media_type(headers)
    if found != "application/json" and not (found.startswith("application/") and found.endswith("+json")):
        raise _Refused(
            415,
            "unsupported_media_type",
            "The body is of a type that is not understood",
            f"Content-Type is {found[:100] or 'missing'!r}, expected application/json or application/yaml. "
            "With curl, add -H 'Content-Type: application/json'.",
        )


def _replay(body: bytes, receive: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _json_of(body: bytes) -> bytes:
    # bytes of another encoding raise yaml.reader.ReaderError, a YAMLError; times and binaries become no JSON
    try:
        return json.dumps(yaml.load(body, _Loader), allow_nan=False).encode()
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        detail = f"The body is not YAML that can stand for JSON: {' '.join(str(error).split())}"
        raise _Refused(400, "unreadable_body", "The body cannot be read", detail) from error
