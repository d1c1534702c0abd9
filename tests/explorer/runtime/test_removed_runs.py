"""Runs of plans that remove nodes: equal however they are run, and without a cache of their own."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer import InheritancePlan, PlanError, inherit, strategy
from explorer.plans.plan import features_read
from explorer.plans.schedule import Every, Segments
from explorer.runtime.cache_size import peak_cache_bytes
from explorer.runtime.replay import Recording
from explorer.timing.anatomy import anatomy
from explorer.unet.architecture import Architecture
from explorer.unet.mask import REMOVALS, Form, Mask
from explorer.unet.program import Program
from explorer.unet.variant import Variant
from tests.conftest import make_pipeline, make_unet
from tests.explorer.any_mask import any_masks, removed
from tests.explorer.any_rule import ALL_RULES, under
from tests.explorer.runtime.small_runs import latents, small_pipeline
from tests.explorer.runtime.static_runs import over_buffers
from tests.explorer.unet.test_program import call

UNET = make_unet()
ARCHITECTURE = Architecture.of(UNET)


@functools.cache
def sizes() -> dict[str, int]:
    return anatomy(UNET, 16).feature_bytes(2, 4)


def begins_well(masks: list[Mask], choices: list[int]) -> bool:
    """Whether the first step that inherits has an extract step before it."""
    try:
        InheritancePlan(ARCHITECTURE, len(choices), tuple(masks), Segments.of(choices))
    except PlanError:
        return False
    return True


@st.composite
def plans(draw: st.DrawFn) -> InheritancePlan:
    masks = draw(st.lists(any_masks(ARCHITECTURE), min_size=1, max_size=2))
    choices = draw(st.lists(st.integers(0, len(masks)), min_size=2, max_size=7))
    choices = choices if begins_well(masks, choices) else [0, *choices]
    plan = InheritancePlan(ARCHITECTURE, len(choices), tuple(masks), Segments.of(choices))
    return under(plan, draw(st.sampled_from(ALL_RULES)), len(choices))


@settings(max_examples=15, deadline=None)
@given(plan=plans(), start=st.integers(0, 2))
def test_any_plan_of_four_forms_over_buffers_and_in_the_memory_that_is_predicted(
    plan: InheritancePlan, start: int
) -> None:
    count = plan.steps
    start = min(start, count - 1)
    with inherit(UNET, plan) as handle:
        handle.begin(count, start=start)
        eager = [call(UNET, seed) for seed in range(start, count)]
        held = handle.peak_cache_bytes
    assert held == peak_cache_bytes(plan, count, sizes(), start)
    assert features_read(plan).isdisjoint((name, form) for name in ARCHITECTURE.by_name for form in REMOVALS)
    if start:
        return  # over buffers a run counts fitted weights alike; the tail is tested above
    with pytest.MonkeyPatch.context() as patch, inherit(UNET, plan) as handle:
        over_buffers(handle, patch)
        for _ in range(2):
            handle.begin(count)
            assert all(torch.equal(call(UNET, seed), eager[seed]) for seed in range(count))


def test_a_mask_of_four_forms_compiles_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a graph break; the compiler's front half alone."""
    unet = small_pipeline().unet
    architecture = Architecture.of(unet)
    forms: dict[str, Form] = {"dn0.l0.res": "residual", "up0.l0.attn": "output", "up1.l0.res": "zero"}
    mask = Mask.of(forms | removed(architecture, "up1.l1").forms)
    assert mask.effective(architecture) == mask
    plan = InheritancePlan(architecture, 2, (mask,), Segments.of([0, 1]))
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    found = []
    for compile in (False, True):
        with inherit(unet, plan, compile=compile) as handle:
            handle.begin(2)
            found.append([call(unet, seed) for seed in range(2)])
    for eager, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-3, atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(mask=any_masks(ARCHITECTURE))
