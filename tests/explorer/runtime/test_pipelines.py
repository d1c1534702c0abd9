"""Every pipeline that people run: the same picture twice, the stock picture with a plan that extracts always and after
the plan is taken off, and nothing that passes from one kind of run to the next."""

from __future__ import annotations

import contextlib
import copy
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from explorer import InheritancePlan, ModelError, PlanError, inherit
from explorer.unet.architecture import Architecture
from tests.explorer.runtime.counted_runs import IMG2IMG, INPAINT, TEXT, counted, extracts, plan_for
from tests.explorer.tiny_pipelines import (
    CASES,
    IP_EMBEDS,
    SIDE,
    ip_adapter,
    sd,
)


@pytest.mark.parametrize("what", CASES)
def test_a_pipeline_keeps_its_promises(what: str) -> None:
    case = CASES[what]
    pipe = case.build()
    with counted(pipe) as counts:
        plain = case.run(pipe)
    assert len(counts) == case.evaluations and torch.isfinite(plain).all()
    with inherit(pipe, InheritancePlan(Architecture.of(pipe.unet), 6)):
        assert torch.equal(case.run(pipe), plain)
    with inherit(pipe, plan_for(pipe)) as handle, counted(pipe) as counts:
        first = case.run(pipe)
        assert torch.equal(case.run(pipe), first) and not torch.equal(first, plain)
        # A tail run goes on with the tail of the schedule: extract at its first evaluation, then at 3 of the whole run.
        once = case.evaluations
        expected = [0] if what.endswith("head of the run") or once == 3 else [0, 3]
        assert extracts(counts[:once]) == expected and counts[once:] == counts[:once]
        assert handle.cache_bytes == 0 or what.endswith("head of the run")
    assert torch.equal(case.run(pipe), plain)


@contextlib.contextmanager
def ending_at(pipe: Any, step: int) -> Iterator[None]:
    """The run of the pipeline ends with an exception after so many steps of its scheduler."""
    whole, done = type(pipe.scheduler).step, [0]

    def once(*arguments: Any, **named: Any) -> Any:
        done[0] += 1
        if done[0] > step:
            raise KeyboardInterrupt
        return whole(pipe.scheduler, *arguments, **named)

    pipe.scheduler.step = once
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        del pipe.scheduler.step


@pytest.mark.parametrize("what", CASES)
def test_nothing_leaks_from_one_kind_of_run_to_the_next(what: str) -> None:
    """Between two equal runs: one that is cut off, one of another number of steps, and one of another batch, seed and
    prompt; the plan is not taken off meanwhile."""
    case = CASES[what]
    pipe = case.build()
    with inherit(pipe, plan_for(pipe)):
        first = case.run(pipe)
        with ending_at(pipe, 1):
            case.run(pipe)
        assert torch.equal(case.run(pipe), first)
        case.run(pipe, num_inference_steps=8)
        assert torch.equal(case.run(pipe), first)
        if what != "upscale":  # it draws one picture for each low-resolution one
            changes = {"generator": torch.Generator().manual_seed(4), "num_images_per_prompt": 2}
            if "LCM" in what or what == "InstructPix2Pix":
                changes.pop("num_images_per_prompt")
            if what == "IP-Adapter":
                changes["ip_adapter_image_embeds"] = [embeds * 2 for embeds in IP_EMBEDS]
            other = case.run(pipe, prompt="two blue boats", **changes)
            assert not torch.equal(other[:1], first)
        assert torch.equal(case.run(pipe), first)


