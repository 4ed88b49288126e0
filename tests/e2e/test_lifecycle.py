"""Stop, pause, resume and frozen workers, with real processes: and the weights are always the same."""

from __future__ import annotations

import signal
import time
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from app.artifacts import ArtifactStore
from app.store import JobStore
from tests.e2e.service import Json, Service, child_of, until

STEADY: Json = {
    "dataset": {"name": "digits"},
    "training": {"max_epochs": 40, "batch_size": 16},
    "early_stopping": None,
    "tracking": None,
    "seed": 5,
}


@pytest.fixture(scope="module")
def undisturbed(shared: Service) -> tuple[list[Json], bytes, Json]:
    """Figures, weights and evaluation of STEADY where nobody touches it."""
    job_id = shared.submit(STEADY)
    evaluation = shared.succeeded(job_id)["evaluation"]
    return shared.figures(job_id), shared.weights(job_id), evaluation


def seconds_between(service: Service, job_id: str, first: str, then: str) -> float:
    times = {event["type"]: event["time"] for event in service.get(f"/jobs/{job_id}/events", limit=10_000)["data"]}
    return (datetime.fromisoformat(times[then]) - datetime.fromisoformat(times[first])).total_seconds()


def test_a_job_that_was_paused_again_and_again_ends_in_the_same_weights(
    shared: Service, undisturbed: tuple[list[Json], bytes, Json]
) -> None:
    job_id = shared.submit(STEADY)
    for epoch in (5, 15, 25):
        shared.reaches(job_id, epoch)
        began = time.monotonic()
        assert shared.http.post(f"/jobs/{job_id}/pause").json()["status"] == "paused"
        until("the slot is free", lambda: not any(worker["running"] for worker in shared.get("/workers")["data"]))
        assert time.monotonic() - began < 1
        shared.http.post(f"/jobs/{job_id}/resume")
    job = shared.succeeded(job_id)
    assert (shared.figures(job_id), shared.weights(job_id), job["evaluation"]) == undisturbed
    assert shared.outcomes(job_id) == ["paused", "paused", "paused", "succeeded"]


def test_a_stopped_job_keeps_and_evaluates_its_best_weights(
    shared: Service, undisturbed: tuple[list[Json], bytes, Json]
) -> None:
    job_id = shared.submit({**STEADY, "training": {"max_epochs": 5000, "batch_size": 16}})
    shared.reaches(job_id, 8)
    shared.http.post(f"/jobs/{job_id}/stop")
    job = shared.succeeded(job_id, 10)
    assert (job["status"], job["stop_reason"]) == ("succeeded", "requested")
    assert job["evaluation"]["accuracy"] > 0.8
    epochs = job["progress"]["epoch"]
    figures = shared.figures(job_id)
    assert figures[:40] == undisturbed[0][: len(figures)]
    assert seconds_between(shared, job_id, "stop_requested", "finished") < 2.5
    assert 8 <= epochs < 5000
    for name in ("best_model.onnx", "best_model.safetensors"):
        assert shared.http.get(f"/jobs/{job_id}/checkpoints/{name}").is_success


def test_a_paused_job_that_is_stopped_is_evaluated_without_another_epoch(shared: Service) -> None:
    job_id = shared.submit({**STEADY, "training": {"max_epochs": 5000, "batch_size": 16}})
    shared.reaches(job_id, 3)
    epochs = shared.http.post(f"/jobs/{job_id}/pause").json()["progress"]["epoch"]
    shared.http.post(f"/jobs/{job_id}/stop")
    job = shared.succeeded(job_id)
    assert (job["stop_reason"], job["progress"]["epoch"]) == ("requested", epochs)


def test_a_failed_job_is_retried_and_a_chain_waits_its_turn(shared: Service) -> None:
    bad = shared.submit({**STEADY, "optimizer": {"kind": "sgd", "lr": 99.0}, "training": {"max_epochs": 3}})
    waiter = shared.submit({**STEADY, "after": [bad]})
    assert shared.ended(bad)["error"]["type"] == "diverged"
    assert shared.ended(waiter)["error"]["type"] == "dependency_failed"
    assert shared.http.post(f"/jobs/{bad}/retry").json()["status"] == "queued"
    assert shared.ended(bad)["attempt"] == 2
    parent = shared.submit({**STEADY, "training": {"max_epochs": 3}})
    child = shared.submit(
        {**STEADY, "training": {"max_epochs": 2}, "after": [parent], "init_from": {"job": parent, "freeze": "backbone"}}
    )
    job = shared.succeeded(child)
    assert job["started_at"] >= shared.job(parent)["finished_at"]


