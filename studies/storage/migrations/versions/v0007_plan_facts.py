"""The facts of a plan that rows show are columns, so that nobody parses its JSON to show it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from studies.storage.facts import PlanFacts

revision = "0007"
down_revision = "0006"
ROWS = 500
"""Plans in memory at once."""


def upgrade() -> None:
    columns: list[sa.Column[Any]] = [
        sa.Column("nickname", sa.Text, nullable=True),
        sa.Column("mode", sa.String(20), nullable=False, server_default="other"),
        sa.Column("form", sa.String(20), nullable=False, server_default="other"),
        sa.Column("rule", sa.String(20), nullable=False, server_default="other"),
        sa.Column("steps", sa.Integer, nullable=True),
        sa.Column("scheduler", sa.String(80), nullable=True),
        sa.Column("networks", sa.JSON, nullable=False, server_default='["teacher"]'),
        sa.Column("spacing", sa.String(40), nullable=True),
    ]
    for column in columns:
        op.add_column("explorer_plans", column)
    _backfill([column.name for column in columns], columns)


def _backfill(names: list[str], columns: list[sa.Column[Any]]) -> None:
    """Facts of the stored plans. `PlanFacts` may have more of them by now: only these columns exist yet."""
    stored: tuple[sa.ColumnClause[Any], ...] = (
        sa.column("id"),
        sa.column("plan", sa.JSON),
        sa.column("name"),
        sa.column("words"),
    )
    plans = sa.table("explorer_plans", *stored, *(sa.column(column.name, column.type) for column in columns))
    change = sa.update(plans).where(plans.c.id == sa.bindparam("row"))
    change = change.values({name: sa.bindparam(f"new_{name}", type_=plans.c[name].type) for name in names})
    connection, last = op.get_bind(), 0
    query = sa.select(*stored).order_by(plans.c.id).limit(ROWS)
    while rows := connection.execute(query.where(plans.c.id > last)).all():
        found = [PlanFacts.of(row.plan, row.name, row.words).columns() for row in rows]
        values = [{f"new_{name}": facts[name] for name in names} for facts in found]
        connection.execute(change, [{"row": row.id} | each for row, each in zip(rows, values, strict=True)])
        last = rows[-1].id
