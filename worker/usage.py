"""What a worker and its training processes take of the machine."""

from __future__ import annotations

import os
import time

import psutil
import pynvml

from app.jobs import Usage


class Meter:
    """Reads what this process and all that it started take. `device` is PyTorch's name of the worker's device."""

    def __init__(self, device: str) -> None:
        self._own, self._last = psutil.Process(), (time.monotonic(), 0.0)
        self._gpu = None
        if device.startswith("cuda"):
            pynvml.nvmlInit()
            self._gpu = pynvml.nvmlDeviceGetHandleByIndex(int(device.partition(":")[2] or 0))
        self.read()

    def read(self) -> Usage:
        """What is taken now; CPU time since the last reading."""
        memory, seconds = 0, 0.0
        for process in [self._own, *self._own.children(recursive=True)]:
            try:
                times = process.cpu_times()
                memory += process.memory_info().rss
            except psutil.NoSuchProcess:  # a job that has just ended
                continue
            seconds += times.user + times.system
        now, (before, used) = time.monotonic(), self._last
        self._last = now, seconds
        share = max(0.0, seconds - used) / max(now - before, 1e-3) / (os.cpu_count() or 1)
        return Usage(
            cpu_percent=round(min(100.0, 100 * share), 1),
            memory=memory,
            memory_total=psutil.virtual_memory().total,
            **self._of_gpu(),
        )

    def _of_gpu(self) -> dict[str, float | int | None]:
        if self._gpu is None:
            return {}
        memory = pynvml.nvmlDeviceGetMemoryInfo(self._gpu)
        percent = pynvml.nvmlDeviceGetUtilizationRates(self._gpu).gpu
        return {"gpu_percent": float(percent), "gpu_memory": int(memory.used), "gpu_memory_total": int(memory.total)}
