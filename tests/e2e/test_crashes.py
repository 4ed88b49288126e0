"""Killed processes: what ends, what goes on, and to the same weights."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.e2e.service import LONG, Service, child_of, running, until


def test_a_killed_training_process_is_tried_again_to_the_same_weights(service: Service) -> None:
    service.api()
    worker = service.worker()
    short = {**LONG, "training": {"max_epochs": 60, "batch_size": 16}}
    undisturbed = service.submit(short)
    service.succeeded(undisturbed)
    job_id = service.submit(short)
    service.reaches(job_id, 10)
    child_of(worker).kill()
    job = service.succeeded(job_id)
    assert job["attempt"] == 2
    assert service.outcomes(job_id) == ["crashed", "succeeded"]
    retry = next(
        event for event in service.get(f"/jobs/{job_id}/events", limit=10_000)["data"] if event["type"] == "retrying"
    )
    assert "was ended by SIGKILL" in retry["data"]["error"]["message"]
    assert worker.popen.poll() is None
    assert service.figures(job_id) == service.figures(undisturbed)
    assert service.weights(job_id) == service.weights(undisturbed)


def test_a_job_whose_attempts_are_used_up_fails_and_the_worker_goes_on(service: Service) -> None:
    service.api()
    worker = service.worker()
    job_id = service.submit({**LONG, "max_attempts": 1})
    service.reaches(job_id, 1)
    child_of(worker).kill()
    job = service.ended(job_id)
    assert (job["status"], job["error"]["type"]) == ("failed", "crashed")
    assert "SIGKILL" in job["error"]["message"]
    service.succeeded(service.submit({"dataset": {"name": "digits"}, "training": {"max_epochs": 1}}))


def test_a_killed_worker_s_job_is_taken_by_another_after_the_lease(service: Service) -> None:
    service.api()
    short = {**LONG, "training": {"max_epochs": 60, "batch_size": 16}}
    first = service.worker()
    undisturbed = service.submit(short)
    service.succeeded(undisturbed)
    job_id = service.submit(short)
    service.reaches(job_id, 5)
    family = first.family()
    first.popen.kill()
    killed = time.monotonic()
    until("its training process has ended too", lambda: not any(process.is_running() for process in family[1:]), 10)
    service.worker()
    job = service.succeeded(job_id)
    assert time.monotonic() - killed > 2, "not before the lease had expired"
    assert service.outcomes(job_id) == ["lease_expired", "succeeded"]
    assert job["attempt"] == 2
    assert [row["epoch"] for row in service.figures(job_id)] == list(range(1, 61))
    assert service.figures(job_id) == service.figures(undisturbed)
    assert service.weights(job_id) == service.weights(undisturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_told_to_end_gives_its_job_back(service: Service, number: signal.Signals) -> None:
    service.api()
    worker = service.worker()
    job_id = service.submit({**LONG, "max_attempts": 1})
    service.reaches(job_id, 3)
    began = time.monotonic()
    assert worker.stop(number) == 0
    assert time.monotonic() - began < 5
    job = service.job(job_id)
    assert (job["status"], service.outcomes(job_id)) == ("queued", ["given_back"])
    rows = service.figures(job_id)
    assert [row["epoch"] for row in rows] == list(range(1, job["progress"]["epoch"] + 1))
    service.worker()
    until("another attempt goes on", lambda: service.job(job_id)["progress"]["epoch"] > len(rows))
    assert service.figures(job_id)[: len(rows)] == rows
    assert "resumed" in service.events(job_id)


def test_the_same_service_runs_on_postgresql_with_two_workers(postgres_url: str, tmp_path: Path) -> None:
    with running(tmp_path, database_url=postgres_url, lease_seconds=2) as service:
        service.api()
        workers = {worker.pid: worker for worker in (service.worker(), service.worker())}
        one_epoch = {"dataset": {"name": "digits"}, "training": {"max_epochs": 1}, "tracking": None}
        jobs = [service.submit({**one_epoch, "seed": seed}) for seed in range(12)]
        assert [service.succeeded(job_id)["attempt"] for job_id in jobs] == [1] * 12
        job_id = service.submit({**LONG, "training": {"max_epochs": 100, "batch_size": 16}})
        service.reaches(job_id, 3)
        (busy,) = [worker["pid"] for worker in service.get("/workers")["data"] if worker["running"]]
        workers[busy].popen.kill()
        service.succeeded(job_id)
        assert service.outcomes(job_id) == ["lease_expired", "succeeded"]
        assert [row["epoch"] for row in service.figures(job_id)] == list(range(1, 101))
