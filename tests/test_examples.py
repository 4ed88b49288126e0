"""The specs that people start from are valid."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from app.specs import JobSpec

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_an_example_is_a_valid_spec(path: Path) -> None:
    spec = JobSpec.model_validate(yaml.safe_load(path.read_text()))
    if path.name == "exercise-1.yaml":
        assert spec.model_copy(update={"name": None, "tags": ()}) == JobSpec()
