"""Real digits, prepared once, and a job to train on them in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from app.specs import DatasetSpec, JobSpec
from worker.training.data import Data, load
from worker.training.prepare import prepare

CPU = torch.device("cpu")


def never(name: str) -> Path:
    """A fetch that must not be needed."""
    raise AssertionError(f"{name} is to be fetched, but should not")


@pytest.fixture(scope="session")
def digits_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared file of `digits`."""
    return prepare("digits", (), None, tmp_path_factory.mktemp("prepared") / "digits.safetensors", never)


@pytest.fixture(scope="session")
def digits(digits_file: Path) -> Data:
    """`digits`, split as by default."""
    return load(digits_file, DatasetSpec(name="digits"), CPU)


def spec_of(**parts: Any) -> JobSpec:
    """A small job on `digits`."""
    small = {"dataset": {"name": "digits"}, "model": {"hidden": [32, 16]}, "training": {"max_epochs": 4}}
    return JobSpec.model_validate(small | parts)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Small networks gain nothing from more, and the machine may be busy with other tests."""
    torch.set_num_threads(1)
