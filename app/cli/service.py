"""Commands for the machine that the service runs on: up, keys, backup, restore."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import httpx
import typer
from pydantic import ValidationError

from app import backup as backups
from app.cli.shown import AsJson, done, show_json
from app.jobs import Scope
from app.settings import Settings, in_words
from app.store import JobStore, StoreError

_GOODBYE_SECONDS = 40.0


class ScopeName(StrEnum):
    """Scopes of a key."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


def up() -> None:
    """Start the API and a worker, and stay. Ctrl-C ends both; a running job goes back to the queue."""
    settings = settings_here()
    stopping = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    # In process groups of their own: a Ctrl-C is for this process, which passes it on once.
    parts = {
        name: subprocess.Popen([sys.executable, "-m", module], process_group=0)
        for name, module in (("API", "app"), ("worker", "worker"))
    }
    url = f"http://{settings.host}:{settings.port}"
    told, ended = False, None
    while not stopping and ended is None:
        time.sleep(0.1)
        ended = next((name for name, part in parts.items() if part.poll() is not None), None)
        if not told and ended is None and _answers(url):
            typer.echo(f"Whistlestop is up: {url}/ is the dashboard, {url}/docs Swagger UI. Ctrl-C ends it.")
            told = True
    _end(parts)
    if ended is not None:
        status = parts[ended].returncode
        typer.echo(f"whistlestop: the {ended} ended by itself (exit status {status}); it says why above.", err=True)
        raise typer.Exit(status if status > 0 else 1)
    typer.echo("Whistlestop is down.")


keys = typer.Typer(no_args_is_help=True, help="API keys, straight in the service's database.")


@keys.command("create")
def create_key(
    name: str,
    scope: Annotated[list[ScopeName] | None, typer.Option(help="May be repeated; submit if left out.")] = None,
    max_jobs: Annotated[int | None, typer.Option(min=1, help="Jobs under way at a time.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is printed this once and not stored."""
    with _store() as store:
        scopes: list[Scope] = [chosen.value for chosen in scope or [ScopeName.SUBMIT]]
        key, secret = store.create_key(name, scopes, max_jobs)
        show_json({**key.model_dump(mode="json"), "secret": secret}) if as_json else typer.echo(secret)


@keys.command("ls")
def list_keys(as_json: AsJson = False) -> None:
    """All keys, revoked ones too."""
    with _store() as store:
        if as_json:
            show_json(store.list_keys())
            return
        for key in store.list_keys():
            state = f"revoked {key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else "valid"
            quota = f", at most {key.max_jobs} jobs" if key.max_jobs else ""
            typer.echo(f"{key.name:<24} {','.join(key.scopes):<16} {key.created_at:%Y-%m-%d %H:%M}  {state}{quota}")


@keys.command("revoke")
def revoke_key(name: str, as_json: AsJson = False) -> None:
    """Make a key useless, at once and for good."""
    with _store() as store:
        store.revoke_key(name)
        done(f"{name} is revoked.", as_json, revoked=name)


def backup(folder: Path, as_json: AsJson = False) -> None:
    """Write a backup of the service into a new folder. The service may run meanwhile."""
    with _in_words():
        count = backups.back_up(settings_here(), folder.absolute())
        words = f"{folder} holds the database and {count} files of weights."
        done(words, as_json, folder=str(folder.absolute()), files=count)


def restore(folder: Path, as_json: AsJson = False) -> None:
    """Put a backup into the data folder, which must have no database yet."""
    with _in_words():
        count = backups.restore(settings_here(), folder.absolute())
        done(f"The database and {count} files of weights are restored.", as_json, files=count)


def settings_here() -> Settings:
    """The settings of this machine. Ends the command where one is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        typer.echo(f"whistlestop: {in_words(error)}", err=True)
        raise typer.Exit(2) from error


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except (backups.CannotBackUp, StoreError, OSError) as error:
        typer.echo(f"whistlestop: {error}", err=True)
        raise typer.Exit(1) from error


@contextmanager
def _store() -> Iterator[JobStore]:
    with _in_words():
        store = JobStore(settings_here().resolved_database_url)
        store.migrate()
        try:
            yield store
        finally:
            store.close()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=1, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _end(parts: dict[str, subprocess.Popen[bytes]]) -> None:
    # The worker first: what it gives back is then still to be seen through the API.
    for name in ("worker", "API"):
        part = parts[name]
        if part.poll() is None:
            part.terminate()
        try:
            part.wait(_GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            part.kill()
            part.wait()
