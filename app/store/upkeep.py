"""What operators need: figures to watch, and what may be reclaimed."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

import sqlalchemy as sa

from app.jobs import Figures, JobStatus
from app.specs import LAST
from app.store import steps
from app.store.base import Base
from app.store.database import now
from app.store.tables import checkpoints, counters, jobs

_FINAL = [status for status in JobStatus if status.final]


class Upkeep(Base):
    """The operators' side of a store."""

    def figures(self) -> Figures:
        """Counts for monitoring."""
        with self._db.read() as db:
            found = db.execute(sa.select(jobs.c.status, sa.func.count()).group_by(jobs.c.status)).tuples()
            statuses = dict.fromkeys(map(str, JobStatus), 0) | dict(found.all())
            oldest = db.execute(
                sa.select(sa.func.min(jobs.c.created_at)).where(jobs.c.status == JobStatus.QUEUED)
            ).scalar()
            counted = dict(db.execute(sa.select(counters.c.name, counters.c.value)).tuples().all())
        waited = (now() - oldest).total_seconds() if oldest else 0.0
        return Figures(statuses=statuses, oldest_wait_seconds=waited, counters=counted)

    def forget_states(self, days: float) -> list[str]:
        """Forget `last.pth` of jobs that ended so many days ago; returns the keys of their files."""
        ended = sa.select(jobs.c.id).where(jobs.c.status.in_(_FINAL), jobs.c.finished_at < now() - timedelta(days=days))
        old = (checkpoints.c.name == LAST, checkpoints.c.job_id.in_(ended))
        with self._db.read() as db:
            if db.execute(sa.select(checkpoints.c.key).where(*old).limit(1)).first() is None:
                return []
        with self._db.write() as db:
            return list(db.execute(checkpoints.delete().where(*old).returning(checkpoints.c.key)).scalars())

    def ended_before(self, days: float) -> list[str]:
        """Jobs that ended so many days ago."""
        with self._db.read() as db:
            old = (jobs.c.status.in_(_FINAL), jobs.c.finished_at < now() - timedelta(days=days))
            return list(db.execute(sa.select(jobs.c.id).where(*old)).scalars())

    def recorded_files(self, job_id: str) -> set[str] | None:
        """Keys of a job's files; None where the job is unknown."""
        with self._db.read() as db:
            if db.execute(sa.select(jobs.c.id).where(jobs.c.id == job_id)).first() is None:
                return None
            return set(db.execute(sa.select(checkpoints.c.key).where(checkpoints.c.job_id == job_id)).scalars())

    def all_recorded_files(self) -> list[tuple[str, str, str]]:
        """Job, key and SHA-256 of every recorded file."""
        columns = (checkpoints.c.job_id, checkpoints.c.key, checkpoints.c.sha256)
        with self._db.read() as db:
            return [(row.job_id, row.key, row.sha256) for row in db.execute(sa.select(*columns))]

    def forget_files(self, keys: Collection[str]) -> None:
        """Forget files that are gone, with an event for each."""
        with self._db.write() as db:
            for key in keys:
                lost = checkpoints.delete().where(checkpoints.c.key == key)
                row = db.execute(lost.returning(checkpoints.c.job_id, checkpoints.c.name)).first()
                if row is not None:
                    message = f"The file of {row.name} is gone from the data folder."
                    steps.add_event(db, row.job_id, "warning", message=message)
