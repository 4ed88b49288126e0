"""The command line in a real terminal, over a live API and worker."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.e2e.service import LONG, Service

COMMAND = [sys.executable, "-m", "app.cli"]
QUICK = ["--set", "dataset.name=digits", "--set", "tracking=null"]


def whistlestop(service: Service, *arguments: str, status: int = 0, cwd: Path | None = None) -> str:
    """What a command prints. It must end with `status`."""
    environment = {**service.environment, "WHISTLESTOP_URL": service.url, "COLUMNS": "140"}
    done = subprocess.run(
        [*COMMAND, *arguments], env=environment, cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if status == 0 else done.stderr


def terminal(service: Service, *arguments: str) -> Any:
    """A command in a terminal of its own."""
    environment = {**os.environ, "WHISTLESTOP_URL": service.url, "TERM": "xterm-256color", "COLUMNS": "140"}
    # Tests that run in the background ignore Ctrl-C, and what they start inherits that.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return pexpect.spawn(
        COMMAND[0],
        [*COMMAND[1:], *arguments],
        env=environment,
        dimensions=(40, 140),
        timeout=60,
        encoding="utf-8",
        preexec_fn=heed,
    )


def test_submit_follow_shows_a_live_bar_and_ctrl_c_detaches_without_harm(shared: Service) -> None:
    spec = [f"--set=training.max_epochs={2000}", "--set=training.batch_size=16", "--set=early_stopping=null"]
    screen = terminal(shared, "submit", *QUICK, *spec, "--set=name=followed", "--follow")
    screen.expect(r"([0-9a-f-]{36})")
    job_id = screen.match.group(1)
    screen.expect("val_loss 0")
    screen.expect("━")  # the bar
    seen = shared.job(job_id)["progress"]["epoch"]
    screen.sendintr()
    screen.expect("Detached; the job goes on")
    screen.expect(pexpect.EOF)
    screen.close()
    assert screen.exitstatus == 130
    shared.reaches(job_id, seen + 5)
    looking = terminal(shared, "watch", job_id)
    looking.expect("val_loss")
    whistlestop(shared, "stop", job_id)
    looking.expect("stop reason.*requested")
    looking.expect(pexpect.EOF)
    looking.close()
    assert looking.exitstatus == 0
    plot = terminal(shared, "metrics", job_id, "--plot")
    plot.expect("followed: loss")
    plot.expect("val_loss")
    plot.expect("followed: acc")
    plot.expect(pexpect.EOF)


def test_watch_shows_all_jobs_until_ctrl_c(shared: Service) -> None:
    job_id = shared.submit({"dataset": {"name": "digits"}, "name": "to watch", "tracking": None})
    screen = terminal(shared, "watch")
    screen.expect("to watch")
    screen.expect(["succeeded", "running"])
    screen.sendintr()
    screen.expect(pexpect.EOF)
    shared.succeeded(job_id)


def test_a_job_s_life_in_commands(shared: Service, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("name: from-a-file\ndataset: {name: digits}\ntracking: null\n")
    job = json.loads(whistlestop(shared, "submit", str(spec), "--set", "optimizer.lr=1e-2", "--json"))
    assert (job["name"], job["spec"]["optimizer"]["lr"]) == ("from-a-file", 0.01)
    shared.succeeded(job["id"])
    short = job["id"][-12:]
    assert short in whistlestop(shared, "ls", "--name", "from-a-file", "--status", "succeeded")
    assert json.loads(whistlestop(shared, "ls", "--json", "--limit", "1"))[0]["id"] == job["id"]
    assert "stagnation" in whistlestop(shared, "show", "from-a-file")
    assert "lr: 0.01" in whistlestop(shared, "show", short, "--spec")
    assert "stopped after epoch" in whistlestop(shared, "logs", short)
    assert whistlestop(shared, "metrics", short, "--csv").startswith("epoch,train_loss")
    assert (
        len(json.loads(whistlestop(shared, "metrics", short, "--json"))) == shared.job(job["id"])["progress"]["epoch"]
    )
    assert "weighted precision" in whistlestop(shared, "evaluate", "last")
    assert "stagnation" in whistlestop(shared, "replay", short, "--patience", "1", "--patience", "2")
    target = tmp_path / "weights.pth"
    whistlestop(shared, "download", short, "--output", str(target))
    assert target.read_bytes() == shared.weights(job["id"])
    other = json.loads(whistlestop(shared, "submit", str(spec), "--set", "seed=1", "--set", "name=second", "--json"))
    shared.succeeded(other["id"])
    compared = whistlestop(shared, "compare", short, "second")
    assert "seed" in compared
    assert "optimizer.lr" in compared
    reused = json.loads(whistlestop(shared, "submit", str(spec), "--set", "seed=1", "--reuse", "--json"))
    assert reused["id"] == other["id"]
    whistlestop(shared, "delete", "second", "--yes")
    assert "no job is called 'second'" in whistlestop(shared, "show", "second", status=1)


def test_a_running_job_is_paused_resumed_and_cancelled(shared: Service) -> None:
    job_id = shared.submit(LONG)
    shared.reaches(job_id, 2)
    assert "is paused" in whistlestop(shared, "pause", job_id)
    whistlestop(shared, "resume", job_id)
    assert "is cancelled" in whistlestop(shared, "cancel", job_id)
    assert "takes a job that is" in whistlestop(shared, "retry", job_id, status=1)
    assert "--follow" not in whistlestop(shared, "watch", job_id, status=4)


def test_what_is_wrong_is_told_in_a_line_with_the_next_step(shared: Service, tmp_path: Path) -> None:
    wrong = whistlestop(shared, "submit", "--set", "dataset.nam=digits", status=1)
    assert wrong == "whistlestop: 1 field is wrong: #/dataset/nam: unknown field 'nam'; did you mean 'name'?\n"
    assert "--set takes FIELD=VALUE" in whistlestop(shared, "submit", "--set", "nonsense", status=1)
    assert "cannot be read as a spec" in whistlestop(shared, "submit", str(tmp_path / "nowhere.yaml"), status=1)
    environment = {**os.environ, "WHISTLESTOP_URL": "http://127.0.0.1:9"}
    done = subprocess.run([*COMMAND, "ls"], env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "whistlestop up" in done.stderr


def test_data_sets_and_workers_are_listed_and_a_bad_archive_is_refused(shared: Service, tmp_path: Path) -> None:
    assert "digits" in whistlestop(shared, "datasets", "ls")
    assert any(each["name"] == "mnist" for each in json.loads(whistlestop(shared, "datasets", "ls", "--json")))
    archive = tmp_path / "empty.tar"
    with tarfile.open(archive, "w"):
        pass
    assert "neither a .tar" in whistlestop(shared, "datasets", "upload", "empty", str(archive), status=1)
    assert "live" in whistlestop(shared, "workers")


def test_doctor_knows_a_torchvision_of_another_pytorch(tmp_path: Path) -> None:
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "WHISTLESTOP_DATA_DIR": str(tmp_path / "data")}
    done = subprocess.run(
        [*COMMAND, "doctor", "--json"], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    device = next(each for each in json.loads(done.stdout) if each["what"] == "device")
    assert (done.returncode, device["state"]) == (1, "bad")
    assert "--force-reinstall torch torchvision" in device["advice"]


@pytest.mark.parametrize("fault", [None, "database", "device"])
def test_doctor_says_what_to_do(shared: Service, tmp_path: Path, fault: str | None) -> None:
    bad = {"database": {"database_url": f"sqlite:///{tmp_path / 'x'}"}, "device": {"device": "cuda:63"}}
    (tmp_path / "x").write_text("no database " * 100)
    changed = {f"WHISTLESTOP_{name.upper()}": value for name, value in bad.get(fault or "", {}).items()}
    environment = {**shared.environment, "WHISTLESTOP_URL": shared.url, **changed}
    done = subprocess.run(
        [*COMMAND, "doctor", "--json"], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    found = {each["what"]: each for each in json.loads(done.stdout)}
    assert set(found) == {"device", "disk", "database", "data", "service", "network", "W&B"}
    assert done.returncode == (1 if fault else 0)
    if fault:
        assert found[fault]["state"] == "bad"
        assert "WHISTLESTOP_" in found[fault]["advice"]
