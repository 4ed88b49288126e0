"""The console of a run: a line on what is trained, one an epoch, two at the end."""

from __future__ import annotations

from collections.abc import Mapping

from app.artifacts import Artifact
from app.jobs import Runtime
from app.specs import EarlyStoppingSpec, EpochRow, Evaluation, JobSpec, StopReason
from app.specs.stopping import Stopping, in_words
from worker.messages import EpochDone
from worker.training.data import Data
from worker.training.trainer import Epoch


def described(spec: JobSpec, runtime: Runtime, dataset: Data) -> str:
    """What is trained, on what."""
    threads = f", {runtime.threads} thread{'s' if runtime.threads > 1 else ''}" if runtime.device == "cpu" else ""
    return (
        f"{spec.model.kind} with {runtime.parameters:,} parameters on {spec.dataset.name} "
        f"({len(dataset.train):,} training, {len(dataset.val):,} validation, {len(dataset.test):,} test images), "
        f"{runtime.device} ({runtime.device_name}){threads}, {runtime.precision}, PyTorch {runtime.torch}"
    )


def told(done: Epoch, files: Mapping[str, Artifact], spec: JobSpec) -> EpochDone:
    """An epoch, its line on the console and the counts of early stopping."""
    settings = spec.early_stopping or EarlyStoppingSpec(patience=None, delta_overfit=None, overfit_patience=None)
    stopping = {
        "stagnation": done.stopping.stagnation,
        "patience": settings.patience,
        "overfitting": done.stopping.overfitting,
        "overfit_patience": settings.overfit_patience,
        "best_epoch": done.stopping.best_epoch,
        "best_val_loss": done.stopping.best_val_loss,
    }
    return EpochDone(done.row, files, stopping, done.gradients, (_epoch_line(done.row, done.stopping, spec),))


def _epoch_line(row: EpochRow, stopping: Stopping, spec: JobSpec) -> str:
    most = spec.training.max_epochs
    return (
        f"epoch {row.epoch:>{len(str(most))}}/{most}  train_loss {row.train_loss:.4f}  train_acc {row.train_acc:7.2%}  "
        f"val_loss {row.val_loss:.4f}  val_acc {row.val_acc:7.2%}  lr {row.lr:.2e}  "
        f"{row.samples_per_second:>9,.0f} samples/s  {in_words(spec.early_stopping, stopping)}"
        f"{'  best' if stopping.improved else ''}"
    )


def summary(stopping: Stopping, reason: StopReason, evaluation: Evaluation) -> tuple[str, str]:
    """Why training ended, and how good the best weights are."""
    return (
        f"stopped after epoch {stopping.epoch}: {reason}; best epoch {stopping.best_epoch} "
        f"with val_loss {stopping.best_val_loss:.4f}",
        f"test loss {evaluation.loss:.4f}  accuracy {evaluation.accuracy:.2%}  weighted precision "
        f"{evaluation.precision:.2%}  recall {evaluation.recall:.2%}  F1 {evaluation.f1:.2%}",
    )
