"""Submit a job, and look on."""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.live import Live

from app import yaml12
from app.cli.shown import AsJson, console, epoch_bar, epoch_words, job_table, show_job, show_json, show_yaml
from app.cli.target import DETACHED, job_here, wrong
from app.client import Client, RunningJob, row_of
from app.jobs import JobStatus


def submit(
    spec: Annotated[Path | None, typer.Argument(help="A spec as YAML or JSON; without one, Exercise 1.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="A field and its value, as model.residual=true. May be repeated.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay, and show how it goes.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Show the whole spec; submit nothing.")] = False,
    reuse: Annotated[bool, typer.Option(help="Take a job of the same spec and seed that has succeeded.")] = False,
    as_json: AsJson = False,
) -> None:
    """Submit a job."""
    whole = _read(spec)
    for change in changes or []:
        _apply(whole, change)
    with Client() as client:
        if dry_run:
            resolved = client.check(whole)
            show_json(resolved) if as_json else show_yaml(resolved)
            return
        job = client.submit(whole, reuse=reuse)
        if as_json and not follow:
            show_json(job.get())
        elif not as_json:
            console.print(f"[bold]{job.id}[/]  {client.http.base_url}/#/jobs/{job.id}", soft_wrap=True)
        if follow:
            _follow(job, as_json)


def _read(spec: Path | None) -> dict[str, Any]:
    if spec is None:
        return {}
    try:
        found = yaml12.load(spec.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        wrong(f"{spec} cannot be read as a spec: {' '.join(str(error).split())}")
    if not isinstance(found, dict | None):
        wrong(f"{spec} holds no spec, but {type(found).__name__}")
    return dict(found or {})


def _apply(spec: dict[str, Any], change: str) -> None:
    path, sign, text = change.partition("=")
    if not sign or not path:
        wrong(f"--set takes FIELD=VALUE, as model.residual=true; got {change!r}")
    *outer, name = path.split(".")
    place = spec
    for step in outer:
        inner = place.get(step)
        place[step] = dict(inner) if isinstance(inner, dict) else {}
        place = place[step]
    try:
        place[name] = yaml12.load(text)
    except yaml.YAMLError as error:
        wrong(f"--set {path}: the value is not YAML: {' '.join(str(error).split())}")


def watch(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="One job; without it, all of them.")] = None,
) -> None:
    """Look on: at one job until it ends, or at all of them until Ctrl-C."""
    if job is not None:
        with job_here(job) as found:
            _follow(found, as_json=False)
        return
    with Client() as client, Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                newest = list(itertools.islice(client.jobs(limit=20), 20))
                live.update(job_table(newest), refresh=True)
                time.sleep(1)
        except KeyboardInterrupt:
            return


def _follow(job: RunningJob, as_json: bool) -> None:
    """Show a job's events until it has ended. Ctrl-C leaves it alone."""
    try:
        if as_json:
            for event in job.events():
                sys.stdout.write(f"{event.model_dump_json()}\n")
                sys.stdout.flush()
        else:
            _show_events(job)
        ended = job.wait(check=False)
    except KeyboardInterrupt:
        print(f"\nDetached; the job goes on. `whistlestop watch {job.id}` looks on, `cancel` ends it.", file=sys.stderr)
        raise typer.Exit(DETACHED) from None
    if not as_json:
        show_job(ended)
    if ended.status is not JobStatus.SUCCEEDED:
        raise typer.Exit(4)


def _show_events(job: RunningJob) -> None:
    now = job.get()
    with epoch_bar() as bar:
        task = bar.add_task(now.name or job.id[-12:], total=now.progress.max_epochs, words=now.status)
        for event in job.events():
            match event.type:
                case "finished":
                    bar.update(
                        task, total=bar.tasks[task].completed or 1, words=str(event.data.get("status", "finished"))
                    )
                case "epoch":
                    row = row_of(event)
                    words = epoch_words(row, event.data.get("early_stopping") or {})
                    bar.update(task, completed=row.epoch, words=words)
                case "early_stop":
                    bar.console.print(f"early stop: {event.data.get('reason', event.data.get('stop_reason', ''))}")
                case "checkpoint" | "training" | "queued" | "started":
                    bar.update(task, words=event.type)
                case "data":
                    received, expected = event.data.get("received"), event.data.get("expected")
                    bar.update(task, words=f"downloading, {received:,} of {expected or '?'} bytes")
                case _:
                    told = event.data.get("message") or event.data.get("error") or ""
                    bar.console.print(f"{event.type} {told}".strip())
