"""The rules of the runtime, each with the failure it prevents."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from explorer import InheritancePlan, PlanError, inherit, strategy
from explorer.plans.schedule import Segments, parse_mode
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask
from tests.conftest import embeds, make_pipeline, make_unet
from tests.explorer.runtime.small_runs import BETAS, latents, plan_for, ran_units
from tests.explorer.unet.test_program import call, two_step


def test_deepcache_to_the_bit(pipeline_of: Any) -> None:
    from DeepCache import DeepCacheSDHelper

    pipe = pipeline_of()
    helper = DeepCacheSDHelper(pipe=pipe)
    helper.set_params(cache_interval=5, cache_branch_id=0)
    helper.enable()
    theirs = latents(pipe, 20)
    helper.disable()
    with inherit(pipe, plan_for(pipe, "DC0", "P5", 20)):
        ours = latents(pipe, 20)
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, latents(pipe, 20))


@pytest.mark.parametrize("branch", [1, 2])
def test_deeper_deepcache_branches_to_the_bit(branch: int) -> None:
    from DeepCache import DeepCacheSDHelper

    pipe = make_pipeline()
    helper = DeepCacheSDHelper(pipe=pipe)
    helper.set_params(cache_interval=3, cache_branch_id=branch)
    helper.enable()
    theirs = latents(pipe)
    pipe = make_pipeline()
    with inherit(pipe, plan_for(pipe, f"DC{branch}", "P3")):
        assert torch.equal(latents(pipe), theirs)


@pytest.mark.parametrize(
    ("scheduler", "evaluations"),
    [
        (diffusers.DDIMScheduler(**BETAS), 10),
        (diffusers.PNDMScheduler(**BETAS, skip_prk_steps=True), 11),
        (diffusers.HeunDiscreteScheduler(**BETAS), 19),
        (diffusers.DPMSolverMultistepScheduler(**BETAS), 10),
        (diffusers.EulerAncestralDiscreteScheduler(**BETAS), 10),
    ],
    ids=lambda v: type(v).__name__ if not isinstance(v, int) else str(v),
)
def test_schedule_counts_evaluations(scheduler: Any, evaluations: int) -> None:
    """PNDM repeats a timestep and Heun evaluates twice: a run is counted, never guessed from timestep values."""
    pipe = make_pipeline(scheduler)
    counts = ran_units(pipe)
    with inherit(pipe, plan_for(pipe, "DC0", "P5")):
        latents(pipe)
    assert len(counts) == evaluations
    assert [i for i, units in enumerate(counts) if units == 22] == list(range(0, evaluations, 5))
    assert set(counts) == {22, 1}


def test_every_run_starts_anew() -> None:
    """DeepCache's quality decays over repeated calls: here the third run gives the first one's picture."""
    pipe = make_pipeline()
    with inherit(pipe, plan_for(pipe, mode="P4")) as handle:
        runs = [latents(pipe) for _ in range(3)]
        assert handle.cache_bytes == 0
    assert torch.equal(runs[0], runs[1]) and torch.equal(runs[0], runs[2])


def test_an_interrupted_run_leaves_nothing_behind() -> None:
    pipe = make_pipeline()

    def stop(_: Any, step: int, __: Any, ___: Any) -> dict[str, Any]:
        if step == 3:
            raise RuntimeError("stopped")
        return {}

    with inherit(pipe, plan_for(pipe)):
        first = latents(pipe)
        with pytest.raises(RuntimeError, match="stopped"):
            latents(pipe, callback_on_step_end=stop)
        assert torch.equal(latents(pipe), first)


def test_batch_changes_between_runs() -> None:
    pipe = make_pipeline()
    with inherit(pipe, plan_for(pipe)):
        alone = latents(pipe)
        latents(pipe, batch=3)
        assert torch.equal(latents(pipe), alone)


@pytest.mark.parametrize("rule", ["copy", "forecast2"])
def test_a_change_inside_a_run_extracts(rule: str) -> None:
    """Guidance that ends half way halves the batch: the step extracts instead of crashing, then inheritance goes on."""
    pipe = make_pipeline()
    counts = ran_units(pipe)

    def end_guidance(pipe: Any, step: int, _: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if step == 6:
            pipe._guidance_scale = 0.0
            tensors["prompt_embeds"] = tensors["prompt_embeds"].chunk(2)[-1]
        return tensors

    with inherit(pipe, plan_for(pipe, mode="P5", rule=rule)):
        result = latents(pipe, callback_on_step_end=end_guidance, callback_on_step_end_tensor_inputs=["prompt_embeds"])
    assert torch.isfinite(result).all()
    assert [i for i, units in enumerate(counts) if units == 22] == [0, 5, 7]


@pytest.mark.parametrize("strength", [0.5, 0.75, 1.0])
def test_img2img_runs_the_tail(strength: float) -> None:
    pipe = make_pipeline(kind="StableDiffusionImg2ImgPipeline")
    counts = ran_units(pipe)
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with inherit(pipe, plan_for(pipe, mode="P5", steps=20)):
        pipe(image=image, strength=strength, num_inference_steps=20, generator=torch.Generator().manual_seed(0),
             output_type="latent", **embeds())  # fmt: skip
    start = 20 - int(20 * strength)
    expected = sorted({start, *(i for i in range(start, 20) if i % 5 == 0)})
    assert [start + i for i, units in enumerate(counts) if units == 22] == expected


def test_a_mode_is_refit_to_another_step_count() -> None:
    pipe = make_pipeline()
    counts = ran_units(pipe)
    with inherit(pipe, plan_for(pipe, mode="P5", steps=50)):
        latents(pipe, 15)
    assert [i for i, units in enumerate(counts) if units == 22] == [0, 5, 10]


def test_a_written_schedule_is_not_refit() -> None:
    pipe = make_pipeline()
    architecture = Architecture.of(pipe.unet)
    plan = InheritancePlan(architecture, 10, (Mask.of(["mid.attn"]),), Segments.of([0, 1] * 5))
    with inherit(pipe, plan):
        latents(pipe, 10)
        with pytest.raises(PlanError, match="10 UNet evaluations and the run has 12"):
            latents(pipe, 12)


def test_applying_twice_is_an_error() -> None:
    pipe = make_pipeline()
    plan = plan_for(pipe)
    with inherit(pipe, plan), pytest.raises(PlanError, match="applied to this UNet already"):
        inherit(pipe, plan)
    inherit(pipe, plan).remove()


def test_another_architecture_is_refused_naming_both() -> None:
    pipe = make_pipeline()
    other = strategy("CO6", unet=make_unet("sdxl"), steps=10)
    with pytest.raises(PlanError) as error:
        inherit(pipe, other)
    assert other.architecture.describe() in str(error.value)
    assert Architecture.of(pipe.unet).describe() in str(error.value)


def test_removing_restores_exactly() -> None:
    pipe = make_pipeline()
    before = [set(owner.__dict__) for owner in (pipe, pipe.unet, pipe.scheduler)]
    plain = latents(pipe)
    after_run = [set(owner.__dict__) for owner in (pipe, pipe.unet, pipe.scheduler)]
    handle = inherit(pipe, plan_for(pipe))
    latents(pipe)
    handle.remove()
    handle.remove()
    assert [set(owner.__dict__) for owner in (pipe, pipe.unet, pipe.scheduler)] == after_run
    assert all(b <= a for b, a in zip(before, after_run, strict=True))
    assert type(pipe.unet).forward.__get__(pipe.unet) == pipe.unet.forward
    assert torch.equal(latents(pipe), plain)


def test_scheduler_exchanged_after_applying() -> None:
    pipe = make_pipeline()
    first = pipe.scheduler
    counts = ran_units(pipe)
    with inherit(pipe, plan_for(pipe, mode="P5")):
        pipe.scheduler = diffusers.DPMSolverMultistepScheduler(**BETAS)
        latents(pipe)
    assert [i for i, units in enumerate(counts) if units == 22] == [0, 5]
    assert "set_timesteps" not in first.__dict__ and "set_timesteps" not in pipe.scheduler.__dict__


def test_a_bare_unet_needs_a_beginning() -> None:
    unet = make_unet()
    plan = two_step(Architecture.of(unet), Mask.of(["mid.attn"]))
    with inherit(unet, plan) as handle:
        with pytest.raises(PlanError, match="before a run began"):
            call(unet)
        handle.begin(2)
        call(unet)
    scheduler = diffusers.DDIMScheduler(**BETAS)
    with inherit(unet, plan, scheduler=scheduler):
        scheduler.set_timesteps(2)
        call(unet)
        call(unet)
        with pytest.raises(PlanError, match="more often than its 2 timesteps"):
            call(unet)


def test_only_features_that_are_read_are_held() -> None:
    unet = make_unet()
    architecture = Architecture.of(unet)
    plan = InheritancePlan(
        architecture, 6, (Mask.of(["mid.attn"]), Mask.of(["mid.res1"])), Segments.of([0, 1, 0, 2, 0, 0])
    )
    held = []
    with inherit(unet, plan) as handle:
        handle.begin(6)
        for _ in range(6):
            call(unet)
            held.append(handle.cache_bytes)
    one = 2 * 32 * 2 * 2 * 4
    assert held == [one, 0, one, 0, 0, 0]


@pytest.mark.parametrize("rule", ["copy", "forecast1", "forecast2"])
def test_rules_combine_extracted_features(rule: str) -> None:
    """A feature that moves as a polynomial of the evaluation is forecast exactly by the order that it has."""
    from explorer.plans.rules import Rule
    from explorer.runtime.combining import combine

    at, sources, order = 9, (0, 3, 6), {"copy": 0, "forecast1": 1, "forecast2": 2}[rule]
    chosen = Rule.parse(rule)
    features = [torch.full((2, 2), float(s) ** order) for s in sources]
    found = combine(features[-chosen.history :], chosen.coefficients(at, sources))
    torch.testing.assert_close(found, torch.full((2, 2), float(at) ** order))


def test_forecast_follows_extract_steps_in_a_run() -> None:
    """With output inheritance of the last ResUnit's input the forecast can be made by hand from two stock runs."""
    unet = make_unet()
    architecture = Architecture.of(unet)
    mask = Mask.of(["up3.l2.attn"])
    plan = InheritancePlan(
        architecture, 5, (mask,), Segments.of([0, 0, 1]), strategy("DC0", unet=unet, rule="forecast1").rule
    )
    seen: list[torch.Tensor] = []
    module = unet.up_blocks[3].attentions[2]
    module.register_forward_hook(lambda _, inputs, output: seen.append(output[0] - inputs[0]))
    for seed in (0, 1):
        call(unet, seed)
    module._forward_hooks.clear()
    forecast = 2 * seen[1] - seen[0]
    module.register_forward_hook(lambda _, inputs, output: (forecast + inputs[0],))
    expected = call(unet, 2)
    module._forward_hooks.clear()
    with inherit(unet, plan) as handle:
        handle.begin(3)
        call(unet, 0)
        call(unet, 1)
        found = call(unet, 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# What a pipeline may carry -------------------------------------------------------------------------------------------


def test_an_empty_mask_among_others_extracts() -> None:
    unet = make_unet()
    mask = Mask.of(["dn1.l0.attn"])
    architecture = Architecture.of(unet)
    found = []
    for choices, masks in (([0, 1, 2], (Mask(), mask)), ([0, 0, 1], (mask,))):
        with inherit(unet, InheritancePlan(architecture, 3, masks, Segments.of(choices))) as handle:
            handle.begin(3)
            found.append([call(unet, seed) for seed in range(3)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_mode_of_the_paper_in_words() -> None:
    assert parse_mode("P5d") == parse_mode("P5†")
