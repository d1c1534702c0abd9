"""Predictions of schedulers, spacings and students on the embedded model, and plans that are proposed by them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from scipy.stats import spearmanr

from explorer import InheritancePlan, PlanError, Student, load_pipeline, strategy
from studies.config import SearchConfig
from studies.metrics import PREDICTED, PREDICTED_COST
from studies.predicting import calibration
from studies.predicting.calibration import Calibration
from studies.predicting.drift_model import DriftModel
from studies.predicting.further import Further
from studies.proposing.descriptors import NEUTRAL_DRIFT, describe, lengths, width
from studies.proposing.proposers.base import Tools
from studies.proposing.proposers.planned import Planned
from studies.proposing.proposers.record import Record
from studies.searching import further
from studies.searching.calibrate import CalibrationProgress, calibrate, work
from studies.searching.further import families, left_out
from studies.searching.session import Session, open_session
from studies.storage.store import Store
from tests.conftest import make_pipeline

STEPS = 4
DPM = "DPMSolverMultistepScheduler"
FAMILIES = [(DPM, None), (None, "trailing"), (DPM, "trailing")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("planned")
    pipe: Any = load_pipeline("emoji")
    Student.named("M2", pipe.unet).save(place / "m2")
    return place


@pytest.fixture(scope="module")
def opened(folder: Path) -> Session:
    return open_session(
        SearchConfig(
            study="axes", steps=STEPS, prompt_count=2, batch=2, objectives=("latency", "psnr"), baselines="none",
            calibrate=True, pairs=3, schedulers=("own", DPM), students=(f"m2={folder / 'm2'}",),
            spacings=("own", "trailing"), storage=f"sqlite:///{folder / 'explorer.db'}",
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(opened: Session, folder: Path) -> Iterator[tuple[Store, Any, Calibration]]:
    with Store.open(f"sqlite:///{folder / 'explorer.db'}") as store:
        study = store.create_study("axes", opened.settings)
        yield store, study, calibrate(store, study, opened, pictures=1, points=2)


@pytest.fixture(scope="module")
def session(opened: Session, made: Any) -> Session:
    return opened.with_calibration(made[2])


@pytest.fixture
def predictor(session: Session) -> DriftModel:
    found = session.evaluator.predictor
    assert found is not None
    return found


def test_every_scheduler_spacing_and_student_is_measured_and_kept(opened: Session, made: Any) -> None:
    store, study, whole = made
    setting = opened.space.setting
    assert families(setting) == FAMILIES and not left_out(setting, whole)
    loaded = calibration.load(store, study)
    assert loaded is not None and loaded.further.plain == whole.further.plain
    assert set(loaded.further.plain) == set(FAMILIES) and set(loaded.further.moments) == {DPM}
    for distances in loaded.further.plain.values():
        assert set(distances) == set(setting.plain_steps()) and min(distances.values()) > 0
    network = loaded.further.networks["m2"]
    assert len(network.errors) == STEPS + 1 and (network.errors > 0).all() and network.alone > 0
    assert network.share > 0
    known = calibration.load(store, study, with_moments=False)
    assert known is not None and not known.further.moments


def test_what_it_costs_is_bounded_and_what_is_left_out_is_said(
    opened: Session, made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for nothing but a student, and then with no time for anything beside the pipeline's own."""
    setting = opened.space.setting
    everything = work(opened)
    monkeypatch.setattr(further, "SHARE", 0.0)
    own = work(opened)
    assert own < everything <= 1.5 * own
    monkeypatch.undo()
    reports: list[CalibrationProgress] = []
    with Store.open(f"sqlite:///{tmp_path / 'short.db'}") as store:
        study = store.create_study("axes", opened.settings)
        for name, part in calibration.parts(*made[:2]).items():
            if not name.startswith("further/"):
                calibration.save_part(store, study, name, part.facts, part.arrays, part.seconds)
        short = calibrate(store, study, opened, pictures=1, points=2, seconds=0, on_progress=reports.append)
        assert not short.further.plain and not reports
        assert left_out(setting, short).startswith("the calibration left out DPMSolverMultistep, ~trailing, ")
        assert "m2" in left_out(setting, short)
        assert calibration.standing(store, study).whole


