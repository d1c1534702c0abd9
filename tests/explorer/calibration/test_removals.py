"""Errors of removing units, and the choice of what to remove: exact, valid and within its time."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from explorer import InheritancePlan, ModelError, inherit
from explorer.calibration.moments import collect_moments
from explorer.calibration.removal_choice import RemovalChoice
from explorer.calibration.removal_errors import measure_removals, removal_design, removal_squares
from explorer.calibration.step_errors import Design, StepErrors, measure_step_errors
from explorer.models.pictures import run
from explorer.networks.removals import named_removal, removal_of, unit_removals
from explorer.plans.schedule import Segments
from explorer.timing.cost_model import CostModel
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask
from tests.architectures import SD15
from tests.explorer.tiny_pipelines import sd

PROMPTS = ["a cat", "a dog"]
HOW: dict[str, Any] = {"steps": 4, "guidance": 3.0, "seed": 5}


@pytest.fixture(scope="module")
def pipe() -> Any:
    return sd()


@pytest.fixture(scope="module")
def measured(pipe: Any) -> tuple[Design, StepErrors]:
    design = removal_design(Architecture.of(pipe.unet), 4)
    moments = collect_moments(pipe, PROMPTS, batch_size=2, **HOW)
    told: list[int] = []
    errors = measure_step_errors(
        pipe, PROMPTS, design, moments, guidance=HOW["guidance"], seed=HOW["seed"], progress=told.append
    )
    assert sum(told) == design.work
    return design, errors


def cost_of(architecture: Architecture, seed: int = 0) -> CostModel:
    random = np.random.default_rng(seed)
    nodes = {node.name: float(random.uniform(0.5, 2.0)) for node in architecture.nodes}
    return CostModel(architecture, nodes, {unit: 0.1 * nodes[unit] for unit in architecture.units}, 1.0, 0.0)


def test_every_unit_has_the_forms_that_it_takes() -> None:
    found = unit_removals(SD15)
    assert {unit for unit, form in found if form == "zero"} == {*SD15.units}
    widened = {"dn1.l0.res", "dn2.l0.res", "up2.l0.res", "up3.l0.res"}  # other channels out than in
    assert {*SD15.units} - {unit for unit, form in found if form == "bypass"} == widened
    assert found["up3.l1.res", "bypass"].forms == {"up3.l1.res": "bypass", "up3.l1.cat": "bypass"}
    for mask in found.values():
        mask.check(SD15)


def test_an_error_is_that_of_a_run_in_which_one_step_lacks_the_unit(pipe: Any, measured: Any) -> None:
    """The same noise by a plan on the stock engine, seen in the latents after the last step."""
    design, errors = measured
    assert design.removal_steps[-1] == 3
    architecture = Architecture.of(pipe.unet)
    calls: list[torch.Tensor] = []
    hook = pipe.unet.register_forward_hook(lambda _, __, out: calls.append(out[0]))

    def last(plan: InheritancePlan) -> torch.Tensor:
        """The guided prediction of the last evaluation."""
        with inherit(pipe, plan):
            run(pipe, PROMPTS, output_type="latent", **HOW)
        without, with_text = calls[-1].float().chunk(2)
        return without + HOW["guidance"] * (with_text - without)

    try:
        plain = last(InheritancePlan(architecture, 4))
        for removal in (("dn0.l1.res", "zero"), ("up2.l1.res", "bypass")):
            mask = removal_of(architecture, *removal)
            other = last(InheritancePlan(architecture, 4, (mask,), Segments.of([0, 0, 0, 1])))
            expected = float(((other - plain) ** 2).mean())
            assert errors.removals[design.removals.index(removal), -1] == pytest.approx(expected, rel=1e-3)
    finally:
        hook.remove()


def test_a_unit_without_effect_on_its_output_has_two_equal_forms(measured: Any) -> None:
    design, errors = measured
    rows = dict(zip(design.removals, errors.removals, strict=True))
    np.testing.assert_allclose(rows["dn0.l1.attn", "zero"], rows["dn0.l1.attn", "bypass"], rtol=1e-5)
    assert not np.allclose(rows["up2.l1.res", "zero"], rows["up2.l1.res", "bypass"], rtol=1e-2)  # drops its skip


def test_squares_add_the_evaluations_of_a_run(pipe: Any, measured: Any) -> None:
    design, errors = measured
    squares = removal_squares(design, errors)
    assert squares.keys() == {*design.removals} and all(value > 0 for value in squares.values())
    flat = StepErrors(
        **{name: np.ones_like(getattr(errors, name)) for name in ("masks", "nodes", "noise", "wrong", "moved")},
        latents=np.array([4.0]), seconds=errors.seconds, pictures=2, removals=np.full_like(errors.removals, 3.0),
    )  # fmt: skip
    assert removal_squares(design, flat)["mid.attn", "zero"] == pytest.approx(4 * 3.0 / 4.0)
    again = measure_removals(pipe, PROMPTS, **HOW)
    assert again == pytest.approx(squares, rel=1e-4)


def test_calibrations_without_removals_give_none_and_are_joined() -> None:
    parts = {name: np.ones(2) for name in ("masks", "nodes", "noise", "wrong", "moved", "latents", "seconds")}
    old = StepErrors(**parts, pictures=1)
    design = Design(4, (1, 3), {}, ())
    assert design.removal_steps == () and removal_squares(design, old.joined(old)) == {}


@pytest.mark.parametrize("seed", range(3))
def test_the_choice_is_the_best_of_all(seed: int) -> None:
    """Against every choice of some units."""
    architecture = Architecture.of(sd().unet)
    random = np.random.default_rng(seed)
    every = [*unit_removals(architecture)]
    units = sorted({unit for unit, _ in every})
    some = {units[i] for i in random.choice(len(units), 6, replace=False)}
    squares = {each: float(10 ** random.uniform(-3, 3)) for each in every if each[0] in some}
    choices = RemovalChoice(cost_of(architecture, seed), squares)
    forms = [[None, *(each for each in squares if each[0] == unit)] for unit in sorted(some)]
    rated = []
    for chosen in itertools.product(*forms):
        mask = Mask.of({k: v for each in chosen if each for k, v in removal_of(architecture, *each).forms.items()})
        rated.append(choices.rated(mask))
    assert choices.least == pytest.approx(min(each.share for each in rated))
    for share in np.linspace(choices.least, 1.0, 6):
        best = min(each.error for each in rated if each.share <= share + 1e-9 and each.error is not None)
        found = choices.within(float(share))
        assert found.error == pytest.approx(best) and found.share <= share + 1e-5
    assert choices.within(1.0).mask == Mask()


def test_named_students_are_rated_by_the_same_sums() -> None:
    choices = RemovalChoice(cost_of(SD15), dict.fromkeys(unit_removals(SD15), 1.0))
    base = choices.rated(named_removal("Base", SD15))
    units = [name for name in base.mask.forms if name in SD15.units]
    assert base.error == pytest.approx(math.sqrt(len(units))) and 0 < base.share < 1
    assert choices.rated(named_removal("Tiny", SD15)).error is None  # a sampler was not measured
    found = choices.within(base.share)
    assert found.error is not None and base.error is not None and found.error <= base.error


def test_a_removal_that_overflows_is_not_chosen() -> None:
    squares = dict.fromkeys(unit_removals(SD15), 1.0) | {
        ("mid.attn", "bypass"): math.inf,
        ("mid.attn", "zero"): math.nan,
    }
    choices = RemovalChoice(cost_of(SD15), squares)
    found = choices.within(choices.least)
    assert found.error is not None and "mid.attn" not in found.mask.forms and len(found.mask) >= len(SD15.units) - 1


@pytest.mark.parametrize(
    ("share", "message"), [(0.0, "above 0"), (1.1, "at most 1"), (math.nan, "above 0"), (0.01, "removing every unit")]
)
def test_a_share_that_cannot_be_is_refused(share: float, message: str) -> None:
    choices = RemovalChoice(cost_of(SD15), dict.fromkeys(unit_removals(SD15), 1.0))
    with pytest.raises(ModelError, match=message):
        choices.within(share)
