"""`make demo`: the lab's Exercise 1 through the whole service, as a user would go: POST, watch, download, classify.

Starts API and worker on a free port of this machine, and ends them again. What it trained stays in the data folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table

from app.prepared import prepared_file
from app.settings import Settings
from worker.messages import Places

START_SECONDS = 300  # the first import of torch from a cold disk takes its time
SHOWN = 4
SHADES = " .:-=+*#%@"

console = Console(highlight=False, soft_wrap=True)
Json = dict[str, Any]


def main() -> int:
    settings = Settings()
    # 8000 may be taken by a service that the user has running; the demo is to be in nobody's way.
    port = settings.port if _free(settings.port) else _any_port()
    with _service(settings, port) as api:
        job = _train(api, {"name": "demo-exercise-1", "tags": ["demo"]})
        if job["status"] == "failed" and job["error"]["type"] == "dataset_unavailable":
            console.print(f"\n[yellow]MNIST cannot be had here.[/] {job['error']['message']}")
            console.print("The demo goes on with [b]digits[/], 1,797 real digits that need no download.\n")
            job = _train(api, {"name": "demo-digits", "tags": ["demo"], "dataset": {"name": "digits"}})
        if job["status"] != "succeeded":
            console.print(f"[red]The job {job['status']}:[/] {job['error']}")
            return 1
        _show_evaluation(job)
        weights = _download(api, job, settings.data_dir)
        _classify(weights, settings)
        console.print(
            f"\nDashboard: {api.base_url}/#/jobs/{job['id']} while the service runs; [b]make up[/] starts it and stays."
        )
        console.print(f"Swagger UI: {api.base_url}/docs")
        console.print(f"curl {api.base_url}/jobs/{job['id']}/metrics shows the curves of this job.")
    console.print("API and worker are shut down. [green]The demo succeeded.[/]")
    return 0


# --- the service ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _service(settings: Settings, port: int) -> Iterator[httpx.Client]:
    """API and worker, ready; ended cleanly afterwards."""
    log_file = settings.data_dir / "logs" / "demo-service.log"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "WHISTLESTOP_PORT": str(port), "WHISTLESTOP_HOST": "127.0.0.1"}
    command = [sys.executable, "-m", "app.cli", "up"]
    with log_file.open("w") as log:
        service = subprocess.Popen(command, env=environment, stdout=log, stderr=log, process_group=0)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as api:
            with console.status("Starting API and worker ..."):
                worker = _ready(api, service, log_file)
            console.print(
                f"API at {api.base_url}, worker {worker['pid']} on [b]{worker['device']}[/] ({worker['device_name']}), "
                f"PyTorch {worker['versions']['torch']}, data in {settings.data_dir}"
            )
            yield api
    finally:
        service.send_signal(signal.SIGINT)
        status = service.wait(timeout=60)
    if status != 0:
        raise SystemExit(f"The service ended with status {status}; see {log_file}.")


def _ready(api: httpx.Client, service: subprocess.Popen[bytes], log_file: Path) -> Json:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if service.poll() is not None:
            raise SystemExit(f"The service could not start:\n{log_file.read_text()}")
        with contextlib.suppress(httpx.TransportError):
            live = [worker for worker in api.get("/workers").json()["data"] if worker["status"] == "live"]
            if live:
                return live[0]
        time.sleep(0.1)
    raise SystemExit(f"No worker was ready within {START_SECONDS} s; see {log_file}.")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return port != 0


def _any_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- a user's way --------------------------------------------------------------------------------------------


def _train(api: httpx.Client, spec: Json) -> Json:
    """Submit a job and show what it says until it has ended."""
    job = _checked(api.post("/jobs", json=spec))
    console.print(f"\n[b]POST /jobs[/] {spec}\nGET {job['links']['self']}")
    bar = Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), console=console)
    lines = events = 0
    task = None
    with bar:
        while True:
            ended = job["status"] in ("succeeded", "failed", "cancelled")
            for event in _checked(api.get(job["links"]["events"], params={"after": events}))["data"]:
                events = event["number"]
                if event["type"] == "data":
                    data = event["data"]
                    if task is None:
                        task = bar.add_task("data")
                    name = data["source"].rstrip("/").rpartition("/")[2]
                    bar.update(task, description=name, completed=data["received"], total=data["expected"])
            for line in _checked(api.get(job["links"]["logs"], params={"after": lines}))["data"]:
                lines = line["number"]
                bar.console.print(line["text"], markup=False)
            if ended:
                return job
            time.sleep(0.2)
            job = _checked(api.get(job["links"]["self"]))


def _show_evaluation(job: Json) -> None:
    evaluation = job["evaluation"]
    console.print(f"\nStop reason: [b]{job['stop_reason']}[/], best epoch {job['best']['epoch']}")
    lab = {"loss": "0.1053", "accuracy": "97.39%", "precision": "97.43%"} if evaluation["samples"] == 10_000 else {}
    table = Table("test split", "this job", *(["the lab"] if lab else []), title=f"{evaluation['samples']:,} images")
    for name in ("loss", "accuracy", "precision", "recall", "f1"):
        shown = f"{evaluation[name]:.4f}" if name == "loss" else f"{evaluation[name]:.2%}"
        table.add_row(name, shown, *([lab.get(name, "")] if lab else []))
    console.print(table)


def _download(api: httpx.Client, job: Json, data_dir: Path) -> Path:
    """`best_model.pth` through the API, compared with the sha256 that the API promises."""
    listed = _checked(api.get(job["links"]["checkpoints"]))["data"]
    promised = next(file for file in listed if file["name"] == "best_model.pth")
    target = data_dir / "demo" / "best_model.pth"
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with api.stream("GET", f"{job['links']['checkpoints']}/best_model.pth") as answer, target.open("wb") as file:
        answer.raise_for_status()
        for chunk in answer.iter_bytes():
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != promised["sha256"]:
        raise SystemExit(f"{target} has sha256 {digest.hexdigest()}, promised was {promised['sha256']}")
    console.print(
        f"\nDownloaded {target} ({promised['size']:,} bytes), sha256 {promised['sha256']}: [green]verified[/]"
    )
    return target


def _classify(weights: Path, settings: Settings) -> None:
    """What the downloaded file, all by itself, makes of a handful of test images."""
    with console.status("Loading PyTorch ..."):
        import torch  # noqa: PLC0415  (by now the service is done, and torch takes a second)

        from worker.training import load_model  # noqa: PLC0415
        from worker.training.data import load  # noqa: PLC0415

    model = load_model(weights)
    dataset = model.spec.dataset
    test = load(prepared_file(Places.of(settings).datasets, dataset.name), dataset, torch.device("cpu")).test
    rows = torch.linspace(0, len(test) - 1, SHOWN).long()
    images, labels = test.images[rows], test.labels[rows]
    probabilities, taken = model.predict(images).max(dim=1)
    console.print(f"load_model('{weights.name}') on {SHOWN} test images:")
    small = torch.nn.functional.interpolate(images.float(), size=(8, 16))[:, 0]
    shades = (small / 255 * (len(SHADES) - 1)).round().int().tolist()
    for row in range(8):
        console.print("  ".join("".join(SHADES[shade] for shade in image[row]) for image in shades), markup=False)
    answers = [
        f"{model.classes[guess]} ({share:.0%}) {'right' if guess == label else f'wrong: {model.classes[label]}'}"
        for guess, share, label in zip(taken.tolist(), probabilities.tolist(), labels.tolist(), strict=True)
    ]
    console.print("  ".join(f"{answer:<16}" for answer in answers), markup=False)


def _checked(answer: httpx.Response) -> Json:
    if answer.is_error:
        raise SystemExit(f"{answer.request.method} {answer.request.url} answered {answer.status_code}: {answer.text}")
    body: Json = answer.json()
    return body


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
