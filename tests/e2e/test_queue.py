"""The queue under load and at rest."""

from __future__ import annotations

import itertools
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import pytest

from tests.e2e.service import LONG, Json, Service, still_alive, until
from worker.training import load_model

DIGITS = {"dataset": {"name": "digits"}, "training": {"max_epochs": 2}, "tracking": None}


@pytest.mark.timeout(300)
def test_a_hundred_jobs_at_once_all_succeed_and_each_runs_once(shared: Service) -> None:
    with ThreadPoolExecutor(10) as pool:
        jobs = list(pool.map(lambda seed: shared.submit({**DIGITS, "seed": seed, "tags": ["hundred"]}), range(100)))
    assert len(set(jobs)) == 100

    def all_ended() -> bool:
        waiting = shared.get("/jobs", tag="hundred", status=["queued", "running"])["data"]
        return not waiting

    until("all hundred have ended", all_ended, 240)
    for job_id in jobs:
        job = shared.job(job_id)
        assert (job["status"], job["attempt"]) == ("succeeded", 1), job["error"]
        events = shared.events(job_id)
        assert [events.count(kind) for kind in ("queued", "started", "training", "epoch", "finished")] == [
            1,
            1,
            1,
            2,
            1,
        ]
        assert [row["epoch"] for row in shared.figures(job_id)] == [1, 2]


def test_a_waiting_worker_claims_within_a_tenth_of_a_second(shared: Service) -> None:
    waits = []
    for seed in range(9):
        job_id = shared.submit({**DIGITS, "seed": seed})
        shared.succeeded(job_id)
        events = shared.get(f"/jobs/{job_id}/events")["data"]
        time_of = {event["type"]: datetime.fromisoformat(event["time"]) for event in events}
        waits.append((time_of["started"] - time_of["queued"]).total_seconds())
        time.sleep(0.05)
    assert statistics.median(waits) < 0.1, waits


def test_higher_priority_runs_first_and_a_position_in_the_queue_is_told(service: Service) -> None:
    service.api()
    low, high, normal = (service.submit({**DIGITS, "priority": priority}) for priority in (-1, 5, 0))
    assert [service.job(job_id)["queue_position"] for job_id in (low, high, normal)] == [3, 1, 2]
    service.worker()
    started = {job_id: service.succeeded(job_id)["started_at"] for job_id in (low, high, normal)}
    assert sorted(started, key=lambda job_id: started[job_id]) == [high, normal, low]


def test_an_idle_worker_costs_less_than_a_hundredth_of_a_core_also_while_jobs_wait(service: Service) -> None:
    service.api()
    later = service.submit({"not_before": "2040-01-01T00:00:00Z"})
    service.submit({"after": [later]})
    worker = service.worker(lease_seconds=30)
    time.sleep(1)
    family = worker.family()

    def used() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in family)

    before, began = used(), time.monotonic()
    time.sleep(10)
    assert (used() - before) / (time.monotonic() - began) < 0.01


@pytest.mark.parametrize(
    "model",
    [
        {"kind": "cnn", "channels": [8, 16], "blocks": 1, "residual": True},
        {"kind": "resnet", "variant": "fast", "width": 0.25},
        {"kind": "torchvision", "name": "squeezenet1_1", "image_size": 32},
    ],
    ids=lambda model: model["kind"],
)
def test_every_kind_of_model_goes_through_the_service_twice_to_the_same_bits(
    shared: Service, tmp_path: Path, model: Json
) -> None:
    spec = {"dataset": {"name": "digits"}, "model": model, "training": {"max_epochs": 2}, "tracking": None}
    jobs = [shared.submit(spec) for _ in range(2)]
    one, two = (shared.succeeded(job_id) for job_id in jobs)
    assert one["evaluation"] == two["evaluation"]
    assert one["runtime"]["parameters"] > 1000
    weights = [shared.weights(job_id) for job_id in jobs]
    assert weights[0] == weights[1]
    (tmp_path / "best_model.pth").write_bytes(weights[0])
    assert load_model(tmp_path / "best_model.pth").spec.model.kind == model["kind"]


