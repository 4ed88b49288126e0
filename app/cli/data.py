"""Data sets and workers."""

from __future__ import annotations

from pathlib import Path

import typer

from app.cli.shown import AsJson, ago, console, done, plain_table, show_json, transfer
from app.client import Client

datasets = typer.Typer(no_args_is_help=True, help="Data sets that jobs can name.")


@datasets.command("ls")
def list_datasets(as_json: AsJson = False) -> None:
    """List them."""
    with Client() as client:
        found = client.datasets()
    if as_json:
        show_json(found)
        return
    table = plain_table("name", "kind", "prepared", "classes", "training", "test", "shape")
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
    with Client() as client, transfer() as bar:
        task = bar.add_task(f"uploading {archive.name}", total=archive.stat().st_size)

        def told(sent: int, size: int) -> None:
            what = "looking it through" if sent == size else f"uploading {archive.name}"
            bar.update(task, completed=sent, description=what)

        found = client.upload_dataset(name, archive, None if as_json else told)
    if as_json:
        show_json(found)
    else:
        console.print(f"{name} is there: {len(found.classes or ())} classes.")


@datasets.command("delete")
def delete_dataset(name: str, as_json: AsJson = False) -> None:
    """Delete an uploaded one."""
    with Client() as client:
        client.delete_dataset(name)
    done(f"{name} is deleted.", as_json, deleted=name)


def workers(as_json: AsJson = False) -> None:
    """List workers."""
    with Client() as client:
        found = client.workers()
    if as_json:
        show_json(found)
        return
    table = plain_table("host", "pid", "status", "device", "slots", "cpu", "memory", "runs", "heard of")
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
