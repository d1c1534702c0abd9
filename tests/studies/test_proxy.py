"""Optuna's gRPC proxy in front of a storage: several processes share a study through it, and nothing is lost."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.storages import GrpcStorageProxy

from explorer.errors import StudyError
from studies import Store, enqueue, run_workers
from studies.cli import run
from studies.config import STORAGE_VARIABLE
from studies.database import PROXY_VARIABLE
from tests.studies.test_parts import plans, whole
from tests.studies.toy_study import ToyEvaluator, ToySpace, toy_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def proxy(url: str) -> Iterator[str]:
    """A proxy's address; it gets the storage as workers do, by the environment."""
    pytest.importorskip("grpc")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "studies.cli", "proxy", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {STORAGE_VARIABLE: url}, stderr=subprocess.PIPE)
    try:
        ready = GrpcStorageProxy(host="127.0.0.1", port=port)
        ready.wait_server_ready(120)
        ready.close()
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        said = process.communicate(timeout=60)[1]
    assert b"Traceback" not in said and b"telling" not in said


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_workers_behind_the_proxy_lose_and_double_nothing(
    url: str, proxy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, log = 30, tmp_path / "log"
    monkeypatch.chdir(ROOT)
    with Store.open(url) as store:
        study = store.create_study("s", toy_settings())
        enqueue(store, study, plans(15), ToySpace(), ToyEvaluator().evaluations)
        command = [sys.executable, "-m", "tests.studies.toy_worker", url, "s", str(n), "0.05", str(log)]
        exits = run_workers(3, lambda _: command, {PROXY_VARIABLE: proxy}, poll_seconds=0.1)
        assert [str(end) for end in exits if end.status] == []
        whole(store, study, n)  # read from the database, behind the proxy's back
    scored = [line.split()[0] for line in log.read_text().splitlines()]
    assert len(scored) == len(set(scored)) == n


def test_a_proxy_that_does_not_answer_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("grpc")
    monkeypatch.setenv(PROXY_VARIABLE, "127.0.0.1:1")
    monkeypatch.setenv("EXPLORER_STORAGE_PATIENCE", "0")
    with (
        Store.open(tmp_path / "explorer.db") as store,
        pytest.raises(StudyError, match="Optuna's proxy cannot be used"),
    ):
        store.create_study("s", toy_settings())


@pytest.mark.parametrize("address", ["nowhere", "host:", ":13000", "host:port"])
def test_an_address_is_host_and_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv(PROXY_VARIABLE, address)
    with Store.open(tmp_path / "explorer.db") as store, pytest.raises(StudyError, match="must be HOST:PORT"):
        store.create_study("s", toy_settings())


def test_a_port_out_of_range_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["proxy", "--storage", str(tmp_path / "x.db"), "--port", "0"]) == 1
    assert "--port must be from 1" in capsys.readouterr().err
