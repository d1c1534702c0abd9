"""Plans that name a scheduler: put on the pipeline and taken off again exactly, counted, and refused by both names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import diffusers
import pytest
import torch

from explorer import InheritancePlan, PlanError, inherit, load_pipeline, strategy
from explorer.calibration.fitting import Fitter, fit, fitted
from explorer.calibration.moments import collect_moments
from explorer.plans.schedulers import SCHEDULERS, check_name, evaluations_of_plan, scheduled, scheduler_for, short
from explorer.unet.architecture import Architecture
from tests.conftest import embeds, make_pipeline, make_unet
from tests.explorer.runtime.counted_runs import counted, extracts

DPM = "DPMSolverMultistepScheduler"
STEPS = 4


def named(pipe: Any, name: str = DPM, mode: str = "P2") -> InheritancePlan:
    return replace(strategy("DC1", mode=mode, steps=STEPS, unet=pipe.unet), scheduler=name)


def latents(pipe: Any, steps: int = STEPS) -> torch.Tensor:
    start = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    return pipe(
        **embeds(), latents=start, generator=torch.Generator().manual_seed(2), num_inference_steps=steps,
        output_type="latent",
    ).images  # fmt: skip


@pytest.fixture(scope="module")
def pipe() -> Any:
    return make_pipeline()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_named_scheduler_is_put_on_and_the_own_one_comes_back(name: str, pipe: Any) -> None:
    own, config, settings = pipe.scheduler, dict(pipe.config), dict(pipe.scheduler.config)
    plain = latents(pipe)
    plan = named(pipe, name)
    with inherit(pipe, plan) as handle, counted(pipe) as counts:
        assert type(pipe.scheduler).__name__ == name
        assert (pipe.scheduler is own) == (type(own).__name__ == name)
        made = latents(pipe)
        handle.remove()
        assert pipe.scheduler is own
    assert len(counts) == evaluations_of_plan(own, plan)
    assert extracts(counts) == list(range(0, len(counts), 2))
    assert pipe.scheduler is own and dict(pipe.config) == config and dict(own.config) == settings
    assert torch.equal(latents(pipe), plain)
    # The same as the plan without a name on a pipeline that was given the scheduler by hand.
    with scheduled(pipe, name), inherit(pipe, replace(plan, scheduler=None)):
        assert torch.equal(latents(pipe), made)
    assert pipe.scheduler is own


def test_a_scheduler_that_the_user_puts_on_meanwhile_stays(pipe: Any) -> None:
    own = pipe.scheduler
    handle = inherit(pipe, named(pipe))
    mine = diffusers.EulerDiscreteScheduler.from_config(own.config)
    pipe.scheduler = mine
    handle.remove()
    assert pipe.scheduler is mine
    pipe.scheduler = own


def test_a_pipeline_that_is_followed_gets_it_too(pipe: Any) -> None:
    other = diffusers.StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    own = pipe.scheduler
    with inherit(pipe, named(pipe)) as handle:
        handle.follow(other)
        assert type(pipe.scheduler).__name__ == type(other.scheduler).__name__ == DPM
        with pytest.raises(PlanError, match=r"plan is for DPMSolver.* the scheduler given is DDIMScheduler"):
            handle.follow(own)
    assert pipe.scheduler is own and other.scheduler is own


def test_latents_are_not_clipped_where_the_own_scheduler_does_not_say() -> None:
    own = diffusers.EulerDiscreteScheduler()
    assert "clip_sample" not in own.config
    assert scheduler_for(own, "DDIMScheduler").config.clip_sample is False
    assert scheduler_for(own, None) is own and scheduler_for(own, "EulerDiscreteScheduler") is own


def test_a_pipeline_that_cannot_have_it_is_refused_by_both_names_and_left_as_it_was() -> None:
    own = diffusers.EDMEulerScheduler()
    pipe = make_pipeline(own)
    with pytest.raises(PlanError, match=r"for DPMSolverMultistepScheduler, and the pipeline's EDMEulerScheduler can"):
        inherit(pipe, named(pipe))
    assert pipe.scheduler is own
    with inherit(pipe, replace(named(pipe), scheduler=None)):  # nothing was left behind
        pass


def test_a_bare_unet_runs_under_the_scheduler_that_it_is_given() -> None:
    unet = make_unet()
    plan = replace(strategy("DC1", mode="P2", steps=STEPS, unet=unet), scheduler=DPM)
    with pytest.raises(PlanError, match=r"plan is for DPMSolverMultistepScheduler and the scheduler given is PNDM"):
        inherit(unet, plan, scheduler=diffusers.PNDMScheduler())
    inherit(unet, plan, scheduler=diffusers.DPMSolverMultistepScheduler()).remove()
    inherit(unet, plan).remove()


@pytest.mark.parametrize("name", ["os.system", "DPMSolverSDEScheduler", "", "UNet2DConditionModel", "from_config"])
def test_no_other_name_is_taken(name: str) -> None:
    unet = make_unet()
    with pytest.raises(PlanError, match="may not name the scheduler"):
        replace(strategy("DC1", mode="P2", steps=STEPS, unet=unet), scheduler=name)
    with pytest.raises(PlanError):
        strategy(f"plain@4/{name}", unet=unet)


def test_controls_of_a_scheduler_have_its_name() -> None:
    architecture = Architecture.of(make_unet())
    for spelled in ("plain@4/DPMSolverMultistep", f"plain@4/{DPM}"):
        plan = strategy(spelled, unet=architecture)
        assert plan.name == plan.describe() == "plain@4/DPMSolverMultistep" and plan.extracts_always
        assert replace(plan, name=None).describe() == plan.name
        assert (plan.scheduler, plan.steps) == (DPM, 4)
    for name in SCHEDULERS:
        assert check_name(short(name)) == check_name(name) == name
    searched = replace(strategy("DC1", mode="P2", steps=4, unet=architecture), name=None, scheduler=DPM)
    assert searched.describe().endswith("4 steps of DPMSolverMultistep")
    assert searched.transfer(Architecture.of(make_unet("sd2"))).scheduler == DPM


def test_a_fitted_rule_belongs_to_the_scheduler_it_was_fitted_under() -> None:
    pipe: Any = load_pipeline("emoji")
    own = pipe.scheduler
    plan = named(pipe)
    moments = collect_moments(pipe, ["a cat"], steps=STEPS, guidance=3.0)
    with pytest.raises(PlanError, match="runs under PNDMScheduler and the plan is for DPMSolverMultistep"):
        fitted(plan, moments)
    assert Fitter({STEPS: moments})(plan).rule.name == "copy"
    assert Fitter({STEPS: moments})(replace(plan, scheduler=None)).rule.name == "fitted"
    made = fit(pipe, plan, ["a cat"], guidance=3.0)
    assert made.rule.weights is not None and made.rule.weights.evaluations == STEPS  # PNDM would make one more
    assert pipe.scheduler is own
