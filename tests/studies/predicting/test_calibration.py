"""A study's calibration on the embedded model: what it measures, how it is kept, and what is predicted from it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import sqlalchemy as sa

from explorer import InheritancePlan, PlanError, StudyError, inherit, strategy
from explorer.calibration.fitting import Fitter
from explorer.calibration.moments import collect_moments
from explorer.calibration.removal_errors import removal_squares
from explorer.calibration.step_errors import Design
from explorer.estimate import Estimate
from explorer.models.pictures import run as run_pipeline
from explorer.networks.removals import unit_removals
from explorer.plans.schedule import Every, Segments
from explorer.unet.mask import Mask
from studies import device_lock
from studies.cli import run
from studies.config import SearchConfig
from studies.metrics import PREDICTED
from studies.predicting import calibration
from studies.predicting.calibration import Calibration, removals_of_weights
from studies.predicting.drift_model import DriftModel
from studies.proposing.proposers.seeds import seeds
from studies.results.summary import agreement
from studies.searching.asking import config_of
from studies.searching.calibrate import SEED, CalibrationProgress, calibrate
from studies.searching.session import Session, open_session
from studies.settings import Objective
from studies.storage import tables
from studies.storage.store import Store
from tests.architectures import SD15
from tests.studies.results.test_summary import row as trial_row

SMALL = {"pictures": 1, "points": 2}
CONFIG = SearchConfig(
    study="small",
    steps=8,
    prompt_count=4,
    objectives=("latency", "psnr"),
    baselines="none",
    calibrate=True,
    pairs=3,
    students=("teacher",),
)


@pytest.fixture(scope="module")
def opened() -> Session:
    return open_session(CONFIG)


@pytest.fixture(scope="module")
def session(opened: Session, calibrated: Any) -> Session:
    return opened.with_calibration(calibrated[2])


@pytest.fixture(scope="module")
def calibrated(opened: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Any, Calibration]]:
    """Interrupted twice and resumed: on its way to the errors, and in the middle of the runs of 5 steps."""
    session = opened
    with Store.open(tmp_path_factory.mktemp("calibration") / "explorer.db") as store:
        study = store.create_study("small", session.settings)
        reports: list[CalibrationProgress] = []

        def interrupted(words: str, at: int) -> list[str]:
            """The parts that stand after an interruption at the report of so many that tells of `words`."""
            seen = 0

            def stop(standing: CalibrationProgress) -> None:
                nonlocal seen
                seen += standing.words.startswith(words)
                reports.append(standing)
                if seen == at:
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                calibrate(store, study, session, on_progress=stop, **SMALL)
            assert calibration.load(store, study) is None
            return list(calibration.parts(store, study))

        assert interrupted("errors", 1) == ["moments/0"]
        assert interrupted("features of runs of 5 steps", 2) == ["moments/0", "errors/0", "moments/6 steps"]
        assert reports[-1].done > reports[-2].done  # its only batch had been run, and it was not stored
        reports.clear()
        holds: list[bool] = []

        def on_device(info: Any, *, shared: bool) -> Any:
            holds.append(shared)
            return device_lock.on_device(info, shared=shared)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("studies.searching.calibrate.on_device", on_device)
            made = calibrate(store, study, session, on_progress=reports.append, **SMALL)
        assert holds == [True] * (4 + len(made.plain))  # what is timed has the device alone, and is done
        left = (6 + 5 + 4 + 3) + 9 + (7 + 6 + 5 + 4 + 3)  # evaluations of PNDM: features, the full run, fewer steps
        assert reports[0].words == "features of runs of 5 steps" and reports[0].done == reports[0].total - left
        assert reports[-1].done == reports[-1].total and reports[-1].seconds_left == 0
        yield store, study, made


def test_it_is_kept_once_and_read_as_it_was_made(session: Session, calibrated: Any) -> None:
    store, study, made = calibrated
    loaded = calibration.load(store, study)
    assert loaded is not None and loaded.design == made.design and loaded.seconds == made.seconds > 0
    np.testing.assert_array_equal(loaded.errors.masks, made.errors.masks)
    assert loaded.plain == made.plain and set(made.plain) == set(session.space.steps) - {8}
    assert set(loaded.moments) == set(session.space.steps) == {8, 6, 5, 4, 3, 2}
    for steps, moments in loaded.moments.items():
        assert (moments.steps, moments.evaluations, moments.pictures) == (steps, steps + 1, 1)
    reports: list[CalibrationProgress] = []
    calibrate(store, study, session, on_progress=reports.append, **SMALL)
    assert reports == []  # nothing is made again
    assert made.error_map("DC0").shape == (2, len(made.design.ages))
    assert np.isfinite(made.node_map()).all() and np.isfinite(made.effects()).all()
    known = made.error_map("CO6", "fitted")
    assert np.isfinite(known).any() and np.isnan(known[0]).all()  # the first step has no two extract steps behind it


def test_errors_and_effects_are_those_of_runs_with_one_inherit_step(session: Session, calibrated: Any) -> None:
    """The same run made by a plan that inherits at one step, on the stock engine."""
    _, _, made = calibrated
    evaluator = session.evaluator
    step = made.design.steps[0]
    assert step == 1
    how: dict[str, Any] = {
        "seed": session.settings.seed + SEED, "steps": 8, "guidance": evaluator.guidance, "size": evaluator.size,
        "output_type": "latent",
    }  # fmt: skip
    prompts = evaluator.prompts[-1:]
    choices = [0, 1, *[0] * 7]
    mask = made.design.masks["DC0"]
    plain = run_pipeline(evaluator.pipe, prompts, **how)
    with inherit(evaluator.pipe, InheritancePlan(session.architecture, 8, (mask,), Segments.of(choices))):
        other = run_pipeline(evaluator.pipe, prompts, **how)
    assert made.errors.moved[0] == pytest.approx(float(((other - plain) ** 2).mean()), rel=1e-3)
    assert made.errors.latents[0] == pytest.approx(float((plain**2).mean()), rel=1e-4)
    assert made.errors.wrong[0] == pytest.approx(made.errors.masks[0, 0, 0, 0], rel=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": b"nothing"}, "damaged .*--again"),
        ({"facts": {"model": "emoji", "scheduler": "DDIMScheduler"}}, "made for another"),
    ],
)
def test_what_is_damaged_or_of_another_model_is_refused(
    calibrated: Any, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    store, study, _ = calibrated
    with Store.open(tmp_path / "copy.db") as other:
        copied = copy_of(store, study, other)
        assert calibration.load(other, copied) is not None
        with other.begin() as connection:
            second = tables.calibrations.c.part == "errors/0"
            connection.execute(sa.update(tables.calibrations).where(second).values(change))
        with pytest.raises(StudyError, match=words):
            calibration.load(other, copied)
        calibration.drop(other, copied)
        assert calibration.parts(other, copied) == {}


def test_bad_input_is_explained(session: Session, calibrated: Any) -> None:
    store, study, _ = calibrated
    for options, words in (
        ({"pictures": 9}, "run 9 prompts and the study has 4"),
        ({"pictures": 0}, "at least 1 picture"),
        ({"pictures": 1, "points": 3}, "calibration of 1 pictures at 2 points"),
    ):
        with pytest.raises(StudyError, match=words):
            calibrate(store, study, session, **options)
    with pytest.raises(StudyError, match="random weights"):
        open_session(SearchConfig(model="arch:sd15", objectives=("latency",), calibrate=True))
    assert config_of(study.settings, "small").calibrate


def test_a_design_fits_any_run() -> None:
    for evaluations in (2, 3, 7, 51):
        design = Design.of(SD15, evaluations)
        assert design.steps[0] == 1 and design.steps[-1] == evaluations - 1
        assert all(
            min(design.sources(s, a, r)) >= 0
            for s in design.steps
            for a in design.ages
            for r in design.rules
            if design.sources(s, a, r)
        )
    assert Design.of(SD15, 1).steps == ()


def copy_of(store: Store, study: Any, other: Store, names: list[str] | None = None) -> Any:
    """The study with its calibration in another storage; with `names` as one of only these parts was written."""
    copied = other.create_study(study.name, study.settings)
    with store.begin() as read, other.begin() as connection:
        rows = [dict(row._mapping) | {"study_id": copied.id} for row in read.execute(sa.select(tables.calibrations))]
        for row in rows:
            if names is None or row["part"] in names:
                facts = row["facts"] if names is None else row["facts"] | {"parts": names}
                connection.execute(sa.insert(tables.calibrations).values(row | {"facts": facts}))
    return copied


def test_features_of_another_step_count_are_those_of_its_own_runs(session: Session, calibrated: Any) -> None:
    _, _, made = calibrated
    evaluator = session.evaluator
    alone = collect_moments(
        evaluator.pipe, evaluator.prompts[-1:], steps=5, seed=session.settings.seed + SEED,
        guidance=evaluator.guidance, size=evaluator.size,
    )  # fmt: skip
    assert alone.gram.keys() == made.moments[5].gram.keys()
    for feature, gram in alone.gram.items():
        np.testing.assert_array_equal(gram, made.moments[5].gram[feature])


def test_every_seed_that_asks_for_the_fitted_rule_is_fitted(session: Session, calibrated: Any) -> None:
    asked: list[InheritancePlan] = []

    def fit(plan: InheritancePlan, rule: str) -> InheritancePlan:
        asked.append(session.fitter(plan, rule))
        return asked[-1]

    first = list(islice(seeds(replace(session.space.setting, fit=fit)), 60))
    assert sum(plan.rule.name == "fitted" for plan in first) >= len(asked) > 20
    assert {plan.rule.name for plan in asked} == {"fitted"} and len({plan.steps for plan in asked}) >= 5


def test_a_calibration_of_one_step_count_stays_as_it_was(session: Session, calibrated: Any, tmp_path: Path) -> None:
    """As they were stored before features were read at every step count: whole, and nothing is made for it again."""
    store, study, made = calibrated
    parts = calibration.parts(store, study)
    names = [name for name in parts if not name.endswith(" steps")]
    assert names[:2] == ["moments/0", "errors/0"] and len(names) == 2 + len(made.plain)
    with Store.open(tmp_path / "old.db") as other:
        old = copy_of(store, study, other, names)
        reports: list[CalibrationProgress] = []
        again = calibrate(other, old, session, on_progress=reports.append, **SMALL)
        assert reports == [] and set(again.moments) == {8} and again.plain == made.plain
        assert again.seconds == pytest.approx(sum(parts[name].seconds for name in names))
    with Store.open(tmp_path / "part.db") as other:  # and one that was interrupted goes on with what it was begun with
        old = copy_of(store, study, other, names)
        with other.begin() as connection:
            connection.execute(sa.delete(tables.calibrations).where(tables.calibrations.c.part.in_(names[-2:])))
        assert calibration.load(other, old) is None
        resumed = calibrate(other, old, session, **SMALL)
        assert list(calibration.parts(other, old)) == names
        assert resumed.plain == pytest.approx(made.plain)
    session_model, evaluator = session.evaluator.predictor, session.evaluator
    assert session_model is not None
    predictor = DriftModel(again, evaluator.evaluations, session_model.share)
    fitter = Fitter(again.moments)
    for steps, rule in ((8, "fitted"), (5, "copy"), (4, "copy")):
        plan = fitter(strategy("CO6/P2", steps=steps, unet=session.architecture))
        assert plan.rule.name == rule and math.isfinite(predictor.drift(plan))
    whole = strategy("CO6/P2", steps=8, unet=session.architecture)
    assert predictor.drift(whole) == pytest.approx(session_model.drift(whole))


def test_every_unit_is_removed_once_and_the_errors_are_found_by_the_weights(calibrated: Any, tmp_path: Path) -> None:
    store, study, made = calibrated
    weights = study.settings.extra["weights"]
    assert made.design.removals == tuple(unit_removals(SD15)) and made.design.removal_steps == (8,)
    assert np.isfinite(made.removal_map()).all() and (made.removal_map() > 0).all()
    found = removals_of_weights(store, weights)
    assert found == pytest.approx(removal_squares(made.design, made.errors)) and len(found) == 72
    assert removals_of_weights(store, "another") == {}
    with Store.open(tmp_path / "old.db") as other:  # as it was stored before units were removed
        old = copy_of(store, study, other)
        mine = tables.calibrations.c.part == "errors/0"
        part = calibration.parts(store, study)["errors/0"]
        design = {name: value for name, value in part.facts["design"].items() if name != "removals"}
        arrays = {name: value for name, value in part.arrays.items() if name != "removals"}
        with other.begin() as connection:
            connection.execute(sa.delete(tables.calibrations).where(mine))
        calibration.save_part(other, old, "errors/0", part.facts | {"design": design}, arrays, 1.0)
        loaded = calibration.load(other, old)
        assert loaded is not None and loaded.design.removals == () and loaded.removal_map().shape == (0, 0)
        np.testing.assert_array_equal(loaded.errors.masks, made.errors.masks)
        assert removals_of_weights(other, weights) == {}


def test_the_screen_orders_what_is_plainly_ordered(session: Session, calibrated: Any) -> None:
    predictor = session.evaluator.predictor
    assert predictor is not None

    def drift(name: str, **more: Any) -> float:
        return predictor.drift(strategy(name, steps=8, unet=session.architecture, fit=session.fitter, **more))

    assert drift("plain@8") == 0 < drift("DC0/P2") < drift("DC0/P5")
    assert drift("EX1/P2") < drift("CO6/P2") and drift("plain@5") > 0
    costs = {name: predictor.cost(strategy(name, steps=8, unet=session.architecture)) for name in ("plain@8", "DC0/P2")}
    assert costs["plain@8"] == 1.0 and 0.2 < costs["DC0/P2"] < 0.9
    assert math.isclose(predictor.cost(strategy("plain@3", unet=session.architecture)), 4 / 9)


def test_every_plan_of_the_space_has_a_prediction(session: Session, calibrated: Any) -> None:
    predictor = session.evaluator.predictor
    assert predictor is not None
    draws = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    rules = set()
    for _ in range(40):
        plan = session.space.suggest(draws.ask())
        found = predictor(plan)
        rules.add(plan.rule.name)
        assert math.isfinite(found.drift) and found.drift >= 0 and 0 < found.cost <= 1.2
        assert (found.drift == 0) == (plan.extracts_always and plan.steps == 8)
    assert "fitted" in rules


def test_agreement_is_of_ranks_and_needs_three() -> None:
    objectives = (Objective("latency", "minimize"), Objective("clip", "maximize"))
    values = [{PREDICTED: float(k), "psnr": 40.0 - k**3} for k in range(4)]
    rows = [
        trial_row(k, None, 1.0, 1.0, 1.0, scores={name: Estimate(v, v, v, 4) for name, v in each.items()})
        for k, each in enumerate(values)
    ]
    found = agreement(rows, objectives)
    assert found is not None and (found.metric, found.n) == ("psnr", 4) and found.spearman == pytest.approx(1.0)
    assert agreement(rows[:2], objectives) is None
    assert agreement([replace(r, scores={}) for r in rows], objectives) is None


# The whole -----------------------------------------------------------------------------------------------------------


def test_calibrate_then_search_with_planned_proposals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    same = ["--study", "s", "--steps", "3", "--prompt-count", "2", "--objectives", "latency,psnr", "--space", "unit"]
    assert run(["calibrate", *same, "--pictures", "1", "--points", "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {"errors", "effects", "seconds", "nodes", "time_shares"} <= document.keys()
    assert document["errors"]["DC0"]["copy"][0][0] > 0 and document["errors"]["DC0"]["forecast2"][0][0] is None
    assert run(["calibrate", "--study", "s", "--pictures", "2"]) == 1
    assert "calibration of 1 pictures at 2 points" in capsys.readouterr().err
    assert run(["search", "--study", "s", "--trials", "4", "--baselines", "none", "--pairs", "3"]) == 1  # other pairs
    assert "timed pairs" in capsys.readouterr().err
    assert run(["search", "--study", "s", "--trials", "3", "--baselines", "none", "--proposals", "planned"]) == 0
    capsys.readouterr()
    assert run(["show", "s", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["trials"]) == 3 and all(
        {"predicted_drift", "predicted_cost"} <= trial["scores"].keys() for trial in shown["trials"]
    )
    assert shown["predicted_cost"]["metric"] == "latency" and shown["predicted_cost"]["n"] == 3
    assert shown["prediction"]["metric"] == "psnr" and -1 <= shown["prediction"]["spearman"] <= 1
    assert run(["search", "--study", "other", "--trials", "1", "--steps", "3", "--prompt-count", "2", "--objectives",
                "latency,psnr", "--baselines", "none", "--proposals", "planned"]) == 1  # fmt: skip
    assert "needs a calibration" in capsys.readouterr().err


def test_the_drift_of_removed_nodes_is_not_predicted_and_their_cost_is(session: Session, calibrated: Any) -> None:
    predictor = session.evaluator.predictor
    assert predictor is not None
    mask = Mask.of(["mid.attn"], "zero")
    plan = InheritancePlan(session.architecture, 8, (mask,), Every())
    with pytest.raises(PlanError, match="removed nodes were not calibrated"):
        predictor.drift(plan)
    assert predictor.cost(plan) == pytest.approx(predictor.time(mask))
    with pytest.raises(PlanError, match="needs the student 'm2'"):
        predictor.drift(plan.with_cast("m2"))