# One handle, several pipelines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Text2Image", "Image2Image", "Inpainting"])
def test_auto_pipelines_of_a_folder(kind: str, tmp_path: Path) -> None:
    """`AutoPipeline*.from_pretrained`: as often, with a plan that extracts always, with another run between, after."""
    arguments: dict[str, Any] = {"Text2Image": {}, "Image2Image": IMG2IMG, "Inpainting": INPAINT}[kind]
    sd().save_pretrained(tmp_path)
    auto = getattr(diffusers, f"AutoPipelineFor{kind}")
    pipe = auto.from_pretrained(tmp_path, safety_checker=None, requires_safety_checker=False, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    plain = TEXT.run(pipe, **arguments)
    with inherit(pipe, InheritancePlan(Architecture.of(pipe.unet), 6)):
        assert torch.equal(TEXT.run(pipe, **arguments), plain)
    with inherit(pipe, plan_for(pipe)):
        first = TEXT.run(pipe, **arguments)
        TEXT.run(pipe, **arguments, prompt="two blue boats", num_inference_steps=8)
        assert torch.equal(TEXT.run(pipe, **arguments), first) and not torch.equal(first, plain)
    assert torch.equal(TEXT.run(pipe, **arguments), plain)


# What happens between and inside runs --------------------------------------------------------------------------------


# LoRA ----------------------------------------------------------------------------------------------------------------


def lora_folder(folder: Path) -> Path:
    """A LoRA of attention, convolutions and conv_in, written as diffusers does."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    unet = sd().unet
    torch.manual_seed(7)
    targets = ["to_q", "to_v", "conv1", "conv_in", "conv_shortcut"]
    unet.add_adapter(LoraConfig(r=2, lora_alpha=2, init_lora_weights="gaussian", target_modules=targets))
    for name, parameter in unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    diffusers.StableDiffusionPipeline.save_lora_weights(folder, get_peft_model_state_dict(unet))
    return folder


def test_lora_is_loaded_scaled_fused_and_unloaded_between_runs(tmp_path: Path) -> None:
    """At every stage the plan that extracts always is stock, and a plan applied throughout is one applied just now."""
    folder = lora_folder(tmp_path)
    stages: dict[str, Any] = {
        "without": lambda pipe: None,
        "loaded": lambda pipe: pipe.load_lora_weights(folder, adapter_name="a"),
        "scaled": lambda pipe: pipe.set_adapters("a", 0.3),
        "fused": lambda pipe: pipe.fuse_lora(),
        "unfused": lambda pipe: pipe.unfuse_lora(),
        "unloaded": lambda pipe: pipe.unload_lora_weights(),
    }
    stock, kept, always = sd(), sd(), sd()
    plan = plan_for(kept)
    seen: dict[str, torch.Tensor] = {}
    with inherit(kept, plan), inherit(always, InheritancePlan(Architecture.of(always.unet), 6)):
        for name, change in stages.items():
            for pipe in (stock, kept, always):
                change(pipe)
            seen[name] = TEXT.run(stock)
            assert torch.equal(TEXT.run(always), seen[name]), name
            with inherit(stock, plan):
                first = TEXT.run(stock)
                assert torch.equal(TEXT.run(kept), first) and torch.equal(TEXT.run(kept), first), name
            assert torch.equal(TEXT.run(stock), seen[name]), name
    torch.testing.assert_close(seen["without"], seen["unloaded"], rtol=1e-2, atol=1e-3)  # fusing and back rounds
    assert not torch.allclose(seen["loaded"], seen["without"], atol=1e-3)
    assert not torch.allclose(seen["loaded"], seen["scaled"], atol=1e-3)


def test_an_ip_adapter_that_comes_after_the_plan() -> None:
    pipe = sd()
    with inherit(pipe, InheritancePlan(Architecture.of(pipe.unet), 6)):
        TEXT.run(pipe)
        ip_adapter(pipe)
        found = TEXT.run(pipe, ip_adapter_image_embeds=IP_EMBEDS)
    assert torch.equal(found, TEXT.run(pipe, ip_adapter_image_embeds=IP_EMBEDS))


# Memory savers -------------------------------------------------------------------------------------------------------


def vae_savers(pipe: Any) -> None:
    pipe.vae.enable_slicing()
    pipe.vae.enable_tiling()


def sequential_offload(pipe: Any) -> None:
    """What `enable_sequential_cpu_offload` does; with the CPU named as the device accelerate refuses its parameters."""
    from accelerate import cpu_offload

    if torch.cuda.is_available():
        pipe.enable_sequential_cpu_offload(device=ACCELERATOR)
        return
    for part in ("text_encoder", "unet", "vae"):
        cpu_offload(getattr(pipe, part), torch.device("cpu"), offload_buffers=True)


ACCELERATOR = "cuda" if torch.cuda.is_available() else "cpu"
"""Where offloaded parts go when they run. Named, the CPU is taken too: the same hooks without a copy."""


SAVERS: dict[str, Any] = {
    "VAE slicing and tiling": vae_savers,
    "attention slicing": lambda pipe: pipe.enable_attention_slicing(1),
    "model offload": lambda pipe: pipe.enable_model_cpu_offload(device=ACCELERATOR),
    "sequential offload": sequential_offload,
    "channels last": lambda pipe: pipe.unet.to(memory_format=torch.channels_last),
    "layerwise casting": lambda pipe: pipe.unet.enable_layerwise_casting(torch.bfloat16, torch.float32),
    "fused projections": lambda pipe: pipe.fuse_qkv_projections(),
}


@pytest.mark.parametrize("after", [False, True], ids=["before the plan", "after the plan"])
@pytest.mark.parametrize("what", SAVERS)
def test_memory_savers_work_with_a_plan(what: str, after: bool) -> None:
    pipe = sd()
    if not after:
        SAVERS[what](pipe)
    handle = inherit(pipe, InheritancePlan(Architecture.of(pipe.unet), 6))
    if after:
        SAVERS[what](pipe)
    always = TEXT.run(pipe, output_type="pt"), TEXT.run(pipe, output_type="pt")
    handle.remove()
    plain = TEXT.run(pipe, output_type="pt")
    assert torch.equal(always[0], plain) and torch.equal(always[1], plain)
    with inherit(pipe, plan_for(pipe)):
        first = TEXT.run(pipe)
        with ending_at(pipe, 2):
            TEXT.run(pipe)
        TEXT.run(pipe, num_images_per_prompt=2, num_inference_steps=8, output_type="pt")
        assert torch.equal(TEXT.run(pipe), first)
    assert torch.equal(TEXT.run(pipe, output_type="pt"), plain)


class Rounded(torch.nn.Linear):
    """A layer that keeps whole numbers and a scale, as quantised ones do."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None)
        self.load_state_dict(linear.state_dict())
        self.scale = linear.weight.detach().abs().amax() / 127
        self.codes = (linear.weight.detach() / self.scale).round().to(torch.int8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, self.codes.to(x.dtype) * self.scale, self.bias)


@pytest.mark.parametrize("after", [False, True], ids=["before the plan", "after the plan"])
def test_quantised_layers_are_not_refused(after: bool) -> None:
    def quantise(unet: Any) -> None:
        for module in list(unet.modules()):
            for name, child in list(module.named_children()):
                if type(child) is torch.nn.Linear:
                    setattr(module, name, Rounded(child))

    pipe = sd()
    plain = TEXT.run(pipe)
    if not after:
        quantise(pipe.unet)
    with inherit(pipe, InheritancePlan(Architecture.of(pipe.unet), 6)):
        if after:
            TEXT.run(pipe)
            quantise(pipe.unet)
        found = TEXT.run(pipe)
    assert torch.equal(found, TEXT.run(pipe)) and not torch.equal(found, plain)


def test_blocks_compiled_by_diffusers_stay_compiled() -> None:
    pipe = sd()
    plain = TEXT.run(pipe, num_inference_steps=2)
    calls: list[int] = []

    def backend(graph: Any, _: Any) -> Any:
        return lambda *inputs: (calls.append(1), graph(*inputs))[1]

    pipe.unet.compile_repeated_blocks(backend=backend)
    with inherit(pipe, InheritancePlan(Architecture.of(pipe.unet), 2)):
        found = TEXT.run(pipe, num_inference_steps=2)
    torch._dynamo.reset()
    torch.testing.assert_close(found, plain, rtol=1e-3, atol=1e-4)
    assert len(calls) >= 32


# Files ---------------------------------------------------------------------------------------------------------------


def test_a_saved_pipeline_carries_no_plan(tmp_path: Path) -> None:
    pipe = sd()
    plain = TEXT.run(pipe)
    with inherit(pipe, plan_for(pipe)):
        TEXT.run(pipe)
        pipe.save_pretrained(tmp_path)
    again = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path, safety_checker=None, local_files_only=True)
    again.set_progress_bar_config(disable=True)
    assert torch.equal(TEXT.run(again), plain)