def test_a_step_asks_for_each_feature_that_it_inherits_and_for_no_other(mask: Mask) -> None:
    asked: list[Any] = []
    program = Program(UNET)

    class Asked(dict[Any, torch.Tensor]):
        def __getitem__(self, feature: Any) -> torch.Tensor:
            asked.append(feature)
            return super().__getitem__(feature)

    variant = Variant(program, mask)
    with inherit(UNET, InheritancePlan(ARCHITECTURE, 2, (mask,), Segments.of([0, 1]))) as handle:
        handle._eager._variant = lambda _, chosen, stores, compiled: (  # type: ignore[method-assign]
            (lambda sample, at, inherited: variant(sample, at, Asked(inherited)))
            if chosen
            else Variant(program, chosen, stores)
        )
        handle.begin(2)
        call(UNET, 0)
        call(UNET, 1)
    assert asked == list(variant.reads) and not [form for _, form in asked if form in REMOVALS]


@pytest.mark.parametrize("static", [False, True])
def test_a_change_inside_a_run_extracts_at_the_next_step_that_inherits(
    static: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that only removes nodes goes on removing them, whatever changed."""
    zero, both = Mask.of(["mid.attn"], "zero"), Mask.of({"mid.attn": "zero", "dn1.l0.res": "residual"})
    plan = InheritancePlan(ARCHITECTURE, 6, (zero, both), Segments.of([1, 0, 2, 1, 2, 2]))
    alone = InheritancePlan(ARCHITECTURE, 1, (zero,), Every())
    sides = [16, 16, 16, 8, 8, 8]
    with inherit(UNET, plan) as handle:
        if static:
            over_buffers(handle, monkeypatch)
        handle.begin(6)
        found = [call(UNET, seed, (side, side)) for seed, side in enumerate(sides)]
    expected = {}
    with inherit(UNET, alone) as handle:
        for seed in (0, 3):
            handle.begin(1)
            expected[seed] = call(UNET, seed, (sides[seed],) * 2)
    assert all(torch.equal(found[seed], picture) for seed, picture in expected.items())
    for seed in (1, 4):  # the extract step of the schedule, and the one that the change calls for
        assert torch.equal(found[seed], call(UNET, seed, (sides[seed],) * 2))


def test_a_pipeline_runs_with_layers_removed_at_every_step_of_any_number() -> None:
    pipe = make_pipeline()
    mask = removed(ARCHITECTURE, "dn0.l1", "up3.l1")
    base = InheritancePlan(Architecture.of(pipe.unet), 10, (mask,), Every())
    with inherit(pipe, base) as handle:
        found = [latents(pipe), latents(pipe, 7)]
        assert handle.peak_cache_bytes == 0
    written = InheritancePlan(base.architecture, 7, (mask,), Segments.of([1] * 7))
    with inherit(pipe, written):
        assert torch.equal(latents(pipe, 7), found[1])
    assert not torch.equal(latents(pipe), found[0])


def test_runs_that_begin_with_the_same_removals_are_replayed() -> None:
    pipe = make_pipeline()
    architecture = Architecture.of(pipe.unet)
    masks = (Mask.of(["mid.attn"], "zero"), Mask.of(["mid.attn"], "bypass"), Mask.of(["dn1.l0.res"], "zero"))
    recording = Recording(2**26)
    for choices, rule, replayed in (
        ([1, 1, 1, 1], "copy", 0),
        ([1, 1, 0, 1], "forecast2", 2),
        ([3, 1, 1, 1], "copy", 0),
    ):
        plan = InheritancePlan(architecture, 4, masks, Segments.of(choices)).with_rule(
            strategy("DC0", unet=architecture, rule=rule).rule
        )
        with inherit(pipe, plan):
            expected = latents(pipe, 4)
        before = recording.replayed
        with inherit(pipe, plan) as handle:
            handle.recording = recording
            assert torch.equal(latents(pipe, 4), expected)
        assert recording.replayed - before == replayed


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({"cast": "m2"}, r"the plan needs the student 'm2'; give it with students=\{'m2': \.\.\.\}"),
        ({"cast": "teacher@0.5, base"}, "the plan needs the student 'base'"),
        ({"speedup": "sun-4"}, "the plan needs the speed-up adapter 'sun-4'; give it with speedups="),
    ],
)
def test_what_cannot_be_run_yet_is_refused_by_name(field: dict[str, str], words: str) -> None:
    plan = InheritancePlan.from_json(InheritancePlan(ARCHITECTURE, 4).to_json() | {"schema": 4} | field)
    with pytest.raises(PlanError, match=words):
        inherit(UNET, plan)
    assert not hasattr(UNET, "_inheritance")  # nothing was left on it
