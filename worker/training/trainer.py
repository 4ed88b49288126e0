"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from app.specs import EpochRow, JobSpec, StopReason
from app.specs.stopping import Stopping, advance, decide
from worker.training.augment import Mixed, build_augment, mix
from worker.training.data import Data, Split
from worker.training.finetune import blocks_of, lr_groups, set_trained
from worker.training.models import Classifier, FastNet
from worker.training.optim import Schedule, build_optimizer, build_schedule

_WHITEN_IMAGES = 5000
# Pixels of a batch that is only predicted: as many as fit beside everything else; on the CPU as many as stay in its
# caches, which takes two thirds of the time.
_EVAL_PIXELS, _EVAL_PIXELS_CPU = 1 << 22, 1 << 19


class Diverged(ArithmeticError):
    """A loss is not finite."""


@dataclass
class Training:
    """Everything that training changes: what `last.pth` holds, and what a resumed attempt goes on from."""

    model: Classifier
    optimizer: Optimizer
    schedule: Schedule
    average: AveragedModel | None = None
    stopping: Stopping = field(default_factory=Stopping)
    seconds: float = 0.0

    @property
    def result(self) -> Classifier:
        """The weights that are validated and kept: the average, where the spec asks for one."""
        return self.model if self.average is None else cast(Classifier, self.average.module)


@dataclass(frozen=True)
class Epoch:
    """A finished epoch: its row, the early-stopping counts after it, why it was the last, if it was, and, where the
    spec asks for them, the mean gradient norm of each block of layers."""

    row: EpochRow
    stopping: Stopping
    stop_reason: StopReason | None
    gradients: dict[str, float] | None = None


def seed_of(seed: int, epoch: int) -> int:
    """The seed of an epoch's randomness; epoch 0 is the initial weights.

    Order, dropout and augmentation of an epoch follow from (seed, epoch) alone, so an attempt that resumes behind
    any epoch draws the very numbers that an undisturbed run would have drawn.
    """
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0])


def start(model: Classifier, data: Data, spec: JobSpec) -> Training:
    """Optimiser, schedule and average for a model that has not been trained yet."""
    if isinstance(model.net, FastNet) and spec.init_from is None:
        some = data.train.images[data.train.index[:_WHITEN_IMAGES]]
        model.net.whiten(model.normalised(some.to(model.scale.device)).cpu())
    set_trained(model, spec.init_from, None)
    optimizer = build_optimizer(spec.optimizer, lr_groups(model, spec.init_from))
    steps = math.ceil(len(data.train) / spec.training.batch_size)
    schedule = build_schedule(spec.scheduler, optimizer, spec.training.max_epochs, steps)
    decay = spec.training.ema
    average = None if decay is None else AveragedModel(model, avg_fn=_warm_average(decay), use_buffers=True)
    return Training(model, optimizer, schedule, average)


def train_model(
    training: Training,
    data: Data,
    spec: JobSpec,
    *,
    precision: str = "fp32",
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Epoch]:
    """Train, an epoch at a time, to the first that is the last, or behind which somebody has `stopped` it. Between two
    epochs `training` is consistent and may be saved. Yields nothing where it is at its end already (an attempt that
    was cut off after its last epoch).

    Raises Diverged at the first loss that is not finite.
    """
    if training.stopping.epoch and why_stop(training, spec, stopped) is not None:
        return
    model, optimizer, schedule, settings = training.model, training.optimizer, training.schedule, spec.training
    device, count = data.train.labels.device, len(data.train)
    augment = build_augment(spec.dataset.augment, data.flips)
    weight = _class_weights(data) if settings.class_weights == "balanced" else None
    mixes = settings.mixup > 0 or settings.cutmix > 0
    for epoch in range(training.stopping.epoch + 1, settings.max_epochs + 1):
        began = time.perf_counter()
        seed = seed_of(spec.seed, epoch)
        torch.manual_seed(seed)
        generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
        order = data.train.index[torch.randperm(count, generator=generator).to(device)]
        set_trained(model, spec.init_from, epoch)
        loss_sum, correct = torch.zeros((), device=device), torch.zeros((), device=device, dtype=torch.int64)
        gradients = Gradients(model) if spec.diagnostics == "gradients" else None
        lr = optimizer.param_groups[0]["lr"]
        for images, labels in data.train.batches(order, settings.batch_size):
            optimizer.zero_grad(set_to_none=True)
            size = math.ceil(len(labels) / settings.micro_batches)
            for part, y in zip(torch.split(images, size), torch.split(labels, size), strict=True):
                x = part if augment is None else augment(part, generator)
                mixed = mix(x, y, settings.mixup, settings.cutmix, rng) if mixes else None
                with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                    logits = model(x if mixed is None else mixed.images).float()
                loss = _loss(logits, y, mixed, weight, settings.label_smoothing)
                loss = loss if len(y) == len(labels) else loss * (len(y) / len(labels))
                loss.backward()  # type: ignore[no-untyped-call]
                # Summed on the device: reading a number back here would wait for every step.
                loss_sum += loss.detach() * len(labels)
                correct += (logits.detach().argmax(1) == y).sum()
            if gradients is not None:
                gradients.add()
            if settings.clip_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
            optimizer.step()
            if training.average is not None:
                training.average.update_parameters(model)
            lr = optimizer.param_groups[0]["lr"]
            schedule.after_batch()
        train_loss, train_acc = loss_sum.item() / count, correct.item() / count
        train_seconds = time.perf_counter() - began
        val_loss, val_acc = loss_and_accuracy(*predict(training.result, data.val, precision))
        if not math.isfinite(train_loss + val_loss):
            raise Diverged(
                f"train_loss is {train_loss:g} and val_loss {val_loss:g} in epoch {epoch}. "
                f"Try a lower learning rate than {lr:g}."
            )
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
        reason = why_stop(training, spec, stopped)
        yield Epoch(row, training.stopping, reason, gradients.means() if gradients else None)
        if reason is not None:
            return


