"""Studies' own folders, renaming and deleting: what goes, what stays, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from explorer.errors import StudyError
from studies import Counts, Store, StudyRecord, counts, enqueue, run_worker, trials
from studies.certificates.housekeeping import FOLDERS, contents, delete_study, rename_study
from studies.cli import run
from studies.queue.heartbeats import Worker
from studies.results.rows import sample_pictures
from studies.storage import tables
from studies.storage.saved import Saved
from tests.studies.toy_study import ToyEvaluator, ToyPlan, ToySpace, toy_settings

PLANS = [ToyPlan(1, name="plain@50"), ToyPlan(5, 9, name="DC0/P5"), ToyPlan(3, 4, 1, name="CO6/P3")]


class Shaded(ToyEvaluator):
    """Pictures that tell which storage they were made for."""

    def __init__(self, shade: bytes) -> None:
        super().__init__(pictures=True)
        self.shade = shade

    def score(self, plan: ToyPlan, part: Any = None) -> Any:
        from dataclasses import replace

        scored = super().score(plan, part)
        return replace(scored, pictures=[replace(each, png=each.png + self.shade) for each in scored.pictures])


def filled(store: Store, name: str, shade: bytes = b"", total: int = 4) -> StudyRecord:
    """A study with pictures, calibration, saved files and a certificate."""
    study = store.create_study(name, toy_settings())
    enqueue(store, study, PLANS, ToySpace(), ToyEvaluator().evaluations)
    run_worker(store, name, ToySpace(), Shaded(shade), ToyPlan.from_json, total_trials=total)
    row = {"study_id": study.id, "part": "plain/25", "facts": {}, "data": b"", "sha256": "", "seconds": 1, "created": 1}
    with store.begin() as connection:
        connection.execute(sa.insert(tables.calibrations).values(row))
    for kind in FOLDERS[1:]:
        (store.folder / kind / study.folder / "kept").mkdir(parents=True)
    return study


def pngs(store: Store, study: StudyRecord) -> list[bytes]:
    return [
        picture.path.read_bytes() for row in trials(store, study) for picture in sample_pictures(store, study, row.key)
    ]


def rows(store: Store) -> dict[str, int]:
    """The rows of every table, Optuna's included."""
    store.optuna_storage  # noqa: B018 - its tables are made when it is first used
    with store.begin() as connection:
        every = sa.MetaData()
        every.reflect(connection)
        return {
            name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for name, table in every.tables.items()
        }


# Folders of their own ------------------------------------------------------------------------------------------------


def test_studies_of_one_name_in_two_storages_keep_their_own_pictures(tmp_path: Path) -> None:
    with Store.open(tmp_path / "one.db") as one, Store.open(tmp_path / "other.db") as other:
        first = filled(one, "main", b"one")
        before = pngs(one, first)
        second = filled(other, "main", b"other")
        assert len(before) == 4 and pngs(one, first) == before != pngs(other, second)
        assert all(png.endswith(b"one") for png in before)


def test_a_study_of_an_earlier_version_keeps_its_folder_and_its_pictures(tmp_path: Path) -> None:
    with Store.open(tmp_path / "explorer.db") as store:
        study = store.create_study("old", toy_settings())
        with store.begin() as connection:  # as the migration leaves it
            connection.execute(sa.update(tables.studies).values(folder=""))
        study = store.study("old")
        assert study.folder == "old"
        enqueue(store, study, PLANS, ToySpace(), ToyEvaluator().evaluations)
        run_worker(store, "old", ToySpace(), Shaded(b""), ToyPlan.from_json, total_trials=3)
        assert len(pngs(store, study)) == 3 and (tmp_path / "explorer-pictures" / "old").is_dir()
        renamed = rename_study(store, study, "new")
        assert len(pngs(store, renamed)) == 3
        again = filled(store, "old")  # a new study of the old name does not write there
        assert again.folder != "old" and len(pngs(store, renamed)) == 3


