"""Weights & Biases, beside the training: nothing that it does or fails to do holds up or ends a job."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.specs import EpochRow, Evaluation, JobSpec, StopReason, WandbSpec

INIT_SECONDS = 15
FINISH_SECONDS = 30
_LOGGED = ("train_loss", "train_acc", "val_loss", "val_acc", "lr")


class Tracker:
    """One W&B run, driven by a thread of its own. The job's id is the run's id, so a later attempt goes on in it."""

    def __init__(self, job_id: str, spec: JobSpec, wandb: WandbSpec, folder: Path, warn: Callable[[str], None]) -> None:
        self._job_id, self._spec, self._wandb, self._folder, self._warn = job_id, spec, wandb, folder, warn
        self._rows: queue.SimpleQueue[EpochRow | dict[str, Any]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._drive, name="wandb", daemon=True)
        self._thread.start()

    def log(self, row: EpochRow) -> None:
        """Log an epoch. Returns at once."""
        self._rows.put(row)

    def finish(self, evaluation: Evaluation, stop_reason: StopReason) -> None:
        """Write the summary and end the run; gives up, with a warning, after FINISH_SECONDS."""
        figures = evaluation.model_dump(include={"loss", "accuracy", "precision", "recall", "f1"})
        summary = {f"test_{name}": value for name, value in figures.items()}
        self._rows.put({**summary, "stop_reason": str(stop_reason)})
        self._thread.join(FINISH_SECONDS)
        if self._thread.is_alive():
            self._warn(
                f"W&B did not finish within {FINISH_SECONDS} s; `wandb sync {self._folder}/wandb` sends the rest."
            )

    def _drive(self) -> None:
        try:
            run = self._init()
            while isinstance(entry := self._rows.get(), EpochRow):
                run.log({name: getattr(entry, name) for name in _LOGGED}, step=entry.epoch)
            run.summary.update(entry)
            run.finish()
        except Exception as error:  # noqa: BLE001  (a tracker's fault of any kind must not become the job's)
            self._warn(f"W&B does not work for this job: {_in_a_line(error)}")

    def _init(self) -> Any:
        if self._wandb.mode == "online":
            try:
                return self._init_as("online")
            except Exception as error:  # noqa: BLE001  (no key, no network, a server's fault: all the same here)
                self._warn(f"W&B cannot be reached, so this run is logged offline: {_in_a_line(error)}")
                _forget_the_failed_run()
        return self._init_as("offline")

    def _init_as(self, mode: str) -> Any:
        import wandb  # noqa: PLC0415  (a worker whose jobs do not track never needs it)

        self._folder.mkdir(parents=True, exist_ok=True)
        return wandb.init(
            mode=mode,  # type: ignore[arg-type]
            id=self._job_id,
            resume="allow",
            project=self._wandb.project,
            entity=self._wandb.entity,
            name=self._spec.name,
            tags=list(self._spec.tags),
            config=self._spec.model_dump(mode="json"),
            dir=self._folder,
            settings=wandb.Settings(
                init_timeout=INIT_SECONDS, console="off", silent=True, disable_git=True, save_code=False
            ),
        )


def _forget_the_failed_run() -> None:
    """End W&B's service process, which would go on trying and keep the run's id to itself."""
    import wandb  # noqa: PLC0415

    wandb.teardown(exit_code=1)


def _in_a_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
