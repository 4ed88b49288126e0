"""What goes over the pipe between a worker and its training child.

No torch here: the worker process itself stays small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.artifacts import Artifact
from app.jobs import Claim, JobError, Runtime
from app.settings import Settings
from app.specs import EpochRow, Evaluation, StopReason


@dataclass(frozen=True)
class Places:
    """Folders of a worker's machine. Raw files of data sets are looked for in each of `raw`."""

    checkpoints: Path
    logs: Path
    wandb: Path
    datasets: Path
    raw: tuple[Path, ...]

    @classmethod
    def of(cls, settings: Settings) -> Places:
        """The folders that the settings name."""
        root, folders = settings.data_dir, settings.dataset_folders
        return cls(root / "checkpoints", root / "logs", root / "wandb", folders[-1], folders)


@dataclass(frozen=True)
class Assignment:
    """To the child: the job, and where to train it, with at most `cores` CPU threads."""

    claim: Claim
    device: str
    cores: int
    places: Places


@dataclass(frozen=True)
class Yield:
    """To the child: the worker shuts down. Finish the epoch's bookkeeping, if you are at it, and exit."""


@dataclass(frozen=True)
class Stop:
    """To the child: end training after the running epoch, and evaluate the best weights."""


@dataclass(frozen=True)
class Machine:
    """From a child without a job: the device that jobs will run on, and the versions that they will run with."""

    device: str
    device_name: str
    torch: str


@dataclass(frozen=True)
class Started:
    """From the child: training begins."""

    runtime: Runtime
    text: tuple[str, ...] = ()


@dataclass(frozen=True)
class Happened:
    """From the child: an event, or only console lines where `kind` is None."""

    kind: str | None
    data: Mapping[str, Any] = field(default_factory=dict)
    text: tuple[str, ...] = ()


@dataclass(frozen=True)
class EpochDone:
    """From the child: an epoch with the checkpoint files that were written after it."""

    row: EpochRow
    files: Mapping[str, Artifact]
    stopping: Mapping[str, Any]
    gradients: Mapping[str, float] | None
    text: tuple[str, ...]


@dataclass(frozen=True)
class Succeeded:
    """From the child, as its last word."""

    stop_reason: StopReason
    evaluation: Evaluation
    text: tuple[str, ...]
    exports: Mapping[str, Artifact] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """From the child, as its last word. `passing`: the cause lies outside the job, so another attempt may succeed."""

    error: JobError
    passing: bool
    text: tuple[str, ...] = ()


Message = Machine | Started | Happened | EpochDone | Succeeded | Failed
