"""How the command line shows things: tables, bars, a plot, JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import plotext
import typer
import yaml
from pydantic_core import to_json
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from app.jobs import Job, JobStatus
from app.specs import EpochRow, Evaluation, JobSpec

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

console = Console(highlight=False)
_WIDE = 105  # columns of a terminal that has room for everything
COLOURS = {
    JobStatus.QUEUED: "white",
    JobStatus.RUNNING: "blue",
    JobStatus.PAUSED: "yellow",
    JobStatus.SUCCEEDED: "green",
    JobStatus.FAILED: "red",
    JobStatus.CANCELLED: "bright_black",
}


def show_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(to_json(value, indent=2).decode())


def show_yaml(spec: JobSpec) -> None:
    """A spec as YAML."""
    print(yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False), end="")


def plain_table(*columns: str) -> Table:
    """A table without lines."""
    return Table(*columns, box=None, pad_edge=False, header_style="bold")


def transfer() -> Progress:
    """A bar over bytes."""
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    return Progress(*columns, console=console, transient=True)


def done(words: str, as_json: bool, **told: Any) -> None:
    """What has been done, in words for people or as JSON for programs."""
    if as_json:
        show_json(told)
    else:
        console.print(words, soft_wrap=True)


def coloured(status: JobStatus) -> str:
    """A status in its colour."""
    return f"[{COLOURS[status]}]{status}[/]"


def share(value: float | None) -> str:
    """A share of 1 in percent."""
    return "-" if value is None else f"{value:.2%}"


def ago(time: datetime) -> str:
    """How long ago, roughly."""
    seconds = (datetime.now(UTC) - time).total_seconds()
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(0, seconds):.0f} s ago"


def job_table(jobs: Sequence[Job]) -> Table:
    """A row for each job."""
    table = plain_table()
    names = ["id", "name", "status", "epoch", "val_loss", "test", "stopped", "what", "submitted"]
    shown = names if console.width >= _WIDE else names[:-2]
    for name in shown:
        narrow = {"id": 12, "status": 9, "test": 6}.get(name)
        justify: Literal["left", "right"] = "right" if name in ("epoch", "val_loss", "test") else "left"
        table.add_column(name, justify=justify, no_wrap=True, min_width=narrow)
    for job in jobs:
        cells = (
            job.id[-12:],  # the random end; every command takes it
            job.name or "-",
            coloured(job.status),
            f"{job.progress.epoch}/{job.progress.max_epochs}",
            f"{job.best.val_loss:.4f}" if job.best else "-",
            share(job.evaluation.accuracy if job.evaluation else None),
            (job.error.type if job.error and not job.stop_reason else job.stop_reason) or "-",
            f"{job.spec.model.kind} on {job.spec.dataset.name}",
            ago(job.created_at),
        )
        table.add_row(*cells[: len(shown)])
    return table


def show_job(job: Job) -> None:
    """All that is known of a job, spec apart."""
    table = Table(box=None, show_header=False, pad_edge=False)
    lines: dict[str, str] = {
        "id": job.id,
        "name": job.name or "-",
        "tags": ", ".join(job.tags) or "-",
        "status": coloured(job.status),
        "what": f"{job.spec.model.kind} on {job.spec.dataset.name}",
        "epoch": f"{job.progress.epoch} of {job.progress.max_epochs}",
    }
    if job.queue_position:
        lines["queue"] = f"place {job.queue_position}"
    if job.stop_reason:
        lines["stop reason"] = job.stop_reason
    if job.best:
        lines["best"] = f"epoch {job.best.epoch}, val_loss {job.best.val_loss:.4f}, val_acc {job.best.val_acc:.2%}"
    if job.evaluation:
        figures = job.evaluation
        lines["test"] = f"accuracy {figures.accuracy:.2%}, loss {figures.loss:.4f}, precision {figures.precision:.2%}"
    if job.runtime:
        runtime = job.runtime
        lines["runs on"] = f"{runtime.device} ({runtime.device_name}), {runtime.precision}, attempt {job.attempt}"
        lines["parameters"] = f"{runtime.parameters:,}"
    if job.error:
        lines["error"] = f"[red]{job.error.type}[/]: {job.error.message}"
    lines["submitted"] = ago(job.created_at)
    for name, value in lines.items():
        table.add_row(f"[bold]{name}[/]", value)
    console.print(table)


def show_evaluation(evaluation: Evaluation) -> None:
    """Figures of the best weights, class by class."""
    console.print(
        f"test loss {evaluation.loss:.4f}  accuracy [bold]{evaluation.accuracy:.2%}[/]  weighted precision "
        f"{evaluation.precision:.2%}  recall {evaluation.recall:.2%}  F1 {evaluation.f1:.2%}  "
        f"({evaluation.samples:,} images)"
    )
    table = plain_table()
    for name in ("class", "precision", "recall", "F1", "images", "mostly taken for"):
        table.add_column(name, justify="left" if name in ("class", "mostly taken for") else "right")
    names = [each.name for each in evaluation.per_class]
    for each, row in zip(evaluation.per_class, evaluation.confusion_matrix, strict=True):
        others = [(count, names[label]) for label, count in enumerate(row) if label != each.label and count]
        confused = ", ".join(f"{name} ({count})" for count, name in sorted(others, reverse=True)[:3])
        table.add_row(each.name, share(each.precision), share(each.recall), share(each.f1), str(each.support), confused)
    console.print(table)


def show_plot(rows: Sequence[EpochRow], title: str) -> None:
    """Losses and accuracies over the epochs, in characters."""
    width = max(40, min(console.width, 110))
    epochs = [row.epoch for row in rows]
    for what in ("loss", "acc"):
        plotext.clear_figure()
        plotext.theme("clear" if not console.is_terminal else "pro")
        plotext.plotsize(width, 14)
        for split in ("train", "val"):
            values = [getattr(row, f"{split}_{what}") for row in rows]
            plotext.plot(epochs, values, label=f"{split}_{what}", color="blue" if split == "train" else "orange")
        plotext.title(f"{title}: {what}")
        text = plotext.build()
        print(text if console.is_terminal else plotext.uncolorize(text))


def epoch_bar() -> Progress:
    """A bar over a job's epochs."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn("{task.fields[words]}"),
        TimeRemainingColumn(compact=True),
        console=console,
    )


def epoch_words(row: EpochRow, counts: dict[str, Any]) -> str:
    """An epoch's figures beside a bar."""
    told = f"val_loss {row.val_loss:.4f}  val_acc {row.val_acc:.2%}"
    if counts.get("patience"):
        told += f"  stagnation {counts['stagnation']}/{counts['patience']}"
    if counts.get("overfit_patience"):
        told += f"  overfitting {counts['overfitting']}/{counts['overfit_patience']}"
    return told
