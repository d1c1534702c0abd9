"""A speed-up adapter on a pipeline: exact start, exact removal, negative prompts, plans on top of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch

from explorer import Student, inherit, speed_up, strategy
from explorer.errors import ModelError, PlanError
from explorer.networks.speedup import SpeedUp
from explorer.plans.schedulers import scheduler_for
from tests.explorer import tiny_pipelines
from tests.explorer.networks.test_speedup import trained
from tests.explorer.runtime.carried import with_lora


def text_to_picture(pipe: Any, **changes: Any) -> torch.Tensor:
    given = {"prompt": ["a cat", "a dog"], "num_inference_steps": 3, "guidance_scale": 1.0, "height": 64, "width": 64}
    drawn = torch.Generator().manual_seed(5)
    made: torch.Tensor = pipe(**{**given, **changes}, generator=drawn, output_type="pt").images
    return made


def start_from_picture(pipe: Any, **changes: Any) -> torch.Tensor:
    given = {
        "prompt": "a cat",
        "image": tiny_pipelines.picture(),
        "num_inference_steps": 4,
        "guidance_scale": 1.0,
        "strength": 0.5,
    }
    drawn = torch.Generator().manual_seed(5)
    made: torch.Tensor = pipe(**{**given, **changes}, generator=drawn, output_type="pt").images
    return made  # fmt: skip


def repaint(pipe: Any, **changes: Any) -> torch.Tensor:
    mask = PIL.Image.new("L", (64, 64), 255)
    return start_from_picture(pipe, mask_image=mask, height=64, width=64, **changes)


KINDS: list[tuple[str, Callable[[], Any], Callable[..., torch.Tensor]]] = [
    ("text", lambda: tiny_pipelines.sd(), text_to_picture),
    ("img2img", lambda: tiny_pipelines.sd("StableDiffusionImg2ImgPipeline"), start_from_picture),
    ("inpainting", lambda: tiny_pipelines.sd("StableDiffusionInpaintPipeline", in_channels=9), repaint),
    ("sdxl", lambda: tiny_pipelines.sdxl(), text_to_picture),
]


def as_trained_for(pipe: Any) -> Any:
    """The scheduler that the tests' adapters are trained for."""
    own = scheduler_for(pipe.scheduler, "DDIMScheduler")
    return type(own).from_config(own.config, timestep_spacing="trailing")


@pytest.mark.parametrize(("make", "draw"), [kind[1:] for kind in KINDS], ids=[kind[0] for kind in KINDS])
def test_an_untrained_adapter_changes_no_bit_and_a_trained_one_is_removed_without_trace(
    make: Callable[[], Any], draw: Callable[..., torch.Tensor]
) -> None:
    pipe = make()
    own, before, processors = pipe.scheduler, draw(pipe), dict(pipe.unet.attn_processors)
    pipe.scheduler = as_trained_for(pipe)
    unguided = draw(pipe)
    pipe.scheduler = own
    with speed_up(pipe, SpeedUp.untrained(pipe.unet)):
        assert torch.equal(draw(pipe), unguided)
    with speed_up(pipe, trained(pipe.unet)):
        assert not torch.equal(draw(pipe), unguided)
        assert not torch.equal(draw(pipe, negative_prompt="blurry"), draw(pipe, negative_prompt="a dog"))
    assert pipe.scheduler is own and pipe.unet.attn_processors == processors and "encode_prompt" not in vars(pipe)
    assert torch.equal(draw(pipe), before)


def test_a_picture_does_not_depend_on_those_drawn_with_it() -> None:
    pipe = tiny_pipelines.sd()
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with speed_up(pipe, trained(pipe.unet)):
        both = text_to_picture(pipe, latents=noise, negative_prompt=["red", "blue"])
        one = text_to_picture(pipe, prompt=["a dog"], latents=noise[1:], negative_prompt=["blue"])
    torch.testing.assert_close(both[1:], one, rtol=1e-4, atol=1e-5)


def test_given_text_states_and_several_pictures_a_prompt_are_as_the_prompts() -> None:
    pipe = tiny_pipelines.sd()
    prompt, negative = pipe.encode_prompt("a cat", "cpu", 1, True, "red")
    with speed_up(pipe, trained(pipe.unet)):
        named = text_to_picture(pipe, prompt="a cat", negative_prompt="red", num_images_per_prompt=2)
        given = text_to_picture(
            pipe, prompt=None, prompt_embeds=prompt, negative_prompt_embeds=negative, num_images_per_prompt=2
        )
    assert torch.equal(named, given)


def test_a_plan_runs_on_top_of_an_adapter() -> None:
    pipe = tiny_pipelines.sd()
    adapter = trained(pipe.unet)
    with speed_up(pipe, adapter):
        stock = text_to_picture(pipe, num_inference_steps=4)
        always = strategy("DC0", mode="P1", steps=4, unet=pipe.unet)
        with inherit(pipe, always):
            assert torch.equal(text_to_picture(pipe, num_inference_steps=4), stock)
        with inherit(pipe, strategy("DC0", mode="P2", steps=4, unet=pipe.unet)):
            assert not torch.equal(text_to_picture(pipe, num_inference_steps=4), stock)


