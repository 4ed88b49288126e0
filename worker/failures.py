"""What a job died of, in words: the type of its error, and what to do about it."""

from __future__ import annotations

import traceback

import torch

from app.jobs import JobError
from worker import sources
from worker.messages import Failed
from worker.training import checkpoint, data
from worker.training.device import DeviceUnavailable
from worker.training.finetune import UnknownBlock
from worker.training.models import ModelUnavailable
from worker.training.trainer import Diverged

_KNOWN: dict[type[Exception], str] = {
    Diverged: "diverged",
    data.DatasetUnavailable: "dataset_unavailable",
    data.DatasetBroken: "dataset_broken",
    sources.WeightsUnavailable: "weights_unavailable",
    checkpoint.BadCheckpoint: "checkpoint_damaged",
    DeviceUnavailable: "device_unavailable",
    ModelUnavailable: "model_unavailable",
    UnknownBlock: "unknown_block",
}


def failure(error: Exception) -> Failed:
    """The message of a child whose job has raised `error`."""
    for kind, word in _KNOWN.items():
        if isinstance(error, kind):
            return Failed(JobError(type=word, message=str(error)), passing=False)
    if "torchvision::" in str(error):  # its operators were built for another PyTorch
        message = (
            f"This worker's torchvision does not fit its PyTorch {torch.__version__} ({error}). Install the two "
            "from one source: pip install --force-reinstall torch torchvision"
        )
        return Failed(JobError(type="installation_broken", message=message), passing=False)
    # PyTorch's CPU allocator has no exception of its own.
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator: " in str(error):
        hint = "Take a smaller batch_size or model, or a worker with fewer slots."
        message = f"{' '.join(str(error).split())[:500]} {hint}"
        return Failed(JobError(type="out_of_memory", message=message), passing=False)
    trace = tuple(traceback.format_exception(error))
    lines = tuple("".join(trace).splitlines())
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        message = f"{place}{error.strerror or error}. See that the worker may read and write there."
        return Failed(JobError(type="storage_error", message=message), passing=True, text=lines)
    return Failed(JobError(type=type(error).__name__, message=str(error) or "no message"), passing=False, text=lines)