def test_a_frozen_worker_that_comes_back_writes_nothing(
    service: Service, undisturbed: tuple[list[Json], bytes, Json]
) -> None:
    service.api()
    frozen = service.worker()
    job_id = service.submit(STEADY)
    service.reaches(job_id, 3)
    family = frozen.family()
    for process in family:
        process.suspend()
    other = service.worker()
    job = service.succeeded(job_id)
    assert job["attempt"] == 2
    events, files = service.get(f"/jobs/{job_id}/events", limit=1000), listing(service)
    for process in family:
        process.resume()
    until("the child of the lost lease is ended", lambda: not any(map(psutil.Process.is_running, family[3:])), 20)
    time.sleep(1)
    assert service.get(f"/jobs/{job_id}/events", limit=1000) == events
    assert [file for file in listing(service) if file not in files] == []
    assert (service.figures(job_id), service.weights(job_id), job["evaluation"]) == undisturbed
    assert service.succeeded(service.submit({**STEADY, "training": {"max_epochs": 1}}))
    for worker in (frozen, other):
        assert worker.stop() == 0


def listing(service: Service) -> list[str]:
    """All files of weights that are there."""
    return sorted(str(path) for path in (service.data / "checkpoints").rglob("*") if path.is_file())


def test_a_child_whose_worker_was_killed_ends_itself_at_once(service: Service) -> None:
    service.api()
    worker = service.worker()
    job_id = service.submit(STEADY)
    service.reaches(job_id, 2)
    child = child_of(worker)
    worker.stop(signal.SIGKILL)
    until("the child is gone", lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 2)


def test_a_draining_worker_ends_its_jobs_and_takes_no_more(service: Service) -> None:
    service.api()
    worker = service.worker()
    running = service.submit({**STEADY, "training": {"max_epochs": 10}})
    service.reaches(running, 1)
    waiting = service.submit(STEADY)
    worker.popen.send_signal(signal.SIGUSR1)
    assert worker.popen.wait(60) == 0
    assert service.job(running)["status"] == "succeeded"
    assert service.job(waiting)["status"] == "queued"


def test_a_backup_of_a_running_service_is_restored_and_goes_on_to_the_same_weights(
    service: Service, tmp_path: Path, undisturbed: tuple[list[Json], bytes, Json]
) -> None:
    service.api()
    worker = service.worker()
    job_id = service.submit(STEADY)
    service.reaches(job_id, 10)
    target = tmp_path / "backup"
    assert service.start("app.cli", "backup", str(target)).popen.wait(60) == 0
    worker.stop(signal.SIGKILL)
    for process in service.processes:
        process.stop(signal.SIGKILL)
    assert service.start("app.cli", "restore", str(target)).popen.wait(60) == 1, "nothing is overwritten"
    service.data.rename(tmp_path / "lost")
    assert service.start("app.cli", "restore", str(target)).popen.wait(60) == 0
    service.api()
    assert service.job(job_id)["progress"]["epoch"] >= 10
    service.worker()
    job = service.succeeded(job_id)
    assert (service.figures(job_id), service.weights(job_id), job["evaluation"]) == undisturbed


def test_a_damaged_checkpoint_is_reported_and_not_sent(shared: Service) -> None:
    job_id = shared.submit({**STEADY, "training": {"max_epochs": 2}})
    shared.succeeded(job_id)
    store = JobStore(f"sqlite:///{shared.data / 'whistlestop.db'}")
    path = ArtifactStore(shared.data / "checkpoints").path(store.checkpoint(job_id, "best_model.pth").key)
    store.close()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    answer = shared.http.get(f"/jobs/{job_id}/checkpoints/best_model.pth")
    assert (answer.status_code, answer.json()["code"]) == (500, "checkpoint_damaged")
