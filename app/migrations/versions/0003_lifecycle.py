"""Jobs stop, wait for others and have owners; events have one order over all jobs; API keys and webhooks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("stop_requested", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("jobs", sa.Column("stuck", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("fingerprint", sa.String(length=64), nullable=True))
    op.add_column("jobs", sa.Column("key_id", sa.String(length=36), nullable=True))
    op.create_index("jobs_by_fingerprint", "jobs", ["fingerprint"], unique=False)
    op.create_index("jobs_by_finished_at", "jobs", ["finished_at"], unique=False)
    op.create_table(
        "dependencies",
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("after_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "after_id"),
    )
    op.create_index("dependencies_by_after", "dependencies", ["after_id"], unique=False)
    op.create_table(
        "counters",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("max_jobs", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sa.UniqueConstraint("hash"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("deliveries_by_due_at", "deliveries", ["due_at"], unique=False)
    if op.get_bind().dialect.name != "sqlite":  # which keeps no lengths
        op.alter_column("idempotency_keys", "key", type_=sa.String(length=300))
    _number_events()


def _number_events() -> None:
    op.add_column("events", sa.Column("serial", sa.BigInteger(), nullable=False, server_default="0"))
    events = sa.table("events", sa.column("job_id"), sa.column("number"), sa.column("time"), sa.column("serial"))
    order = sa.func.row_number().over(order_by=(events.c.time, events.c.job_id, events.c.number)).label("serial")
    numbered = sa.select(events.c.job_id, events.c.number, order).subquery()
    op.execute(
        events.update()
        .where(events.c.job_id == numbered.c.job_id, events.c.number == numbered.c.number)
        .values(serial=numbered.c.serial)
    )
    op.create_index("events_by_serial", "events", ["serial"], unique=True)
    counters = sa.table("counters", sa.column("name"), sa.column("value"))
    highest = sa.select(sa.literal("events"), sa.func.coalesce(sa.func.max(events.c.serial), 0))
    op.execute(counters.insert().from_select(["name", "value"], highest))
