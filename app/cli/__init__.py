"""`whistlestop`: the service on this machine, and jobs on any.

Exit status: 0 done; 1 the service refused, or the machine did not let it; 2 the command or a setting is wrong;
3 nothing answers at the service's address; 4 the job that was waited for failed or was cancelled; 130 Ctrl-C while
following a job, which goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import httpx
import typer

from app.cli import act, data, doctor, look, service, submit
from app.client import ApiError, DamagedFile, JobFailed, Unreachable

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def whistlestop() -> None:
    """A training-job service for image classifiers.

    WHISTLESTOP_URL and WHISTLESTOP_KEY say which service jobs are sent to, and with which key; all other settings
    are in the README.
    """


_COMMANDS: tuple[Callable[..., None], ...] = (
    *(
        submit.submit,
        look.ls,
        look.show,
        submit.watch,
        look.logs,
        look.metrics,
        look.evaluate,
        look.compare,
        look.replay,
    ),
    *(act.stop, act.pause, act.resume, act.cancel, act.retry, act.delete, act.download, data.workers),
    service.up,
    doctor.doctor,
    service.backup,
    service.restore,
)
for command in _COMMANDS:
    app.command()(command)
app.add_typer(data.datasets, name="datasets")
app.add_typer(service.keys, name="keys")


def main() -> None:
    """The entry point of `whistlestop`."""
    try:
        app()
    except Unreachable as error:
        _end(error, 3)
    except JobFailed as error:
        _end(error, 4)
    except (ApiError, DamagedFile, httpx.HTTPError, OSError) as error:
        _end(error, 1)


def _end(error: Exception, status: int) -> None:
    print(f"whistlestop: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(status)