def test_a_job_has_its_share_of_the_cores(shared: Service) -> None:
    model = {"kind": "cnn", "channels": [64, 64], "blocks": 1}
    spec = {"dataset": {"name": "digits"}, "model": model, "training": {"max_epochs": 1, "batch_size": 512}}
    job = shared.succeeded(shared.submit({**spec, "tracking": None}))
    assert job["runtime"]["threads"] == max(1, (os.cpu_count() or 1) // 2), "the worker has two slots"


def test_a_fine_tuned_job_starts_from_its_parent_s_weights(shared: Service) -> None:
    model = {"kind": "cnn", "channels": [8, 16], "blocks": 1, "residual": True}
    short = {"dataset": {"name": "digits"}, "model": model, "tracking": None, "training": {"max_epochs": 5}}
    parent = shared.submit({**short, "optimizer": {"lr": 0.01}})
    shared.succeeded(parent)
    spec = {**short, "init_from": {"job": parent, "freeze": "backbone"}, "optimizer": {"lr": 1e-4}}
    child = shared.succeeded(shared.submit(spec))
    assert child["parent"] == parent
    assert shared.job(parent)["children"] == [child["id"]]
    assert child["runtime"]["parameters"] == 16 * 10 + 10, "only the head trains"
    scratch, tuned = (shared.figures(job_id)[0]["val_loss"] for job_id in (parent, child["id"]))
    assert tuned < scratch, "its first epoch begins where the parent's ended"
    unknown = shared.ended(shared.submit({**spec, "init_from": {"job": parent, "freeze": "until:layer9"}}))
    assert (unknown["status"], unknown["error"]["type"]) == ("failed", "unknown_block")
    assert "stem, blocks.0, blocks.1, head" in unknown["error"]["message"]


def test_own_images_are_trained_on_from_a_read_only_folder(mnist_root: Path, shared: Service) -> None:
    if not (mnist_root / "cifar100-subset.tar").exists():
        pytest.skip("WHISTLESTOP_TEST_DATASETS has no cifar100-subset.tar")
    listed = {dataset["name"]: dataset["kind"] for dataset in shared.get("/datasets")["data"]}
    assert (listed["cifar100-subset"], listed["cifar10"]) == ("own", "built-in")
    spec = {"dataset": {"name": "cifar100-subset"}, "model": {"hidden": [32]}, "training": {"max_epochs": 1}}
    job = shared.succeeded(shared.submit({**spec, "tracking": None}))
    assert (job["evaluation"]["samples"], len(job["evaluation"]["per_class"])) == (2000, 100)
    assert job["evaluation"]["per_class"][0]["name"] == "apple"
    assert shared.get("/datasets/cifar100-subset")["prepared"]


def test_gradient_norms_are_in_the_epoch_events_on_request(shared: Service) -> None:
    job_id = shared.submit({**DIGITS, "diagnostics": "gradients"})
    shared.succeeded(job_id)
    events = [event["data"] for event in shared.get(f"/jobs/{job_id}/events")["data"] if event["type"] == "epoch"]
    assert [list(event["gradients"]) for event in events] == [["layers.0", "layers.1", "head"]] * 2
    assert all(norm > 0 for event in events for norm in event["gradients"].values())


def test_a_model_that_cannot_take_the_images_fails_with_what_to_do(shared: Service) -> None:
    job = shared.ended(
        shared.submit({"dataset": {"name": "digits"}, "model": {"kind": "torchvision", "name": "alexnet"}})
    )
    assert (job["status"], job["error"]["type"], job["attempt"]) == ("failed", "model_unavailable", 1)
    assert "Set model.image_size" in job["error"]["message"]


def test_a_cancelled_job_frees_its_slot_within_a_second(shared: Service) -> None:
    job_id = shared.submit(LONG)
    shared.reaches(job_id, 2)
    worker = shared.processes[-1]
    children = {process.pid for process in worker.family()}
    assert shared.http.post(f"/jobs/{job_id}/cancel").json()["status"] == "cancelled"
    until("its training process is gone", lambda: children - {process.pid for process in worker.family()}, 1)
    assert shared.outcomes(job_id) == ["cancelled"]
    rows = shared.figures(job_id)
    time.sleep(0.3)
    assert shared.figures(job_id) == rows, "what it had recorded stays, and nothing is added"
    assert shared.events(job_id)[-1] == "finished"


def test_downloads_during_training_are_whole_files(shared: Service) -> None:
    job_id = shared.submit(LONG)
    shared.reaches(job_id, 1)
    seen = set()
    deadline = time.monotonic() + 60
    for count, name in enumerate(itertools.cycle(("best_model.pth", "last.pth"))):
        if count >= 50 and (len(seen) > 5 or time.monotonic() > deadline):
            break
        answer = shared.http.get(f"/jobs/{job_id}/checkpoints/{name}")
        assert answer.status_code == 200
        digest = sha256(answer.content).hexdigest()
        assert answer.headers["etag"] == f'"{digest}"'
        seen.add(digest)
    assert len(seen) > 5, "training went on meanwhile"
    shared.http.post(f"/jobs/{job_id}/cancel")


def test_a_worker_leaves_no_process_and_no_temporary_file_behind(service: Service) -> None:
    service.api()
    worker = service.worker()
    job_id = service.submit({"dataset": {"name": "digits"}, "training": {"max_epochs": 20}})
    service.succeeded(job_id)
    family = worker.family()
    assert worker.stop() == 0
    assert still_alive(family) == []
    assert service.get("/workers")["data"][0]["status"] == "stopped"
    files = sorted(Path(service.data / "checkpoints" / job_id).iterdir())
    assert len(files) == 4, "the best weights in three formats, and the state"
    assert not list(service.data.rglob(".writing-*"))
    assert "Traceback" not in worker.log.read_text()
