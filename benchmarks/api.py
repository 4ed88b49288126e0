"""The API: requests a second, resident memory, import time. One client, one connection, over loopback."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import psutil

from benchmarks import machine

SECONDS = 5.0


def rate(call: Callable[[], object]) -> float:
    """Calls a second."""
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        call()
        count += 1
    return count / (time.perf_counter() - began)


def main() -> None:
    """Measure and print."""
    print(f"## API\n{machine.described()}")
    code = "import time; began = time.perf_counter(); import app.main; print(time.perf_counter() - began)"
    imports = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(5)]
    print(f"import app.main            {statistics.median(imports):.2f} s (median of 5; under 1 s is the aim)")
    with machine.service() as service:
        job_id = service.submit({"dataset": {"name": "digits"}, "training": {"max_epochs": 50}, "early_stopping": None})
        service.succeeded(job_id)
        service.processes[-1].stop()  # the worker: it would train what is posted now
        print(f"GET metrics (50 epochs)    {rate(lambda: service.get(f'/jobs/{job_id}/metrics')):.0f} a second")
        print(f"GET job                    {rate(lambda: service.job(job_id)):.0f} a second")
        print(f"POST /jobs (each on disk)  {rate(service.submit):.0f} a second")
        listed = len(service.get("/jobs", limit=200)["data"])
        print(
            f"GET /jobs?limit=50         {rate(lambda: service.get('/jobs')):.0f} a second, over {listed} jobs or more"
        )
        api = psutil.Process(service.processes[0].pid)
        print(f"resident memory            {api.memory_info().rss / 2**20:.0f} MiB (under 120 MB is the aim)")


if __name__ == "__main__":
    main()
