"""The command line: `whistlestop up` runs the API and a worker in one terminal."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import httpx
import typer
from pydantic import ValidationError

from app.settings import Settings, in_words

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

_GOODBYE_SECONDS = 40.0


@app.callback()
def whistlestop() -> None:
    """A training-job service for image classifiers.

    Settings are WHISTLESTOP_* environment variables; see the README.
    """


@app.command()
def up() -> None:
    """Start the API and a worker, and stay. Ctrl-C ends both; a running job goes back to the queue."""
    try:
        settings = Settings()
    except ValidationError as error:
        typer.echo(f"whistlestop: {in_words(error)}", err=True)
        raise typer.Exit(2) from error
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
            typer.echo(f"Whistlestop is up: {url}/docs is Swagger UI. Ctrl-C ends it.")
            told = True
    _end(parts)
    if ended is not None:
        status = parts[ended].returncode
        typer.echo(f"whistlestop: the {ended} ended by itself (exit status {status}); it says why above.", err=True)
        raise typer.Exit(status if status > 0 else 1)
    typer.echo("Whistlestop is down.")


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


def main() -> None:
    """The entry point of `whistlestop`."""
    app()


if __name__ == "__main__":
    main()