def test_a_plan_brings_the_adapter_that_it_names(tmp_path: Path) -> None:
    pipe = tiny_pipelines.sd()
    adapter, own = trained(pipe.unet), pipe.scheduler
    before = text_to_picture(pipe)
    plan = replace(strategy("DC0", mode="P2", steps=4, unet=pipe.unet), speedup="sun")
    adapter.save(tmp_path / "sun")
    plan.save(tmp_path / "plan.json")
    with speed_up(pipe, SpeedUp.load(tmp_path / "sun")), inherit(pipe, replace(plan, speedup=None)):
        by_hand = text_to_picture(pipe, num_inference_steps=4, negative_prompt="red")
    with inherit(pipe, tmp_path / "plan.json", speedups={"sun": tmp_path / "sun"}) as handle:
        assert torch.equal(text_to_picture(pipe, num_inference_steps=4, negative_prompt="red"), by_hand)
        with pytest.raises(PlanError, match="runs the pipeline alone"):
            handle.follow(copy.copy(pipe))
    assert pipe.scheduler is own and torch.equal(text_to_picture(pipe), before)
    leading = replace(plan, scheduler="DDIMScheduler", spacing="leading")
    with inherit(pipe, leading, speedups={"sun": adapter}):
        assert pipe.scheduler.config.timestep_spacing == "leading"
    assert pipe.scheduler is own


def test_a_plan_without_its_adapter_or_with_students_is_refused_and_leaves_no_trace() -> None:
    pipe = tiny_pipelines.sd()
    adapter, processors = trained(pipe.unet), dict(pipe.unet.attn_processors)
    plan = replace(strategy("DC0", mode="P2", steps=4, unet=pipe.unet), speedup="sun")
    with pytest.raises(PlanError, match="needs the speed-up adapter 'sun'; give it with speedups="):
        inherit(pipe, plan, speedups={"moon": adapter})
    with pytest.raises(PlanError, match="give the pipeline, not its UNet"):
        inherit(pipe.unet, plan, speedups={"sun": adapter})
    students = {"m1": Student.named("M1", pipe.unet)}
    with pytest.raises(PlanError, match="students' attention"):
        inherit(pipe, plan.with_cast("m1@0.5"), speedups={"sun": adapter}, students=students)
    with (
        inherit(pipe, replace(plan, speedup=None).with_cast("m1@0.5"), students=students),
        pytest.raises(ModelError, match="the plan on this UNet has students"),
    ):
        speed_up(pipe, adapter)
    assert pipe.unet.attn_processors == processors and "encode_prompt" not in vars(pipe)


def test_a_lora_keeps_its_part() -> None:
    pipe = tiny_pipelines.sd()
    adapter, own = trained(pipe.unet), pipe.scheduler
    with_lora(pipe.unet)
    pipe.scheduler = as_trained_for(pipe)
    unguided = text_to_picture(pipe)
    pipe.scheduler = own
    with speed_up(pipe, SpeedUp.untrained(pipe.unet)):
        assert torch.equal(text_to_picture(pipe), unguided)
    with speed_up(pipe, adapter):
        with_both = text_to_picture(pipe)
        pipe.unet.disable_adapters()
        assert not torch.equal(text_to_picture(pipe), with_both)


def test_an_ip_adapter_keeps_its_part() -> None:
    pipe = tiny_pipelines.ip_adapter(tiny_pipelines.sd())
    image = {"ip_adapter_image_embeds": [tiny_pipelines.IP_EMBEDS[0][1:]]}
    pipe.scheduler = as_trained_for(pipe)
    unguided = text_to_picture(pipe, prompt="a cat", **image)
    with speed_up(pipe, SpeedUp.untrained(pipe.unet)):
        assert torch.equal(text_to_picture(pipe, prompt="a cat", **image), unguided)


@pytest.mark.parametrize(
    ("misuse", "said"),
    [
        (lambda pipe: text_to_picture(pipe, guidance_scale=5.0), "guidance_scale=1.0"),
        (lambda pipe: speed_up(pipe, trained(pipe.unet)), "already"),
        (
            lambda pipe: pipe.unet(torch.zeros(1, 4, 8, 8), 1, torch.zeros(1, 77, 16)),
            "without the text states of a negative prompt",
        ),
    ],
)  # fmt: skip
def test_what_an_adapter_cannot_do_is_refused(misuse: Callable[[Any], Any], said: str) -> None:
    pipe = tiny_pipelines.sd()
    with speed_up(pipe, trained(pipe.unet)), pytest.raises(ModelError, match=said):
        misuse(pipe)


def test_a_guidance_that_it_was_not_trained_for_and_a_control_network_are_refused() -> None:
    pipe = tiny_pipelines.sd()
    with pytest.raises(ModelError, match="from 1 to 5"):
        speed_up(pipe, trained(pipe.unet, most=5.0), guidance=7.0)
    controlled = tiny_pipelines.sd(
        "StableDiffusionControlNetPipeline", more=lambda unet: {"controlnet": tiny_pipelines.controlnet(unet)}
    )
    with pytest.raises(ModelError, match="ControlNet"):
        speed_up(controlled, trained(controlled.unet))