@pytest.mark.parametrize("folder", ["../..", "/etc", "a/b", ".", "..", "x\ny"])
def test_a_folder_that_is_no_name_is_refused(store_file: Store, folder: str) -> None:
    """A database may come from anybody, and files are written and deleted there."""
    store_file.create_study("s", toy_settings())
    with store_file.begin() as connection:
        connection.execute(sa.update(tables.studies).values(folder=folder))
    with pytest.raises(StudyError, match="for the name of its folder"):
        store_file.study("s")


# Renaming ------------------------------------------------------------------------------------------------------------


def test_a_renamed_study_has_all_it_had_and_goes_on(store: Store) -> None:
    study = filled(store, "before")
    had, pictures = trials(store, study), pngs(store, study)
    renamed = rename_study(store, study, "after")
    assert (renamed.id, renamed.name, renamed.folder) == (study.id, "after", study.folder)
    assert trials(store, renamed) == had and pngs(store, renamed) == pictures
    assert [each.name for each in store.studies()] == ["after"]
    run_worker(store, "after", ToySpace(), Shaded(b""), ToyPlan.from_json, total_trials=6)
    assert counts(store, renamed) == Counts(done=6)
    assert len(store.optuna_study(renamed).trials) == 6
    assert filled(store, "before").folder != renamed.folder  # the old name is free again


@pytest.mark.parametrize(
    ("new", "reason"),
    [("../up", "cannot name a study"), ("s", "already"), ("other", "already"), ("foreign", "already")],
)
def test_a_name_that_cannot_be_had_changes_nothing(store: Store, new: str, reason: str) -> None:
    import optuna

    study = filled(store, "s")
    store.create_study("other", toy_settings())
    optuna.create_study(study_name="foreign", storage=store.optuna_storage, directions=["minimize"])
    with pytest.raises(StudyError, match=reason):
        rename_study(store, study, new)
    assert [each.name for each in store.studies()] == ["s", "other"]
    assert len(store.optuna_study(study).trials) == 4


# Deleting ------------------------------------------------------------------------------------------------------------


def test_nothing_of_a_deleted_study_is_left_and_all_of_the_others(store: Store) -> None:
    kept = filled(store, "kept", b"kept")
    before, pictures = rows(store), pngs(store, kept)
    gone = filled(store, "gone", total=6)
    held = contents(store, gone)
    assert (held.plans, held.pictures, held.calibrated) == (6, 6, True)
    assert held.words == f"6 plans, {held.measurements} measurements, 6 pictures and a calibration"
    references = Saved.of_references(store.folder).folder
    references.mkdir(parents=True)
    assert delete_study(store, gone) is None
    assert rows(store) == before
    assert pngs(store, kept) == pictures and references.is_dir()
    for kind in FOLDERS:
        assert (store.folder / kind / kept.folder).is_dir() and not (store.folder / kind / gone.folder).exists()
    again = filled(store, "gone")
    assert len(trials(store, again)) == 4 and len(store.optuna_study(again).trials) == 4


def test_the_last_study_leaves_no_folder(store_file: Store) -> None:
    delete_study(store_file, filled(store_file, "s"))
    assert not [kind for kind in FOLDERS if (store_file.folder / kind).exists()]


@pytest.mark.parametrize("what", ["rename", "delete"])
def test_a_study_that_a_living_worker_searches_is_refused_by_name(store: Store, what: str) -> None:
    study = filled(store, "busy")
    change = (lambda: rename_study(store, study, "new")) if what == "rename" else (lambda: delete_study(store, study))
    worker = Worker.start(store, study)
    before = rows(store)
    with pytest.raises(
        StudyError, match=rf"'busy'.*searched by worker 1 \(process {os.getpid()} on .*stop the search first"
    ):
        change()
    assert rows(store) == before and len(pngs(store, study)) == 4
    worker.stop()
    change()


