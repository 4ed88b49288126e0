"""Which service, and which job, a command is for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, NoReturn

import typer

from app.client import Client, RunningJob

DETACHED = 130
_LATELY = 500

Ref = Annotated[
    str, typer.Argument(metavar="JOB", help="An id, its beginning or end, a name, or `last` for the newest job.")
]


@contextmanager
def job_here(ref: str) -> Iterator[RunningJob]:
    """A job by what a person types. Ends the command where that is none, or several."""
    with Client() as client:
        yield client.job(id_of(client, ref))


def id_of(client: Client, ref: str) -> str:
    """The id of a job by what a person types. Ends the command where that is none, or several."""
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
        wrong(f"no job is called {ref!r}, here among the {_LATELY} newest; `whistlestop ls` lists them")
    wrong(f"{ref!r} may be {len(found)} jobs: {', '.join(found[:5])}; give more of the id")


def wrong(words: str) -> NoReturn:
    """End the command with a line that says why."""
    print(f"whistlestop: {words}", file=sys.stderr)
    raise typer.Exit(1)
