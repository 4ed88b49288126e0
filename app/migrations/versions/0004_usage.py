"""Workers tell what they take of their machine; lists of many jobs are read in order of an index."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("usage", sa.JSON(), nullable=True))
    op.create_index("jobs_by_status", "jobs", ["status", "id"])
    op.create_index("jobs_by_name", "jobs", ["id", "name"])
    for name, expression in (
        ("jobs_by_val_loss", "coalesce(val_loss, 1e+308)"),
        ("jobs_by_test_acc", "coalesce(test_acc, -1e+308)"),
    ):
        op.drop_index(name, table_name="jobs")
        op.create_index(name, "jobs", [sa.text(expression), "id"])
