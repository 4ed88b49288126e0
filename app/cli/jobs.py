"""Commands on jobs and data sets, through the API."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import yaml
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from app.cli.shown import (
    AsJson,
    ago,
    console,
    done,
    epoch_bar,
    epoch_words,
    job_table,
    share,
    show_evaluation,
    show_job,
    show_json,
    show_plot,
)
from app.client import Client, RunningJob
from app.jobs import Event, JobStatus
from app.specs import BEST, EpochRow

DETACHED = 130
_LATELY = 500

Ref = Annotated[
    str, typer.Argument(metavar="JOB", help="An id, its beginning or end, a name, or `last` for the newest job.")
]


@contextmanager
def _client() -> Iterator[Client]:
    with Client() as client:
        yield client


@contextmanager
def _job(ref: str) -> Iterator[RunningJob]:
    """A job by what a person types. Ends the command where that is none, or several."""
    with _client() as client:
        yield client.job(_id_of(client, ref))


def _id_of(client: Client, ref: str) -> str:
    if len(ref) == 36:
        return ref
    found: list[str] = []
    for count, job in enumerate(client.jobs(limit=200)):
        if ref == "last":
            return job.id
        if job.name == ref or job.id.startswith(ref) or job.id.endswith(ref):
            found.append(job.id)
        if count >= _LATELY:
            break
    if len(found) == 1:
        return found[0]
    if not found:
        _wrong(f"no job is called {ref!r}, here among the {_LATELY} newest; `whistlestop ls` lists them")
    _wrong(f"{ref!r} may be {len(found)} jobs: {', '.join(found[:5])}; give more of the id")


def _wrong(words: str) -> NoReturn:
    print(f"whistlestop: {words}", file=sys.stderr)
    raise typer.Exit(1)


# --- submit and follow ---------------------------------------------------------------------------------------


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
    with _client() as client:
        if dry_run:
            resolved = client.check(whole).model_dump(mode="json")
            show_json(resolved) if as_json else print(yaml.safe_dump(resolved, sort_keys=False), end="")
            return
        job = client.submit(whole, reuse=reuse)
        if as_json and not follow:
            show_json(job.get().model_dump(mode="json"))
        elif not as_json:
            console.print(f"[bold]{job.id}[/]  {client.http.base_url}/#/jobs/{job.id}", soft_wrap=True)
        if follow:
            _follow(job, as_json)


def _read(spec: Path | None) -> dict[str, Any]:
    if spec is None:
        return {}
    try:
        found = yaml.safe_load(spec.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        _wrong(f"{spec} cannot be read as a spec: {' '.join(str(error).split())}")
    if not isinstance(found, dict | None):
        _wrong(f"{spec} holds no spec, but {type(found).__name__}")
    return dict(found or {})


def _apply(spec: dict[str, Any], change: str) -> None:
    path, sign, text = change.partition("=")
    if not sign or not path:
        _wrong(f"--set takes FIELD=VALUE, as model.residual=true; got {change!r}")
    *outer, name = path.split(".")
    place = spec
    for step in outer:
        inner = place.get(step)
        place[step] = dict(inner) if isinstance(inner, dict) else {}
        place = place[step]
    place[name] = _value(text)


def _value(text: str) -> Any:
    """As in YAML 1.2, where 1e-3 is a number."""
    found = yaml.safe_load(text)
    if isinstance(found, str):
        try:
            return float(found)
        except ValueError:
            pass
    return found


def watch(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="One job; without it, all of them.")] = None,
) -> None:
    """Look on: at one job until it ends, or at all of them until Ctrl-C."""
    if job is not None:
        with _job(job) as found:
            _follow(found, as_json=False)
        return
    with _client() as client, Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                newest = [each for _, each in zip(range(20), client.jobs(limit=20), strict=False)]
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
                    row = _row_of(event)
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


def _row_of(event: Event) -> EpochRow:
    return EpochRow.model_validate({name: event.data[name] for name in EpochRow.model_fields})


# --- look ----------------------------------------------------------------------------------------------------


def ls(
    status: Annotated[list[JobStatus] | None, typer.Option(help="May be repeated.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="May be repeated; all of them.")] = None,
    name: Annotated[str | None, typer.Option(help="Names that contain this.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Name of the data set.")] = None,
    model: Annotated[str | None, typer.Option(help="Kind of the model.")] = None,
    sort: Annotated[str, typer.Option(help="created_at, val_loss or test_acc.")] = "created_at",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs."""
    filters = {"status": status or None, "tag": tag or None, "name": name, "dataset": dataset, "model": model}
    with _client() as client:
        jobs = client.jobs(**filters, sort=sort, limit=min(limit, 200))
        found = [job for _, job in zip(range(limit), jobs, strict=False)]
    if as_json:
        show_json([job.model_dump(mode="json") for job in found])
    elif found:
        console.print(job_table(found))
    else:
        console.print("No job here. `whistlestop submit` submits Exercise 1.")


