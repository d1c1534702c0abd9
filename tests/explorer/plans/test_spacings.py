"""Plans that name the spacing of their timesteps: put on the pipeline to the bit, taken off, refused by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import diffusers
import pytest
import torch

from explorer import InheritancePlan, PlanError, inherit, strategy
from explorer.calibration.fitting import Fitter, fitted
from explorer.plans.plan import resolve_run
from explorer.plans.schedulers import SCHEDULERS, SPACINGS, evaluations_of, scheduler_for
from explorer.runtime.replay import beginnings
from tests.architectures import TINY
from tests.conftest import embeds, make_pipeline
from tests.explorer.calibration.test_fitting import moments_of
from tests.explorer.plans.test_plan_schedulers import DPM, STEPS, latents
from tests.explorer.runtime.test_shared_runs import IMG2IMG
from tests.explorer.tiny_pipelines import Case, sd


@pytest.fixture(scope="module")
def pipe() -> Any:
    return make_pipeline()


def plan_of(pipe: Any, spacing: str | None, scheduler: str | None = None) -> InheritancePlan:
    plan = strategy("DC1", mode="P2", steps=STEPS, unet=pipe.unet)
    return replace(plan, scheduler=scheduler, spacing=spacing)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", ["DDIMScheduler", DPM, "PNDMScheduler", "EulerDiscreteScheduler"])
def test_it_is_the_option_of_the_scheduler_set_by_hand(name: str, spacing: str, pipe: Any) -> None:
    own, settings = pipe.scheduler, dict(pipe.scheduler.config)
    with inherit(pipe, plan_of(pipe, spacing, name)):
        assert pipe.scheduler.config.timestep_spacing == spacing
        made = latents(pipe)
    assert pipe.scheduler is own and dict(own.config) == settings
    pipe.scheduler = getattr(diffusers, name).from_config(own.config, timestep_spacing=spacing)
    with inherit(pipe, plan_of(pipe, None)):
        assert torch.equal(latents(pipe), made)
    pipe.scheduler = own


def test_spacings_differ_and_one_s_own_is_no_other_scheduler(pipe: Any) -> None:
    found = {}
    for spacing in (None, *SPACINGS):
        with inherit(pipe, plan_of(pipe, spacing)):
            found[spacing] = latents(pipe)
    assert torch.equal(found[None], found["leading"])
    assert len({tuple(each.flatten().tolist()) for each in found.values()}) == 3
    assert scheduler_for(pipe.scheduler, None, "leading") is pipe.scheduler


def test_the_number_of_evaluations_does_not_depend_on_it() -> None:
    own = diffusers.PNDMScheduler(skip_prk_steps=True)
    for name in SCHEDULERS:
        if name != "DPMSolverSinglestepScheduler":
            spaced = [scheduler_for(own, name, each) for each in SPACINGS]
            for steps in (2, 7, 50):
                assert {evaluations_of(each, steps) for each in spaced} == {evaluations_of(spaced[0], steps)}


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (diffusers.DPMSolverSinglestepScheduler(), "DPMSolverSinglestepScheduler has no option for them"),
        (diffusers.LCMScheduler(), "LCMScheduler with its settings sets the same ones for every spacing"),
        (
            diffusers.DPMSolverMultistepScheduler(use_karras_sigmas=True),
            "DPMSolverMultistepScheduler with its settings sets the same ones",
        ),
    ],
    ids=["no option", "option without effect", "other settings decide"],
)
def test_a_scheduler_that_cannot_is_refused_by_name(own: Any, words: str) -> None:
    pipe = make_pipeline(own)
    with pytest.raises(PlanError, match=f"the plan is for trailing timesteps, and {words}"):
        inherit(pipe, plan_of(pipe, "trailing"))
    assert pipe.scheduler is own
    inherit(pipe, plan_of(pipe, None)).remove()  # nothing was left behind


def test_a_scheduler_that_does_not_know_the_kind_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Leading(diffusers.DDIMScheduler):
        def set_timesteps(self, *given: Any, **named: Any) -> None:
            if self.config.timestep_spacing == "trailing":
                raise ValueError("trailing is not supported. Please choose another.")
            super().set_timesteps(*given, **named)

    with pytest.raises(PlanError, match=r"and Leading does not know them \(trailing is not supported"):
        scheduler_for(Leading(), None, "trailing")


def test_the_timesteps_that_a_user_gives_win(pipe: Any) -> None:
    """They are no spacing of the scheduler, with a plan as without."""
    mine = {"timesteps": [900, 600, 301, 10], "num_inference_steps": None}

    def run() -> torch.Tensor:
        start = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
        return pipe(**embeds(), latents=start, output_type="latent", **mine).images

    own = pipe.scheduler
    pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(own.config)
    with inherit(pipe, plan_of(pipe, None)):
        expected = run()
    with inherit(pipe, plan_of(pipe, "trailing")):
        assert torch.equal(run(), expected)
    pipe.scheduler = own


def test_image_to_image_runs_its_tail_and_followers_get_it_too() -> None:
    pipe = sd()
    other = diffusers.AutoPipelineForImage2Image.from_pipe(pipe)
    other.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    other.set_progress_bar_config(disable=True)
    own, case = other.scheduler, Case(sd)
    with inherit(pipe, plan_of(pipe, "trailing")) as handle:
        handle.follow(other)
        assert pipe.scheduler.config.timestep_spacing == other.scheduler.config.timestep_spacing == "trailing"
        found = case.run(other, **IMG2IMG)
        with pytest.raises(PlanError, match="trailing timesteps and the EulerDiscreteScheduler given has linspace"):
            handle.follow(own)
    assert other.scheduler is own
    other.scheduler = diffusers.EulerDiscreteScheduler.from_config(own.config, timestep_spacing="trailing")
    with inherit(other, plan_of(pipe, None)):
        assert torch.equal(case.run(other, **IMG2IMG), found)


def test_another_spacing_is_refused_when_it_comes_later_and_for_a_bare_unet(pipe: Any) -> None:
    with inherit(pipe, plan_of(pipe, "trailing")):
        put = pipe.scheduler
        pipe.scheduler = diffusers.DDIMScheduler.from_config(put.config, timestep_spacing="linspace")
        with pytest.raises(PlanError, match="trailing timesteps and the DDIMScheduler given has linspace"):
            latents(pipe)
        pipe.scheduler = put
    with pytest.raises(PlanError, match="the DDIMScheduler given has leading"):
        inherit(pipe.unet, plan_of(pipe, "trailing"), scheduler=diffusers.DDIMScheduler())
    inherit(pipe.unet, plan_of(pipe, "leading"), scheduler=diffusers.DDIMScheduler()).remove()


def test_a_control_is_named_by_it_and_read_back() -> None:
    for name in ("plain@10~trailing", "plain@10/DPMSolverMultistep~trailing", "m2+plain@10/DDIM~linspace"):
        plan = strategy(name, unet=TINY)
        assert plan.name == plan.describe() == replace(plan, name=None).describe() == name
        assert plan.spacing is not None and plan.steps == 10
    with pytest.raises(PlanError, match="may not name the spacing 'even'"):
        strategy("plain@10~even", unet=TINY)


def test_runs_of_two_spacings_share_no_recorded_beginning_and_no_weights() -> None:
    plan = strategy("DC0/P2", steps=4, unet=TINY)
    spaced = replace(plan, spacing="trailing")
    assert not {*beginnings(plan, resolve_run(plan, 4))} & {*beginnings(spaced, resolve_run(spaced, 4))}
    moments = moments_of(TINY, 4, 4)
    assert Fitter({4: moments})(plan).rule.name == "fitted" and Fitter({4: moments})(spaced).rule.name == "copy"
    with pytest.raises(PlanError, match="scheduler's own timesteps and the plan is for trailing ones"):
        fitted(spaced, moments)
    assert Fitter({4: moments})(plan.with_cast("m2")).rule.name == "copy"
