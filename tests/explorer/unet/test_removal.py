"""Removed nodes: to the bit what a smaller UNet of diffusers computes, and refused where shapes do not fit."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from explorer import InheritancePlan, inherit
from explorer.errors import PlanError
from explorer.plans.plan import resolve_run
from explorer.plans.plan_text import mask_from_text, mask_to_text
from explorer.plans.schedule import Every, Segments
from explorer.unet.architecture import Architecture
from explorer.unet.mask import REMOVALS, Mask, liveness
from explorer.unet.program import Program
from explorer.unet.shapes import Shape, shapes
from explorer.unet.variant import Variant
from tests.architectures import ARCHITECTURES, SD15, SDXL
from tests.conftest import SHAPES, make_unet
from tests.explorer.any_mask import REGIONS, any_masks, bypasses, removed
from tests.explorer.unet.test_program import call

FEWER_LAYERS = {
    "Base": {"sd1": 1, "sd2": 1, "sdxl": 1},
    "M1": {"sd1": [1, 2, 2, 2], "sdxl": [1, 2, 2]},
    "M2": {"sd1": [1, 1, 2, 2]},
    "M3": {"sd1": [1, 1, 1, 2]},
}
SMALLER = [(name, shape, layers) for name, shapes_ in FEWER_LAYERS.items() for shape, layers in shapes_.items()]


def thinned(unet: Any, layers: list[int]) -> list[str]:
    """The second layer of each block of the encoder that has one layer left, and of the block that reads its skips."""
    last = len(unet.down_blocks) - 1
    thin = [b for b, count in enumerate(layers) if count == 1]
    return [f"dn{b}.l1" for b in thin] + [f"up{last - b}.l1" for b in thin]


def student_of(unet: Any, shape: str, layers: int | list[int], **changes: Any) -> Any:
    """An ordinary UNet of fewer layers with the teacher's tensors: the second pair of an up block is the third there,
    and where a level is missing, each up block the next one."""
    student = make_unet(shape, layers_per_block=layers, **changes)
    theirs = unet.state_dict()
    shift = len(unet.up_blocks) - len(student.up_blocks)

    def source(name: str) -> str:
        found = re.match(r"up_blocks\.(\d+)\.(resnets|attentions|upsamplers)\.(\d+)\.(.*)", name)
        if found is None:
            return name
        block, part, layer, rest = int(found[1]), found[2], int(found[3]), found[4]
        moved = part != "upsamplers" and layer == 1 and len(student.up_blocks[block].resnets) == 2
        return f"up_blocks.{block + shift}.{part}.{layer + moved}.{rest}"

    student.load_state_dict({name: theirs[source(name)] for name in student.state_dict()})
    return student


@pytest.mark.parametrize(("name", "shape", "layers"), SMALLER)
def test_bypassed_layers_are_to_the_bit_those_that_a_smaller_unet_lacks(
    name: str, shape: str, layers: int | list[int]
) -> None:
    unet = make_unet(shape)
    each = layers if isinstance(layers, list) else [layers] * len(unet.down_blocks)
    mask = removed(Architecture.of(unet), *thinned(unet, each))
    student = student_of(unet, shape, layers)
    plan = InheritancePlan(Architecture.of(unet), 2, (mask,), Every())
    for size in ((16, 16), (13, 18)):
        with inherit(unet, plan) as handle:
            handle.begin(2)
            found = [call(unet, seed, size) for seed in range(2)]
            assert handle.peak_cache_bytes == 0
        assert all(torch.equal(found[seed], call(student, seed, size)) for seed in range(2)), name


@pytest.mark.parametrize("shape", ["sd1", "sdxl"])
def test_a_bypassed_mid_block_is_to_the_bit_one_that_a_smaller_unet_lacks(shape: str) -> None:
    unet = make_unet(shape)
    student = student_of(unet, shape, 1, mid_block_type=None)
    mask = removed(Architecture.of(unet), "mid", *thinned(unet, [1] * len(unet.down_blocks)))
    with inherit(unet, InheritancePlan(Architecture.of(unet), 1, (mask,), Every())) as handle:
        handle.begin(1)
        assert torch.equal(call(unet), call(student))


def test_a_bypassed_level_is_to_the_bit_one_that_a_smaller_unet_lacks() -> None:
    """Tiny: three levels, each with attention, and no mid block."""
    unet = make_unet()
    student = student_of(
        unet, "sd1", 1, mid_block_type=None, block_out_channels=(16, 32, 32),
        down_block_types=("CrossAttnDownBlock2D",) * 3, up_block_types=("CrossAttnUpBlock2D",) * 3,
    )  # fmt: skip
    mask = mask_from_text(Architecture.of(unet), REGIONS[0] + " dn0.l1-- dn1.l1-- dn2.l1-- up1.l1-- up2.l1-- up3.l1--")
    assert len(mask) == 28
    with inherit(unet, InheritancePlan(Architecture.of(unet), 1, (mask,), Every())) as handle:
        handle.begin(1)
        assert torch.equal(call(unet), call(student))


@pytest.mark.parametrize("name", ["dn1.l0.res", "dn1.l0.attn", "up1.l1.res", "mid.res0"])
def test_a_unit_without_its_branch_gives_its_shortcut(name: str) -> None:
    """Eq. 4 with F = 0, against a hook on the stock module."""
    unet = make_unet()
    module: Any = Program(unet).modules[name]

    def identity(_: Any, inputs: Any, output: Any) -> Any:
        shortcut = getattr(module, "conv_shortcut", None)
        value = inputs[0] if shortcut is None else shortcut(inputs[0])
        return (value,) if isinstance(output, tuple) else value

    hook = module.register_forward_hook(identity)
    expected = call(unet)
    hook.remove()
    with inherit(unet, InheritancePlan(Architecture.of(unet), 1, (Mask.of([name], "zero"),), Every())) as handle:
        handle.begin(1)
        assert torch.equal(call(unet), expected)
    assert not torch.equal(call(unet), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_those_of_the_tensors(shape: str) -> None:
    unet = make_unet(shape)
    program = Program(unet)
    architecture, seen = program.architecture, {}
    features = frozenset((node.name, "output") for node in architecture.nodes)
    run = Variant.__call__

    def watched(self: Variant, *args: Any) -> Any:
        noise, stored = run(self, *args)
        seen.update({name: value.shape for (name, _), value in stored.items()})
        return noise, stored

    with pytest.MonkeyPatch.context() as patch, inherit(unet, InheritancePlan(architecture, 1)) as handle:
        patch.setattr(Variant, "__call__", watched)
        patch.setattr(handle._eager, "_variant", lambda name, mask, *_: Variant(program, mask, features))
        handle.begin(1)
        call(unet)
    assert {name: Shape(at[1], (16 // at[2]).bit_length() - 1) for name, at in seen.items()} == {
        name: at for name, at in shapes(architecture).items() if name != "sample"
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dn1.l0--", "dn1.l1.res would read 320 channels at 1/2 of the sample's size, where it takes 640 channels"),
        ("up3.l1.res--", r"up3.l1.attn would read 640 channels at 1/1 .* takes 320"),
        ("up3.l1.cat--", r"up3.l1.res would read 320 channels .* takes 640"),
        ("up2.l0--", "up2.l1.cat would read 1280 channels"),
        ("dn2.down--", r"dn3.l0.res would read 1280 channels at 1/4 .* takes 1280 channels at 1/8"),
        ("dn2.down-- dn3-- up0-- up0.up--", "mid.res0 would read"),
        ("dn2.down-", "dn2.down has no residual branch to remove by 'zero'; remove it by 'bypass'"),
        ("conv_in--", "conv_in cannot be removed"),
        ("out--", "out cannot be removed"),
        ("up3.l2.cat-", "no residual branch to remove"),
    ],
)
def test_what_cannot_be_removed_is_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        mask_from_text(SD15, text).check(SD15)


def test_what_may_be_bypassed_is_the_table_of_the_docs() -> None:
    """Layers l >= 1, the first ones where input and output have the same channels, mid, and regions."""
    texts = [mask_to_text(SD15, mask) for mask in bypasses(SD15)]
    assert {t for t in texts if " " not in t} == {
        "dn0.l0--", "dn0.l1--", "dn1.l1--", "dn2.l1--", "dn3.l0--", "dn3.l1--", "mid--", "up0.l0--", "up0.l1--",
        "up0.l2--", "up1.l0--", "up1.l1--", "up1.l2--", "up2.l1--", "up2.l2--", "up3.l1--", "up3.l2--",
    }  # fmt: skip
    assert [t for t in texts if " " in t] == ["dn3-- mid-- up0-- dn2.down-- up0.up--"]
    assert "dn2-- mid-- up0-- dn1.down-- up0.up--" not in [mask_to_text(SDXL, mask) for mask in bypasses(SDXL)]
    removed(SD15, *(unit for unit in SD15.units if unit.endswith("attn"))).check(SD15)
    Mask.of(SD15.units, "zero").check(SD15)


def test_what_only_a_removed_node_read_does_not_run() -> None:
    live = liveness(SD15, mask_from_text(SD15, "dn2.down-- dn3-- mid-- up0-- up0.up--"))
    assert not [name for name in live.run if name.startswith(("dn3", "mid", "up0", "dn2.down"))]
    assert live.reads == () and len(live.removed) == 13 and live.depends_on_sample


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_effective_masks_of_any_form_compute_the_same_and_are_least(
    architecture: Architecture, data: st.DataObject
) -> None:
    mask = data.draw(any_masks(architecture))
    mask.check(architecture)
    live, least = liveness(architecture, mask), mask.effective(architecture)
    assert liveness(architecture, least) == live and least.effective(architecture) == least
    assert mask_from_text(architecture, mask_to_text(architecture, least)) == least
    assert len({*live.run, *dict(live.reads), *dict(live.removed)}) == len(live.run) + len(least)
    assert not [form for _, form in live.reads if form in REMOVALS]
    for entry in least.entries:
        fewer = Mask(tuple(other for other in least.entries if other != entry))
        assert liveness(architecture, fewer) != live


def test_removals_alone_neither_need_nor_make_a_cache() -> None:
    zero, inherits = Mask.of(["mid.attn"], "zero"), Mask.of({"mid.attn": "zero", "dn1.l0.res": "residual"})
    run = resolve_run(InheritancePlan(SD15, 5, (zero, inherits), Segments.of([1, 0, 1, 2, 1])), 5)
    feature = ("dn1.l0.res", "residual")
    assert run.choices == (1, 0, 1, 2, 1) and run.last_read == {(1, feature): 3}
    assert run.stores == (frozenset(), frozenset({feature}), *(frozenset(),) * 3)


def test_a_run_that_begins_late_extracts_where_it_first_inherits() -> None:
    masks = (Mask.of(["mid.attn"], "zero"), Mask.of(["mid.attn"]))
    plan = InheritancePlan(SD15, 6, masks, Segments.of([0, 1, 2, 1, 2, 2]))
    assert [resolve_run(plan, 6, start).choices for start in range(6)] == [
        (0, 1, 2, 1, 2, 2), (1, 0, 1, 2, 2), (0, 1, 2, 2), (1, 0, 2), (0, 2), (0,)
    ]  # fmt: skip


def test_keys_tell_removal_from_inheritance_and_ignore_a_rule_that_nothing_reads() -> None:
    plans = {
        form: InheritancePlan(SD15, 4, (Mask.of(["mid.attn"], form),), Segments.of([0, 1, 1, 1]))  # type: ignore[arg-type]
        for form in ("residual", "output", "zero", "bypass")
    }
    assert len({plan.key(4) for plan in plans.values()}) == 4
    ahead = InheritancePlan.from_json(plans["zero"].to_json() | {"rule": {"kind": "forecast", "order": 2}})
    assert ahead.key(4) == plans["zero"].key(4)
    every = InheritancePlan(SD15, 4, plans["zero"].masks, Every())
    assert every.key(4) == InheritancePlan(SD15, 4, every.masks, Segments.of([1] * 4)).key(4) != plans["zero"].key(4)
