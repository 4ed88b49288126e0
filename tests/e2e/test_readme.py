"""README.md's commands do what it says, as they are printed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from app.specs import JobSpec
from tests.e2e.printed import ROOT, blocks, run
from tests.e2e.service import Service

README = ROOT / "README.md"


def test_the_first_screen_names_both_commands() -> None:
    first_screen = "\n".join(README.read_text().splitlines()[:25])
    assert "make demo" in first_screen
    assert "make test" in first_screen


def test_the_spec_that_it_shows_is_the_default() -> None:
    ((_, shown),) = blocks(README, "yaml")
    assert JobSpec.model_validate(yaml.safe_load(shown)).model_copy(update={"name": None, "tags": ()}) == JobSpec()


def test_the_files_that_it_links_are_there() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", README.read_text()):
        assert (ROOT / link).is_file(), link


@pytest.mark.timeout(300)
def test_its_curl_lines_work_as_printed(mnist_root: Path, shared: Service, tmp_path: Path) -> None:
    """In one shell, one block after the other; only the port is the test's."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    printed = run(shared, [f"{block}\necho; echo -----" for _, block in blocks(README, "bash")], tmp_path)
    posted, _, resolved, watched, ended, _, predicted, asked, listed = printed.split("-----")[:9]
    assert json.loads(posted)["spec"] == JobSpec().model_dump(mode="json")
    assert JobSpec.model_validate_json(resolved).name == "ex1-mlp-mnist"
    assert '"type":"queued"' in watched
    assert '"accuracy":' in ended
    assert '"name":"best_model.pth"' in ended
    assert '"probability":' in predicted
    assert "<svg" in (tmp_path / "report.html").read_text()
    assert '"epochs_saved":' in asked
    assert "event: finished" in asked
    assert (tmp_path / "best_model.onnx").stat().st_size > 10_000
    assert '"status":"live"' in listed
    assert (tmp_path / "metrics.csv").read_text().startswith("epoch,train_loss,train_acc,val_loss,val_acc,lr")

    ((_, python),) = blocks(README, "python")
    printed = subprocess.run(
        [sys.executable, "-c", python], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert printed.startswith("('0', '1', '2', '3', '4', '5', '6', '7', '8', '9') tensor([[")
    shared.succeeded(json.loads(posted)["id"])
