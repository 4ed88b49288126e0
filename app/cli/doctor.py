"""`whistlestop doctor`: whether this machine has what the service needs, and what to do where it does not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import httpx
import typer

from app.cli.service import settings_here
from app.cli.shown import AsJson, console, show_json
from app.datasets import Datasets
from app.settings import Settings
from app.store import JobStore, StoreError

_DEVICE = """
import sys, torch, torchvision
from worker.training.device import choose_device, device_name
device = choose_device(sys.argv[1])
print(f"{device} ({device_name(device)}), PyTorch {torch.__version__}")
"""
_MARKS = {"good": "[green]✓[/]", "warning": "[yellow]![/]", "bad": "[red]✗[/]"}
_SPACE = 2 << 30


class Finding(NamedTuple):
    """One thing that was looked at, and what to do about it."""

    what: str
    state: Literal["good", "warning", "bad"]
    words: str
    advice: str = ""


def doctor(as_json: AsJson = False) -> None:
    """Look at device, disk, data, database, service and network, and say what to do. Exit status 1: something that is
    needed is missing."""
    settings = settings_here()
    found = list(_findings(settings))
    if as_json:
        show_json([each._asdict() for each in found])
    else:
        for each in found:
            console.print(f"{_MARKS[each.state]} [bold]{each.what:<9}[/] {each.words}", soft_wrap=True)
            if each.advice:
                console.print(f"            {each.advice}", soft_wrap=True)
    if any(each.state == "bad" for each in found):
        raise typer.Exit(1)


def _findings(settings: Settings) -> Iterator[Finding]:
    yield _device(settings)
    yield _disk(settings.data_dir)
    yield _database(settings)
    yield from _data(settings)
    yield _service(settings)
    yield _network()
    yield _tracking()


def _device(settings: Settings) -> Finding:
    # torch is not imported into this process, nor anywhere else in `app`.
    done = subprocess.run(
        [sys.executable, "-c", _DEVICE, settings.device], capture_output=True, text=True, check=False, timeout=180
    )
    if done.returncode == 0:
        return Finding("device", "good", done.stdout.strip())
    why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    if "No module named" in why:
        advice = "Install the worker's part, pip install 'whistlestop[worker]', unless this machine only has the API."
        return Finding("device", "warning", "PyTorch is not installed here", advice)
    if "torchvision" in why:
        advice = "torchvision does not fit PyTorch. Install both from one source: "
        return Finding("device", "bad", why, f"{advice}pip install --force-reinstall torch torchvision")
    return Finding("device", "bad", why, "Set WHISTLESTOP_DEVICE to a device that is there; auto takes the best.")


def _disk(folder: Path) -> Finding:
    there = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(there).free
    words = f"{free / 2**30:.1f} GiB free for {folder}"
    if not os.access(there, os.W_OK):
        return Finding("disk", "bad", f"{there} cannot be written to", "Set WHISTLESTOP_DATA_DIR to another folder.")
    if free < _SPACE:
        return Finding("disk", "warning", words, "Delete old jobs, or set WHISTLESTOP_DATA_DIR to a larger disk.")
    return Finding("disk", "good", words)


def _database(settings: Settings) -> Finding:
    kind = settings.resolved_database_url.partition(":")[0]
    if kind == "sqlite" and not settings.database_url and not (settings.data_dir / "whistlestop.db").exists():
        return Finding("database", "good", "a SQLite file; the first start makes it")
    try:
        store = JobStore(settings.resolved_database_url)
        try:
            figures = store.figures()
        finally:
            store.close()
    except StoreError as error:
        advice = "Correct WHISTLESTOP_DATABASE_URL, or restore a backup: whistlestop restore FOLDER."
        return Finding("database", "bad", str(error), advice)
    counts = ", ".join(f"{count} {status}" for status, count in figures.statuses.items() if count) or "no jobs"
    return Finding("database", "good", f"{kind}: {counts}")


def _data(settings: Settings) -> Iterator[Finding]:
    prepared = [each.name for each in Datasets(settings.dataset_folders).list() if each.prepared]
    raw = any((folder / "MNIST" / "raw").is_dir() for folder in settings.dataset_folders)
    words = f"prepared: {', '.join(prepared) or 'none yet'}"
    if "mnist" in prepared or raw:
        yield Finding("data", "good", words)
    else:
        advice = (
            f"MNIST is fetched by the first job; without internet, put MNIST/raw into {settings.dataset_folders[-1]}."
        )
        yield Finding("data", "warning", words, advice)


def _service(settings: Settings) -> Finding:
    url = os.environ.get("WHISTLESTOP_URL", f"http://{settings.host}:{settings.port}")
    try:
        answer = httpx.get(f"{url}/readyz", timeout=2, trust_env=False)
    except httpx.HTTPError:
        advice = "Start it: whistlestop up. Where it is on another machine, set WHISTLESTOP_URL."
        return Finding("service", "warning", f"nothing answers at {url}", advice)
    if not answer.is_success:
        return Finding("service", "bad", f"{url} answers {answer.status_code}", "Its log says why.")
    return Finding("service", "good", f"{url} answers")


def _network() -> Finding:
    for name, url in (
        ("PyPI", "https://pypi.org/simple/"),
        ("PyTorch's data", "https://ossci-datasets.s3.amazonaws.com"),
    ):
        try:
            httpx.head(url, timeout=4)
        except httpx.HTTPError:
            continue
        return Finding("network", "good", f"{name} can be reached")
    advice = "Data sets must be placed by hand (docs/operations.md); `digits` needs none."
    return Finding("network", "warning", "neither PyPI nor PyTorch's mirrors can be reached", advice)


def _tracking() -> Finding:
    if os.environ.get("WANDB_API_KEY"):
        return Finding("W&B", "good", "WANDB_API_KEY is set")
    advice = "Runs are kept offline in the data folder; `wandb sync` uploads them later."
    return Finding("W&B", "good", f"no WANDB_API_KEY. {advice}")
