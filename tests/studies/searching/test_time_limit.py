"""A search that was given a time: the limit holds for all of it, and what fits is said early."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from explorer.estimate import Estimate
from explorer.plans.plan import InheritancePlan
from studies import counts, enqueue
from studies.cli import run
from studies.cli.commands import search
from studies.cli.commands.time_words import BaselinePace, predicted_time
from studies.clock import Clock, OutOfTime, fitting, tells
from studies.config import SearchConfig
from studies.predicting import calibration
from studies.searching.calibrate import calibrate
from studies.searching.driver import Progress
from studies.searching.session import Session, open_session
from studies.storage.store import Store

OPTIONS = ["--study", "s", "--steps", "4", "--prompt-count", "8", "--batch", "8", "--pairs", "3", "--space", "layer"]
OPTIONS += ["--objectives", "latency,psnr"]
CONFIG = SearchConfig(
    study="s", steps=4, prompt_count=8, batch=8, pairs=3, space="layer", objectives=("latency", "psnr")
)  # fmt: skip
SMALL = {"pictures": 1, "points": 2}


@pytest.fixture(scope="module")
def session() -> Session:
    return open_session(CONFIG)


@pytest.fixture
def loaded(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """The model stays loaded, so that a time of seconds is spent on plans, however busy the machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(search, "open_session", lambda config, **_: replace(session, config=config))
    return session


def test_a_clock_counts_from_the_start_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.clock.time.monotonic", lambda: 107.0)
    clock = Clock(10.0, started=100.0)
    assert clock.left == 3.0 and not clock.over
    assert Clock(7.0, started=100.0).over and Clock(5.0, started=100.0).left == 0.0
    assert Clock(None, started=0.0).left is None and not Clock(None, started=0.0).over


def test_what_fits() -> None:
    assert [fitting([2.0, 1.0, 4.0], left) for left in (0.0, 2.0, 3.5, 7.0, 99.0)] == [0, 1, 2, 3, 3]
    assert not tells(0, 50.0, 100.0) and not tells(2, 5.0, 100.0)
    assert tells(3, 1.0, 100.0) and tells(1, 10.0, 100.0)


def test_nothing_is_begun_when_loading_took_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["search", *OPTIONS, "--calibrate", "--trials", "3", "--timeout", "0.01", "--json"]) == 0
    done = capsys.readouterr()
    said = " ".join(done.err.split())
    assert "the time of 0.01 s is over: the calibration is not complete: 0 of" in said
    assert "Run the same command to continue." in said and "note: 3 baselines are not scored." in said
    assert json.loads(done.out)["trials"] == [] or {row["state"] for row in json.loads(done.out)["trials"]} == {
        "waiting"
    }
    assert run(["worker", "--study", "s", "--timeout", "0.01"]) == 1
    assert "is not calibrated yet" in capsys.readouterr().err


def test_a_time_too_short_for_the_baselines_says_what_fits(loaded: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["search", *OPTIONS, "--trials", "1"]) == 0  # what is found once stands from now on
    for seconds in (2, 4, 8, 16, 32):  # on a busy machine the command may need the first of them to begin
        capsys.readouterr()
        assert run(["search", *OPTIONS, "--timeout", str(seconds)]) == 0
        said = " ".join(capsys.readouterr().err.split())
        with Store.open("explorer.db") as store:
            standing = counts(store, store.study("s"))
        if standing.done > 1:
            break
    assert standing.waiting > 0 and standing.done > 1
    assert "note: at the current pace about" in said and f"the time of {seconds} s is over" in said
    assert f"note: {standing.waiting} baselines are not scored; {standing.done - 1} were" in said


def test_a_calibration_keeps_its_parts_and_every_run_gets_on(session: Session, store_file: Store) -> None:
    study = store_file.create_study("s", session.settings)
    with pytest.raises(OutOfTime, match=r"0 of \d+ parts are stored$"):
        calibrate(store_file, study, session, seconds=0.0, **SMALL)  # type: ignore[arg-type]
    for parts in (["moments/0"], ["moments/0", "errors/0"]):
        with pytest.raises(OutOfTime, match=rf"{len(parts)} of \d+ parts are stored; the rest takes about \d+ s"):
            calibrate(store_file, study, session, seconds=0.05, **SMALL)  # type: ignore[arg-type]
        assert list(calibration.parts(store_file, study)) == parts


