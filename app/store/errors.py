"""What the store refuses, each with words for the reader."""

from collections.abc import Sequence

from app.jobs import JobStatus


class StoreError(Exception):
    """A refusal of the store."""


class JobNotFound(StoreError):
    """There is no job of this id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no job '{job_id}'. GET /jobs lists the jobs that there are.")


class NotRecorded(StoreError):
    """The job has no such evaluation or checkpoint (yet)."""


class IllegalTransition(StoreError):
    """The job's status does not allow the call."""

    def __init__(self, job_id: str, action: str, status: JobStatus, allowed: tuple[JobStatus, ...]) -> None:
        known = " or ".join(allowed)
        super().__init__(f"Job {job_id} is {status}; '{action}' takes a job that is {known}.")


class ParentInUse(StoreError):
    """Jobs that have not ended start from this job's weights."""

    def __init__(self, job_id: str, children: Sequence[str]) -> None:
        super().__init__(
            f"Job {job_id} is in use: {', '.join(children)} start from its weights and have not ended. "
            "Wait for them, cancel them, or delete it all the same with ?force=true."
        )


class LeaseLost(StoreError):
    """The writer's lease is no longer the job's own: another attempt has it, or nobody."""


class IdempotencyConflict(StoreError):
    """The idempotency key was used with another body."""

    def __init__(self, key: str, job_id: str) -> None:
        super().__init__(
            f"Idempotency-Key '{key}' was used for job {job_id} with another spec. "
            "Send the same body again, or a new key."
        )


class InvalidCursor(StoreError):
    """The cursor is not one that this listing gave out."""

    def __init__(self, cursor: str) -> None:
        super().__init__(
            f"'{cursor[:80]}' is not a cursor of this listing. Pass `next` of the page before, unchanged and with "
            "the same sort and order, or leave it out."
        )


class UnusableParent(StoreError):
    """The job that a spec's `init_from` names has no such checkpoint."""


class UnusableDependency(StoreError):
    """A job that a spec's `after` names will never succeed, or is not there."""


class QuotaExceeded(StoreError):
    """The API key has as many jobs under way as it may have."""

    def __init__(self, max_jobs: int) -> None:
        super().__init__(f"Your key may have {max_jobs} jobs under way, and has. Wait for one to end, or cancel one.")


class KeyExists(StoreError):
    """The name of an API key is taken."""


class UnknownKey(StoreError):
    """There is no such API key."""


class NothingToStop(StoreError):
    """A job without an epoch has no weights to keep."""

    def __init__(self, job_id: str, status: JobStatus) -> None:
        super().__init__(
            f"Job {job_id} is {status} and has no epoch yet, so there are no weights to keep. Cancel it instead."
        )


class StoreUnavailable(StoreError):
    """The database cannot be used now: locked, full, read-only, unreachable. Nothing was written."""

    def __init__(self, message: str, *, full: bool = False) -> None:
        super().__init__(message)
        self.full = full
