"""The linear probe: scikit-learn's logistic regression on a frozen network's features, as one epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import cast

import torch
from sklearn.linear_model import LogisticRegression

from app.specs import EpochRow, JobSpec, LinearProbeSpec
from app.specs.stopping import advance
from worker.training.data import Data
from worker.training.models import LinearProbe
from worker.training.trainer import Epoch, Training, loss_and_accuracy, predict, why_stop


def fit_probe(
    training: Training,
    data: Data,
    spec: JobSpec,
    *,
    precision: str = "fp32",
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Epoch]:
    """Fit the probe's last layer, in place of `train_model`; yields nothing where that is done already."""
    if training.stopping.epoch:
        return
    began = time.perf_counter()
    probe, settings = cast(LinearProbe, training.model.net), cast(LinearProbeSpec, spec.model)
    head, width = probe.head, probe.head.in_features
    # The features are the logits of a network whose last layer is the identity.
    probe.head = torch.nn.Identity()  # type: ignore[assignment]
    features, labels = predict(training.model, data.train, precision)
    probe.head = head
    mean, std = features.mean(0), features.std(0).clamp(min=1e-6)
    fitted = LogisticRegression(C=settings.C, max_iter=settings.max_iter)
    fitted.fit(((features - mean) / std).cpu().numpy(), labels.cpu().numpy())
    weight, bias = (torch.from_numpy(found).float().to(mean.device) for found in (fitted.coef_, fitted.intercept_))
    if len(data.classes) == 2:  # scikit-learn has one row then: sigmoid(z) is softmax(-z/2, z/2)
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    with torch.no_grad():
        head.weight.copy_(weight / std)
        head.bias.copy_(bias - (weight / std) @ mean)
    assert head.weight.shape == (len(data.classes), width)
    train_seconds = time.perf_counter() - began
    train, val = (loss_and_accuracy(*predict(training.model, split, precision)) for split in (data.train, data.val))
    training.stopping = advance(spec.early_stopping, training.stopping, val[0])
    training.seconds += (seconds := time.perf_counter() - began)
    row = EpochRow(
        epoch=1,
        train_loss=train[0],
        train_acc=train[1],
        val_loss=val[0],
        val_acc=val[1],
        lr=0.0,
        seconds=seconds,
        samples_per_second=len(data.train) / train_seconds,
    )
    yield Epoch(row, training.stopping, why_stop(training, spec, stopped))
