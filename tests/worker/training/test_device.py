"""Device, threads and precision follow from spec and device, never from load."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from app.specs import JobSpec
from worker.training.device import DeviceUnavailable, choose_device, choose_precision, choose_threads, device_name

CNN = JobSpec.model_validate({"model": {"kind": "cnn"}})


def test_the_best_device_is_found() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert choose_device("auto").type == expected
    assert choose_device("cpu").type == "cpu"
    assert device_name(torch.device("cpu"))


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="this is no Linux")
def test_a_processor_has_the_name_that_people_know() -> None:
    if "model name" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor does not tell its name")
    assert device_name(torch.device("cpu")) not in ("", platform.machine())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize("wanted", ["cuda", "cuda:7"])
def test_a_device_that_is_not_there_is_told_with_what_to_do(wanted: str) -> None:
    with pytest.raises(DeviceUnavailable, match=f"WHISTLESTOP_DEVICE={wanted}.*WHISTLESTOP_DEVICE=auto"):
        choose_device(wanted)


@pytest.mark.parametrize(
    ("model", "shape", "many"),
    [
        ({"kind": "mlp"}, (1, 28, 28), False),
        ({"kind": "mlp", "hidden": [4096]}, (1, 28, 28), True),
        ({"kind": "resnet"}, (1, 8, 8), False),
        ({"kind": "resnet"}, (3, 32, 32), True),
    ],
)
def test_threads_are_as_many_as_there_is_work_for(
    model: dict[str, object], shape: tuple[int, int, int], many: bool
) -> None:
    spec = JobSpec.model_validate({"model": model})
    assert choose_threads(spec, shape, 10, 6) == (6 if many else 1)


def test_convolutions_are_trained_in_bf16_where_the_hardware_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for has in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: {"avx512_bf16": has}, raising=False)
        assert choose_precision(CNN, cpu) == ("bf16" if has else "fp32")
        assert choose_precision(JobSpec(), cpu) == "fp32"


def test_a_precision_that_was_asked_for_is_taken() -> None:
    for precision in ("fp32", "bf16"):
        spec = JobSpec.model_validate({"training": {"precision": precision}, "model": {"kind": "cnn"}})
        assert choose_precision(spec, torch.device("cpu")) == precision
