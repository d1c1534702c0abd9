"""Static buffers on the CPU: the pictures of the eager path to the bit, from tensors that keep their places."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import PNDMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer import InheritancePlan, inherit
from explorer.plans.rules import FITTED_RULES, RULES, Rule
from explorer.plans.schedule import Segments
from explorer.plans.schedulers import evaluations_of
from explorer.runtime.buffers import FeatureBuffers, StaticInputs, form_of
from explorer.runtime.combining import combine
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask
from tests.conftest import make_pipeline, make_unet
from tests.explorer.any_rule import ALL_RULES, under
from tests.explorer.dispatched import Dispatched
from tests.explorer.runtime.carried import CARRIED
from tests.explorer.runtime.small_runs import BETAS, latents, plan_for
from tests.explorer.runtime.static_runs import CPU, Poisoned, over_buffers
from tests.explorer.unet.test_program import call


@pytest.mark.parametrize("rule", ALL_RULES)
@pytest.mark.parametrize("name", ["DC0", "CO6"])
def test_the_picture_of_the_eager_path_to_the_bit(rule: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = make_pipeline()
    plan = under(plan_for(pipe, name, "P3", 10), rule, evaluations_of(pipe.scheduler, 10))
    fewer = 10 if rule in FITTED_RULES else 7  # fitted weights are for one number of steps
    with inherit(pipe, plan):
        eager = [latents(pipe), latents(pipe, batch=2), latents(pipe, fewer)]
    with inherit(pipe, plan) as handle:
        steps = over_buffers(handle, monkeypatch)
        found = [latents(pipe), latents(pipe, batch=2), latents(pipe, fewer)]
        again = latents(pipe)
    assert all(torch.equal(a, b) for a, b in zip(eager, found, strict=True))
    assert torch.equal(again, eager[0])
    assert steps.captures == 4  # extract and inherit, for two batch sizes: neither steps nor runs capture again


@pytest.mark.parametrize("rule", ["copy", "forecast2"])
def test_nothing_of_a_step_is_kept_but_in_buffers(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs of a plan share the memory that they compute in: what one made is gone after the next. PNDM keeps the
    noise of four steps."""
    pipe = make_pipeline(PNDMScheduler(**BETAS, skip_prk_steps=True))
    plan = plan_for(pipe, "CO6", "P3", 6, rule)
    with inherit(pipe, plan):
        eager = latents(pipe, 6)
    with inherit(pipe, plan) as handle:
        poisoned = Poisoned()
        over_buffers(handle, monkeypatch, poisoned)
        assert torch.equal(latents(pipe, 6), eager) and torch.equal(latents(pipe, 6), eager)
    assert poisoned.poisoned >= 13  # the noise of every evaluation but the last


