"""`explorer dashboard`: Streamlit with all that it needs, on the loopback address where no other one is given.

Streamlit has no authentication. On the loopback address it answers to this machine's names for it alone, which keeps a
web page of somebody else's from reading it through a name of its own (DNS rebinding). On another address the names are
not known here (a container is reached by the names of the machine around it), so every name is answered.
"""

from __future__ import annotations

import errno
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
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import quote

from explorer.errors import StudyError, brief
from studies.cli.commands.output import words
from studies.config import STORAGE_VARIABLE
from studies.interrupts import interruptible
from studies.storage.store import Store

HOST = "127.0.0.1"
START_SECONDS = 60.0


def dashboard_command(storage: str, port: int, study: str | None = None, host: str = HOST) -> None:
    """Serve the studies of a storage until Ctrl-C; prints the address once it answers.

    study: the one whose front the address opens. host: the address to listen on.

    Raises:
        StudyError: when the storage or the study is not there, the address is none of this machine's, the port is taken
            or wrong, or Streamlit ends early.
    """
    if not 1 <= port <= 65535:
        raise StudyError(f"--port must be from 1 to 65535, got {port}.")
    with Store.open(storage, read_only=True) as store:
        where = store.where
        if study is not None:
            store.study(study)
    listening = _check_free(host, port)
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", str(_folder() / "app.py"), *flags(port, listening)],
        env=os.environ | {STORAGE_VARIABLE: storage},  # a password there is no argument that everybody may read
        stdout=subprocess.DEVNULL,
    )
    local = _is_loopback(listening) or ip_address(listening).is_unspecified
    name = "localhost" if local else _in_url(host)
    address = f"http://{name}:{port}" + (f"/front?study={quote(study)}" if study else "")
    with _ends_with(process):
        _wait(process, listening, port)
        words().print(f"dashboard of {where}: {address}  (Ctrl-C stops it)", soft_wrap=True)
        if not _is_loopback(listening):
            words().print(
                f"note: it listens on {host}, so whoever reaches port {port} of this machine sees every study of the "
                "storage; there is no authentication",
                soft_wrap=True,
            )
        status = process.wait()
    if status:
        raise StudyError(f"the dashboard ended with status {status}; see its output above.")


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


def flags(port: int, address: str = HOST) -> list[str]:
    """Streamlit's options: those that keep it private and quiet, and the dashboard's looks. address: to listen on."""
    options = {
        "server.address": address,
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
    allowed = dict.fromkeys(("localhost", HOST, address)) if _is_loopback(address) else ("*",)
    return [
        *(f"--{name}={value}" for name, value in options.items()),
        *(f"--server.allowedHosts={name}" for name in allowed),
    ]


def _is_loopback(address: str) -> bool:
    return ip_address(address).is_loopback


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _folder() -> Path:
    spec = find_spec("dashboard")
    if spec is None or not spec.submodule_search_locations:
        raise StudyError("the dashboard is not installed; reinstall inheritance-explorer.")
    return Path(next(iter(spec.submodule_search_locations)))


def _check_free(host: str, port: int) -> str:
    """The IP address of `host`, once it is known that the port can be had there."""
    family, address = _resolved(host, port)
    with socket.socket(family) as probe:
        if os.name == "posix":  # as Streamlit's server does: a port in TIME_WAIT is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            return address
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise StudyError(_no_address(host, str(error.strerror))) from error
            reason = error.strerror
    with socket.socket(family) as other:
        other.bind((address, 0))
        free = other.getsockname()[1]
    raise StudyError(
        f"port {port} is not available ({reason}); another dashboard may use it. Give another, such as --port {free}."
    )


def _resolved(host: str, port: int) -> tuple[int, str]:
    """The family and IP address of a name or address."""
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise StudyError(_no_address(host, getattr(error, "strerror", None) or "no name of a host")) from error
    return family, str(where[0])


def _no_address(host: str, reason: str) -> str:
    return (
        f"--host {brief(host, 100)!r} is not an address of this machine ({reason}); give one of its addresses, 0.0.0.0 "
        f"for all of them, or leave it out for {HOST}."
    )


def _wait(process: subprocess.Popen[bytes], address: str, port: int) -> None:
    """Until the server answers. Raises StudyError when it ends or says nothing for long."""
    near = {"0.0.0.0": HOST, "::": "::1"}.get(address, address)
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://{_in_url(near)}:{port}/_stcore/health", timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    if process.poll() is None:
        raise StudyError(f"the dashboard did not answer on port {port} within {START_SECONDS:.0f} s; try again.")
    raise StudyError(f"the dashboard could not start on port {port}; see its output above.")
