"""From POST to the first training step, with a warm worker: how long a person looks at a job that waits.

`training` is recorded when data, model and optimiser are ready and the first step comes next.
"""

from __future__ import annotations

import statistics
import time
from datetime import datetime

from benchmarks import machine
from tests.e2e.service import Json

JOBS = 30


def main() -> None:
    """Measure and print."""
    print(f"## POST to first training step\n{machine.described()}")
    with machine.service() as service:
        one_epoch = {"training": {"max_epochs": 1}}
        cases: dict[str, Json] = {
            "digits, untracked": {**one_epoch, "dataset": {"name": "digits"}, "tracking": None},
            "Exercise 1, untracked": {**one_epoch, "tracking": None},
            "Exercise 1 with W&B": one_epoch,
        }
        for title, spec in cases.items():
            service.succeeded(service.submit(spec))  # prepares the data set, once
            claims, steps = [], []
            for seed in range(JOBS):
                time.sleep(0.03 * (seed % 5))  # at no fixed phase of the worker's poll
                posted = time.time()
                job_id = service.submit({**spec, "seed": seed})
                service.succeeded(job_id)
                events = service.get(f"/jobs/{job_id}/events")["data"]
                at = {event["type"]: datetime.fromisoformat(event["time"]).timestamp() for event in events}
                claims.append(at["started"] - posted)
                steps.append(at["training"] - posted)
            for what, seconds in (("claimed", claims), ("training", steps)):
                ordered = sorted(1000 * each for each in seconds)
                print(
                    f"{title:<22} {what:<9} after {statistics.median(ordered):4.0f} ms "
                    f"(median of {JOBS}; 90th percentile {ordered[int(JOBS * 0.9)]:.0f} ms)"
                )


if __name__ == "__main__":
    main()
