from __future__ import annotations

import threading
from pathlib import Path

import pytest

from benchmarks.shared.work_folder import Ticker, WorkFolder, digest
from explorer.errors import StudyError


def test_a_document_is_made_once_by_however_many_ask_for_it(tmp_path: Path) -> None:
    made: list[int] = []
    found: list[object] = []

    def make() -> dict[str, int]:
        made.append(1)
        return {"value": len(made)}

    def ask() -> None:
        found.append(WorkFolder(tmp_path).get("plans/4f2a", make))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
    assert found == [{"value": 1}] * 8


def test_a_damaged_document_is_made_again(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path)
    work.write("runs/tpe-0", [1])
    work.path("runs/tpe-0").write_text('{"half":')
    assert work.read("runs/tpe-0") is None
    assert work.get("runs/tpe-0", lambda: [2]) == [2] == work.read("runs/tpe-0")


def test_what_another_holds_is_not_waited_for(tmp_path: Path) -> None:
    one, other = WorkFolder(tmp_path), WorkFolder(tmp_path)
    with one.locked("run") as mine, other.locked("run", wait=False) as theirs, other.locked("else", wait=False) as free:
        assert (mine, theirs, free) == (True, False, True)
    with other.locked("run", wait=False) as again:
        assert again


def test_a_folder_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="give another --work"):
        WorkFolder(tmp_path / "file")


def test_the_ticker_counts_only_what_was_done(capsys: pytest.CaptureFixture[str]) -> None:
    ticker = Ticker(3)
    ticker.tell("one", worked=False)
    ticker.tell("two")
    ticker.tell("three")
    assert [line.partition(" ")[0] for line in capsys.readouterr().err.splitlines()] == ["[1/2]", "[2/2]"]


def test_settings_have_a_digest_of_their_own() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})
