"""Look at jobs: lists, figures, curves, consoles, comparisons."""

from __future__ import annotations

import csv
import itertools
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from app.cli.shown import (
    AsJson,
    console,
    job_table,
    plain_table,
    share,
    show_evaluation,
    show_job,
    show_json,
    show_plot,
    show_yaml,
)
from app.cli.target import DETACHED, Ref, id_of, job_here
from app.client import Client
from app.jobs import JobStatus
from app.specs import EpochRow


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
    with Client() as client:
        jobs = client.jobs(**filters, sort=sort, limit=min(limit, 200))
        found = list(itertools.islice(jobs, limit))
    if as_json:
        show_json(found)
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
    with job_here(job) as found:
        now = found.get()
    if as_json:
        show_json(now)
    elif spec:
        show_yaml(now.spec)
    else:
        show_job(now)


def logs(
    job: Ref,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the console of a job."""
    with job_here(job) as found:
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
    with job_here(job) as found:
        rows = found.metrics(max_points=1000 if plot else None)
        now = found.get()
    if as_json:
        show_json(rows)
    elif as_csv:
        table = csv.DictWriter(sys.stdout, list(EpochRow.model_fields), lineterminator="\n")
        table.writeheader()
        table.writerows(dict(row) for row in rows)
    elif not rows:
        console.print("No epoch has ended yet.")
    elif plot:
        show_plot(rows, now.name or now.id)
    else:
        shown = plain_table()
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
    with job_here(job) as found:
        evaluation = found.evaluation()
    show_json(evaluation) if as_json else show_evaluation(evaluation)


def compare(
    jobs: Annotated[list[str], typer.Argument(metavar="JOB...", help="Two jobs or more.")], as_json: AsJson = False
) -> None:
    """Lay jobs side by side."""
    with Client() as client:
        found = client.compare(*[id_of(client, ref) for ref in jobs])
    if as_json:
        show_json(found)
        return
    table = plain_table()
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
    with job_here(job) as found:
        answers = found.replay(**{name: values for name, values in asked.items() if values})
    if as_json:
        show_json(answers)
        return
    table = plain_table()
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
