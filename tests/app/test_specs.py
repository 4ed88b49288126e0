"""The spec: Exercise 1 by default, strict, and self-explaining."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from app.fields import known_names
from app.specs import AdamWSpec, JobSpec, MLPSpec, SGDSpec

DESIGN = """
name: ex1-mlp-mnist
tags: [lab1]
dataset: {name: mnist, val_fraction: 0.1, augment: none}
model: {kind: mlp, hidden: [128, 64], dropout: 0.2, residual: false}
optimizer: {kind: adam, lr: 1.0e-3, weight_decay: 0.0}
scheduler: {kind: none}
training: {max_epochs: 50, batch_size: 128, label_smoothing: 0.0, precision: auto, max_seconds: null}
early_stopping: {patience: 5, min_delta: 1.0e-4, delta_overfit: 0.1, overfit_patience: 3}
init_from: null
tracking: {wandb: {project: whistlestop, mode: offline}}
seed: 0
priority: 0
max_attempts: 3
"""


def test_an_empty_spec_is_the_design_s_exercise_1() -> None:
    written = JobSpec.model_validate(yaml.safe_load(DESIGN))
    assert written.model_copy(update={"name": None, "tags": ()}) == JobSpec()


@pytest.mark.parametrize(
    "spec",
    [
        JobSpec(),
        JobSpec(model=MLPSpec(hidden=(8,) * 40, residual=True), optimizer=SGDSpec(nesterov=True)),
        JobSpec(name="Ünïcode ✓", early_stopping=None, tracking=None, optimizer=AdamWSpec()),
    ],
)
def test_a_spec_survives_its_json_unchanged(spec: JobSpec) -> None:
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_part_without_a_kind_is_of_the_default_kind() -> None:
    assert JobSpec.model_validate({"optimizer": {"lr": 0.01}}).optimizer.kind == "adam"
    assert JobSpec.model_validate({"scheduler": {}}).scheduler.kind == "none"


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        JobSpec().seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    "part",
    [
        {"seed": "0"},
        {"seed": True},
        {"seed": 0.5},
        {"seed": -1},
        {"name": ""},
        {"name": "two\nlines"},
        {"tags": ["with space"]},
        {"tags": ["x"] * 33},
        {"dataset": {"val_fraction": 0}},
        {"dataset": {"val_fraction": math.nan}},
        {"model": {"hidden": []}},
        {"model": {"hidden": [0]}},
        {"model": {"dropout": 1}},
        {"optimizer": {"kind": "sgd", "momentum": 0, "nesterov": True}},
        {"training": {"max_epochs": 0}},
        {"training": {"max_seconds": 0}},
        {"early_stopping": {"patience": 0}},
        {"training": None},
    ],
)
def test_what_makes_no_sense_is_refused(part: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JobSpec.model_validate(part)


def test_every_field_explains_itself() -> None:
    """Each property in the JSON schema has words, and each plain one an example."""
    schema = JobSpec.model_json_schema()
    silent = []
    for part in [schema, *schema["$defs"].values()]:
        for name, field in part.get("properties", {}).items():
            nested = "$ref" in str(field)
            if not field.get("description") or not (nested or field.get("examples")):
                silent.append(f"{part['title']}.{name}")
    assert silent == []


def test_the_known_names_are_those_of_the_part_that_the_tag_selects() -> None:
    assert "momentum" in known_names(JobSpec, ("optimizer", "sgd"))
    assert "momentum" not in known_names(JobSpec, ("optimizer", "adam"))
    assert known_names(JobSpec, ("tracking", "wandb")) == ["entity", "mode", "project"]
