"""The peak of held features: predicted from shapes, equal to what the runtime holds, to the byte."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer import InheritancePlan, inherit, strategy
from explorer.plans.schedule import Segments
from explorer.runtime.cache_size import peak_cache_bytes
from explorer.runtime.combining import Combining
from explorer.runtime.runs import Running
from explorer.timing.anatomy import anatomy
from explorer.timing.designed_masks import designed_masks
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Feature
from explorer.unet.program import Program
from tests.architectures import sd15_anatomy
from tests.conftest import embeds, make_pipeline, make_unet
from tests.explorer.any_rule import ALL_RULES, under
from tests.explorer.runtime.static_runs import over_buffers

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
    rule=st.sampled_from(ALL_RULES),
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
    plan = under(InheritancePlan(architecture, len(choices), masks, Segments.of(choices)), rule, len(choices))
    start = min(start, len(choices) - 1)
    with inherit(unet, plan) as handle, torch.no_grad():
        handle.begin(len(choices), start=start)
        for _ in choices[start:]:
            unet(**inputs_of(unet, batch))
        held = handle.peak_cache_bytes
    assert peak_cache_bytes(plan, len(choices), sizes_of(shape, batch), start) == held


@pytest.mark.parametrize("rule", ALL_RULES)
def test_of_a_pipeline_s_run_in_half_precision(rule: str) -> None:
    pipe = make_pipeline()
    pipe.unet.to(torch.bfloat16)
    pipe.vae.to(torch.bfloat16)
    plan = under(strategy("CO6", mode="P3", steps=8, unet=pipe.unet), rule, 8)
    with inherit(pipe, plan) as handle:
        pipe(
            **{name: value.to(torch.bfloat16) for name, value in embeds(2).items()},
            num_inference_steps=8, output_type="latent", height=32, width=32,
        )  # fmt: skip
        held = handle.peak_cache_bytes
    sizes = anatomy(pipe.unet, 16).feature_bytes(4, 2)
    assert held == peak_cache_bytes(plan, 8, sizes) > 0


class Scale:
    """What is really held: at every node that runs, the storages of the features in the engine, each once."""

    def __init__(self, handle: Any, patch: pytest.MonkeyPatch) -> None:
        self.handle, self.peak = handle, 0
        self._combined: list[weakref.ref[torch.Tensor]] = []
        for name in ("branch", "join", "run"):
            patch.setattr(Program, name, self._before(getattr(Program, name)))
        make = Combining.__getitem__

        def watched(combining: Combining, feature: Feature) -> torch.Tensor:
            value = make(combining, feature)
            self._combined.append(weakref.ref(value))
            return value

        patch.setattr(Combining, "__getitem__", watched)
        drop = Running.drop_unread
        patch.setattr(Running, "drop_unread", lambda run: (self.weigh(), drop(run)))

    def _before(self, run: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def weighed(*args: Any) -> torch.Tensor:
            self.weigh()
            return run(*args)

        return weighed

    def weigh(self) -> None:
        run = self.handle._runs.latest
        if run is None:
            return
        held = [tensor for each in run.cache.values() for tensor in each.values()]
        held += [tensor for each in self._combined if (tensor := each()) is not None]
        for static in [run.static] if run.static else self.handle._idle:  # a run that has ended leaves its buffers
            for form in static._forms.values():
                held += [*form.features._slots.values(), *form.features._combined.values()]
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in held}
        self.peak = max(self.peak, sum(storages.values()))


@pytest.mark.parametrize("mode", ["off", "default", "cudagraphs-eager"])
@pytest.mark.parametrize("rule", ALL_RULES)
@pytest.mark.parametrize("name", ["RI", "EP", "two masks"])
def test_what_is_really_held(name: str, rule: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eager, with what compiled variants are given, and over static buffers."""
    unet = unet_of("sd1")
    choices = [0, 1, 0, 1, 0, 1, 0, 1]
    plan = strategy(name if name != "two masks" else "RI", mode="P2", steps=8, unet=unet)
    if name == "two masks":  # compiled extract steps store for both, whichever is read
        other, choices = strategy("DC1", unet=unet).masks[0], [0, 1, 0, 2, 2, 0, 1]
        plan = InheritancePlan(plan.architecture, 7, (plan.masks[0], other), Segments.of(choices))
    plan = under(plan, rule, len(choices))
    with inherit(unet, plan) as handle, torch.no_grad():
        if mode == "cudagraphs-eager":
            over_buffers(handle, monkeypatch)
        else:
            monkeypatch.setattr(handle, "_usable_mode", lambda: mode)
            monkeypatch.setattr("explorer.runtime.eager.Compiled", lambda variant, _: variant)
        scale = Scale(handle, monkeypatch)
        handle.begin(len(choices))
        for _ in choices:
            unet(**inputs_of(unet, 2))
            scale.weigh()
        assert scale._combined or mode == "cudagraphs-eager"
        measured = handle.peak_cache_bytes
    predicted = peak_cache_bytes(plan, len(choices), sizes_of("sd1", 2), compile=mode)  # type: ignore[arg-type]
    assert predicted == measured == scale.peak


@pytest.mark.parametrize("rule", ["forecast1", "fitted3"])
def test_combined_features_stand_no_longer_than_they_are_read(rule: str) -> None:
    """Eager steps take one combined residual at a time; what is given to a compiled step stands together."""
    unet = unet_of("sd1")
    plan = under(strategy("RI", mode="P3", steps=10, unet=unet), rule, 10)
    sizes = sizes_of("sd1", 2)
    units = [sizes[name] for name, _ in plan.masks[0].entries]
    stored = plan.rule.history * sum(units)
    assert peak_cache_bytes(plan, 10, sizes) == stored + max(units)
    assert peak_cache_bytes(plan, 10, sizes, compile="default") == stored + sum(units)
    assert peak_cache_bytes(plan, 10, sizes, compile="cudagraphs") == stored + sum(units)


def test_more_terms_hold_more_and_plain_steps_nothing() -> None:
    found = sd15_anatomy()
    sizes = found.feature_bytes(2, 2)
    copied, ahead = (
        peak_cache_bytes(strategy("DC0", mode="P5", steps=50, unet=found.architecture, rule=rule), 50, sizes)
        for rule in ("copy", "forecast2")
    )
    # DC0 keeps one feature of 320 channels at 64x64, for both halves of guidance, in half precision.
    assert copied == 2 * 320 * 64 * 64 * 2 and ahead == 4 * copied  # of three extract steps, and their combination
    assert peak_cache_bytes(strategy("plain@50", unet=found.architecture), 50, sizes) == 0
