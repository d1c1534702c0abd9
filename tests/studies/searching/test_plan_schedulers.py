"""A study over several schedulers, from the search to an export at work and a certificate, on the embedded model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline

from explorer import InheritancePlan, PlanError, StudyError, inherit, load_pipeline, strategy
from explorer.models.loading import EMBEDDED
from explorer.models.pictures import generate
from explorer.plans.schedulers import scheduled
from studies.cli import run
from studies.config import SearchConfig, make_config
from studies.metrics import PREDICTED, PREDICTED_COST
from studies.predicting.further import Further
from studies.results.rows import TrialRow, trials
from studies.searching.asking import config_of
from studies.searching.calibrate import calibrate
from studies.searching.session import open_session
from studies.settings import scheduler_words
from studies.storage.store import Store

DPM = "DPMSolverMultistepScheduler"
SMALL = ["--steps", "4", "--prompt-count", "4", "--batch", "4", "--pairs", "3", "--objectives", "latency,psnr"]
BOTH = ["--schedulers", "own,DPMSolverMultistep", "--students", "teacher"]


def small(**change: Any) -> SearchConfig:
    values = {"steps": 4, "prompt_count": 4, "pairs": 3, "objectives": ("latency", "psnr"), "baselines": "short"}
    values["students"] = ("teacher",)
    return SearchConfig(**(values | change))


@pytest.fixture(scope="module")
def pipe() -> Any:
    return load_pipeline("emoji")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("schedulers")


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[TrialRow]:
    """A study of the plain controls of both schedulers, and one of what a sampler proposes."""
    storage = f"sqlite:///{folder / 'explorer.db'}"
    common = ["--storage", storage, *SMALL, *BOTH]
    assert run(["search", "--study", "controls", "--baselines", "short", "--trials", "5", *common]) == 0
    chosen = ["--baselines", "none", "--sampler", "random", "--trials", "4", "--seed", "3"]
    assert run(["search", "--study", "drawn", *chosen, *common]) == 0
    with Store.open(storage) as store:
        found = [row for name in ("controls", "drawn") for row in trials(store, store.study(name))]
        assert {str(store.study(name).settings.extra["schedulers"]) for name in ("controls", "drawn")} == {
            f"['own', '{DPM}']"
        }
    return [row for row in found if row.state == "done"]


def test_a_search_scores_plans_of_both_under_their_own_evaluations(rows: list[TrialRow]) -> None:
    controls = {row.name: row for row in rows if row.name is not None}
    assert {"plain@4", "plain@2", "plain@1", "plain@4/DPMSolverMultistep", "plain@2/DPMSolverMultistep"} == {*controls}
    assert controls["plain@4"].evaluations == 5 and controls["plain@4/DPMSolverMultistep"].evaluations == 4
    assert controls["plain@4"].scores["psnr"].value == 100
    assert controls["plain@4/DPMSolverMultistep"].scores["psnr"].value < 40, "another solver draws another picture"
    drawn = [InheritancePlan.from_json(row.plan) for row in rows if row.origin == "search"]
    assert {plan.scheduler for plan in drawn} == {None, DPM} and len(drawn) == 4


def test_pictures_are_those_of_the_scheduler(rows: list[TrialRow], pipe: Any) -> None:
    """The recorded PSNR of a control is that of pictures made by hand under the scheduler."""
    session = open_session(small(schedulers=("own", DPM)), pipe)
    evaluator = session.evaluator
    how: dict[str, Any] = {"seed": 0, "guidance": evaluator.guidance, "batch_size": 4}
    target = generate(pipe, evaluator.prompts, steps=4, **how)
    with scheduled(pipe, DPM):
        made = generate(pipe, evaluator.prompts, steps=2, **how)
    error = ((made.float() - target.float()) ** 2).flatten(1).mean(dim=1)
    psnr = float((10 * torch.log10(255**2 / error)).mean())
    row = next(row for row in rows if row.name == "plain@2/DPMSolverMultistep")
    assert row.scores["psnr"].value == pytest.approx(psnr, abs=0.05)
    with evaluator.painter(InheritancePlan(session.architecture, 4)) as paint:
        assert torch.equal(paint(evaluator.prompts, 0, 2, DPM), made)
        assert torch.equal(paint(evaluator.prompts, 0, 4), target)


def test_an_export_runs_under_its_scheduler(rows: list[TrialRow], folder: Path, pipe: Any) -> None:
    searched = next(row for row in rows if row.origin == "search" and row.plan.get("scheduler"))
    storage, out = f"sqlite:///{folder / 'explorer.db'}", folder / "plan"
    given = ["--trial", str(searched.number), "--storage", storage]
    assert run(["export", "drawn", *given, "--out", str(out)]) == 0
    plan = InheritancePlan.from_pretrained(out)
    assert plan.scheduler == DPM and plan.made_for is not None
    assert (plan.made_for.scheduler, plan.made_for.evaluations) == (DPM, searched.evaluations)
    assert (
        f"steps of {DPM}" in (out / "README.md").read_text()
        and f"puts a {DPM} on it" in (out / "README.md").read_text()
    )
    own = pipe.scheduler
    how: dict[str, Any] = {"seed": 1, "steps": plan.steps, "guidance": 3.0, "batch_size": 1}
    with inherit(pipe, out):
        made = generate(pipe, ["a cat face"], **how)
    assert pipe.scheduler is own
    again: Any = DiffusionPipeline.from_pretrained(
        EMBEDDED / "emoji", custom_pipeline=str(out), trust_remote_code=True, safety_checker=None
    )
    assert type(again.scheduler).__name__ == DPM
    assert torch.equal(generate(again, ["a cat face"], **how), made)
    again.inheritance.remove()
    assert type(again.scheduler) is type(own)


def test_a_certificate_holds_it_against_plain_steps_of_its_scheduler(folder: Path, pipe: Any) -> None:
    plan = strategy("DC0/P2", steps=4, unet=pipe.unet)
    (folder / "own").mkdir()
    document = plan.to_json() | {"scheduler": DPM, "schema": 3}
    (folder / "own" / "inheritance.json").write_text(json.dumps(document))
    options = ["--model", "emoji", "--count", "8", "--pairs", "3", "--device", "cpu"]
    assert run(["certify", str(folder / "own"), *options]) == 0
    found = json.loads((folder / "own" / "certificate.json").read_text())
    runs = found["runs"]
    assert {name: each["scheduler"] for name, each in runs.items() if name != "one above"} == {
        "full": "PNDMScheduler", "plan": DPM, "same cost": DPM,
    }  # fmt: skip
    assert runs["plan"]["evaluations"] == 4 and runs["full"]["evaluations"] == 5
    assert runs["same cost"]["name"].endswith("/DPMSolverMultistep")
    assert "plain steps of DPMSolverMultistep" in found["claim"]["sentence"]
    assert f"(the plan: {DPM})" in (folder / "own" / "certificate.html").read_text()


def test_schedulers_are_a_setting_of_the_study(pipe: Any) -> None:
    session = open_session(small(schedulers=("own", "DPMSolverMultistep", "PNDM")), pipe)
    assert session.settings.extra["schedulers"] == ["own", DPM], "the pipeline's own class is its own"
    assert scheduler_words(session.settings) == "PNDMScheduler (plans also of DPMSolverMultistep)"
    assert config_of(session.settings, "again").schedulers == ("own", DPM)
    names = [plan.name for plan in session.baselines()]
    assert [name for name in names if name and "/DPM" in name] == [f"plain@{n}/DPMSolverMultistep" for n in (4, 2, 1)]
    alone = open_session(small(), pipe)
    assert "schedulers" not in alone.settings.extra, "a study without the option is what it was"
    assert config_of(alone.settings, "again").schedulers == ("own",)
    assert [plan.name for plan in alone.baselines()] == [name for name in names if "/DPM" not in str(name)]


def test_what_a_plan_may_not_run_under_is_refused_before_anything_is_stored(tmp_path: Path, pipe: Any) -> None:
    file = tmp_path / "search.toml"
    file.write_text('schedulers = ["own", "UniPCMultistepScheduler"]\n')
    assert make_config({}, file).schedulers == ("own", "UniPCMultistepScheduler")
    for given, words in (("own,os.system", "may not name"), (DPM, "must have own among"), ("", "must have own among")):
        with pytest.raises(StudyError, match=words):
            make_config({"schedulers": given})
    with pytest.raises(StudyError, match="the space named has one scheduler"):
        open_session(small(schedulers=("own", DPM), space="named"), pipe)
    with pytest.raises(StudyError, match="names such as own,"):
        file.write_text("schedulers = 3\n")
        make_config({}, file)


def test_a_prediction_of_a_scheduler_that_was_not_calibrated_is_refused(folder: Path, pipe: Any) -> None:
    """As it is for a number of steps that was not calibrated, and a plan is scored without it."""
    session = open_session(small(schedulers=("own", DPM), calibrate=True), pipe)
    with Store.open(f"sqlite:///{folder / 'calibrated.db'}") as store:
        study = store.create_study("calibrated", session.settings)
        made = calibrate(store, study, session, pictures=1, points=2)
    plan = strategy("DC0/P2", steps=4, unet=pipe.unet)
    other = InheritancePlan.from_json(plan.to_json() | {"scheduler": DPM})
    predictions = session.with_calibration(made).evaluator.predictions
    assert set(predictions.estimates(other)) == set(predictions.estimates(plan)) == {PREDICTED, PREDICTED_COST}
    predictions = session.with_calibration(replace(made, further=Further())).evaluator.predictions
    predictor = predictions.model
    assert predictor is not None
    assert predictor.drift(plan) > 0 and predictor.cost(other) < predictor.cost(plan)
    with pytest.raises(PlanError, match=f"runs of {DPM} were not calibrated"):
        predictor.drift(other)
    assert set(predictions.estimates(other)) == {PREDICTED_COST}


def test_a_pipeline_of_another_scheduler_keeps_the_plans(pipe: Any) -> None:
    """A plan found on PNDM's pipeline runs on one whose user has DDIM, under the plan's scheduler."""
    plan = InheritancePlan.from_json(strategy("DC0/P2", steps=4, unet=pipe.unet).to_json() | {"scheduler": DPM})
    how: dict[str, Any] = {"seed": 1, "steps": 4, "guidance": 3.0, "batch_size": 1}
    with inherit(pipe, plan):
        first = generate(pipe, ["a red heart"], **how)
    with scheduled(pipe, "DDIMScheduler"):
        assert isinstance(pipe.scheduler, DDIMScheduler)
        with inherit(pipe, plan):
            assert torch.equal(generate(pipe, ["a red heart"], **how), first)
        assert isinstance(pipe.scheduler, DDIMScheduler)