# Refused by name -----------------------------------------------------------------------------------------------------


def test_a_copy_of_a_unet_with_a_plan_is_refused() -> None:
    pipe = sd()
    with inherit(pipe, plan_for(pipe)):
        for make in (copy.deepcopy, pickle.dumps):
            with pytest.raises(PlanError, match="cannot be copied or pickled"):
                make(pipe.unet)
        copy.deepcopy(pipe.scheduler).set_timesteps(3)
        TEXT.run(copy.copy(pipe))
    first = TEXT.run(pipe)
    assert torch.equal(TEXT.run(copy.deepcopy(pipe)), first)


def test_compiled_unets_are_refused_by_name() -> None:
    pipe = sd()
    plan, unet = plan_for(pipe), pipe.unet
    pipe.unet = torch.compile(unet, backend="eager")
    with pytest.raises(ModelError, match="_orig_mod"):
        inherit(pipe, plan)
    pipe.unet = unet
    with inherit(pipe, plan):
        TEXT.run(pipe)
    unet.compile(backend="eager")
    with pytest.raises(ModelError, match="compiled in place"):
        inherit(pipe, plan)


def test_what_comes_after_the_plan_and_cannot_work_is_refused_at_the_next_run() -> None:
    pipe = sd()
    with inherit(pipe, plan_for(pipe)):
        first = TEXT.run(pipe)
        pipe.enable_freeu(0.9, 0.2, 1.2, 1.4)
        with pytest.raises(ModelError, match="FreeU"):
            TEXT.run(pipe)
        pipe.disable_freeu()
        hook = pipe.unet.mid_block.register_forward_hook(lambda *_: None)
        with pytest.raises(ModelError, match="mid_block has forward hooks"):
            TEXT.run(pipe)
        hook.remove()
        assert torch.equal(TEXT.run(pipe), first)
        pipe.unet.enable_group_offload(torch.device("cpu"), torch.device("cpu"), "leaf_level")
        with pytest.raises(ModelError, match="group offloading"):
            TEXT.run(pipe)


