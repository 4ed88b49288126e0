"""Reads a W&B run file (`run-*.wandb`) back: its framing is LevelDB's log format, its records are wandb's own messages.

The wandb of today reads such files in its Go part only, which wants a server to send them to.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

_BLOCK = 32 * 1024
_FILE_HEADER = 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass
class WandbFile:
    """What a run file says."""

    run_id: str = ""
    project: str = ""
    name: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None


def read(path: Path) -> WandbFile:
    """All records of a run file, put together."""
    found = WandbFile()
    for message in _messages(path.read_bytes()):
        record = Record.FromString(message)
        match record.WhichOneof("record_type"):
            case "run":
                run = record.run
                found.run_id, found.project, found.name = run.run_id, run.project, run.display_name
                found.tags = list(run.tags)
                found.config |= {item.key: json.loads(item.value_json) for item in run.config.update}
            case "history":
                found.history.append(_items(record.history.item))
            case "summary":
                found.summary |= _items(record.summary.update)
            case "exit":
                found.exit_code = record.exit.exit_code
    return found


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def _messages(content: bytes) -> Iterator[bytes]:
    assert content[:4] == b":W&B"
    position, parts = _FILE_HEADER, b""
    while position + 7 <= len(content):
        left = _BLOCK - position % _BLOCK
        if left < 7:  # too short for a record's header: padding
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        position += 7
        parts = (b"" if kind in (_FULL, _FIRST) else parts) + content[position : position + length]
        position += length
        if kind in (_FULL, _LAST):
            yield parts
        else:
            assert kind in (_FIRST, _MIDDLE), kind
