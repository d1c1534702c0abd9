"""The peak of held features: predicted from shapes, equal to what the runtime holds, to the byte."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer import InheritancePlan, inherit, strategy
from explorer.architecture import Architecture
from explorer.cache_size import peak_cache_bytes
from explorer.costs import anatomy
from explorer.designed_masks import designed_masks
from explorer.rules import RULES, Rule
from explorer.schedule import Segments
from tests.architectures import sd15_anatomy
from tests.conftest import embeds, make_pipeline, make_unet

SIZE = 6
"""Latents whose sides are no multiple of the UNet's factor."""


@cache
def unet_of(shape: str) -> Any:
    return make_unet(shape)


@cache
def sizes_of(shape: str, batch: int) -> dict[str, int]:
    return anatomy(unet_of(shape), SIZE).feature_bytes(batch, 4)


def inputs_of(unet: Any, batch: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    inputs: dict[str, Any] = {
        "sample": torch.randn(batch, 4, SIZE, SIZE, generator=generator),
        "timestep": 10,
        "encoder_hidden_states": torch.randn(batch, 3, 16, generator=generator),
    }
    if unet.config.addition_embed_type == "text_time":
        added = {"text_embeds": torch.zeros(batch, 16), "time_ids": torch.zeros(batch, 6)}
        inputs["added_cond_kwargs"] = added
    return inputs


@settings(max_examples=20, deadline=None)
@given(
    shape=st.sampled_from(["sd1", "sdxl"]),
    rule=st.sampled_from(RULES),
    seed=st.integers(0, 1000),
    later=st.lists(st.integers(0, 3), min_size=1, max_size=7),
    start=st.integers(0, 2),
    batch=st.sampled_from([1, 2]),
)
def test_predicted_is_what_is_held(shape: str, rule: str, seed: int, later: list[int], start: int, batch: int) -> None:
    """Random masks, schedules, rules and tails (img2img)."""
    unet = unet_of(shape)
    architecture = Architecture.of(unet)
    choices = [0, *later]
    masks = tuple(designed_masks(architecture, 3, seed))
    plan = InheritancePlan(architecture, len(choices), masks, Segments.of(choices), Rule.parse(rule))
    start = min(start, len(choices) - 1)
    with inherit(unet, plan) as handle, torch.no_grad():
        handle.begin(len(choices), start=start)
        for _ in choices[start:]:
            unet(**inputs_of(unet, batch))
        held = handle.peak_cache_bytes
    assert peak_cache_bytes(plan, len(choices), sizes_of(shape, batch), start) == held


@pytest.mark.parametrize("rule", RULES)
def test_of_a_pipeline_s_run_in_half_precision(rule: str) -> None:
    pipe = make_pipeline()
    pipe.unet.to(torch.bfloat16)
    pipe.vae.to(torch.bfloat16)
    plan = strategy("CO6", mode="P3", steps=8, unet=pipe.unet, rule=rule)
    with inherit(pipe, plan) as handle:
        pipe(
            **{name: value.to(torch.bfloat16) for name, value in embeds(2).items()},
            num_inference_steps=8, output_type="latent", height=32, width=32,
        )  # fmt: skip
        held = handle.peak_cache_bytes
    sizes = anatomy(pipe.unet, 16).feature_bytes(4, 2)
    assert held == peak_cache_bytes(plan, 8, sizes) > 0


def test_more_terms_hold_more_and_plain_steps_nothing() -> None:
    found = sd15_anatomy()
    sizes = found.feature_bytes(2, 2)
    copied, ahead = (
        peak_cache_bytes(strategy("DC0", mode="P5", steps=50, unet=found.architecture, rule=rule), 50, sizes)
        for rule in ("copy", "forecast2")
    )
    # DC0 keeps one feature of 320 channels at 64x64, for both halves of guidance, in half precision.
    assert copied == 2 * 320 * 64 * 64 * 2 and ahead == 3 * copied
    assert peak_cache_bytes(strategy("plain@50", unet=found.architecture), 50, sizes) == 0