def test_a_reference_that_is_kept_across_steps_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above is for: features that are not copied into their buffers."""
    kept: list[torch.Tensor] = []

    def refer(self: FeatureBuffers, stored: dict[Any, torch.Tensor]) -> None:
        kept.extend(stored.values())
        self._slots.update({feature: value.unsqueeze(0) for feature, value in stored.items()})

    monkeypatch.setattr(FeatureBuffers, "write", refer)
    unet = make_unet()
    plan = InheritancePlan(Architecture.of(unet), 2, (Mask.of(["mid.attn"]),), Segments.of([0, 1]))
    with inherit(unet, plan) as handle:
        over_buffers(handle, monkeypatch, Poisoned())
        handle.begin(2)
        assert call(unet).isfinite().all()
        assert call(unet).isnan().any()


@pytest.mark.parametrize("what", [w for w in CARRIED if "offload" not in w])
def test_what_a_pipeline_carries_goes_through_the_buffers(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    unet = make_unet()
    kwargs = CARRIED[what](unet)

    def fresh() -> dict[str, Any]:
        return {key: list(value) if isinstance(value, list) else value for key, value in kwargs.items()}

    plan = InheritancePlan(Architecture.of(unet), 3, (Mask.of(["mid.attn", "dn1.l0.res"]),), Segments.of([0, 1, 1]))
    found = []
    for static in (False, True):
        with inherit(unet, plan) as handle:
            if static:
                over_buffers(handle, monkeypatch)
            handle.begin(3)
            found.append([call(unet, seed, **fresh()) for seed in range(3)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@st.composite
def plans(draw: st.DrawFn) -> tuple[tuple[tuple[str, ...], ...], list[int], str]:
    units = Architecture.of(make_unet()).units
    masks = draw(
        st.lists(st.lists(st.sampled_from(units), min_size=1, max_size=6, unique=True), min_size=1, max_size=2)
    )
    choices = [0, *draw(st.lists(st.integers(0, len(masks)), min_size=1, max_size=6))]
    return tuple(tuple(mask) for mask in masks), choices, draw(st.sampled_from(ALL_RULES))


@settings(max_examples=12, deadline=None)
@given(plans())
def test_any_plan_over_buffers(drawn: tuple[tuple[tuple[str, ...], ...], list[int], str]) -> None:
    masks, choices, rule = drawn
    unet = make_unet()
    architecture = Architecture.of(unet)
    plan = InheritancePlan(architecture, len(choices), tuple(Mask.of(m) for m in masks), Segments.of(choices))
    plan = under(plan, rule, len(choices))
    with inherit(unet, plan) as handle:
        handle.begin(len(choices))
        eager = [call(unet, seed) for seed in range(len(choices))]
    with pytest.MonkeyPatch.context() as patch, inherit(unet, plan) as handle:
        steps = over_buffers(handle, patch)
        for _ in range(2):
            handle.begin(len(choices))
            found = [call(unet, seed) for seed in range(len(choices))]
            assert all(torch.equal(a, b) for a, b in zip(eager, found, strict=True))
        assert steps.captures <= 1 + len(masks)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(tuple(RULES)), st.lists(st.booleans(), min_size=1, max_size=12))
def test_feature_buffers_hold_the_last_extract_steps(rule: str, extracts: list[bool]) -> None:
    chosen = Rule.parse(rule)
    buffers = FeatureBuffers(chosen, CPU)
    feature = ("mid.attn", "residual")
    kept: list[tuple[int, torch.Tensor]] = []
    places: set[int] = set()
    for evaluation, extract in enumerate([True, *extracts]):
        if extract:
            value = torch.randn(1, 2, 3, 3).to(memory_format=torch.channels_last)
            kept = [*kept, (evaluation, value)][-chosen.history :]
            buffers.extract(evaluation)
            buffers.write({feature: value})
        else:
            buffers.combine([feature], evaluation)
            read = buffers.read([feature])[feature]
            weights = chosen.coefficients(evaluation, buffers.sources)
            assert torch.equal(read, combine([value for _, value in kept], weights))
            assert read.stride() == kept[0][1].stride()
            places.add(read.data_ptr())
        assert buffers.sources == tuple(at for at, _ in kept)
    assert len(places) <= 1
    slots = chosen.history + (chosen.history > 1)
    assert buffers.bytes == slots * 18 * 4


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(tuple(FITTED_RULES)), st.lists(st.booleans(), min_size=2, max_size=10))
def test_fitted_weights_are_each_feature_s_own_in_the_buffers(rule: str, extracts: list[bool]) -> None:
    choices = [0, *(0 if extract else 1 for extract in extracts)]
    mask = Mask.of(["mid.attn", "dn1.l0.res", "up3.l2.attn"])
    plan = under(
        InheritancePlan(Architecture.of(make_unet()), len(choices), (mask,), Segments.of(choices)), rule, len(choices)
    )
    buffers = FeatureBuffers(plan.rule, CPU)
    kept: list[tuple[int, dict[Any, torch.Tensor]]] = []
    for evaluation, choice in enumerate(choices):
        if not choice:
            stored = {feature: torch.randn(1, 2, 3, 3) for feature in mask.entries}
            kept = [*kept, (evaluation, stored)][-plan.rule.history :]
            buffers.extract(evaluation)
            buffers.write(stored)
            continue
        buffers.combine(mask.entries, evaluation)
        rows = {feature: plan.rule.coefficients(evaluation, buffers.sources, feature) for feature in mask.entries}
        assert len(set(rows.values())) == 3
        for feature, read in buffers.read(mask.entries).items():
            assert torch.equal(read, combine([each[feature] for _, each in kept], rows[feature]))


def test_static_inputs_keep_their_places() -> None:
    arguments = {"a": torch.zeros(2, 3), "b": [torch.ones(1), None], "c": 4}
    inputs = StaticInputs(arguments, CPU)
    places = [inputs.arguments["a"].data_ptr(), inputs.arguments["b"][0].data_ptr()]
    inputs.fill({"a": torch.full((2, 3), 7.0), "b": [torch.full((1,), 8.0), None], "c": 4})
    assert [inputs.arguments["a"].data_ptr(), inputs.arguments["b"][0].data_ptr()] == places
    assert inputs.arguments["a"].eq(7).all() and inputs.arguments["b"][0].item() == 8
    assert inputs.arguments["c"] == 4 and inputs.arguments["a"].data_ptr() != arguments["a"].data_ptr()


def test_steady_inputs_are_copied_once_and_again_where_they_changed() -> None:
    """Another tensor, one that was written to, and a run that begins: each is copied. Others are at every call."""
    text, sample = torch.ones(2, 3), torch.ones(1)
    arguments = {"context": text, "added": {"text_embeds": torch.ones(4), "ids": None}, "sample": sample}
    inputs = StaticInputs(arguments, CPU, ("context", "added"))

    def copies(given: dict[str, Any]) -> int:
        with Dispatched() as dispatched:
            inputs.fill(given)
        return dispatched.names.count("copy_")

    assert copies(arguments) == 1 == copies(dict(arguments))
    text[0] = 5
    assert copies(arguments) == 2 and inputs.arguments["context"].equal(text)
    assert copies(arguments) == 1
    assert copies({**arguments, "context": text.clone()}) == 2 == copies(arguments)
    inputs.forget()
    assert copies(arguments) == 3
    with torch.inference_mode():
        made = {**arguments, "context": torch.zeros(2, 3)}
        assert copies(made) == 2 == copies(made)
    assert inputs.arguments["context"].eq(0).all()


def test_a_run_with_other_text_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts exchanged between runs, and written to within one, give the pictures of the eager path."""
    unet = make_unet()
    plan = InheritancePlan(Architecture.of(unet), 4, (Mask.of(["mid.attn"]),), Segments.of([0, 1, 0, 1]))
    found: list[list[torch.Tensor]] = []
    for static in (False, True):
        noises = []
        with inherit(unet, plan) as handle, torch.no_grad():
            if static:
                over_buffers(handle, monkeypatch)
            text, sample = torch.zeros(2, 7, 16), torch.full((2, 4, 16, 16), 0.5)
            for run in range(2):
                handle.begin(4)
                for step in range(4):
                    if step == 2:
                        text += run + 1
                    noises.append(unet(sample, torch.tensor(500 - step), text).sample)
                text = text + 1
        found.append(noises)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_forms_differ_where_a_graph_would() -> None:
    base = {"sample": torch.zeros(2, 4, 8, 8), "scale": 1.0, "residuals": None}
    assert form_of(base) == form_of({**base, "sample": torch.ones(2, 4, 8, 8)})
    for change in (
        {"sample": torch.zeros(1, 4, 8, 8)},
        {"sample": torch.zeros(2, 4, 8, 8).to(memory_format=torch.channels_last)},
        {"sample": torch.zeros(2, 4, 8, 8, dtype=torch.float16)},
        {"scale": 0.5},
        {"residuals": (torch.zeros(1),)},
    ):
        assert form_of(base) != form_of({**base, **change})


