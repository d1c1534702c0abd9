"""The cost model: what it recovers from steps whose true cost is known, and what a plan's loop is made of."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer import ScoreError, strategy
from explorer.plans.plan import InheritancePlan
from explorer.plans.strategies import STRATEGIES
from explorer.timing.cost_model import CostModel, NodeTimes, fit_loop, fit_rule, fit_steps
from explorer.timing.designed_masks import designed_masks
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask, liveness
from tests.architectures import ARCHITECTURES, SD15, SDXL, sd15_anatomy
from tests.explorer.any_mask import removed

BYTES = {node.name: 1000 + 10 * i for i, node in enumerate(SD15.nodes)}


def true_model(architecture: Architecture, seed: int = 0) -> CostModel:
    draw = random.Random(seed)
    nodes = {node.name: draw.uniform(0.2, 2) * (0.05 if node.kind == "cat" else 1) for node in architecture.nodes}
    return CostModel(
        architecture,
        nodes,
        {unit: nodes[unit] * draw.uniform(0.02, 0.2) for unit in architecture.units},
        fixed=0.3,
        read=0.01,
        term=0.002,
        term_byte=1e-6,
        evaluation=0.5,
        run=4.0,
        feature_bytes=BYTES,
    )


def first_guess(model: CostModel, seed: int = 0) -> NodeTimes:
    """Node times as they may be found: each some way off, identity paths far too dear."""
    draw = random.Random(seed + 1)
    return NodeTimes(
        {name: seconds * draw.uniform(0.8, 1.25) for name, seconds in model.nodes.items()},
        {name: 3 * seconds * draw.uniform(0.8, 1.25) for name, seconds in model.identities.items()},
        model.fixed * 0.5,
    )


@pytest.mark.parametrize("architecture", [SD15, SDXL], ids=["sd15", "sdxl"])
def test_measured_steps_correct_node_times(architecture: Architecture) -> None:
    """Steps that the model was not fitted to are predicted far better than by the node times alone."""
    true, tested = true_model(architecture), [each.mask(architecture) for each in STRATEGIES.values()]
    masks = designed_masks(architecture, 37, apart=tested)
    first = first_guess(true)
    whole = true.step_seconds(Mask())
    fitted = fit_steps(architecture, first, whole, masks, [true.step_seconds(mask) for mask in masks])
    alone = CostModel(architecture, first.nodes, first.identities, first.fixed, 0.0)
    scale = whole / alone.step_seconds(Mask())

    def error(model: CostModel, factor: float = 1.0) -> float:
        return statistics.median(abs(factor * model.step_seconds(m) / true.step_seconds(m) - 1) for m in tested)

    assert fitted.step_seconds(Mask()) == pytest.approx(whole, rel=0.01)
    assert error(fitted) < 0.02 < error(alone, scale)
    assert all(seconds >= 0 for seconds in (*fitted.nodes.values(), *fitted.identities.values(), fitted.fixed))


def test_a_residual_inherited_still_costs_its_identity_path() -> None:
    model = true_model(SD15)
    mask = STRATEGIES["RI"].mask(SD15)
    kept = [unit for unit, _ in mask.entries]
    by_hand = sum(seconds for name, seconds in model.nodes.items() if name not in kept)
    by_hand += sum(model.identities[unit] for unit in kept)
    assert model.node_seconds(mask) == pytest.approx(by_hand)
    assert model.step_seconds(mask) == pytest.approx(by_hand + 0.3 + 0.01 * len(kept))


def test_a_removed_branch_costs_its_identity_path_and_a_bypassed_node_nothing() -> None:
    model = true_model(SD15)
    units = ["dn0.l1.res", "dn0.l1.attn", "up1.l0.res"]
    full, nodes = model.step_seconds(Mask()), sum(model.nodes[unit] for unit in units)
    identities = sum(model.identities[unit] for unit in units)
    assert model.step_seconds(Mask.of(units, "zero")) == pytest.approx(full - nodes + identities)
    assert model.step_seconds(Mask.of(units)) == pytest.approx(full - nodes + identities + 3 * model.read)
    bypassed = removed(SD15, "dn0.l1", "up1.l0")
    gone = sum(model.nodes[name] for name in bypassed.forms)
    assert model.step_seconds(bypassed) == pytest.approx(full - gone)


# Parameters and MACs of BK-SDM's and A-SDM's students of SD1.5, at 64x64 latents.
STUDENTS = {
    "Base": (LAYERS := [f"{block}.l1" for block in SD15.blocks if block != "mid"], 261.5),
    "Small": ([*LAYERS, "mid"], 255.4),
    "M1": (["dn0.l1", "up3.l1"], 343.2),
    "M2": (["dn0.l1", "dn1.l1", "up2.l1", "up3.l1"], 303.7),
    "M3": ([f"{block}.l1" for block in ("dn0", "dn1", "dn2", "up1", "up2", "up3")], 266.4),
}


@pytest.mark.parametrize("name", STUDENTS)
def test_bypassed_layers_compute_what_the_students_of_the_papers_do(name: str) -> None:
    parts, expected = STUDENTS[name]
    assert sd15_anatomy().step_macs(removed(SD15, *parts)) / 1e9 == pytest.approx(expected, abs=0.06)


def test_removing_every_second_layer_leaves_two_thirds() -> None:
    costs = sd15_anatomy()
    assert costs.share(removed(SD15, *LAYERS, ending="-")) == pytest.approx(0.658, abs=5e-4)
    assert costs.share(removed(SD15, *LAYERS)) == pytest.approx(0.651, abs=5e-4)


def test_a_loop_is_its_steps_and_what_is_around_them() -> None:
    model = true_model(SD15)
    plan = strategy("DC0", mode="P5", steps=50, unet=SD15)
    inherit = model.step_seconds(plan.masks[0])
    by_hand = 4.0 + 51 * 0.5 + 11 * model.step_seconds(Mask()) + 40 * inherit
    assert model.loop_seconds(plan, 51) == pytest.approx(by_hand)
    plain = strategy("plain@50", unet=SD15)
    assert model.loop_seconds(plain, 51) == pytest.approx(4.0 + 51 * (0.5 + model.step_seconds(Mask())))


def test_a_rule_of_more_terms_costs_their_combination() -> None:
    """The first steps after the first extract step find one feature, those after the second two, then three."""
    model = true_model(SD15)
    plan = strategy("DC0", mode="P2", steps=8, unet=SD15, rule="forecast2")
    copied = strategy("DC0", mode="P2", steps=8, unet=SD15)
    ((name, _),) = liveness(SD15, plan.masks[0]).reads
    term = 0.002 + 1e-6 * BYTES[name]
    extra = model.loop_seconds(plan, 8) - model.loop_seconds(copied, 8)
    assert extra == pytest.approx((0 + 2 + 3 + 3) * term)


def test_what_a_rule_costs_is_found_again() -> None:
    model = true_model(SD15)
    masks = [STRATEGIES[name].mask(SD15) for name in ("CO6", "RI", "DC0", "EX2")]
    extra = [model.step_seconds(mask, 3) - model.step_seconds(mask) for mask in masks]
    assert fit_rule(model, masks, extra, 3, BYTES) == pytest.approx((0.002, 1e-6))


def test_what_is_around_the_steps_is_found_again() -> None:
    loops = [4.0 + n * 0.5 + unet for n, unet in ((51, 200.0), (51, 30.0), (18, 12.0))]
    assert fit_loop([200.0, 30.0, 12.0], [51, 51, 18], loops) == pytest.approx((0.5, 4.0))


def test_a_step_of_no_time_is_refused() -> None:
    with pytest.raises(ScoreError, match="too short"):
        fit_steps(SD15, first_guess(true_model(SD15)), 1.0, [STRATEGIES["RI"].mask(SD15)], [0.0])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), name=st.sampled_from(sorted(ARCHITECTURES)))
def test_designed_masks_are_valid_and_different(seed: int, name: str) -> None:
    architecture = ARCHITECTURES[name]
    apart = [] if name == "one block" else [each.mask(architecture) for each in STRATEGIES.values()]
    masks = designed_masks(architecture, 20, seed, apart)
    known = [mask.effective(architecture) for mask in apart]
    assert len(set(masks)) == len(masks) and not set(masks) & set(known)
    assert masks == designed_masks(architecture, 20, seed, apart)
    for mask in masks:
        InheritancePlan(architecture, 5, (mask,))
        assert len(mask) and mask == mask.effective(architecture)
    if name in ("sd15", "sdxl"):
        assert len(masks) == 20