def _loss(logits: Tensor, y: Tensor, mixed: Mixed | None, weight: Tensor | None, smoothing: float) -> Tensor:
    loss = F.cross_entropy(logits, y, weight, label_smoothing=smoothing)
    if mixed is None:
        return loss
    return torch.lerp(F.cross_entropy(logits, mixed.others, weight, label_smoothing=smoothing), loss, mixed.share)


class Gradients:
    """Mean gradient norms of a model's blocks of layers over the steps of an epoch."""

    def __init__(self, model: Classifier) -> None:
        blocks = blocks_of(model)
        self._blocks = {name: block for name, block in blocks.items() if any(weight.requires_grad for weight in block)}
        self._sums = torch.zeros(len(self._blocks), device=model.scale.device)
        self._steps = 0

    def add(self) -> None:
        """Add the step whose gradients the model holds now."""
        self._sums += torch.stack(
            [nn.utils.get_total_norm([p.grad for p in block if p.grad is not None]) for block in self._blocks.values()]
        )
        self._steps += 1

    def means(self) -> dict[str, float]:
        """Block by block, first layer to head."""
        return dict(zip(self._blocks, (self._sums / self._steps).tolist(), strict=True))


def _warm_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """`decay`, but less in the first steps, whose weights are hardly worth keeping."""

    def average(averaged: Tensor, current: Tensor, steps: Tensor | int) -> Tensor:
        now = min(decay, (1 + int(steps)) / (10 + int(steps)))
        return torch.lerp(current, averaged, now) if averaged.dtype.is_floating_point else current

    return average


def _class_weights(data: Data) -> Tensor:
    """N / (classes * images of the class), so that the mean weight over the training images is 1."""
    counts = torch.bincount(data.train.labels[data.train.index].cpu(), minlength=len(data.classes))
    weights = counts.sum() / (len(counts) * counts.clamp(min=1))
    return weights.float().to(data.train.labels.device)


def why_stop(training: Training, spec: JobSpec, stopped: Callable[[], bool] = lambda: False) -> StopReason | None:
    """Why training ends where it stands, or None where it goes on."""
    early = decide(spec.early_stopping, training.stopping)
    if early is not None:
        return early
    if training.stopping.epoch >= spec.training.max_epochs:
        return StopReason.MAX_EPOCHS
    limit = spec.training.max_seconds
    if limit is not None and training.seconds >= limit:
        return StopReason.TIME_LIMIT
    return StopReason.REQUESTED if stopped() else None


def loss_and_accuracy(logits: Tensor, y: Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of logits `[N, classes]` for labels `[N]`."""
    return F.cross_entropy(logits, y).item(), (logits.argmax(1) == y).float().mean().item()


@torch.inference_mode()
def predict(model: Classifier, split: Split, precision: str = "fp32") -> tuple[Tensor, Tensor]:
    """Logits `[N, classes]` and labels `[N]` of a split, in evaluation mode, in large batches."""
    model.eval()
    device = split.labels.device.type
    pixels = _EVAL_PIXELS_CPU if device == "cpu" else _EVAL_PIXELS
    batch_size = max(1, min(4096, pixels // split.images[0].numel()))
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
        logits = [model(images).float() for images, _ in split.batches(split.index, batch_size)]
    return torch.cat(logits), split.labels[split.index]