def test_a_worker_that_died_holds_nothing_up(store: Store) -> None:
    study = filled(store, "s")
    Worker.start(store, study).stop()
    with store.begin() as connection:  # its process is gone, and nobody has recovered it
        dead = {"state": "running", "process_started": 0.0}
        connection.execute(sa.update(tables.workers).where(tables.workers.c.study_id == study.id).values(dead))
    delete_study(store, study)


def test_a_process_that_still_has_a_deleted_study_stops_with_a_sentence(store_file: Store) -> None:
    """Its id may be a new study's by then, which must get none of it."""
    from studies.predicting.calibration import save_part
    from studies.searching import findings

    study = filled(store_file, "s")
    delete_study(store_file, study)
    new = store_file.create_study("s", toy_settings())
    assert new.id == study.id
    for use in (
        lambda: Worker.start(store_file, study),
        lambda: enqueue(store_file, study, PLANS, ToySpace(), ToyEvaluator().evaluations),
        lambda: save_part(store_file, study, "plain/25", {}, {}, 1.0),
        lambda: findings.keep(store_file, study, findings.ANATOMY, {}),
    ):
        with pytest.raises(StudyError, match="'s' was deleted"):
            use()
    assert contents(store_file, new).plans == 0 and not contents(store_file, new).calibrated


def test_files_that_a_copy_of_the_storage_needs_stay(tmp_path: Path) -> None:
    with Store.open(tmp_path / "explorer.db") as store:
        study = filled(store, "s")
    shutil.copy(tmp_path / "explorer.db", tmp_path / "copy.db")
    (tmp_path / "notes.txt").write_text("no database")
    with Store.open(tmp_path / "explorer.db") as store, Store.open(tmp_path / "copy.db") as copy:
        assert delete_study(store, study) == tmp_path / "copy.db"
        assert len(pngs(copy, copy.study("s"))) == 4
        assert delete_study(copy, copy.study("s")) is None
    assert not [kind for kind in FOLDERS if (tmp_path / kind).exists()]


# The commands --------------------------------------------------------------------------------------------------------


@pytest.fixture
def storage(tmp_path: Path) -> str:
    with Store.open(tmp_path / "explorer.db") as store:
        filled(store, "s")
    return str(tmp_path / "explorer.db")


def test_the_commands_rename_and_delete(storage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rename", "s", "new name", "--storage", storage]) == 0
    assert capsys.readouterr().out == "the study 's' is 'new name' now\n"
    assert run(["rename", "s", "x", "--storage", storage]) == 1
    assert "no study 's'" in capsys.readouterr().err
    assert run(["delete", "new name", "--storage", storage, "--yes", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["study"], printed["plans"], printed["files_deleted"]) == ("new name", 4, True)
    with Store.open(storage) as store:
        assert store.studies() == []


@pytest.mark.parametrize(("answer", "status", "left"), [("y\n", 0, 0), ("n\n", 1, 1), ("\n", 1, 1), ("", 130, 1)])
def test_deleting_asks_on_a_terminal(
    storage: str,
    answer: str,
    status: int,
    left: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import io

    terminal = io.StringIO(answer)
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", terminal)
    assert run(["delete", "s", "--storage", storage]) == status
    assert "4 plans" in capsys.readouterr().err
    with Store.open(storage) as store:
        assert len(store.studies()) == left


def test_deleting_without_a_terminal_needs_yes(
    storage: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115
    assert run(["delete", "s", "--storage", storage]) == 1
    assert "give --yes" in capsys.readouterr().err
    with Store.open(storage) as store:
        assert len(store.studies()) == 1


@pytest.mark.parametrize("command", [["rename", "s", "t"], ["delete", "s", "--yes"]])
def test_they_make_no_storage(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command, "--storage", str(tmp_path / "none.db")]) == 1
    assert "there is no database" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"inheritance-explorer {version('inheritance-explorer')}\n"
