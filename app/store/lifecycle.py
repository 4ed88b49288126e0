"""The transition table: the only ways in which a job's status changes."""

from typing import NamedTuple

from app.jobs import JobStatus


class Transition(NamedTuple):
    """From any of `sources` to `target`."""

    sources: tuple[JobStatus, ...]
    target: JobStatus


Q, R, P, F = JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.FAILED

TRANSITIONS: dict[str, Transition] = {
    "claim": Transition((Q,), JobStatus.RUNNING),
    "give_back": Transition((R,), JobStatus.QUEUED),
    "try_again": Transition((R,), JobStatus.QUEUED),
    "succeed": Transition((R,), JobStatus.SUCCEEDED),
    "fail": Transition((R,), JobStatus.FAILED),
    "cancel": Transition((Q, R, P), JobStatus.CANCELLED),
    "pause": Transition((Q, R), JobStatus.PAUSED),
    "resume": Transition((P,), JobStatus.QUEUED),
    "retry": Transition((F,), JobStatus.QUEUED),
    "give_up": Transition((Q, P), JobStatus.FAILED),
}

MAX_BACKOFF_SECONDS = 60.0


def backoff_seconds(crashes: int) -> float:
    """Seconds to wait after the n-th crash without an epoch in between: 1, 2, 4, ... and at most a minute."""
    return min(2.0 ** (crashes - 1), MAX_BACKOFF_SECONDS)
