"""When to stop: stagnation and overfitting, as pure functions of the validation losses.

Three definitions, each over the sequence of `val_loss`:

- the *best* epoch is every one whose val_loss is strictly below all earlier ones;
- *stagnation* keeps a reference value, at first infinite. val_loss < reference - min_delta moves the reference
  there and resets the count; any other epoch raises the count, and at `patience` training stops;
- *overfitting* counts consecutive epochs with val_loss > best val_loss so far + delta_overfit, and at
  `overfit_patience` training stops. Where both fire in one epoch, overfitting is the reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from app.specs.job import EarlyStoppingSpec
from app.specs.results import StopReason


@dataclass(frozen=True)
class Stopping:
    """What early stopping remembers after `epoch` epochs. Plain numbers: it survives a checkpoint as it is."""

    epoch: int = 0
    best_epoch: int = 0
    best_val_loss: float = math.inf
    reference: float = math.inf
    stagnation: int = 0
    overfitting: int = 0

    @property
    def improved(self) -> bool:
        """Whether the last epoch is the best so far."""
        return 0 < self.epoch == self.best_epoch


def advance(settings: EarlyStoppingSpec | None, before: Stopping, val_loss: float) -> Stopping:
    """The counts after one more epoch. With `settings` None only the best epoch is tracked."""
    epoch = before.epoch + 1
    improved = val_loss < before.best_val_loss
    best_epoch, best = (epoch, val_loss) if improved else (before.best_epoch, before.best_val_loss)
    if settings is None:
        return Stopping(epoch, best_epoch, best)
    progressed = val_loss < before.reference - settings.min_delta
    reference = val_loss if progressed else before.reference
    stagnation = 0 if progressed else before.stagnation + 1
    overfits = settings.delta_overfit is not None and val_loss > best + settings.delta_overfit
    overfitting = before.overfitting + 1 if overfits else 0
    return Stopping(epoch, best_epoch, best, reference, stagnation, overfitting)


def decide(settings: EarlyStoppingSpec | None, after: Stopping) -> StopReason | None:
    """Whether these counts end the training, and why."""
    if settings is None:
        return None
    if settings.overfit_patience is not None and after.overfitting >= settings.overfit_patience:
        return StopReason.OVERFITTING
    if settings.patience is not None and after.stagnation >= settings.patience:
        return StopReason.STAGNATION
    return None


def replay(settings: EarlyStoppingSpec | None, val_losses: Iterable[float]) -> tuple[Stopping, StopReason | None]:
    """Where these settings stop a curve: the counts at that epoch (or at the curve's end) and the reason."""
    state = Stopping()
    for val_loss in val_losses:
        state = advance(settings, state, val_loss)
        reason = decide(settings, state)
        if reason is not None:
            return state, reason
    return state, None


def explained(settings: EarlyStoppingSpec | None, after: Stopping, reason: StopReason | None) -> str:
    """Why training ended, or how far it is from that, in sentences."""
    if not after.epoch:
        return "No epoch has been trained yet."
    best = f"The lowest val_loss was {after.best_val_loss:.4f}, in epoch {after.best_epoch}."
    if reason is StopReason.STAGNATION and settings is not None:
        why = (
            f"Stopped after epoch {after.epoch} for stagnation: val_loss had not fallen by more than "
            f"{settings.min_delta:g} below {after.reference:.4f} for {after.stagnation} epochs in a row "
            f"(patience {settings.patience})."
        )
    elif reason is StopReason.OVERFITTING and settings is not None:
        why = (
            f"Stopped after epoch {after.epoch} for overfitting: val_loss was above the best by more than "
            f"{settings.delta_overfit:g} for {after.overfitting} epochs in a row "
            f"(overfit_patience {settings.overfit_patience})."
        )
    elif reason is StopReason.MAX_EPOCHS:
        why = f"All {after.epoch} epochs were trained: neither criterion of early stopping was met before."
    elif reason is StopReason.TIME_LIMIT:
        why = f"Stopped after epoch {after.epoch}, the first to end behind training.max_seconds."
    elif reason is StopReason.REQUESTED:
        why = f"Stopped after epoch {after.epoch} because somebody asked for it."
    else:
        why = f"After epoch {after.epoch}: {in_words(settings, after)}."
    return f"{why} {best}"


def in_words(settings: EarlyStoppingSpec | None, after: Stopping) -> str:
    """Both counts against their patience, for a console line."""
    if settings is None:
        return "early stopping off"
    shown = []
    if settings.patience is not None:
        shown.append(f"stagnation {after.stagnation}/{settings.patience}")
    if settings.delta_overfit is not None and settings.overfit_patience is not None:
        shown.append(f"overfitting {after.overfitting}/{settings.overfit_patience}")
    return "  ".join(shown) or "early stopping off"