def test_predicted_drift_ranks_what_is_measured(session: Session, predictor: DriftModel) -> None:
    """Over plans of every axis, on other seeds and prompts than those of the calibration."""
    names = [
        "DC0/P2", "CO6/P4", "plain@2", "plain@1", f"plain@4/{DPM}", f"plain@2/{DPM}", "plain@4~trailing",
        "plain@2~trailing", f"plain@2/{DPM}~trailing", "m2+plain@4", "m2@0.4+plain@4", "m2@0.4+DC0/P2",
    ]  # fmt: skip
    plans = [strategy(name, steps=STEPS, unet=session.architecture) for name in names]
    plans.append(replace(plans[0], scheduler=DPM, spacing="trailing", name=None))
    measured = [session.evaluator.score(plan, "quality").estimates["psnr"].value for plan in plans]
    predicted = [predictor.drift(plan) for plan in plans]
    assert float(spearmanr(np.log(predicted), np.negative(measured)).statistic) > 0.5
    assert set(session.evaluator.predictions.estimates(plans[-2])) == {PREDICTED, PREDICTED_COST}


def test_a_students_error_counts_where_it_runs_and_its_time_is_its_own(session: Session, predictor: DriftModel) -> None:
    first, more, alone, both = (
        strategy(name, steps=STEPS, unet=session.architecture)
        for name in ("m2@0.2+plain@4", "m2@0.6+plain@4", "m2+plain@4", "m2+DC0/P2")
    )
    known = predictor.calibration.further.networks["m2"]
    latents = float(predictor.calibration.errors.latents[0])
    assert predictor.drift(alone) == pytest.approx(np.sqrt(known.alone / latents))
    assert 0 < predictor.drift(first) < predictor.drift(more) < predictor.drift(alone) < predictor.drift(both)
    assert predictor.cost(alone) == pytest.approx(known.share)
    assert predictor.cost(first) == pytest.approx((known.share + STEPS) / (STEPS + 1))


def test_what_was_not_calibrated_is_still_described(session: Session) -> None:
    bare = replace(session.evaluator.predictor.calibration, further=Further())  # type: ignore[union-attr]
    model = session.with_calibration(bare).evaluator.predictor
    assert model is not None
    plan = strategy(f"plain@2/{DPM}", steps=STEPS, unet=session.architecture)
    with pytest.raises(PlanError, match=f"runs of {DPM} were not calibrated"):
        model.drift(plan)
    row = describe(plan, model)
    assert len(row) == width(model) == len(lengths()) + 2 and row[-2:] == [1, 1] and row[0] == np.log(NEUTRAL_DRIFT)
    assert describe(replace(plan, scheduler=None, name=None), model)[-2:] == [0, 0]
    alone = strategy("m2+plain@4", steps=STEPS, unet=session.architecture)
    assert describe(alone, model)[-2:] == [0, 1] and 0 < model.cost(alone) < 1


def test_a_student_that_cannot_run_here_is_left_out_and_the_reason_said(
    opened: Session, made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = Student.named("M2", make_pipeline().unet)
    known = opened.space.setting.values["cast"]
    monkeypatch.setitem(known, "m2", replace(known["m2"], student=stranger))
    with Store.open(f"sqlite:///{tmp_path / 'stranger.db'}") as store:
        study = store.create_study("axes", opened.settings)
        for name, part in calibration.parts(*made[:2]).items():
            if "network" not in name:
                calibration.save_part(store, study, name, part.facts, part.arrays, part.seconds)
        short = calibrate(store, study, opened, pictures=1, points=2)
    assert set(short.further.plain) == set(FAMILIES) and not short.further.networks
    (reason,) = short.further.refused.values()
    assert "teacher" in reason
    assert left_out(opened.space.setting, short).startswith(f"the calibration left out m2 ({reason[:-1]}): their plans")


def test_a_study_of_several_axes_is_planned(made: Any, session: Session) -> None:
    """A scheduler that hardly drifts when it takes fewer steps is found, with plans that move on from there."""
    store, study, whole = made
    good = {(DPM, None): dict.fromkeys(whole.further.plain[DPM, None], 1e-6)}
    told = session.with_calibration(replace(whole, further=replace(whole.further, plain=whole.further.plain | good)))
    evaluator, no_mirror = told.evaluator, cast(Any, None)  # which the sampler alone asks
    tools = Tools(
        store, study, told.space, evaluator.evaluations, InheritancePlan.from_json, no_mirror, Record(store, study),
        evaluator.rejection, evaluator.predictor, 0, 0,
    )  # fmt: skip
    kind = Planned(tools)
    found = kind.propose()
    assert found is not None and found.plan.scheduler == DPM
    plans = [candidate.plan for candidate in kind.pool.candidates]
    for name in ("steps", "masks", "scheduler", "spacing", "cast"):
        assert len({getattr(plan, name) for plan in plans}) > 1, name
