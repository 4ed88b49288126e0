"""Webhooks that are to be called: written with the end of a job, in one transaction, and taken out once answered."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from app.jobs import Delivery
from app.store import steps
from app.store.base import Base
from app.store.database import now
from app.store.tables import deliveries

MAX_TRIES = 8
_HOLD_SECONDS = 60.0  # for which one who took a delivery has it for himself
_MAX_WAIT_SECONDS = 3600.0


class Outbox(Base):
    """The webhooks of a store."""

    def take_delivery(self) -> Delivery | None:
        """A webhook that is due; nobody else gets it for a minute."""
        due = sa.select(deliveries).where(deliveries.c.due_at <= now()).order_by(deliveries.c.due_at).limit(1)
        with self._db.read() as db:  # a look while nothing is due must not take SQLite's write lock
            if db.execute(due).first() is None:
                return None
        with self._db.write() as db:
            row = db.execute(due.with_for_update(skip_locked=True)).first()
            if row is None:
                return None
            held = {"due_at": now() + timedelta(seconds=_HOLD_SECONDS), "tries": row.tries + 1}
            db.execute(deliveries.update().where(deliveries.c.id == row.id).values(held))
            return Delivery(row.id, row.job_id, row.url, row.body, row.tries + 1)

    def delivered(self, delivery: Delivery) -> None:
        """It was answered with success."""
        with self._db.write() as db:
            if db.execute(deliveries.delete().where(deliveries.c.id == delivery.id)).rowcount:
                steps.add_event(db, delivery.job_id, "webhook", delivered=True, tries=delivery.tries)

    def not_delivered(self, delivery: Delivery, why: str, *, final: bool = False) -> None:
        """It was not: tried again after 2, 4, 8, ... seconds, unless it never will be or was tried MAX_TRIES times."""
        wait = min(2.0**delivery.tries, _MAX_WAIT_SECONDS)
        mine = deliveries.c.id == delivery.id
        with self._db.write() as db:
            if not final and delivery.tries < MAX_TRIES:
                db.execute(deliveries.update().where(mine).values(due_at=now() + timedelta(seconds=wait)))
            elif db.execute(deliveries.delete().where(mine)).rowcount:
                steps.add_event(db, delivery.job_id, "webhook", delivered=False, tries=delivery.tries, error=why)
