"""`explorer dashboard`: Streamlit on the loopback address, told all it needs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from explorer.errors import StudyError
from studies.commands.output import words
from studies.config import STORAGE_VARIABLE
from studies.interrupts import interruptible
from studies.store import Store

HOST = "127.0.0.1"
START_SECONDS = 60.0


def dashboard_command(storage: str, port: int, study: str | None = None) -> None:
    """Serve the studies of a storage until Ctrl-C; prints the address once it answers.

    study: the one whose front the address opens.

    Raises:
        StudyError: when the storage or the study is not there, the port is taken or wrong, or Streamlit ends early.
    """
    if not 1 <= port <= 65535:
        raise StudyError(f"--port must be from 1 to 65535, got {port}.")
    with Store.open(storage, read_only=True) as store:
        where = store.where
        if study is not None:
            store.study(study)
    _check_free(port)
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", str(_folder() / "app.py"), *flags(port)],
        env=os.environ | {STORAGE_VARIABLE: storage},  # a password there is no argument that everybody may read
        stdout=subprocess.DEVNULL,
    )
    address = f"http://localhost:{port}" + (f"/front?study={quote(study)}" if study else "")
    with _ends_with(process):
        _wait(process, port)
        words().print(f"dashboard of {where}: {address}  (Ctrl-C ends it)", markup=False)
        status = process.wait()
    if status:
        raise StudyError(f"the dashboard ended with status {status}; its words are above.")


@contextmanager
def _ends_with(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Streamlit ends when this does, whatever ends it: nothing is left running."""
    try:
        with interruptible():
            yield
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def flags(port: int) -> list[str]:
    """Streamlit's options: those that keep it private and quiet, and the dashboard's looks."""
    options = {
        "server.address": HOST,
        "server.port": str(port),
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "runner.magicEnabled": "false",
        "server.maxUploadSize": "1",
        "browser.gatherUsageStats": "false",
        "browser.serverAddress": "localhost",
        "client.showErrorDetails": "none",
        "client.showErrorLinks": "false",
        "client.toolbarMode": "viewer",
        "theme.base": str(_folder() / "theme.toml"),
    }
    hosts = [f"--server.allowedHosts={name}" for name in ("localhost", HOST)]
    return [*(f"--{name}={value}" for name, value in options.items()), *hosts]


def _folder() -> Path:
    spec = find_spec("dashboard")
    if spec is None or not spec.submodule_search_locations:
        raise StudyError("the dashboard is not installed; install the whole package again.")
    return Path(next(iter(spec.submodule_search_locations)))


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        if os.name == "posix":  # as Streamlit's server does: a port in TIME_WAIT is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            return
        except OSError as error:
            reason = error.strerror
    with socket.socket() as other:
        other.bind((HOST, 0))
        free = other.getsockname()[1]
    raise StudyError(
        f"port {port} cannot be had ({reason}); another dashboard may run there. Give another, such as --port {free}."
    )


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    """Until the server answers. Raises StudyError when it ends or says nothing for long."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://{HOST}:{port}/_stcore/health", timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    if process.poll() is None:
        raise StudyError(f"the dashboard did not answer on port {port} within {START_SECONDS:.0f} s; try again.")
    raise StudyError(f"the dashboard could not start on port {port}; its words are above.")