def test_pipelines_that_reach_into_the_unet_are_refused() -> None:
    """Self-attention guidance hooks the mid block and evaluates twice at a timestep; a panorama swaps the scheduler's
    state at every view."""
    pipe = sd("StableDiffusionSAGPipeline", more=lambda _: {"image_encoder": None})
    with inherit(pipe, plan_for(pipe)), pytest.raises(ModelError, match=r"mid_block.attentions.0 has forward hooks"):
        TEXT.run(pipe)
    pipe = sd("StableDiffusionPanoramaPipeline", more=lambda _: {"image_encoder": None})
    with inherit(pipe, plan_for(pipe)), pytest.raises(PlanError, match="schedule that the plan does not follow"):
        TEXT.run(pipe, height=SIDE, width=1024)


def test_gligen_and_other_unets_are_refused() -> None:
    with pytest.raises(ModelError, match="GLIGEN"):
        Architecture.of_config({**sd().unet.config, "attention_type": "gated"})
    with pytest.raises(ModelError, match="CrossAttnDownBlockMotion is not supported"):
        Architecture.of_config({**sd().unet.config, "down_block_types": ["CrossAttnDownBlockMotion"]})


# Control networks ----------------------------------------------------------------------------------------------------


# The page ------------------------------------------------------------------------------------------------------------


def test_the_page_of_pipelines_is_current() -> None:
    """It names every tested case and memory saver, and every refusal by words that the code says."""
    root = Path(__file__).parents[3]
    page = (root / "docs" / "pipelines.md").read_text(encoding="utf-8")
    for name in (*CASES, *SAVERS):
        missing = [word for word in name.replace(",", "").split() if word.lower() not in page.lower()]
        assert not missing, f"docs/pipelines.md says nothing of {name!r}"
    code = "".join(path.read_text(encoding="utf-8") for path in sorted((root / "explorer").rglob("*.py")))
    said = re.sub(r'"\s*f?"', "", code)
    rows = [
        row.split("|") for row in page.split("## What is refused")[1].split("##")[0].splitlines() if row[:2] == "| "
    ]
    assert len(rows) > 8
    for row in rows[1:]:
        assert row[2].strip() in said, f"no message says {row[2].strip()!r}"
