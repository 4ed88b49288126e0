"""The tables of the store, as they are after the newest migration."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time. SQLite forgets the zone, so it is put back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        found: datetime | None = value
        return found if found is None or found.tzinfo else found.replace(tzinfo=UTC)


metadata = MetaData()


def _of_job() -> Column[str]:
    return Column("job_id", String(36), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)


jobs = Table(
    "jobs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(200)),
    Column("status", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("dataset", String(64), nullable=False),
    Column("model_kind", String(32), nullable=False),
    Column("spec", Text, nullable=False),
    # No foreign key: a parent may be deleted, and its children keep its id.
    Column("parent_id", String(64)),
    Column("max_epochs", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("not_before", UtcDateTime),
    Column("attempt", Integer, nullable=False, default=0),
    Column("crashes", Integer, nullable=False, default=0),
    # Of these, those since the last epoch: what the wait before the next try grows with.
    Column("stuck", Integer, nullable=False, default=0),
    Column("lease_token", String(36)),
    Column("worker_id", String(36)),
    Column("beat", Integer, nullable=False, default=0),
    Column("last_event", Integer, nullable=False, default=0),
    Column("last_line", Integer, nullable=False, default=0),
    Column("epoch", Integer, nullable=False, default=0),
    Column("train_seconds", Float, nullable=False, default=0.0),
    Column("best_epoch", Integer),
    Column("val_loss", Float),
    Column("val_acc", Float),
    Column("test_acc", Float),
    Column("stop_reason", String(16)),
    Column("evaluation", Text),
    Column("runtime", Text),
    Column("error_type", String(64)),
    Column("error_message", Text),
    Column("stop_requested", Boolean, nullable=False, default=False),
    # What decides the weights, and the version that trains: equal for jobs that would end in the same weights.
    Column("fingerprint", String(64)),
    Column("key_id", String(36)),
    Index("jobs_by_fingerprint", "fingerprint"),
    Index("jobs_by_finished_at", "finished_at"),
    Index("jobs_by_claim_order", "status", "priority", "id"),
    Index("jobs_by_parent", "parent_id"),
    Index("jobs_by_status", "status", "id"),
    Index("jobs_by_name", "id", "name"),  # a part of a name is looked for in here, not in whole rows
    # The expressions of `app.store.listing`: jobs without a value come last in the usual order.
    Index("jobs_by_val_loss", text("coalesce(val_loss, 1e+308)"), "id"),
    Index("jobs_by_test_acc", text("coalesce(test_acc, -1e+308)"), "id"),
)

tags = Table(
    "tags",
    metadata,
    _of_job(),
    Column("tag", String(64), primary_key=True),
    Column("position", Integer, nullable=False),
    Index("tags_by_tag", "tag"),
)

attempts = Table(
    "attempts",
    metadata,
    _of_job(),
    Column("number", Integer, primary_key=True),
    Column("worker_id", String(36), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("outcome", String(16)),
    Column("error_type", String(64)),
    Column("error_message", Text),
    Column("runtime", Text),
)

epochs = Table(
    "epochs",
    metadata,
    _of_job(),
    Column("epoch", Integer, primary_key=True),
    Column("train_loss", Float, nullable=False),
    Column("train_acc", Float, nullable=False),
    Column("val_loss", Float, nullable=False),
    Column("val_acc", Float, nullable=False),
    Column("lr", Float, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("samples_per_second", Float, nullable=False),
)

# What a job waits for. No foreign key on the other job: it may be deleted, which ends the wait.
dependencies = Table(
    "dependencies",
    metadata,
    _of_job(),
    Column("after_id", String(36), primary_key=True),
    Index("dependencies_by_after", "after_id"),
)

counters = Table(
    "counters",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

events = Table(
    "events",
    metadata,
    _of_job(),
    Column("number", Integer, primary_key=True),
    # Over all jobs, in the order of commits, from the counter `events`.
    Column("serial", BigInteger, nullable=False),
    Column("type", String(32), nullable=False),
    Column("time", UtcDateTime, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("data", JSON, nullable=False),
    Index("events_by_serial", "serial", unique=True),
)

lines = Table(
    "lines",
    metadata,
    _of_job(),
    Column("number", Integer, primary_key=True),
    Column("time", UtcDateTime, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("text", Text, nullable=False),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    _of_job(),
    Column("name", String(64), primary_key=True),
    Column("key", String(200), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("val_loss", Float, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    # With the API key that used it before it, if any: two users may choose the same.
    Column("key", String(300), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    # Deferred: the key is taken before the job is inserted, so that a concurrent twin waits on the key.
    Column(
        "job_id",
        String(36),
        ForeignKey("jobs.id", ondelete="CASCADE", deferrable=True, initially="DEFERRED"),
        nullable=False,
    ),
    Column("created_at", UtcDateTime, nullable=False),
)

# Who may call, where the door is locked. `hash` is the SHA-256 of a key of 256 random bits.
keys = Table(
    "keys",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("scopes", JSON, nullable=False),
    Column("max_jobs", Integer),
    Column("created_at", UtcDateTime, nullable=False),
    Column("revoked_at", UtcDateTime),
)

# Webhooks that are to be called. One that was answered is deleted; the job's events tell of it.
deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("job_id", String(36), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("url", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("tries", Integer, nullable=False, default=0),
    Column("due_at", UtcDateTime, nullable=False),
    Index("deliveries_by_due_at", "due_at"),
)

workers = Table(
    "workers",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("device", String(32), nullable=False),
    Column("device_name", String(255), nullable=False),
    Column("slots", Integer, nullable=False),
    Column("versions", JSON, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("heartbeat_at", UtcDateTime, nullable=False),
    Column("stopped", Boolean, nullable=False, default=False),
    Column("usage", JSON, nullable=True),
)
