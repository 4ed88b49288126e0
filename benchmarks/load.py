"""The API under load: 64 clients beside two training jobs, and a database with ten thousand jobs.

Each client calls, waits for two seconds on average, and calls again, as pages and scripts that look on do; now and then
it submits a job that is cancelled at once. The clients are in a process of their own, on the same machine.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable

import aiohttp

from benchmarks import machine
from tests.e2e.service import Json, Service

CLIENTS, SECONDS, PAUSE = 64, 60.0, 2.0
JOBS, EPOCHS, CALLS = 10_000, 50, 200
TRAINING: Json = {"training": {"max_epochs": 100_000}, "early_stopping": None, "tracking": None}


async def clients(url: str, jobs: list[str]) -> dict[str, list[float]]:
    """Milliseconds of each call, by what it was. Raises where one is refused."""
    taken: dict[str, list[float]] = defaultdict(list)
    end = time.perf_counter() + SECONDS

    async def one(seed: int) -> None:
        chance = random.Random(seed)
        async with aiohttp.ClientSession(url, raise_for_status=True) as http:
            while time.perf_counter() < end:
                await asyncio.sleep(chance.expovariate(1 / PAUSE))
                job_id = chance.choice(jobs)
                calls = {
                    "GET job": ("GET", f"/jobs/{job_id}"),
                    "GET metrics": ("GET", f"/jobs/{job_id}/metrics?max_points=500"),
                    "GET jobs": ("GET", "/jobs?limit=20&sparkline=30"),
                    "GET events": ("GET", f"/jobs/{job_id}/events?newest=50"),
                    "POST job": ("POST", "/jobs"),
                }
                name = chance.choices(list(calls), [40, 25, 20, 10, 5])[0]
                method, path = calls[name]
                body = {"not_before": "2040-01-01T00:00:00Z"} if method == "POST" else None
                began = time.perf_counter()
                async with http.request(method, path, json=body) as answer:
                    content = await answer.read()
                taken[name].append(1000 * (time.perf_counter() - began))
                if method == "POST":
                    async with http.post(f"/jobs/{json.loads(content)['id']}/cancel") as answer:
                        await answer.read()

    await asyncio.gather(*(one(seed) for seed in range(CLIENTS)))
    return taken


def beside_training() -> None:
    """64 clients, two jobs."""
    with machine.service(slots=2) as service:
        jobs = [service.submit({**TRAINING, "seed": seed}) for seed in range(2)]
        for job_id in jobs:
            service.reaches(job_id, 3)
        alone = pace(service, jobs, lambda: time.sleep(SECONDS / 2))
        found: dict[str, list[float]] = {}

        def load() -> None:
            command = [sys.executable, "-m", "benchmarks.load", "clients", service.url, *jobs]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            found.update(json.loads(done.stdout))

        loaded = pace(service, jobs, load)
        again = pace(service, jobs, lambda: time.sleep(SECONDS / 2))
        for job_id in jobs:
            service.http.post(f"/jobs/{job_id}/cancel")
    every = sorted(each for calls in found.values() for each in calls)
    print(
        f"{CLIENTS} clients for {SECONDS:g} s: {len(every)} calls, no error, median {statistics.median(every):.0f} ms, "
        f"p99 {every[int(0.99 * len(every))]:.0f} ms, slowest {every[-1]:.0f} ms (aim: p99 under 250 ms)"
    )
    for name, calls in sorted(found.items()):
        calls.sort()
        print(
            f"  {name:<12} {len(calls):5} calls, median {statistics.median(calls):4.0f} ms, "
            f"p99 {calls[int(0.99 * len(calls))]:4.0f} ms"
        )
    quiet = (alone + again) / 2
    print(
        f"training: {quiet:.3f} epochs/s without load ({alone:.3f} before, {again:.3f} after), {loaded:.3f} with: "
        f"slowed by {100 * (1 - loaded / quiet):.1f}% (aim: under 10%)"
    )


def pace(service: Service, jobs: list[str], meanwhile: Callable[[], None]) -> float:
    """Epochs a second over both jobs while something goes on."""

    def trained() -> float:
        # Epochs differ by a step in time; their images do not.
        return sum(service.job(job_id)["progress"]["epoch"] for job_id in jobs)

    before, began = trained(), time.perf_counter()
    meanwhile()
    return (trained() - before) / (time.perf_counter() - began)


def fill(service: Service) -> list[str]:
    """Ten thousand jobs that have ended, with fifty epochs each, copied from one that has been trained."""
    spec: Json = {"dataset": {"name": "digits"}, "training": {"max_epochs": EPOCHS}, "early_stopping": None}
    job_id = service.submit({**spec, "tracking": None, "tags": ["filled"]})
    service.succeeded(job_id)
    with sqlite3.connect(service.data / "whistlestop.db") as db:
        db.row_factory = sqlite3.Row
        job = dict(db.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone())
        rows = [dict(row) for row in db.execute("SELECT * FROM epochs WHERE job_id = ?", (job_id,))]
        ids = [f"{job_id[:-12]}{number:012x}" for number in range(JOBS)]
        columns = ", ".join(job)
        db.executemany(
            f"INSERT INTO jobs ({columns}) VALUES ({', '.join('?' * len(job))})",
            (
                tuple({**job, "id": each, "name": f"job {number}", "val_loss": random.random()}.values())
                for number, each in enumerate(ids)
            ),
        )
        db.executemany("INSERT INTO tags (job_id, tag, position) VALUES (?, ?, 0)", ((each, "filled") for each in ids))
        columns = ", ".join(rows[0])
        db.executemany(
            f"INSERT INTO epochs ({columns}) VALUES ({', '.join('?' * len(rows[0]))})",
            (tuple({**row, "job_id": each}.values()) for each in ids for row in rows),
        )
    return ids


def many_jobs() -> None:
    """How long calls take beside ten thousand jobs."""
    with machine.service() as service:
        ids = fill(service)
        service.processes[-1].stop()
        print(f"{JOBS:,} jobs of {EPOCHS} epochs, milliseconds (median of {CALLS}; aim: under 20)")
        chance = random.Random(0)
        calls: dict[str, Callable[[], object]] = {
            "list 50": lambda: service.get("/jobs"),
            "list 50 with sparklines": lambda: service.get("/jobs", sparkline=30),
            "filter by status, tag, data set": lambda: service.get(
                "/jobs", status="succeeded", tag="filled", dataset="digits"
            ),
            "filter by a part of the name": lambda: service.get("/jobs", name=f"job {chance.randrange(JOBS)}"),
            "sort by val_loss": lambda: service.get("/jobs", sort="val_loss"),
            "sort by test_acc": lambda: service.get("/jobs", sort="test_acc"),
            "one job": lambda: service.job(chance.choice(ids)),
            "metrics of one": lambda: service.get(f"/jobs/{chance.choice(ids)}/metrics"),
        }
        for name, call in calls.items():
            times = []
            for _ in range(CALLS):
                began = time.perf_counter()
                call()
                times.append(1000 * (time.perf_counter() - began))
            times.sort()
            print(f"  {name:<34} {statistics.median(times):6.1f}  (p99 {times[int(0.99 * CALLS)]:.1f})")


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["clients"]:
        print(json.dumps(asyncio.run(clients(sys.argv[2], sys.argv[3:]))))
        return
    print(f"## Load\n{machine.described()}")
    beside_training()
    many_jobs()


if __name__ == "__main__":
    main()
