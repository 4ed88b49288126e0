"""The killing test: jobs whose processes are killed at random moments end as undisturbed ones do, bit for bit.

`python -m tests.e2e.soak --kills 200` is the long one (`make soak`); `test_soak.py` runs a short one.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.e2e.service import FINAL, Json, Process, Service, children_of, fill, running, small_disk

QUIET = {"early_stopping": None, "tracking": None, "max_attempts": 100, "dataset": {"name": "digits"}}
KINDS: list[Json] = [
    {"optimizer": {"kind": "adam"}},
    {"optimizer": {"kind": "sgd", "nesterov": True}, "scheduler": {"kind": "onecycle"}},
    {"optimizer": {"kind": "adamw"}, "scheduler": {"kind": "cosine", "warmup_epochs": 2}, "model": {"residual": True}},
    {"scheduler": {"kind": "plateau"}, "dataset": {"name": "digits", "augment": "strong"}},
    {"training": {"ema": 0.99, "clip_norm": 1.0, "micro_batches": 2}},
    {"training": {"mixup": 0.3, "cutmix": 1.0}},
    {"model": {"kind": "cnn", "channels": [4, 8], "blocks": 1, "residual": True}},
    {"early_stopping": {"patience": 1000}, "training": {"class_weights": "balanced", "label_smoothing": 0.1}},
]


def specs(count: int, epochs: int) -> list[Json]:
    """So many different jobs of so many epochs."""
    made = []
    for seed in range(count):
        kind = KINDS[seed % len(KINDS)]
        training = {"max_epochs": epochs, "batch_size": 16, **kind.get("training", {})}
        made.append({**QUIET, **kind, "training": training, "seed": seed})
    return made


def outcome(service: Service, job_id: str) -> tuple[list[Json], bytes, Json]:
    """What must not depend on what happened: figures, weights, evaluation."""
    return service.figures(job_id), service.weights(job_id), service.job(job_id)["evaluation"]


class Fate:
    """Kills, fills and locks, as a seed has it."""

    def __init__(self, service: Service, disk: Path | None, seed: int) -> None:
        self.service, self.disk, self.random = service, disk, random.Random(seed)
        self.done: Counter[str] = Counter()
        self.api = service.api()
        self.workers = [service.worker(), service.worker()]

    def strike(self, wait: Callable[[], float]) -> None:
        """One blow, at a random moment."""
        time.sleep(wait())
        what = self.random.choices(["child", "worker", "api"], [0.7, 0.18, 0.12])[0]
        if what == "api":
            self.api.stop(signal.SIGKILL)
            self.api = self.service.api()
        elif what == "worker":
            index = self.random.randrange(len(self.workers))
            self.workers[index].stop(signal.SIGKILL)
            self.workers[index] = self.service.start("worker")
        else:
            children = [child for worker in self.workers for child in _children(worker)]
            if not children:
                return
            with contextlib.suppress(psutil.NoSuchProcess):
                self.random.choice(children).kill()
        self.done[what] += 1

    def fill_the_disk(self, seconds: float) -> None:
        """No space for a while, where the data folder has a disk of its own."""
        if self.disk is None:
            return
        filler = fill(self.disk)
        time.sleep(seconds)
        filler.unlink()
        self.done["full disk"] += 1

    def lock_the_database(self, seconds: float) -> None:
        """Nobody writes for a while."""
        with contextlib.closing(sqlite3.connect(self.service.data / "whistlestop.db", isolation_level=None)) as db:
            db.execute("PRAGMA busy_timeout=20000")
            db.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            db.execute("ROLLBACK")
        self.done["locked database"] += 1


def _children(worker: Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):  # one that has just been killed
        return children_of(worker)
    return []


def soak(folder: Path, *, jobs: int, epochs: int, kills: int, seed: int) -> Counter[str]:
    """Run the jobs undisturbed, then under blows, and compare. Raises AssertionError where anything differs."""
    wanted = specs(jobs, epochs)
    (folder / "calm").mkdir()
    with running(folder / "calm") as calm:
        calm.api()
        calm.worker(slots=2)
        ids = [calm.submit(spec) for spec in wanted]
        for job_id in ids:
            calm.succeeded(job_id, 1200)
        expected = [outcome(calm, job_id) for job_id in ids]
    (folder / "storm" / "data").mkdir(parents=True)
    with small_disk(folder / "storm" / "data", 256) as disk, running(folder / "storm", lease_seconds=2) as storm:
        fate = Fate(storm, disk, seed)
        ids = [storm.submit(spec) for spec in wanted]
        chance = random.Random(seed + 1)
        while (struck := sum(fate.done[what] for what in ("child", "worker", "api"))) < kills:
            if all(storm.job(job_id)["status"] in FINAL for job_id in ids):
                break
            fate.strike(lambda: chance.uniform(0.05, 1.2))
            if struck in (kills // 3, kills // 3 + 1) and not fate.done["full disk"]:
                fate.fill_the_disk(3)
            if struck in (2 * kills // 3, 2 * kills // 3 + 1) and not fate.done["locked database"]:
                fate.lock_the_database(3)
        ended = {job_id: storm.ended(job_id, 1200) for job_id in ids}
        for job_id, before in zip(ids, expected, strict=True):
            job = ended[job_id]
            assert job["status"] == "succeeded", (job_id, job["error"])
            found = outcome(storm, job_id)
            assert found[0] == before[0], f"the figures of {job_id} differ"
            assert [row["epoch"] for row in found[0]] == list(range(1, epochs + 1))
            assert found[1] == before[1], f"the weights of {job_id} differ"
            assert found[2] == before[2], f"the evaluation of {job_id} differs"
            events = storm.get(f"/jobs/{job_id}/events", limit=10_000)["data"]
            assert [event["number"] for event in events] == list(range(1, len(events) + 1))
            trained = [event["data"]["epoch"] for event in events if event["type"] == "epoch"]
            assert trained == list(range(1, epochs + 1)), f"the epochs of {job_id} are told twice or not at all"
        time.sleep(6)  # superseded files are kept for five seconds
        for worker in fate.workers:
            storm.ready(worker)  # one that was started a moment ago does not listen to signals yet
            assert worker.stop() == 0
        _check_what_is_left(storm, ids)
        return fate.done


def _check_what_is_left(service: Service, ids: list[str]) -> None:
    with contextlib.closing(sqlite3.connect(service.data / "whistlestop.db")) as db:
        leases = db.execute("SELECT count(*) FROM jobs WHERE lease_token IS NOT NULL").fetchone()
        open_attempts = db.execute("SELECT count(*) FROM attempts WHERE ended_at IS NULL").fetchone()
        recorded = {key for (key,) in db.execute("SELECT key FROM checkpoints")}
    assert (leases, open_attempts) == ((0,), (0,))
    root = service.data / "checkpoints"
    there = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    temporary = [name for name in there if ".writing-" in name]
    assert not temporary, temporary
    assert recorded <= there
    assert there == recorded, sorted(there - recorded)[:5]


def main() -> int:
    """The long one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=250)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        done = soak(Path(folder), jobs=given.jobs, epochs=given.epochs, kills=given.kills, seed=given.seed)
    print(f"{given.jobs} jobs of {given.epochs} epochs, all bit-identical to undisturbed ones, after: {dict(done)}")
    print(f"{time.monotonic() - began:.0f} s")
    struck = sum(done[what] for what in ("child", "worker", "api"))
    if struck < given.kills:
        print(f"only {struck} kills: the jobs had ended; give them more --epochs")
    return 0 if struck >= given.kills else 1


if __name__ == "__main__":
    sys.exit(main())
