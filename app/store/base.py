"""What all of the store stands on: the database, and jobs out of rows."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from app.jobs import Job, JobStatus
from app.store import rows, steps
from app.store.database import Database
from app.store.tables import jobs, tags


class Base:
    """The database of a store."""

    def __init__(self, url: str) -> None:
        self._db = Database(url)

    def migrate(self) -> None:
        """Create or update the tables. Call once when a process starts."""
        self._db.migrate()

    def close(self) -> None:
        """Close all connections."""
        self._db.dispose()

    def ping(self) -> None:
        """Raise StoreUnavailable if the database does not answer."""
        with self._db.read() as db:
            db.execute(sa.select(jobs.c.id).limit(1))

    def _job(self, db: sa.Connection, job_id: str) -> Job:
        return self._jobs(db, [steps.job_row(db, job_id)])[0]

    def _jobs(self, db: sa.Connection, found: Sequence[rows.Row]) -> list[Job]:
        ids = [row.id for row in found]
        tagged: dict[str, list[str]] = {}
        wanted = sa.select(tags.c.job_id, tags.c.tag).where(tags.c.job_id.in_(ids))
        for job_id, tag in db.execute(wanted.order_by(tags.c.position)):
            tagged.setdefault(job_id, []).append(tag)
        children: dict[str, list[str]] = {}
        born = sa.select(jobs.c.parent_id, jobs.c.id).where(jobs.c.parent_id.in_(ids))
        for parent_id, job_id in db.execute(born.order_by(jobs.c.id)):
            children.setdefault(parent_id, []).append(job_id)
        positions = steps.queue_positions(db, [row for row in found if row.status == JobStatus.QUEUED])
        return [
            rows.job_of(row, tuple(tagged.get(row.id, ())), tuple(children.get(row.id, ())), positions.get(row.id))
            for row in found
        ]

    def _of_job(
        self, table: sa.Table, job_id: str, number: sa.ColumnElement[int], after: int, limit: int
    ) -> Sequence[rows.Row]:
        found = sa.select(table).where(table.c.job_id == job_id, number > after).order_by(number).limit(limit)
        with self._db.read() as db:
            result = db.execute(found).all()
            if not result:
                steps.job_row(db, job_id)
            return result
