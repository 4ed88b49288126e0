"""A client of the API, synchronous and asynchronous: submit, wait, follow, download. Needs no torch.

    from app.client import Client

    job = Client().submit({"dataset": {"name": "digits"}}).wait()
    print(job.evaluation.accuracy)

Calls that change nothing, and submissions (under an idempotency key), are tried again when the line breaks or the
service is busy; a retry never submits twice, and a download goes on where it broke.
"""

from app.artifacts import DamagedFile
from app.client.asynchronous import AsyncClient, AsyncRunningJob
from app.client.calls import ListedJob
from app.client.outcomes import ApiError, JobFailed, Unreachable, row_of
from app.client.plain import Client, RunningJob

__all__ = [
    "ApiError",
    "AsyncClient",
    "AsyncRunningJob",
    "Client",
    "DamagedFile",
    "JobFailed",
    "ListedJob",
    "RunningJob",
    "Unreachable",
    "row_of",
]
