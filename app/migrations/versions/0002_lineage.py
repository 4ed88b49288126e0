"""Jobs know the job whose weights they start from."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("parent_id", sa.String(length=64), nullable=True))
    op.create_index("jobs_by_parent", "jobs", ["parent_id"], unique=False)
    jobs = sa.table("jobs", sa.column("id"), sa.column("spec"), sa.column("parent_id"))
    connection = op.get_bind()
    for job_id, spec in connection.execute(sa.select(jobs.c.id, jobs.c.spec)).all():
        origin = json.loads(spec).get("init_from")
        if origin:
            connection.execute(jobs.update().where(jobs.c.id == job_id).values(parent_id=origin["job"]))
