"""What the measurements have in common: the machine in a line, real MNIST, and services to measure."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.service import Service, running

ROOT = Path(__file__).parent.parent


def described() -> str:
    """The machine in a line."""
    import torch  # noqa: PLC0415  (seconds, and this line is printed once)

    from worker.training.device import device_name  # noqa: PLC0415  (likewise)

    return f"{device_name(torch.device('cpu'))}, {os.cpu_count()} CPUs, Python {platform.python_version()}"


def raw_folders() -> list[Path]:
    """Folders that may hold MNIST/raw: WHISTLESTOP_TEST_DATASETS, then what `make demo` fetched."""
    given = os.environ.get("WHISTLESTOP_TEST_DATASETS")
    return [Path(folder) for folder in (given, "whistlestop-data/datasets") if folder]


@contextlib.contextmanager
def service(**settings: object) -> Iterator[Service]:
    """An API with a warm worker, both in a temporary folder."""
    given = next((folder for folder in raw_folders() if (folder / "MNIST" / "raw").is_dir()), None)
    datasets = {"datasets_dir": given.absolute()} if given else {}
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), **datasets, **settings) as made:
        made.api()
        made.worker()
        yield made


def write_between(page: Path, marker: str, text: str) -> None:
    """Put `text` between the comments `<!-- marker -->` and `<!-- /marker -->` of a page."""
    before, start, rest = page.read_text().partition(f"<!-- {marker} -->\n")
    _, end, after = rest.partition(f"<!-- /{marker} -->")
    if not (start and end):
        raise ValueError(f"{page} has no <!-- {marker} --> ... <!-- /{marker} -->")
    page.write_text(f"{before}{start}{text.strip()}\n{end}{after}")
