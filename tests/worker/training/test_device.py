"""Device, threads and precision follow from spec and device, never from load."""

from __future__ import annotations

import os

import pytest
import torch

from app.specs import JobSpec
from worker.training.device import DeviceUnavailable, choose_device, choose_precision, choose_threads, device_name


def test_the_best_device_is_found() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert choose_device("auto").type == expected
    assert choose_device("cpu").type == "cpu"
    assert device_name(torch.device("cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize("wanted", ["cuda", "cuda:7"])
def test_a_device_that_is_not_there_is_told_with_what_to_do(wanted: str) -> None:
    with pytest.raises(DeviceUnavailable, match=f"WHISTLESTOP_DEVICE={wanted}.*WHISTLESTOP_DEVICE=auto"):
        choose_device(wanted)


def test_small_networks_leave_the_other_core_to_the_next_slot() -> None:
    assert choose_threads(109_386) == 1
    assert choose_threads(11_000_000) == os.cpu_count()


def test_an_mlp_is_trained_in_fp32_unless_it_is_asked_otherwise() -> None:
    cpu = torch.device("cpu")
    assert choose_precision(JobSpec(), cpu) == "fp32"
    assert choose_precision(JobSpec.model_validate({"training": {"precision": "bf16"}}), cpu) == "bf16"