def test_a_part_in_hand_is_given_up(session: Session, store_file: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of a run: its time is over while it is made."""
    study, now = store_file.create_study("s", session.settings), [0.0]
    monkeypatch.setattr("studies.searching.calibrate.time.monotonic", lambda: now[0])

    def show(standing: Any) -> None:
        now[0] += 40.0 * standing.words.startswith("errors")

    with pytest.raises(OutOfTime, match=r"1 of \d+ parts are stored"):
        calibrate(store_file, study, session, seconds=100.0, on_progress=show, **SMALL)  # type: ignore[arg-type]
    assert now[0] == 120.0 and list(calibration.parts(store_file, study)) == ["moments/0"]


def test_what_is_left_out_is_said_before_a_calibration_that_ctrl_c_may_end(
    loaded: Session, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save = calibration.save_part

    def save_and_interrupt(*given: Any) -> None:
        save(*given)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(calibration, "save_part", save_and_interrupt)
    assert run(["search", *OPTIONS, "--calibrate", "--trials", "2"]) == 130
    said = capsys.readouterr().err
    assert -1 < said.index("baselines enqueued") < said.index("note: --trials 2 leaves out") < said.index("calibrating")
    assert "the study 's' is complete. Resume with the same command (explorer search --study s ...)" in said
    with Store.open("explorer.db") as store:
        assert list(calibration.parts(store, store.study("s"))) == ["moments/0"]


class Foretells:
    """A profile by which the un-accelerated loop takes a second and any other a half."""

    def predicted_latency(self, plan: InheritancePlan, _evaluations: int, students: object = None) -> Estimate:
        seconds = 1.0 if plan.extracts_always and plan.steps == CONFIG.steps else 0.5
        return Estimate(seconds, seconds, seconds, 3)


@pytest.mark.parametrize(("seconds", "fit"), [(10.0, 0), (20.0, 1), (52.5, 4), (10_000.0, None), (None, None)])
def test_a_profile_foretells_what_fits(
    session: Session, store_file: Store, monkeypatch: pytest.MonkeyPatch, seconds: float | None, fit: int | None
) -> None:
    """The first takes 8 loops and 8 pictures of 1 s beside 3 loops (19 s), others half of it and the 3 loops (11 s)."""
    study = store_file.create_study("s", session.settings)
    enqueue(store_file, study, list(session.baselines()), session.space, session.evaluator.evaluations)
    monkeypatch.setattr("studies.clock.time.monotonic", lambda: 0.0)
    profiled = replace(session, evaluator=session.evaluator.with_profile(Foretells()))  # type: ignore[arg-type]
    found = predicted_time(profiled, store_file, study, Clock(seconds))
    assert (found is None) == (fit is None)
    if found is not None:
        assert f"note: by the profile about {fit} of " in found and "--baselines short" in found
    assert predicted_time(session, store_file, study, Clock(seconds)) is None


def test_the_pace_is_told_once_and_only_where_not_all_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.clock.time.monotonic", lambda: 40.0)

    def standing(done: int, waiting: int) -> Progress:
        return Progress(done, 0, 0, waiting, 100, 30.0, None)

    pace = BaselinePace(SearchConfig(trials=20), Clock(100.0, started=0.0), at_start=2)
    assert pace.words(standing(2, 50)) is None
    said = pace.words(standing(5, 50))
    assert said is not None and "about 6 of the 15 waiting baselines fit in the 1 min 00 s left" in said
    assert pace.words(standing(6, 50)) is None
    assert BaselinePace(SearchConfig(), Clock(100.0, started=0.0), 2).words(standing(5, 6)) is None
    assert BaselinePace(SearchConfig(), Clock(None), 2).words(standing(5, 50)) is None
