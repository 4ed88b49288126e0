"""Two worker processes that race for a thousand jobs: each job is claimed once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from app.jobs import JobStatus
from app.specs import JobSpec
from app.store import JobStore
from app.store.listing import Filters, Sorting

JOBS = 1000

# Claims until nothing waits, and ends each job as soon as it has it.
RACER = """
import sys
from app.jobs import JobError
from app.store import JobStore
store, name = JobStore(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
while (claim := store.claim(name)) is not None:
    print(claim.lease.job_id, claim.lease.attempt)
    store.fail(claim.lease, JobError(type="raced", message="the race is over"), ())
"""


@pytest.mark.timeout(300)
def test_two_workers_claim_a_thousand_jobs_once_each(store: JobStore, database_url: str) -> None:
    submitted = {store.submit(JobSpec())[0].id for _ in range(JOBS)}
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, database_url, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("worker-1", "worker-2")
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    claimed = [racer.communicate(timeout=240)[0].split("\n")[:-1] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0]
    assert all(claimed), "both had some"
    ids = [line.split()[0] for lines in claimed for line in lines]
    assert len(ids) == len(set(ids)) == JOBS
    assert set(ids) == submitted
    assert {line.split()[1] for lines in claimed for line in lines} == {"1"}
    left = store.list_jobs(Filters(status=(JobStatus.QUEUED, JobStatus.RUNNING)), Sorting(), 10, None)
    assert left.data == []
