"""The service as its users have it: real processes, on a free port, in a folder of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

Json = dict[str, Any]
FINAL = ("succeeded", "failed", "cancelled")
START_SECONDS = 90

# A job of some seconds whose epochs are short, for tests that interrupt it.
LONG: Json = {
    "dataset": {"name": "digits"},
    "training": {"max_epochs": 400, "batch_size": 16},
    "early_stopping": None,
    "tracking": None,
}


def until(what: str, check: Callable[[], Any], seconds: float = 60) -> Any:
    """What `check` returns as soon as it is true; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:g} s: {what}")


class Process:
    """`python -m MODULE`, its output in a file."""

    def __init__(self, log: Path, environment: dict[str, str], *arguments: str) -> None:
        self.log = log
        with log.open("w") as out:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", *arguments], env=environment, stdout=out, stderr=out, process_group=0
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def family(self) -> list[psutil.Process]:
        """The process and all that it started."""
        process = psutil.Process(self.pid)
        return [process, *process.children(recursive=True)]

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 30) -> int:
        """Its exit status after a signal, or after it had ended by itself."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.popen.wait(seconds)


class Service:
    """An API with workers over one data folder."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.data = folder / "data"
        named = {f"WHISTLESTOP_{name.upper()}": str(value) for name, value in settings.items()}
        own = {"WHISTLESTOP_DATA_DIR": str(self.data), "WHISTLESTOP_PORT": str(self.port)}
        self.environment = {**os.environ, **own, **named}
        self.http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)
        self.processes: list[Process] = []

    def start(self, *arguments: str, **settings: object) -> Process:
        """Start `python -m ...` with the service's settings."""
        named = {f"WHISTLESTOP_{name.upper()}": str(value) for name, value in settings.items()}
        log = self.folder / f"{arguments[0]}-{len(self.processes)}.log"
        self.processes.append(Process(log, {**self.environment, **named}, *arguments))
        return self.processes[-1]

    def api(self) -> Process:
        """Start the API and wait until it answers."""
        process = self.start("app")

        def answers() -> bool:
            assert process.popen.poll() is None, process.log.read_text()
            with contextlib.suppress(httpx.TransportError):
                return self.http.get("/readyz").is_success
            return False

        until("the API answers", answers, START_SECONDS)
        return process

    def worker(self, **settings: object) -> Process:
        """Start a worker and wait until it is known."""
        process = self.start("worker", **settings)
        self.ready(process)
        return process

    def ready(self, worker: Process) -> None:
        """Wait until a worker is known."""

        def known() -> bool:
            assert worker.popen.poll() is None, worker.log.read_text()
            return any(listed["pid"] == worker.pid for listed in self.get("/workers")["data"])

        until("the worker is ready", known, START_SECONDS)

    def get(self, path: str, **parameters: Any) -> Json:
        """A GET that must succeed."""
        answer = self.http.get(path, params=parameters)
        assert answer.is_success, answer.text
        found: Json = answer.json()
        return found

    def submit(self, spec: Json | None = None) -> str:
        """The id of a new job."""
        answer = self.http.post("/jobs", json=spec or {})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str) -> Json:
        return self.get(f"/jobs/{job_id}")

    def ended(self, job_id: str, seconds: float = 120) -> Json:
        """The job once it has ended."""

        def final() -> Json | None:
            job = self.job(job_id)
            return job if job["status"] in FINAL else None

        found: Json = until(f"job {job_id} ends", final, seconds)
        return found

    def succeeded(self, job_id: str, seconds: float = 120) -> Json:
        """The job once it has succeeded."""
        job = self.ended(job_id, seconds)
        assert job["status"] == "succeeded", job["error"]
        return job

    def reaches(self, job_id: str, epoch: int) -> Json:
        """The job once it has finished so many epochs."""

        def there() -> Json | None:
            job = self.job(job_id)
            assert job["status"] not in FINAL, job
            return job if job["progress"]["epoch"] >= epoch else None

        found: Json = until(f"job {job_id} finishes epoch {epoch}", there)
        return found

    def events(self, job_id: str) -> list[str]:
        """The types of a job's events."""
        return [event["type"] for event in self.get(f"/jobs/{job_id}/events", limit=10_000)["data"]]

    def outcomes(self, job_id: str) -> list[str]:
        """How a job's attempts ended."""
        found: Any = self.get(f"/jobs/{job_id}/attempts")
        return [attempt["outcome"] for attempt in found]

    def figures(self, job_id: str) -> list[Json]:
        """A job's epoch rows without their times."""
        timed = ("seconds", "samples_per_second")
        rows = self.get(f"/jobs/{job_id}/metrics")["data"]
        return [{name: value for name, value in row.items() if name not in timed} for row in rows]

    def weights(self, job_id: str) -> bytes:
        """A job's best_model.pth."""
        answer = self.http.get(f"/jobs/{job_id}/checkpoints/best_model.pth")
        assert answer.is_success, answer.text
        return answer.content

    def end(self) -> None:
        """End everything that still runs."""
        self.http.close()
        for process in reversed(self.processes):
            if process.popen.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.stop(seconds=20)
            if process.popen.poll() is None:
                process.stop(signal.SIGKILL)


@contextlib.contextmanager
def running(folder: Path, **settings: object) -> Iterator[Service]:
    """A service without any process yet; whatever is started in it is ended with it."""
    service = Service(folder, **settings)
    try:
        yield service
    finally:
        service.end()


def still_alive(family: list[psutil.Process], seconds: float = 10) -> list[psutil.Process]:
    """Those of some processes that have not ended after `seconds`. One whose parent is gone may wait for the system to
    read its exit status: it has ended all the same."""
    _, left = psutil.wait_procs(family, timeout=seconds)
    return [each for each in left if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def children_of(worker: Process) -> list[psutil.Process]:
    """The training processes of a worker."""
    started = [process for process in worker.family()[1:] if "forkserver" in " ".join(process.cmdline())]
    return [process for process in started if process.ppid() != worker.pid]


def child_of(worker: Process) -> psutil.Process:
    """The training process of a worker that runs one job."""
    (child,) = children_of(worker)
    return child


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path | None]:
    """A disk of its own, or None where none can be mounted."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, check=False, capture_output=True).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leave no space on a disk; returns the file that takes it."""
    filler = disk / "filler"
    # Unbuffered: what a buffer still holds would fail to be written once more when the file is closed.
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as out:
        while True:
            out.write(bytes(65_536))
    return filler