def show(
    job: Ref,
    spec: Annotated[bool, typer.Option("--spec", help="Its spec, as YAML, instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one job."""
    with _job(job) as found:
        now = found.get()
    if as_json:
        show_json(now.model_dump(mode="json"))
    elif spec:
        print(yaml.safe_dump(now.spec.model_dump(mode="json"), sort_keys=False), end="")
    else:
        show_job(now)


def logs(
    job: Ref,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the console of a job."""
    with _job(job) as found:
        last = 0
        try:
            while True:
                final = found.get().status.final
                lines = found.logs(after=last)
                for line in lines:
                    sys.stdout.write(f"{line.model_dump_json() if as_json else line.text}\n")
                    last = line.number
                sys.stdout.flush()
                if not lines:
                    if final or not follow:
                        return
                    time.sleep(0.3)
        except KeyboardInterrupt:
            raise typer.Exit(DETACHED) from None


def metrics(
    job: Ref,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
    plot: Annotated[bool, typer.Option("--plot", help="Curves, in characters.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the epoch rows of a job."""
    with _job(job) as found:
        rows = found.metrics(max_points=1000 if plot else None)
        now = found.get()
    if as_json:
        show_json([row.model_dump() for row in rows])
    elif as_csv:
        table = csv.DictWriter(sys.stdout, list(EpochRow.model_fields), lineterminator="\n")
        table.writeheader()
        table.writerows(dict(row) for row in rows)
    elif not rows:
        console.print("No epoch has ended yet.")
    elif plot:
        show_plot(rows, now.name or now.id)
    else:
        shown = Table(box=None, pad_edge=False, header_style="bold")
        for name in EpochRow.model_fields:
            shown.add_column(name, justify="right")
        for row in rows:
            best = "[green]" if now.best and row.epoch == now.best.epoch else ""
            shown.add_row(
                f"{best}{row.epoch}",
                f"{row.train_loss:.4f}",
                share(row.train_acc),
                f"{row.val_loss:.4f}",
                share(row.val_acc),
                f"{row.lr:.2e}",
                f"{row.seconds:.2f}",
                f"{row.samples_per_second:,.0f}",
            )
        console.print(shown)


def evaluate(job: Ref, as_json: AsJson = False) -> None:
    """Show the evaluation of a job's best weights on the test split."""
    with _job(job) as found:
        evaluation = found.evaluation()
    show_json(evaluation.model_dump(mode="json")) if as_json else show_evaluation(evaluation)


def compare(
    jobs: Annotated[list[str], typer.Argument(metavar="JOB...", help="Two jobs or more.")], as_json: AsJson = False
) -> None:
    """Lay jobs side by side."""
    with _client() as client:
        found = client.compare(*[_id_of(client, ref) for ref in jobs])
    if as_json:
        show_json(found)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for job in found["jobs"]:
        table.add_column(job["name"] or job["id"][-12:], justify="right")
    for difference in found["differences"]:
        table.add_row(difference["field"], *[str(value) for value in difference["values"]], style="yellow")
    figures: dict[str, Callable[[dict[str, Any]], str]] = {
        "status": lambda job: job["status"],
        "epochs": lambda job: str(job["progress"]["epoch"]),
        "stop reason": lambda job: job["stop_reason"] or "-",
        "best val_loss": lambda job: f"{job['best']['val_loss']:.4f}" if job["best"] else "-",
        "test accuracy": lambda job: share(job["evaluation"]["accuracy"] if job["evaluation"] else None),
        "test loss": lambda job: f"{job['evaluation']['loss']:.4f}" if job["evaluation"] else "-",
        "weighted precision": lambda job: share(job["evaluation"]["precision"] if job["evaluation"] else None),
        "parameters": lambda job: f"{job['runtime']['parameters']:,}" if job["runtime"] else "-",
    }
    for name, of in figures.items():
        table.add_row(name, *[of(job) for job in found["jobs"]])
    console.print(table)


def replay(
    job: Ref,
    patience: Annotated[list[int] | None, typer.Option(help="May be repeated.")] = None,
    min_delta: Annotated[list[float] | None, typer.Option(help="May be repeated.")] = None,
    delta_overfit: Annotated[list[float] | None, typer.Option(help="May be repeated.")] = None,
    overfit_patience: Annotated[list[int] | None, typer.Option(help="May be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask where other settings of early stopping would have stopped a job. All combinations are answered."""
    asked = {
        "patience": patience,
        "min_delta": min_delta,
        "delta_overfit": delta_overfit,
        "overfit_patience": overfit_patience,
    }
    with _job(job) as found:
        answers = found.replay(**{name: values for name, values in asked.items() if values})
    if as_json:
        show_json(answers)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (*asked, "epoch", "stops for", "best", "val_loss", "saves", "gives up"):
        table.add_column(name, justify="right")
    for each in answers:
        settings = [str(each["settings"][name]) for name in asked]
        loss = each["best_val_loss"]
        table.add_row(
            *settings,
            str(each["epoch"]),
            each["stop_reason"] or "not stopped",
            str(each["best_epoch"]),
            "-" if loss is None else f"{loss:.4f}",
            str(each["epochs_saved"]),
            f"{each['val_loss_given_up']:.4f}",
        )
    console.print(table)


# --- act -----------------------------------------------------------------------------------------------------


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
    with _job(ref) as found:
        now = getattr(found, name)()
    if as_json:
        show_json(now.model_dump(mode="json"))
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
    with _job(job) as found:
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
    with _job(job) as found:
        if as_json:
            show_json({"path": str(found.download(name, output).absolute())})
            return
        with _transfer() as bar:
            task = bar.add_task(name, total=None)
            path = found.download(name, output, lambda got, size: bar.update(task, completed=got, total=size))
    console.print(f"{path}  ({path.stat().st_size:,} bytes)", soft_wrap=True)


def _transfer() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    return Progress(*columns, console=console, transient=True)


# --- data sets and workers -----------------------------------------------------------------------------------

datasets = typer.Typer(no_args_is_help=True, help="Data sets that jobs can name.")


@datasets.command("ls")
def list_datasets(as_json: AsJson = False) -> None:
    """List them."""
    with _client() as client:
        found = client.datasets()
    if as_json:
        show_json([each.model_dump(mode="json") for each in found])
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "kind", "prepared", "classes", "training", "test", "shape"):
        table.add_column(column)
    for each in found:
        classes = each.classes or ()
        shape = "x".join(map(str, each.shape)) if each.shape else "-"
        counts = [f"{sum(getattr(one, split) for one in classes):,}" if classes else "-" for split in ("train", "test")]
        prepared = "yes" if each.prepared else "-"
        table.add_row(each.name, each.kind, prepared, str(len(classes) or "-"), *counts, shape)
    console.print(table)


@datasets.command("upload")
def upload_dataset(name: str, archive: Path, as_json: AsJson = False) -> None:
    """Upload a .tar, .tar.gz or .zip with train/CLASS/* and test/CLASS/* in it."""
    with _client() as client, _transfer() as bar:
        task = bar.add_task(f"uploading {archive.name}", total=archive.stat().st_size)

        def told(sent: int, size: int) -> None:
            what = "looking it through" if sent == size else f"uploading {archive.name}"
            bar.update(task, completed=sent, description=what)

        found = client.upload_dataset(name, archive, None if as_json else told)
    if as_json:
        show_json(found.model_dump(mode="json"))
    else:
        console.print(f"{name} is there: {len(found.classes or ())} classes.")


@datasets.command("delete")
def delete_dataset(name: str, as_json: AsJson = False) -> None:
    """Delete an uploaded one."""
    with _client() as client:
        client.delete_dataset(name)
    done(f"{name} is deleted.", as_json, deleted=name)


def workers(as_json: AsJson = False) -> None:
    """List workers."""
    with _client() as client:
        found = client.workers()
    if as_json:
        show_json([each.model_dump(mode="json") for each in found])
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("host", "pid", "status", "device", "slots", "cpu", "memory", "runs", "heard of"):
        table.add_column(column)
    for each in found:
        usage = each.usage
        table.add_row(
            each.host,
            str(each.pid),
            each.status,
            f"{each.device} ({each.device_name})",
            f"{len(each.running)}/{each.slots}",
            f"{usage.cpu_percent:.0f}%" if usage else "-",
            f"{usage.memory / 2**30:.1f} GiB" if usage else "-",
            ", ".join(each.running) or "-",
            ago(each.heartbeat_at),
        )
    console.print(table)


COMMANDS: tuple[Callable[..., None], ...] = (
    *(submit, ls, show, watch, logs, metrics, evaluate, compare, replay),
    *(stop, pause, resume, cancel, retry, delete, download, workers),
)
