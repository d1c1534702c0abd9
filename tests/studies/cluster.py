"""A PostgreSQL server of the tests' own, in a temporary folder: as Debian installs it, fresh, with one user that has a
password, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

SERVER_VARIABLE = "EXPLORER_TEST_POSTGRESQL"  # URL of a server that stands, whose user may make databases
USER, PASSWORD = "explorer", "not:for@telling/%{}"
_TEMPLATE = "explorer_template"


def programs() -> Path | None:
    """The folder of initdb and pg_ctl, the newest version's; None where PostgreSQL is not installed."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = shutil.which("initdb") or (str(debian[-1]) if debian else None)
    return Path(found).resolve().parent if found else None


def why_not() -> str | None:
    """Why no server can be had here; None when one can."""
    if SERVER_VARIABLE in os.environ or programs() is not None:
        return None
    return f"PostgreSQL is not installed (Debian: apt-get install postgresql); {SERVER_VARIABLE} may name a server"


class Server:
    """A server that makes databases. own: it was started here, so it may be stopped and started again. safe: every
    commit reaches the disk, as on a server that nobody told otherwise."""

    def __init__(self, admin: URL, folder: Path | None = None, safe: bool = False) -> None:
        self.admin, self.folder, self.safe = admin, folder, safe
        self._made = 0

    @property
    def own(self) -> bool:
        return self.folder is not None

    def database(self, template: str | None = None) -> URL:
        """A new database's URL; template: one to copy, which nobody may be connected to."""
        self._made += 1
        name = f"explorer_{os.getpid()}_{self._made}"
        copied = f' TEMPLATE "{template}"' if template else ""
        self._execute(f'CREATE DATABASE "{name}"{copied}')
        return self.admin.set(database=name)

    def drop(self, url: URL) -> None:
        self._execute(f'DROP DATABASE IF EXISTS "{url.database}" WITH (FORCE)')

    def _execute(self, statement: str) -> None:
        engine = sa.create_engine(self.admin, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)

    def stop(self) -> None:
        """As when the machine is shut down: open transactions are cut."""
        self._control("stop", "-m", "immediate")

    def start(self) -> None:
        assert self.folder is not None
        options = f"-p {self.admin.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c max_connections=200"
        fast = "-c fsync=off -c full_page_writes=off -c shared_buffers=32MB"
        self._control("start", "-l", str(self.folder / "log"), "-o", f"{options} {'' if self.safe else fast}")

    def _control(self, *arguments: str) -> None:
        assert self.folder is not None
        _run(self.folder, "pg_ctl", "-D", str(self.folder / "data"), "-w", "-t", "60", *arguments)


def _run(folder: Path, program: str, *arguments: str) -> None:
    """As the user that owns the folder: the server refuses to run as root."""
    found = programs()
    assert found is not None
    owner = folder.stat()
    as_owner: dict[str, Any] = (
        {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    )
    # Nothing is piped: the server that pg_ctl leaves behind would hold the pipe's end open.
    with (folder / "program.log").open("ab") as log:
        done = subprocess.run(
            [str(found / program), *arguments], cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            check=False, start_new_session=True, env=os.environ | {"LC_ALL": "C.UTF-8"}, **as_owner,
        )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"{program} failed: {(folder / 'program.log').read_text()[-2000:]}")


@contextmanager
def running_server(safe: bool = False) -> Iterator[Server]:
    """The server that the environment names, or one started for the while."""
    if SERVER_VARIABLE in os.environ:
        yield Server(make_url(os.environ[SERVER_VARIABLE]))
        return
    with tempfile.TemporaryDirectory(prefix="explorer-pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres") if _has_user("postgres") else pwd.getpwnam("nobody")
            os.chown(folder, user.pw_uid, user.pw_gid)
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        _run(
            folder, "initdb", "-D", str(folder / "data"), "-U", USER, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C",
            "--pwfile", str(folder / "password"), "--no-sync",
        )  # fmt: skip
        address = URL.create("postgresql", USER, PASSWORD, "127.0.0.1", _free_port(), "postgres")
        server = Server(address, folder, safe)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
