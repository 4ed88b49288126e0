"""Optimisers and learning-rate schedules, built from a job's spec."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, optim
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, ReduceLROnPlateau, StepLR

from app.specs import (
    AdamSpec,
    AdamWSpec,
    CosineSpec,
    NoSchedulerSpec,
    OneCycleSpec,
    OptimizerSpec,
    PlateauSpec,
    SchedulerSpec,
    SGDSpec,
)


def build_optimizer(spec: OptimizerSpec, parameters: Iterable[Tensor]) -> optim.Optimizer:
    """PyTorch's fused optimiser of the spec, over the parameters that are to be trained."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    match spec:
        case AdamSpec():
            return optim.Adam(trained, spec.lr, spec.betas, weight_decay=spec.weight_decay, fused=True)
        case AdamWSpec():
            return optim.AdamW(trained, spec.lr, spec.betas, weight_decay=spec.weight_decay, fused=True)
        case SGDSpec():
            return optim.SGD(
                trained,
                spec.lr,
                momentum=spec.momentum,
                weight_decay=spec.weight_decay,
                nesterov=spec.nesterov,
                fused=True,
            )


@dataclass
class Schedule:
    """A learning-rate schedule and when it moves: after each batch or after each epoch."""

    scheduler: LRScheduler | None
    each_batch: bool = False

    def after_batch(self) -> None:
        """Move, if this schedule does so after a batch."""
        if self.scheduler is not None and self.each_batch:
            self.scheduler.step()

    def after_epoch(self, val_loss: float) -> None:
        """Move, if this schedule does so after an epoch."""
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(val_loss)
        elif self.scheduler is not None and not self.each_batch:
            self.scheduler.step()


def build_schedule(spec: SchedulerSpec, optimizer: optim.Optimizer, epochs: int, steps_per_epoch: int) -> Schedule:
    """The schedule of the spec over `epochs` of `steps_per_epoch` batches."""
    match spec:
        case NoSchedulerSpec():
            return Schedule(None)
        case CosineSpec():
            return Schedule(CosineAnnealingLR(optimizer, epochs, eta_min=spec.min_lr))
        case OneCycleSpec():
            peak = [group["lr"] for group in optimizer.param_groups]
            cycle = OneCycleLR(optimizer, peak, epochs * steps_per_epoch, pct_start=spec.warmup_fraction)
            return Schedule(cycle, each_batch=True)
        case PlateauSpec():
            return Schedule(ReduceLROnPlateau(optimizer, factor=spec.factor, patience=spec.patience))
        case _:
            return Schedule(StepLR(optimizer, spec.every, spec.gamma))
