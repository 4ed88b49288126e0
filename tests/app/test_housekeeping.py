"""Sweeps: space comes back, and files and records agree."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from app.artifacts import ArtifactStore
from app.housekeeping import sweep
from app.specs import BEST, LAST, JobSpec, StopReason
from app.store import JobStore
from tests.values import EVALUATION, claimed, row


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "checkpoints")


def trained(store: JobStore, artifacts: ArtifactStore) -> str:
    """A job that has succeeded, with real files."""
    job_id = store.submit(JobSpec())[0].id
    lease = claimed(store).lease
    written = {name: artifacts.put(job_id, 1, 1, name, lambda out: out.write(b"w") and None) for name in (BEST, LAST)}
    store.record_epoch(lease, row(1), written, {}, ())
    store.succeed(lease, StopReason.MAX_EPOCHS, EVALUATION)
    return job_id


def names(store: JobStore, job_id: str) -> list[str]:
    return [file.name for file in store.checkpoints(job_id)]


def test_the_state_of_an_ended_job_goes_and_its_best_weights_stay(store: JobStore, artifacts: ArtifactStore) -> None:
    job_id = trained(store, artifacts)
    sweep(store, artifacts, 1, None)
    assert names(store, job_id) == [BEST, LAST]
    sweep(store, artifacts, 0, None)
    assert names(store, job_id) == [BEST]
    assert [file.name for file in (artifacts.root / job_id).iterdir()] == [f"1-1-{BEST}"]


def test_old_jobs_go_with_their_files_where_that_is_asked_for(store: JobStore, artifacts: ArtifactStore) -> None:
    job_id = trained(store, artifacts)
    waiting = store.submit(JobSpec())[0].id
    sweep(store, artifacts, 1, 1)
    assert names(store, job_id)
    sweep(store, artifacts, 1, 0)
    assert [store.recorded_files(found) for found in (job_id, waiting)] == [None, set()]
    assert not (artifacts.root / job_id).exists()


def test_files_without_a_record_go_unless_they_are_young(store: JobStore, artifacts: ArtifactStore) -> None:
    job_id = trained(store, artifacts)
    old = time.time() - 3600
    for place in (f"{job_id}/9-9-{LAST}", f"{job_id}/.writing-x", "gone/1-1-best_model.pth"):
        path = artifacts.path(place)
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (old, old))
    young = artifacts.path(f"{job_id}/2-2-{LAST}")
    young.touch()
    sweep(store, artifacts, 1, None)
    left = sorted(path.name for path in artifacts.root.rglob("*") if path.is_file())
    assert left == sorted([f"1-1-{BEST}", f"1-1-{LAST}", young.name])


def test_records_without_a_file_go_with_a_warning(store: JobStore, artifacts: ArtifactStore) -> None:
    job_id = trained(store, artifacts)
    artifacts.path(f"{job_id}/1-1-{BEST}").unlink()
    sweep(store, artifacts, 1, None)
    assert names(store, job_id) == [LAST]
    assert store.events(job_id)[-1].data == {"message": f"The file of {BEST} is gone from the data folder."}
