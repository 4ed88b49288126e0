"""Reclaims space and lets files and records agree: what retention lets go, files without a record, records without a
file. Safe to run in several processes at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from anyio import to_thread

from app.artifacts import ArtifactStore
from app.store import IllegalTransition, JobNotFound, JobStore, ParentInUse, StoreUnavailable

log = logging.getLogger("whistlestop.api")

SWEEP_SECONDS = 60.0
_YOUNG_SECONDS = 60.0  # a file may be written before it is recorded


def sweep(store: JobStore, artifacts: ArtifactStore, keep_state_days: float, keep_jobs_days: float | None) -> None:
    """One sweep. Raises StoreUnavailable, OSError."""
    artifacts.discard(store.forget_states(keep_state_days))
    for job_id in store.ended_before(keep_jobs_days) if keep_jobs_days is not None else ():
        with contextlib.suppress(JobNotFound, IllegalTransition, ParentInUse):
            store.delete(job_id)
            artifacts.delete_job(job_id)
    there = list(artifacts.files_older_than(time.time() - _YOUNG_SECONDS))
    recorded: dict[str, set[str]] = {}
    for job_id, key, _ in store.all_recorded_files():  # read behind the folders: what is new in them is kept
        recorded.setdefault(job_id, set()).add(key)
    for job_id, keys in there:
        known = recorded.get(job_id) or store.recorded_files(job_id)
        if known is None:
            artifacts.delete_job(job_id)
        else:
            artifacts.discard(keys - known)
    gone = [key for keys in recorded.values() for key in keys if not artifacts.path(key).exists()]
    if gone:
        # Only what is still recorded now: a worker may have replaced it meanwhile, and its file with it.
        store.forget_files(gone)


async def run(store: JobStore, artifacts: ArtifactStore, keep_state_days: float, keep_jobs_days: float | None) -> None:
    """Sweep now and then, for ever."""
    while True:
        try:
            await to_thread.run_sync(sweep, store, artifacts, keep_state_days, keep_jobs_days)
        except (StoreUnavailable, OSError) as error:
            log.error("The sweep is put off: %s", error)
        await asyncio.sleep(SWEEP_SECONDS)
