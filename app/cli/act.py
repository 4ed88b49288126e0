"""Act on jobs: stop, pause, resume, cancel, retry, delete, download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.shown import AsJson, console, done, show_json, transfer
from app.cli.target import Ref, job_here
from app.specs import BEST


def stop(job: Ref, as_json: AsJson = False) -> None:
    """End training after the running epoch; keep and evaluate the best weights."""
    _act(job, "stop", as_json)


def pause(job: Ref, as_json: AsJson = False) -> None:
    """Free the slot and keep the state."""
    _act(job, "pause", as_json)


def resume(job: Ref, as_json: AsJson = False) -> None:
    """Go on from the last epoch."""
    _act(job, "resume", as_json)


def cancel(job: Ref, as_json: AsJson = False) -> None:
    """Give a job up."""
    _act(job, "cancel", as_json)


def retry(job: Ref, as_json: AsJson = False) -> None:
    """Try a failed job again."""
    _act(job, "retry", as_json)


def _act(ref: str, name: str, as_json: bool) -> None:
    with job_here(ref) as found:
        now = getattr(found, name)()
    if as_json:
        show_json(now)
    elif name == "stop" and not now.status.final:
        console.print(f"{now.id} stops after the running epoch.", soft_wrap=True)
    else:
        console.print(f"{now.id} is {now.status}.", soft_wrap=True)


def delete(
    job: Ref,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete a job that has ended, with its metrics and weights."""
    with job_here(job) as found:
        if not yes:
            typer.confirm(f"Delete job {found.id} with its metrics and weights?", abort=True)
        found.delete()
    done(f"{found.id} is deleted.", as_json, deleted=found.id)


def download(
    job: Ref,
    name: Annotated[str, typer.Argument(help="Name of the checkpoint.")] = BEST,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to; default: its name, here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Download weights: best_model.pth, last.pth, best_model.onnx or best_model.safetensors."""
    with job_here(job) as found:
        if as_json:
            show_json({"path": str(found.download(name, output).absolute())})
            return
        with transfer() as bar:
            task = bar.add_task(name, total=None)
            path = found.download(name, output, lambda got, size: bar.update(task, completed=got, total=size))
    console.print(f"{path}  ({path.stat().st_size:,} bytes)", soft_wrap=True)
