"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from app.specs import EpochRow, JobSpec, StopReason
from worker.training.augment import build_augment
from worker.training.data import Data, Split
from worker.training.early_stopping import Stopping, advance, decide
from worker.training.models import Classifier
from worker.training.optim import Schedule, build_optimizer, build_schedule

_EVAL_PIXELS = 1 << 22  # in a batch that is only predicted, so that activations fit beside everything else


class Diverged(ArithmeticError):
    """A loss is not finite."""


@dataclass
class Training:
    """Everything that training changes: what `last.pth` holds, and what a resumed attempt goes on from."""

    model: Classifier
    optimizer: Optimizer
    schedule: Schedule
    stopping: Stopping = field(default_factory=Stopping)
    seconds: float = 0.0


@dataclass(frozen=True)
class Epoch:
    """A finished epoch: its row, the early-stopping counts after it, and why it was the last, if it was."""

    row: EpochRow
    stopping: Stopping
    stop_reason: StopReason | None


def seed_of(seed: int, epoch: int) -> int:
    """The seed of an epoch's randomness; epoch 0 is the initial weights.

    Order, dropout and augmentation of an epoch follow from (seed, epoch) alone, so an attempt that resumes behind
    any epoch draws the very numbers that an undisturbed run would have drawn.
    """
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0])


def start(model: Classifier, data: Data, spec: JobSpec) -> Training:
    """Optimiser and schedule for a model that has not been trained yet."""
    optimizer = build_optimizer(spec.optimizer, model.parameters())
    steps = math.ceil(len(data.train) / spec.training.batch_size)
    return Training(model, optimizer, build_schedule(spec.scheduler, optimizer, spec.training.max_epochs, steps))


def train_model(
    training: Training,
    data: Data,
    spec: JobSpec,
    *,
    precision: str = "fp32",
) -> Iterator[Epoch]:
    """Train, an epoch at a time, to the first that is the last. Between two epochs `training` is consistent and may
    be saved. Yields nothing where it is at its end already (an attempt that was cut off after its last epoch).

    Raises Diverged at the first loss that is not finite.
    """
    if training.stopping.epoch and why_stop(training, spec) is not None:
        return
    model, optimizer, schedule = training.model, training.optimizer, training.schedule
    device, batch_size = data.train.labels.device, spec.training.batch_size
    augment = build_augment(spec.dataset.augment, data.flips)
    for epoch in range(training.stopping.epoch + 1, spec.training.max_epochs + 1):
        began = time.perf_counter()
        torch.manual_seed(seed_of(spec.seed, epoch))
        generator = torch.Generator().manual_seed(seed_of(spec.seed, epoch))
        order = data.train.index[torch.randperm(len(data.train), generator=generator).to(device)]
        model.train()
        loss_sum = torch.zeros((), device=device)
        correct = torch.zeros((), device=device, dtype=torch.int64)
        lr = optimizer.param_groups[0]["lr"]
        for batch in torch.split(order, batch_size):
            x, y = data.train.images[batch], data.train.labels[batch]
            if augment is not None:
                x = augment(x, generator)
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                logits = model(x)
            loss = F.cross_entropy(logits.float(), y, label_smoothing=spec.training.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            lr = optimizer.param_groups[0]["lr"]
            schedule.after_batch()
            # Summed on the device: reading a number back here would wait for every step.
            loss_sum += loss.detach() * len(y)
            correct += (logits.detach().argmax(1) == y).sum()
        count = len(data.train)
        train_loss, train_acc = loss_sum.item() / count, correct.item() / count
        train_seconds = time.perf_counter() - began
        logits, y = predict(model, data.val, precision)
        val_loss, val_acc = F.cross_entropy(logits, y).item(), (logits.argmax(1) == y).float().mean().item()
        for name, value in (("train_loss", train_loss), ("val_loss", val_loss)):
            if not math.isfinite(value):
                raise Diverged(f"{name} is {value} in epoch {epoch}. Try a lower learning rate than {lr:g}.")
        schedule.after_epoch(val_loss)
        training.stopping = advance(spec.early_stopping, training.stopping, val_loss)
        seconds = time.perf_counter() - began
        training.seconds += seconds
        row = EpochRow(
            epoch=epoch,
            train_loss=train_loss,
            train_acc=train_acc,
            val_loss=val_loss,
            val_acc=val_acc,
            lr=lr,
            seconds=seconds,
            samples_per_second=count / train_seconds,
        )
        reason = why_stop(training, spec)
        yield Epoch(row, training.stopping, reason)
        if reason is not None:
            return


def why_stop(training: Training, spec: JobSpec) -> StopReason | None:
    """Why training ends where it stands, or None where it goes on."""
    early = decide(spec.early_stopping, training.stopping)
    if early is not None:
        return early
    if training.stopping.epoch >= spec.training.max_epochs:
        return StopReason.MAX_EPOCHS
    limit = spec.training.max_seconds
    return StopReason.TIME_LIMIT if limit is not None and training.seconds >= limit else None


@torch.inference_mode()
def predict(model: Classifier, split: Split, precision: str = "fp32") -> tuple[Tensor, Tensor]:
    """Logits `[N, classes]` and labels `[N]` of a split, in evaluation mode, in large batches."""
    model.eval()
    batch_size = max(1, min(4096, _EVAL_PIXELS // split.images[0].numel()))
    with torch.autocast(split.labels.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits = [model(split.images[batch]).float() for batch in torch.split(split.index, batch_size)]
    return torch.cat(logits), split.labels[split.index]
