"""Filters, order and cursors of the job listing."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from app.jobs import JobStatus
from app.store.errors import InvalidCursor
from app.store.tables import jobs, tags

SortKey = Literal["created_at", "val_loss", "test_acc"]
Order = Literal["asc", "desc"]

# Jobs without a value come last in either order; val_loss and test_acc are finite, so this is beyond them.
_BEYOND = 1e308


@dataclass(frozen=True)
class Filters:
    """What a listed job must match; None matches all."""

    status: tuple[JobStatus, ...] = ()
    tag: tuple[str, ...] = ()
    name: str | None = None
    dataset: str | None = None
    model: str | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """The filters as SQL."""
        found: list[sa.ColumnElement[bool]] = []
        if self.status:
            found.append(jobs.c.status.in_(self.status))
        for tag in self.tag:
            found.append(sa.exists().where(tags.c.job_id == jobs.c.id, tags.c.tag == tag))
        if self.name is not None:
            found.append(jobs.c.name.icontains(self.name, autoescape=True))
        if self.dataset is not None:
            found.append(jobs.c.dataset == self.dataset)
        if self.model is not None:
            found.append(jobs.c.model_kind == self.model)
        return found


@dataclass(frozen=True)
class Sorting:
    """The order of a listing. Ties, and `created_at` itself, go by id: ids sort by time."""

    key: SortKey = "created_at"
    order: Order = "desc"

    @property
    def _value(self) -> sa.ColumnElement[Any] | None:
        if self.key == "created_at":
            return None
        beyond = _BEYOND if self.order == "asc" else -_BEYOND
        return sa.func.coalesce(jobs.c[self.key], sa.literal_column(repr(beyond)))

    def columns(self) -> list[sa.ColumnElement[Any]]:
        """For ORDER BY."""
        keys = [key for key in (self._value, jobs.c.id) if key is not None]
        return [key.desc() if self.order == "desc" else key.asc() for key in keys]

    def cursor_after(self, row: sa.Row[Any]) -> str:
        """A cursor that goes on behind `row`."""
        value = None if self.key == "created_at" else row._mapping[self.key]
        text = json.dumps([self.key, self.order, value, row.id])
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def after(self, cursor: str) -> sa.ColumnElement[bool]:
        """The condition that a cursor stands for. Raises InvalidCursor."""
        try:
            text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            key, order, value, job_id = json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise InvalidCursor(cursor) from error
        sane = isinstance(job_id, str) and (value is None or isinstance(value, int | float))
        if (key, order) != (self.key, self.order) or not sane:
            raise InvalidCursor(cursor)
        keys = [key for key in (self._value, jobs.c.id) if key is not None]
        beyond = _BEYOND if self.order == "asc" else -_BEYOND
        values = [job_id] if self._value is None else [beyond if value is None else value, job_id]
        left, right = sa.tuple_(*keys), sa.tuple_(*map(sa.literal, values))
        return left < right if self.order == "desc" else left > right
