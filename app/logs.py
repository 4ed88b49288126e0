"""How log lines look: text for eyes, JSON for collectors. Job and attempt stand in fields of their own."""

from __future__ import annotations

import logging
from typing import Literal

from pythonjsonlogger.json import JsonFormatter

_FIELDS = ("by", "status", "milliseconds", "job", "attempt")


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        found = {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        extra = "".join(f" {name}={value}" for name, value in found.items())
        return super().format(record) + extra


def configure(log_format: Literal["text", "json"]) -> None:
    """Set the process's logging up."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s")
        if log_format == "json"
        else _Text("%(asctime)s %(levelname)s %(name)s %(message)s")
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)
