"""Weights & Biases beside the training: what it logs, and that its faults stay its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.specs import JobSpec, StopReason, WandbSpec
from tests import wandb_file
from tests.values import EVALUATION, row
from worker.tracking import FINISH_SECONDS, INIT_SECONDS, Tracker

EPOCHS = (1, 2, 3)


def track(folder: Path, mode: str) -> None:
    """A job's tracking, from start to end; prints its warnings. In a process of its own, as every job is."""
    wandb = WandbSpec.model_validate({"project": "lab", "mode": mode})
    spec = JobSpec(name="ex1", tags=("lab1",))
    began = time.monotonic()
    tracker = Tracker("0193a5b0", spec, wandb, folder, lambda text: print(text, flush=True))
    for epoch in EPOCHS:
        tracker.log(row(epoch, 1 / epoch))
    if time.monotonic() - began > 1:
        print("training was held up", flush=True)
    tracker.finish(EVALUATION, StopReason.STAGNATION)
    os._exit(0)


def tracked(folder: Path, mode: str, **environment: str) -> tuple[list[str], float]:
    """The warnings of such a process, and its seconds."""
    code = f"import pathlib, {__name__} as test; test.track(pathlib.Path({str(folder)!r}), {mode!r})"
    keyless = {**os.environ, "HOME": str(folder), "NETRC": str(folder / "none")}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**keyless, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=INIT_SECONDS + FINISH_SECONDS + 30,
        cwd=Path(__file__).parents[2],
    )
    return done.stdout.splitlines(), time.monotonic() - began


def run_file(folder: Path) -> wandb_file.WandbFile:
    """The last offline run's file, read back."""
    *_, newest = sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda file: file.stat().st_mtime)
    return wandb_file.read(newest)


def complete(found: wandb_file.WandbFile) -> None:
    assert (found.run_id, found.project, found.name, found.tags) == ("0193a5b0", "lab", "ex1", ["lab1"])
    for part, value in JobSpec().model_dump(mode="json", exclude={"name", "tags", "tracking"}).items():
        assert found.config[part] == value
    assert [entry["_step"] for entry in found.history] == list(EPOCHS)
    for entry, epoch in zip(found.history, EPOCHS, strict=True):
        logged = {name: entry[name] for name in ("train_loss", "train_acc", "val_loss", "val_acc", "lr")}
        assert logged == row(epoch, 1 / epoch).model_dump(include=set(logged))
    for name in ("loss", "accuracy", "precision", "recall", "f1"):
        assert found.summary[f"test_{name}"] == getattr(EVALUATION, name)
    assert found.summary["stop_reason"] == "stagnation"
    assert found.exit_code == 0


def test_an_offline_run_holds_curves_config_and_summary(tmp_path: Path) -> None:
    warnings, _ = tracked(tmp_path, "offline")
    assert warnings == []
    complete(run_file(tmp_path))


def test_a_later_attempt_goes_on_under_the_same_run_id(tmp_path: Path) -> None:
    for _ in range(2):
        tracked(tmp_path, "offline")
        time.sleep(1)  # W&B names the folder by the second
    files = list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert {wandb_file.read(file).run_id for file in files} == {"0193a5b0"}


def test_online_without_a_key_is_offline_with_a_warning(tmp_path: Path) -> None:
    (warning,), seconds = tracked(tmp_path, "online")
    assert warning.startswith("W&B cannot be reached, so this run is logged offline: ")
    assert seconds < INIT_SECONDS
    complete(run_file(tmp_path))


@pytest.mark.parametrize("server", ["refuses", "is silent"])
def test_online_without_a_server_is_offline_within_the_bound(tmp_path: Path, server: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        if server == "refuses":
            listening.close()
        (warning,), seconds = tracked(tmp_path, "online", WANDB_API_KEY="k" * 40, WANDB_BASE_URL=url)
    assert "logged offline" in warning
    assert "k" * 40 not in warning
    assert seconds < INIT_SECONDS + 10
    complete(run_file(tmp_path))


def test_a_folder_that_cannot_be_written_is_a_warning_and_no_fault_of_the_job(tmp_path: Path) -> None:
    (tmp_path / "in-the-way").write_text("")
    (warning,), _ = tracked(tmp_path / "in-the-way", "offline", HOME=str(tmp_path))
    assert warning.startswith("W&B does not work for this job: ")
