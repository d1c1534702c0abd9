"""Pipelines that share a UNet, and runs that end early, go back or change."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from explorer import InheritancePlan, PlanError, inherit
from explorer.unet.architecture import Architecture
from tests.explorer.runtime.counted_runs import IMG2IMG, INPAINT, TEXT, counted, extracts, plan_for
from tests.explorer.tiny_pipelines import (
    BETAS,
    CASES,
    controlnet,
    sd,
    sdxl,
    t2i_adapter,
)


def alone(kind: str, arguments: dict[str, Any], scheduler: Any = None) -> torch.Tensor:
    """The picture of a pipeline that has a plan of its own."""
    pipe = sd(kind, scheduler)
    with inherit(pipe, plan_for(pipe)):
        return TEXT.run(pipe, **arguments)


@pytest.mark.parametrize("auto", [True, False])
def test_pipelines_that_share_the_unet_run_by_one_plan(auto: bool) -> None:
    """A tail run of `from_pipe` is known as one, though the plan was applied to another pipeline."""
    pipe = sd()
    if auto:
        img2img = diffusers.AutoPipelineForImage2Image.from_pipe(pipe)
        inpaint = diffusers.AutoPipelineForInpainting.from_pipe(pipe)
    else:
        parts = {**pipe.components, "requires_safety_checker": False}
        img2img = diffusers.StableDiffusionImg2ImgPipeline(**parts)
        inpaint = diffusers.StableDiffusionInpaintPipeline(**parts)
    for other in (img2img, inpaint):
        other.set_progress_bar_config(disable=True)
    with inherit(pipe, plan_for(pipe)):
        first = TEXT.run(pipe)
        assert torch.equal(TEXT.run(img2img, **IMG2IMG), alone("StableDiffusionImg2ImgPipeline", IMG2IMG))
        assert torch.equal(TEXT.run(inpaint, **INPAINT), alone("StableDiffusionInpaintPipeline", INPAINT))
        assert torch.equal(TEXT.run(pipe), first)
        with pytest.raises(PlanError, match=r"handle\.follow"):
            inherit(img2img, plan_for(pipe))


def test_kinds_of_runs_that_share_one_plan_leave_nothing_to_each_other() -> None:
    """Text, control network, adapter and PAG in turn on one UNet: each draws what it draws with a plan of its own."""
    pipe = sd()
    parts = {**pipe.components, "requires_safety_checker": False}
    parts.pop("image_encoder")
    others = {
        "ControlNet": diffusers.StableDiffusionControlNetPipeline(**parts, controlnet=controlnet(pipe.unet)),
        "T2I-Adapter": diffusers.StableDiffusionAdapterPipeline(**parts, adapter=t2i_adapter("full_adapter", 8)),
        "PAG": diffusers.StableDiffusionPAGPipeline(**parts, pag_applied_layers=["mid"]),
    }
    expected = {}
    for what in others:
        case = CASES[what]
        alone = case.build()
        with inherit(alone, plan_for(alone)):
            expected[what] = case.run(alone)
    plain = TEXT.run(pipe)
    with inherit(pipe, plan_for(pipe)):
        first = TEXT.run(pipe)
        for what, other in others.items():
            other.set_progress_bar_config(disable=True)
            assert torch.equal(CASES[what].run(other), expected[what]), what
            assert torch.equal(TEXT.run(pipe), first), what
    assert torch.equal(TEXT.run(pipe), plain)


def test_another_scheduler_on_a_shared_unet_is_followed_when_told_and_refused_before() -> None:
    pipe = sd()
    heun = diffusers.HeunDiscreteScheduler(**BETAS)
    other = diffusers.AutoPipelineForImage2Image.from_pipe(pipe, scheduler=heun)
    other.set_progress_bar_config(disable=True)

    def stop(pipe: Any, step: int, *_: Any) -> dict[str, Any]:
        pipe._interrupt = step == 3
        return {}

    with inherit(pipe, plan_for(pipe)) as handle:
        TEXT.run(pipe, callback_on_step_end=stop)  # an unfinished run, whose features nobody may inherit
        with pytest.raises(PlanError, match="schedule that the plan does not follow"):
            TEXT.run(other, **IMG2IMG)
        handle.follow(other)
        found = TEXT.run(other, **IMG2IMG)
        with pytest.raises(PlanError, match="another UNet"):
            handle.follow(sdxl())
    expected = alone("StableDiffusionImg2ImgPipeline", IMG2IMG, diffusers.HeunDiscreteScheduler(**BETAS))
    assert torch.equal(found, expected)


def test_two_plans_of_two_models_with_one_scheduler() -> None:
    """An SDXL base and its refiner may share a scheduler; each plan goes when its own handle is removed."""
    base, refiner = sdxl(), sdxl("StableDiffusionXLImg2ImgPipeline", refiner=True)
    refiner.scheduler = base.scheduler

    def both() -> torch.Tensor:
        half = CASES["SDXL base, head of the run"].run(base)
        return TEXT.run(refiner, image=half, denoising_start=0.5)

    plain = both()
    always = [inherit(pipe, InheritancePlan(Architecture.of(pipe.unet), 6)) for pipe in (base, refiner)]
    assert torch.equal(both(), plain)
    for handle in always:
        handle.remove()
    handles = [inherit(pipe, plan_for(pipe)) for pipe in (base, refiner)]
    first = both()
    assert torch.equal(both(), first) and not torch.equal(first, plain)
    handles[0].remove()
    with counted(refiner) as counts:
        half_plain = both()
    assert extracts(counts) == [0] and len(counts) == 3
    assert not torch.equal(half_plain, plain) and not torch.equal(half_plain, first)
    handles[1].remove()
    assert torch.equal(both(), plain)


def test_an_interrupted_run_is_forgotten() -> None:
    pipe = sd()

    def stop(pipe: Any, step: int, *_: Any) -> dict[str, Any]:
        pipe._interrupt = step == 1
        return {}

    with inherit(pipe, plan_for(pipe, "P6")):
        first = TEXT.run(pipe)
        assert not torch.equal(TEXT.run(pipe, callback_on_step_end=stop), first)
        assert torch.equal(TEXT.run(pipe), first)


def test_a_loop_that_leaves_evaluations_out_or_goes_back_extracts() -> None:
    """A resumed or resampled run (RePaint) inherits nothing from the wrong place."""
    pipe = sd()
    unet, scheduler = pipe.unet, pipe.scheduler
    sample, context = torch.randn(1, 4, 8, 8), torch.randn(1, 7, 16)
    with inherit(pipe, plan_for(pipe, "P6")), counted(pipe) as counts, torch.no_grad():
        scheduler.set_timesteps(6)
        steps = list(scheduler.timesteps)
        for i in (0, 1, 3, 4, 2, 3):
            unet(sample, steps[i], context)
        assert extracts(counts) == [0, 2, 4]
        with pytest.raises(PlanError, match="more than once at one timestep"):
            unet(sample, steps[3], context)


def test_the_dtype_of_the_pipeline_may_change_between_runs() -> None:
    pipe = sd()
    with inherit(pipe, plan_for(pipe)):
        first = TEXT.run(pipe)
        pipe.to(torch.float64)
        double = TEXT.run(pipe)
        assert double.dtype == torch.float64
        pipe.to(torch.float32)
        assert torch.equal(TEXT.run(pipe), first)


def test_custom_timesteps_are_counted() -> None:
    pipe = sd(scheduler=diffusers.EulerDiscreteScheduler(**BETAS))
    with inherit(pipe, plan_for(pipe)), counted(pipe) as counts:
        TEXT.run(pipe, timesteps=[900, 600, 300, 100])
    assert extracts(counts) == [0, 3] and len(counts) == 4
