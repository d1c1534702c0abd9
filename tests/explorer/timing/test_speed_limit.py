"""The largest speed-up that a measurement can truly show, from counts of evaluations and from a profile."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from explorer import InheritancePlan, inherit, strategy
from explorer.models.workload import twin
from explorer.plans.schedule import Every
from explorer.timing.cost_model import CostModel
from explorer.timing.speed_limit import MARGIN, speed_limit
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask
from tests.conftest import embeds, make_pipeline, make_unet


class Profiled:
    """A profile as far as a limit reads it: its fitted cost model and the worst of its errors."""

    def __init__(self, cost_model: CostModel, worst_error: float) -> None:
        self.cost_model, self.worst_error = cost_model, worst_error


@pytest.fixture(scope="module")
def architecture() -> Architecture:
    return Architecture.of(make_unet())


@pytest.fixture(scope="module")
def costs(architecture: Architecture) -> CostModel:
    names = [node.name for node in architecture.nodes]
    identities = dict.fromkeys(architecture.units, 0.25)
    return CostModel(architecture, dict.fromkeys(names, 1.0), identities, 2.0, 0.1, evaluation=0.5, run=3.0)


@pytest.mark.parametrize(
    ("name", "mode", "evaluations", "extracts"),
    [("CO2", "P5†", 21, 8), ("DC0", "P2", 21, 11), ("DC0", "P20", 21, 2), ("LI3", "P5", 20, 4)],
)
def test_inherit_steps_at_no_cost_are_the_limit(
    name: str, mode: str, evaluations: int, extracts: int, architecture: Architecture
) -> None:
    plan = strategy(name, mode=mode, steps=20, unet=architecture)
    assert plan.resolve(evaluations).count(0) == extracts
    assert speed_limit(plan, evaluations, 21) == pytest.approx((1 + MARGIN) * 21 / extracts)


def test_fewer_plain_steps_have_a_limit_too(architecture: Architecture) -> None:
    assert speed_limit(strategy("plain@10", unet=architecture), 10, 20) == pytest.approx((1 + MARGIN) * 2)


def test_what_the_demo_showed_is_beyond_it(architecture: Architecture) -> None:
    plan = strategy("CO2", mode="P5†", steps=20, unet=architecture)
    assert 1.79 < speed_limit(plan, 21, 21) < 19


def test_with_a_profile_what_the_pipeline_does_around_the_unet_counts(
    architecture: Architecture, costs: CostModel
) -> None:
    plan, plain = strategy("DC0", mode="P5", steps=20, unet=architecture), InheritancePlan(architecture, 20)
    full = costs.step_seconds(Mask())
    whole, least = 3.0 + 20 * (0.5 + full), 3.0 + 20 * 0.5 + 4 * full
    assert whole == pytest.approx(costs.loop_seconds(plain, 20))
    for error, margin in ((0.02, MARGIN), (0.6, 0.6)):
        found = speed_limit(plan, 20, 20, Profiled(costs, error))  # type: ignore[arg-type]
        assert found == pytest.approx((1 + margin) * whole / least)
    tight = speed_limit(plan, 20, 20, Profiled(costs, 0.02))  # type: ignore[arg-type]
    assert tight < speed_limit(plan, 20, 20)
    # No plan that the model predicts is beyond it.
    predicted = whole / costs.loop_seconds(plan, 20)
    assert predicted < tight / (1 + MARGIN)


def test_the_runtime_itself_gains_less_than_the_margin_on_a_model_that_the_host_bounds() -> None:
    """A plan that extracts at every step runs the same nodes without the UNet's own Python. Processor time, which other
    work on the machine does not move."""
    pipe = make_pipeline()
    other = twin(pipe)

    def seconds(which: object) -> float:
        began = time.process_time()
        which(**embeds(), num_inference_steps=4, output_type="latent", generator=torch.Generator().manual_seed(0))  # type: ignore[operator]
        return time.process_time() - began

    with inherit(other, InheritancePlan(Architecture.of(pipe.unet), 4)):
        both: list[Callable[[], float]] = [lambda: seconds(pipe), lambda: seconds(other)]
        stock, extracting = (min(each) for each in zip(*[[call() for call in both] for _ in range(9)], strict=True))
    assert 0.7 < stock / extracting < 1 + MARGIN


def test_a_plan_that_never_extracts_has_no_limit_by_its_counts(architecture: Architecture) -> None:
    """Its steps may cost nothing at all; by a profile the pipeline around them still does."""
    plan = InheritancePlan(architecture, 10, (Mask.of(["mid.attn"], "zero"),), Every())
    assert speed_limit(plan, 10, 10) == float("inf")
    nodes, units = dict.fromkeys(architecture.by_name, 1.0), dict.fromkeys(architecture.units, 0.1)
    around = CostModel(architecture, nodes, units, 1.0, 0.1, evaluation=2.0, run=5.0)
    full = around.step_seconds(Mask())
    limit = speed_limit(plan, 10, 10, Profiled(around, 0.1))  # type: ignore[arg-type]
    assert limit == pytest.approx((1 + MARGIN) * (5 + 10 * (2 + full)) / (5 + 10 * 2))
    alone = CostModel(architecture, nodes, units, 1.0, 0.1)
    assert speed_limit(plan, 10, 10, Profiled(alone, 0.1)) == float("inf")  # type: ignore[arg-type]
