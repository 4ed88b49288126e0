"""A short killing test; `make soak` runs the long one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.soak import soak


@pytest.mark.timeout(400)
def test_jobs_whose_processes_are_killed_end_as_undisturbed_ones_do(tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")  # shown where the test fails
    done = soak(tmp_path, jobs=4, epochs=60, kills=12, seed=seed)
    assert sum(done[what] for what in ("child", "worker", "api")) >= 6
