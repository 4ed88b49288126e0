"""Which device to train on, with how many CPU threads and in which number format.

All three follow from spec and device, never from load: they decide the last bits of the weights.
"""

from __future__ import annotations

import os
import platform

import torch

from app.specs import JobSpec


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
    return platform.processor() or platform.machine()


def choose_threads(parameters: int) -> int:
    """CPU threads for a network of so many parameters.

    Below a million a second thread gains less than it takes from the job in the next slot: on two cores it takes a
    fifth off an epoch of Exercise 1 (`benchmarks/trainer.py` prints the ratio).
    """
    return 1 if parameters < 1_000_000 else max(1, (os.cpu_count() or 1))


def choose_precision(spec: JobSpec, device: torch.device) -> str:
    """fp32 or bf16. `auto` is fp32 for an MLP, whose steps are too small to gain from less."""
    wanted = spec.training.precision
    if wanted == "auto":
        return "fp32"
    if wanted == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise DeviceUnavailable(f"training.precision is bf16, which {device_name(device)} cannot do; use auto or fp32.")
    return wanted
