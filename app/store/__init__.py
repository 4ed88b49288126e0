"""The store: the only module that speaks SQL and the only one that changes a job's status.

It takes values and hands out values, never rows. Every write of a worker carries its lease and is refused, with
`LeaseLost`, when the lease is no longer the job's own.
"""

from app.store.errors import (
    IdempotencyConflict,
    IllegalTransition,
    InvalidCursor,
    JobNotFound,
    KeyExists,
    LeaseLost,
    NothingToStop,
    NotRecorded,
    ParentInUse,
    QuotaExceeded,
    StoreError,
    StoreUnavailable,
    UnknownKey,
    UnusableDependency,
    UnusableParent,
)
from app.store.listing import Filters, Order, Sorting, SortKey
from app.store.store import JobStore

__all__ = [
    "Filters",
    "IdempotencyConflict",
    "IllegalTransition",
    "InvalidCursor",
    "JobNotFound",
    "JobStore",
    "KeyExists",
    "LeaseLost",
    "NotRecorded",
    "NothingToStop",
    "Order",
    "ParentInUse",
    "QuotaExceeded",
    "SortKey",
    "Sorting",
    "StoreError",
    "StoreUnavailable",
    "UnknownKey",
    "UnusableDependency",
    "UnusableParent",
]