def test_exchanged_weights_and_processors_capture_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.models.attention_processor import AttnProcessor

    unet = make_unet()
    plan = InheritancePlan(Architecture.of(unet), 2, (Mask.of(["mid.attn"]),), Segments.of([0, 1]))
    with inherit(unet, plan) as handle:
        steps = over_buffers(handle, monkeypatch)
        for change in (lambda: None, lambda: None, lambda: unet.set_attn_processor(AttnProcessor()), unet.double):
            change()
            handle.begin(2)
            dtype = next(unet.parameters()).dtype
            with torch.no_grad():
                for seed in range(2):
                    torch.manual_seed(seed)
                    unet(torch.randn(2, 4, 16, 16, dtype=dtype), 500 - seed, torch.randn(2, 7, 16, dtype=dtype))
    assert steps.captures == 2 * 3


@pytest.mark.parametrize("rule", RULES)
def test_the_cache_of_a_run_is_that_of_its_own_form(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers of other batches are kept for their next run, and are no part of what this one needs."""
    pipe = make_pipeline()
    with inherit(pipe, plan_for(pipe, "CO6", "P2", 4, rule)) as handle:
        steps = over_buffers(handle, monkeypatch)
        peaks = []
        for batch in (1, 3, 1):
            latents(pipe, 4, batch)
            peaks.append(handle.peak_cache_bytes)
            assert handle.cache_bytes == steps.bytes == peaks[-1]
        handle.begin(4)
        assert handle.peak_cache_bytes == 0 and handle.cache_bytes == 0
    assert 0 < peaks[0] == peaks[2] and peaks[1] == 3 * peaks[0]
