"""Freed memory stays with the process that trains."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CODE = """
import resource, torch
from worker.training.memory import keep_freed
assert keep_freed()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    tensors = [torch.zeros(5 << 20, dtype=torch.uint8) for _ in range(8)]
for _ in range(3):
    step()
before = faults()
for _ in range(20):
    step()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_what_a_step_has_freed_is_not_cleared_page_by_page_for_the_next() -> None:
    faults = int(subprocess.check_output([sys.executable, "-c", CODE], text=True))
    assert faults < 10_240, "that is one step's pages, and twenty steps have 204,800"
