"""Alembic's entry: runs on the connection, inside the transaction, that `studies.storage.schema` hands over."""

from __future__ import annotations

from alembic import context

from studies.storage.schema import VERSION_TABLE
from studies.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
