"""Which device to train on, with how many CPU threads and in which number format.

All three follow from spec and device, never from load: they decide the last bits of the weights.
"""

from __future__ import annotations

import contextlib
import platform
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from app.specs import JobSpec
from worker.training.models import build_net

_WORTH_A_THREAD = 1e8  # floating-point operations of a forward pass, by layer


class DeviceUnavailable(RuntimeError):
    """The device that the settings name is not there."""


def choose_device(wanted: str) -> torch.device:
    """The device of a setting; `auto` takes CUDA, then MPS, then the CPU. Raises DeviceUnavailable."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceUnavailable(
            f"WHISTLESTOP_DEVICE={wanted}, but PyTorch sees {torch.cuda.device_count()} CUDA devices. "
            "See `nvidia-smi` and that this torch was built for CUDA, or set WHISTLESTOP_DEVICE=auto."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceUnavailable(f"WHISTLESTOP_DEVICE={wanted}, but this PyTorch or Mac has no MPS. Use auto or cpu.")
    return device


def device_name(device: torch.device) -> str:
    """The model name of a device, for people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):  # Linux, where platform.processor() knows nothing
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def choose_threads(spec: JobSpec, shape: tuple[int, int, int], classes: int, cores: int) -> int:
    """CPU threads for a spec on images of `shape`: one, unless a layer has work for `cores`.

    With less than a tenth of a GFLOP a layer and batch, threads wait for each other more than they compute. A second
    thread takes a quarter off an epoch of Exercise 1 (9 MFLOP) when it has the machine for itself
    (`benchmarks/training.py` prints the ratio).
    """
    with torch.device("meta"):
        net = build_net(spec.model, shape, classes)
        layers = sum(isinstance(module, nn.Conv2d | nn.Linear) for module in net.modules())
        with FlopCounterMode(display=False) as counter:
            net(torch.empty(spec.training.batch_size, *shape))
    work = counter.get_total_flops() / layers
    return 1 if work < _WORTH_A_THREAD else cores


def choose_precision(spec: JobSpec, device: torch.device) -> str:
    """fp32 or bf16. `auto` is fp32 for an MLP, whose steps are too small to gain from less, and bf16 for
    convolutions where the hardware multiplies bf16."""
    wanted = spec.training.precision
    if wanted == "auto":
        return "bf16" if spec.model.kind != "mlp" and _has_bf16(device) else "fp32"
    if wanted == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise DeviceUnavailable(f"training.precision is bf16, which {device_name(device)} cannot do; use auto or fp32.")
    return wanted


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
