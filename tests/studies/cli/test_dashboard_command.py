"""`explorer dashboard`: what it refuses, what it tells Streamlit, and that it leaves nothing running."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from explorer.errors import StudyError
from studies import Store
from studies.cli.commands.dashboard import HOST, dashboard_command, flags
from studies.config import STORAGE_VARIABLE

ROOT = Path(__file__).parents[3]


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    Store.open(tmp_path / "some.db").close()
    from tests.studies.toy_study import toy_settings

    with Store.open(tmp_path / "some.db") as store:
        store.create_study("toy", toy_settings())
    return tmp_path / "some.db"


def test_what_cannot_be_served_is_one_sentence(storage: Path) -> None:
    with pytest.raises(StudyError, match="from 1 to 65535"):
        dashboard_command(str(storage), 0)
    with pytest.raises(StudyError, match="no database"):
        dashboard_command(str(storage.with_name("none.db")), 8501)
    with pytest.raises(StudyError, match="no study 'other'"):
        dashboard_command(str(storage), 8501, "other")


def test_a_taken_port_names_a_free_one(storage: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        with pytest.raises(StudyError, match=r"another dashboard may use it.*--port \d+"):
            dashboard_command(str(storage), taken.getsockname()[1])


def test_the_server_is_private_and_quiet() -> None:
    given = flags(8123)
    for flag in (
        "--server.address=127.0.0.1", "--browser.gatherUsageStats=false", "--client.showErrorDetails=none",
        "--server.allowedHosts=localhost", "--server.allowedHosts=127.0.0.1", "--server.port=8123",
    ):  # fmt: skip
        assert flag in given
    theme = next(flag for flag in given if flag.startswith("--theme.base="))
    assert Path(theme.partition("=")[2]).is_file()


def test_another_address_answers_to_every_name_and_the_default_to_its_own() -> None:
    """In a container the names are those of the machine around it."""
    allowed = lambda address: [flag for flag in flags(8123, address) if "allowedHosts" in flag]  # noqa: E731
    for address in ("0.0.0.0", "::", "192.0.2.7"):
        assert allowed(address) == ["--server.allowedHosts=*"]
        assert f"--server.address={address}" in flags(8123, address)
    for address in (HOST, "127.0.0.2", "::1"):
        assert "--server.allowedHosts=*" not in allowed(address)
        assert f"--server.allowedHosts={address}" in allowed(address)


@pytest.mark.parametrize("host", ["", "no such host", "192.0.2.7", "x" * 5000, "host.invalid", "\ud800"])
def test_an_address_that_is_not_this_machine_s_is_one_sentence(host: str, storage: Path) -> None:
    with pytest.raises(StudyError, match=r"is not an address of this machine .*0\.0\.0\.0 for all") as caught:
        dashboard_command(str(storage), 8501, host=host)
    assert len(str(caught.value)) < 500


def handshake(port: int, host: str, origin: str) -> int:
    """The status with which a browser's web socket is answered that calls the dashboard by the name `host`."""
    with socket.create_connection((HOST, port), timeout=60) as connection:
        lines = [
            "GET /_stcore/stream HTTP/1.1", f"Host: {host}", f"Origin: {origin}", "Upgrade: websocket",
            "Connection: Upgrade", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13", "", "",
        ]  # fmt: skip
        connection.sendall("\r\n".join(lines).encode())
        return int(connection.recv(200).split()[1])


@pytest.mark.parametrize(("host", "elsewhere"), [("0.0.0.0", 101), (HOST, 403)])
def test_the_dashboard_really_works_from_another_address(host: str, elsewhere: int, storage: Path) -> None:
    """A page of another origin is refused either way."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            sys.executable, "-m", "studies.cli", "dashboard", "--storage", str(storage), "--port", str(port),
            "--host", host,
        ],
        cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": "."},
    )  # fmt: skip
    assert process.stderr is not None
    try:
        line = ""
        while "http" not in line:
            line = process.stderr.readline()
            assert line, "the dashboard ended"
        assert f"http://localhost:{port}" in line
        if host != HOST:
            assert "there is no authentication" in process.stderr.readline()
        assert handshake(port, f"localhost:{port}", f"http://localhost:{port}") == 101
        assert handshake(port, f"gpu-box.example:{port}", f"http://gpu-box.example:{port}") == elsewhere
        assert handshake(port, f"localhost:{port}", "http://elsewhere.example") == 403
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)
        process.stderr.close()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
def test_the_address_is_printed_and_nothing_is_left_running(storage: Path) -> None:
    """The storage is in no process's arguments; ending the command ends the server."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from studies.cli.commands.dashboard import dashboard_command as d; "
               f"d({str(storage)!r}, {port}, 'toy')"]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": "."}
    )
    assert process.stderr is not None
    line = ""
    while "http" not in line:
        line = process.stderr.readline()
        assert line, "the dashboard ended"
    assert f"http://localhost:{port}/front?study=toy" in line
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    served = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
    assert any(b"streamlit" in arguments for arguments in served)
    assert not any(b"some.db" in arguments for arguments in served)
    assert f"{STORAGE_VARIABLE}={storage}".encode() in Path(f"/proc/{children[0]}/environ").read_bytes()
    assert urllib.request.urlopen(f"http://{HOST}:{port}/_stcore/health", timeout=120).read() == b"ok"
    process.send_signal(signal.SIGTERM)
    process.wait(120)
    process.stderr.close()
    assert not any(Path(f"/proc/{child}").exists() for child in children)
