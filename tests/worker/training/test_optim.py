"""Optimisers and schedules, as the spec says."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from app.specs import JobSpec
from worker.training.optim import build_optimizer, build_schedule


def rates(scheduler: dict[str, Any], *, epochs: int = 6, steps: int = 5, val_loss: float = 1.0) -> list[float]:
    """The learning rate of each step."""
    spec = JobSpec.model_validate({"scheduler": scheduler, "optimizer": {"kind": "sgd", "lr": 1.0}})
    optimizer = build_optimizer(spec.optimizer, [(1.0, [torch.nn.Parameter(torch.ones(2))])])
    schedule = build_schedule(spec.scheduler, optimizer, epochs, steps)
    seen = []
    for _ in range(epochs):
        for _ in range(steps):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.after_batch()
        schedule.after_epoch(val_loss)
    return seen


def test_none_is_constant() -> None:
    assert set(rates({"kind": "none"})) == {1.0}


def test_cosine_falls_from_lr_to_min_lr_by_epoch() -> None:
    seen = rates({"kind": "cosine", "min_lr": 0.2})[::5]
    expected = [0.2 + 0.8 * (1 + math.cos(math.pi * epoch / 6)) / 2 for epoch in range(6)]
    assert seen == pytest.approx(expected)


def test_onecycle_rises_to_lr_and_falls_by_step() -> None:
    seen = rates({"kind": "onecycle", "warmup_fraction": 0.4})
    peak = seen.index(max(seen))
    assert max(seen) == pytest.approx(1.0)
    assert peak == round(0.4 * 30) - 1
    assert seen[:peak] == sorted(seen[:peak])
    assert seen[peak:] == sorted(seen[peak:], reverse=True)
    assert seen[-1] < 1e-3


def test_step_multiplies_every_so_many_epochs() -> None:
    assert rates({"kind": "step", "every": 2, "gamma": 0.5})[::5] == [1, 1, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize(
    "scheduler", [{"kind": "none"}, {"kind": "cosine", "min_lr": 0.2}, {"kind": "step", "every": 3}]
)
def test_warm_up_rises_step_by_step_and_then_leaves_the_schedule_alone(scheduler: dict[str, Any]) -> None:
    plain, warm = rates(scheduler), rates({**scheduler, "warmup_epochs": 2})
    shares = [ours / theirs for ours, theirs in zip(warm, plain, strict=True)]
    assert shares[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert shares[10:] == pytest.approx([1.0] * 20)


def test_plateau_waits_for_its_patience() -> None:
    assert rates({"kind": "plateau", "patience": 1, "factor": 0.5})[::5] == [1, 1, 1, 0.5, 0.5, 0.25]


@pytest.mark.parametrize("spec", [{"kind": "adam", "weight_decay": 0.1}, {"kind": "adamw"}, {"kind": "sgd"}])
def test_biases_and_norms_do_not_decay_and_each_group_has_its_learning_rate(spec: dict[str, Any]) -> None:
    weight, bias, other = (torch.nn.Parameter(torch.ones(*shape)) for shape in ((2, 2), (2,), (3, 3)))
    parsed = JobSpec.model_validate({"optimizer": spec}).optimizer
    groups = build_optimizer(parsed, [(1.0, [weight, bias]), (0.5, [other])]).param_groups
    given = {id(parameter): (group["lr"], group["weight_decay"]) for group in groups for parameter in group["params"]}
    assert given == {
        id(weight): (parsed.lr, parsed.weight_decay),
        id(bias): (parsed.lr, 0),
        id(other): (parsed.lr / 2, parsed.weight_decay),
    }
