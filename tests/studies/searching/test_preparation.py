"""Whether a new study is calibrated where nobody said, what it means for proposals, and that a standing one stays."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from explorer.errors import StudyError
from studies.cli import run
from studies.config import SearchConfig, make_config
from studies.searching import calibrate, preparation
from studies.searching.pace import glance
from studies.searching.preparation import WORTH, decided, proposals_of
from studies.searching.session import Session, open_session
from studies.storage.store import Store

CONFIG = SearchConfig(
    steps=4, prompt_count=2, objectives=("latency", "psnr"), reference="baseline", baselines="none", batch=2
)


@pytest.fixture(scope="module")
def session() -> Session:
    return open_session(CONFIG)


def test_a_file_says_yes_or_no_and_unset_is_open(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    for text, expected in (("", None), ("calibrate = true", True), ("calibrate = false", False)):
        file.write_text(text)
        assert make_config({"calibrate": None}, file).calibrate is expected
        assert make_config({"calibrate": False}, file).calibrate is False
        assert make_config({}, file, SearchConfig(calibrate=True)).calibrate is (expected is not False)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"trials": WORTH}, True),
        ({"trials": WORTH - 1}, False),
        ({"trials": WORTH - 1, "calibrate": True}, True),
        ({"trials": 200, "calibrate": False}, False),
        ({"trials": 200, "objectives": ("latency",)}, False),
        ({"trials": 200, "timeout": 0.5}, False),
        ({"trials": 200, "timeout": 1e6}, True),
    ],
)
def test_a_new_study_is_calibrated_where_its_budget_has_room(
    session: Session, change: dict[str, Any], expected: bool
) -> None:
    config = replace(CONFIG, **change)
    asked = replace(session, config=config)
    made = decided(asked.calibrating() if config.calibrate else asked)
    assert made.config.calibrate is expected and made.evaluator is session.evaluator
    assert made.settings.extra.get("calibrated", False) is expected
    assert ("fitted" in made.space.setting.rules) is expected
    assert (made.settings == session.settings) is not expected
    assert made.space.name == session.space.name and made.space.setting.values == session.space.setting.values


def test_the_baselines_are_counted(session: Session) -> None:
    count = sum(1 for _ in replace(session, config=replace(CONFIG, baselines="short")).baselines())
    assert count > WORTH
    for trials, expected in ((count + WORTH, True), (count + WORTH - 1, False)):
        config = replace(CONFIG, baselines="short", trials=trials)
        assert decided(replace(session, config=config)).config.calibrate is expected


def test_what_cannot_be_calibrated_is_not(session: Session) -> None:
    with pytest.raises(StudyError, match="single UNet evaluation"):
        replace(CONFIG, steps=1)
    random = open_session(replace(CONFIG, model="arch:sd15", objectives=("latency",)), session.evaluator.pipe)
    assert calibrate.work(random) == 0 and decided(random).config.calibrate is False
    several = replace(CONFIG, trials=200, schedulers=("own", "UniPCMultistepScheduler"))
    assert decided(open_session(several, session.evaluator.pipe)).config.calibrate is True


def test_the_work_is_what_a_calibration_reports(session: Session, tmp_path: Path) -> None:
    made = session.calibrating()

    def stop(standing: calibrate.CalibrationProgress) -> None:
        totals.append(standing.total)
        raise KeyboardInterrupt

    totals: list[int] = []
    with Store.open(tmp_path / "explorer.db") as store, pytest.raises(KeyboardInterrupt):
        calibrate.calibrate(store, store.create_study("s", made.settings), made, on_progress=stop)
    assert totals == [calibrate.work(session)] and totals[0] > 0


def test_a_glance_tells_a_loop_and_a_calibration(session: Session) -> None:
    speed = glance(session)
    evaluator = session.evaluator
    with evaluator.painter(next(replace(session, config=SearchConfig(steps=4)).baselines())) as paint:
        started = time.perf_counter()
        paint(evaluator.prompts[:1], 0, 4)
        took = time.perf_counter() - started
    assert took / 20 < speed.loop < took * 20  # other work on the machine aside
    assert speed.calibration > speed.loop and speed.plans(speed.first(2, 7) + 3.5 * speed.trial(2, 7), 2, 7) == 3


OWN = SimpleNamespace(values={})
OTHERS = SimpleNamespace(values={"scheduler": {"UniPCMultistepScheduler": 4}})


@pytest.mark.parametrize(
    ("given", "predictor", "setting", "taken"),
    [
        ("auto", None, OWN, "seeds"),
        ("auto", None, OTHERS, "sampler"),
        ("auto", None, None, "sampler"),
        ("auto", object(), OWN, "planned"),
        ("seeds", None, OTHERS, "seeds"),
        ("sampler", object(), OWN, "sampler"),
    ],
)
def test_who_proposes_by_default(given: str, predictor: object, setting: Any, taken: str, session: Session) -> None:
    space: Any = SimpleNamespace(setting=setting)
    if setting is not None:
        space = type(session.space)(replace(session.space.setting, values=setting.values))
    made: Any = SimpleNamespace(evaluator=SimpleNamespace(predictor=predictor), space=space)
    assert proposals_of(SearchConfig(proposals=given), made) == taken


def test_a_search_calibrates_by_itself_and_a_standing_study_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(calibrate, "PICTURES", 1)
    monkeypatch.setattr(calibrate, "POINTS", 2)
    monkeypatch.setattr(preparation, "WORTH", 2)
    common = ["--steps", "3", "--prompt-count", "2", "--objectives", "latency,psnr", "--pairs", "3", "--students"]
    common += ["teacher", "--baselines"]

    def search(study: str, trials: int, *more: str) -> tuple[int, str]:
        status = run(["search", "--study", study, "--trials", str(trials), *common, "none", *more])
        return status, capsys.readouterr().err

    def facts(study: str) -> tuple[bool, set[str | None]]:
        from studies.results.rows import trials

        with Store.open(tmp_path / "explorer.db", read_only=True) as store:
            record = store.study(study)
            return "calibrated" in record.settings.extra, {row.proposed_by for row in trials(store, record)}

    status, said = search("many", 2)
    assert status == 0 and said.count("this study is calibrated first") == 1 and "--no-calibrate" in said
    assert facts("many")[0]
    status, said = search("many", 2)  # nobody says anything, and it goes on with what it has
    assert status == 0 and "calibrati" not in said
    status, said = search("many", 4, "--no-calibrate")
    assert status == 1 and "calibrated: the study has True" in said
    status, said = search("few", 1)
    assert status == 0 and "calibrati" not in said and facts("few") == (False, {"seeds"})
    assert search("few", 2)[0] == 0 and facts("few") == (False, {"seeds"}), "more plans do not make it another study"
