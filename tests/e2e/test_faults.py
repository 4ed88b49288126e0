"""Bad jobs, full disks, wrong settings: what goes on, and what people are told."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.service import LONG, Service, fill, small_disk, until


def test_a_bad_job_fails_with_its_reason_and_the_next_one_succeeds(service: Service) -> None:
    service.api()
    worker = service.worker()
    diverging = service.submit(
        {
            "dataset": {"name": "digits"},
            "model": {"hidden": [64] * 12},
            "optimizer": {"kind": "sgd", "lr": 100},
            "max_attempts": 3,
        }
    )
    job = service.ended(diverging)
    assert (job["status"], job["error"]["type"], job["attempt"]) == ("failed", "diverged", 1)
    assert "Try a lower learning rate than 100" in job["error"]["message"]
    *_, last = service.get(f"/jobs/{diverging}/logs")["data"]
    assert last["text"] == f"failed: diverged: {job['error']['message']}"
    # so much memory that the system refuses it: 65,536 x 65,536 weights are 16 GiB
    resource.prlimit(_forkserver(worker.pid), resource.RLIMIT_AS, (12 << 30, 12 << 30))
    huge = service.ended(service.submit({"dataset": {"name": "digits"}, "model": {"hidden": [65_536, 65_536]}}))
    assert (huge["status"], huge["error"]["type"]) == ("failed", "out_of_memory"), huge["error"]
    assert "smaller batch_size or model" in huge["error"]["message"]
    service.succeeded(service.submit({"dataset": {"name": "digits"}, "training": {"max_epochs": 1}}))
    assert worker.popen.poll() is None


def _forkserver(worker: int) -> int:
    found = subprocess.run(["pgrep", "-P", str(worker), "-f", "forkserver"], capture_output=True, text=True, check=True)
    return int(found.stdout.split()[0])


def test_a_damaged_data_set_fails_the_job_with_what_to_do(service: Service) -> None:
    service.api()
    service.worker()
    spec = {"dataset": {"name": "digits"}, "training": {"max_epochs": 1}}
    service.succeeded(service.submit(spec))
    (file,) = service.data.glob("datasets/prepared/digits-v?.safetensors")
    file.write_bytes(file.read_bytes()[:1000])
    job = service.ended(service.submit(spec))
    assert (job["status"], job["error"]["type"]) == ("failed", "dataset_broken")
    assert f"{file} is damaged" in job["error"]["message"]
    assert "Delete it" in job["error"]["message"]
    file.unlink()
    service.succeeded(service.submit(spec))


def test_a_torchvision_of_another_pytorch_is_told_to_who_needs_it(service: Service, tmp_path: Path) -> None:
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    service.environment["PYTHONPATH"] = str(tmp_path)
    service.api()
    service.worker()
    digits = {"dataset": {"name": "digits"}, "training": {"max_epochs": 1}}
    job = service.ended(service.submit({**digits, "model": {"kind": "torchvision", "name": "resnet18"}}))
    assert (job["status"], job["error"]["type"]) == ("failed", "installation_broken")
    assert "--force-reinstall torch torchvision" in job["error"]["message"]
    service.succeeded(service.submit(digits))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 48 MiB."""
    (tmp_path / "disk").mkdir()
    with small_disk(tmp_path / "disk", 48) as mounted:
        if mounted is None:
            pytest.skip("mounting a small disk takes root")
        yield mounted


def test_training_waits_for_space_on_a_full_disk_and_loses_nothing(service: Service, disk: Path) -> None:
    service.data.mkdir()
    (service.data / "checkpoints").symlink_to(disk)
    service.api()
    service.worker(lease_seconds=30)
    job_id = service.submit({**LONG, "training": {"max_epochs": 150, "batch_size": 16}})
    service.reaches(job_id, 3)
    filler = fill(disk)
    until("a warning is given", lambda: "warning" in service.events(job_id))
    warning = next(line["text"] for line in service.get(f"/jobs/{job_id}/logs")["data"] if "warning" in line["text"])
    assert "The disk is full" in warning
    assert "Nothing is lost" in warning
    assert service.job(job_id)["status"] == "running"
    filler.unlink()
    job = service.succeeded(job_id)
    assert (job["attempt"], len(service.figures(job_id))) == (1, 150)


def test_a_worker_that_starts_on_a_full_disk_waits_for_space(service: Service, disk: Path) -> None:
    service.data.symlink_to(disk)
    service.api()
    filler = fill(disk)
    worker = service.start("worker")
    until("the worker says what is wrong", lambda: "is full or failing" in worker.log.read_text())
    assert service.get("/workers")["data"] == []
    filler.unlink()
    service.ready(worker)
    assert worker.stop() == 0
    assert "Traceback" not in worker.log.read_text()


@pytest.mark.parametrize("module", ["app", "worker"])
@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("data_dir", "/proc/nowhere", "/proc/nowhere"),
        ("data_dir", "{file}/data", "Set WHISTLESTOP_DATA_DIR to a folder that you may write to"),
        ("database_url", "sqlite://", "must be a file"),
        ("database_url", "sqlite:////dev/null", "/dev/null"),
        ("database_url", "sqlite:///{file}", "is damaged or no SQLite file"),
        ("database_url", "sqlite:///file:{database}?mode=ro&uri=true", "is read-only"),
        ("database_url", "postgresql://somebody:secret@127.0.0.1:1/jobs", "cannot be used"),
        ("slots", "none", "WHISTLESTOP_SLOTS='none'"),
    ],
)
def test_what_cannot_start_says_why_in_words(
    service: Service, tmp_path: Path, module: str, setting: str, value: str, words: str
) -> None:
    file, database = tmp_path / "file", tmp_path / "empty.db"
    file.write_text("no database, and no folder " * 100)
    database.touch()
    process = service.start(module, **{setting: value.format(file=file, database=database)})
    assert process.popen.wait(30) == 2
    told = process.log.read_text()
    assert words in told
    assert "Traceback" not in told
    assert "secret" not in told


def test_a_device_that_is_not_there_is_told_at_the_start(service: Service) -> None:
    process = service.start("worker", device="cuda:63")
    assert process.popen.wait(60) == 2
    assert "WHISTLESTOP_DEVICE=cuda:63" in process.log.read_text()
