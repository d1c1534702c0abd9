"""How PostgreSQL is opened.

Row locks do there what `BEGIN IMMEDIATE` does on SQLite (`queue.lock`); what is left to this file is the making of the
tables, which two processes may begin at once, the pool's size, and the server's clock, as machines do not agree on the
time.
"""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection

_TABLES_LOCK = 0x1E5C0FE  # of the explorer, among the database's advisory locks
PASSING = ("08", "40001", "40P01", "53300", "57P01", "57P02", "57P03")
"""SQLSTATEs that may be over soon: lost connections, deadlocks, too many connections, a server that stops or starts."""


def is_postgresql(url: URL) -> bool:
    return url.get_backend_name() == "postgresql"


def engine_arguments(url: URL) -> dict[str, Any]:
    """One connection is kept a process and engine, so that a server with `max_connections` serves half as many
    workers. A pooler such as PgBouncer may stand in between: nothing is prepared on the server."""
    prepared = {"prepare_threshold": None} if url.get_driver_name() == "psycopg" else {}
    return {
        "pool_size": 1,
        "max_overflow": 4,
        "pool_pre_ping": True,
        "connect_args": {"connect_timeout": 10} | prepared,
    }


def lock_tables(connection: Connection) -> None:
    """Let one process at a time make or migrate tables, until the end of the transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_TABLES_LOCK)))


def now(connection: Connection) -> float:
    """Seconds since the epoch, by the server's clock where there is a server: heartbeats of many machines are held
    against one clock."""
    if connection.dialect.name != "postgresql":
        return time.time()
    return float(connection.execute(sa.select(sa.extract("epoch", sa.func.clock_timestamp()))).scalar_one())
