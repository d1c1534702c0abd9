"""Local moves: every one gives a valid plan that does something else, and stays within the space `joint`."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from explorer.calibration.fitting import Fitter
from explorer.errors import PlanError
from explorer.plans.plan import InheritancePlan
from explorer.plans.schedule import Segments
from explorer.plans.strategies import strategy
from search_spaces import make_space
from search_spaces.axes.rule import move_rule
from search_spaces.axes.scheduler import move_scheduler
from search_spaces.axes.steps import STEPS_OF_FIFTY
from search_spaces.neighbour import moves, neighbour
from search_spaces.space import Setting
from tests.architectures import ARCHITECTURES, SD15, TINY
from tests.explorer.calibration.test_fitting import moments_of
from tests.search_spaces.trials import DrawnTrial

OTHERS = {"DPMSolverMultistepScheduler": 50, "HeunDiscreteScheduler": 99}
few = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("shape", ARCHITECTURES)
@few
@given(data=st.data(), run=st.sampled_from([(50, 51), (20, 20), (4, 5)]), seed=st.integers(0, 10**6))
def test_a_neighbour_is_another_valid_plan(shape: str, data: st.DataObject, run: tuple[int, int], seed: int) -> None:
    setting = Setting(ARCHITECTURES[shape], *run)
    space = make_space("joint", ARCHITECTURES[shape], *run)
    plan = space.suggest(DrawnTrial(data.draw))
    moved = neighbour(plan, setting, Random(seed))
    if moved is None:
        return
    assert (moved.steps, moved.key(setting.at(moved.steps))) != (plan.steps, plan.key(setting.at(plan.steps)))
    assert InheritancePlan.from_json(moved.to_json()) == moved
    parameters = space.parameters(moved)  # the sampler can be told of it
    assert parameters["steps"] == moved.steps
    assert neighbour(plan, setting, Random(seed)) == moved


@pytest.mark.parametrize("name", ["DC0/P5", "CO6/P5†", "EP/P2", "RI/P3"])
def test_every_move_is_found_from_a_baseline(name: str) -> None:
    setting = Setting(SD15, 50, 51, values={"scheduler": OTHERS})
    plan = strategy(name, steps=50, unet=SD15)
    random, worked = Random(0), set()
    for _ in range(300):
        for move in moves(setting):
            try:
                worked |= {move.__name__} if move(plan, setting, random) else set()
            except PlanError:
                continue
    expected = {move.__name__ for move in moves(setting)}
    if all(form == "residual" for mask in plan.masks for form in mask.forms.values()):
        expected -= {"move_cut"}
    assert worked == expected


@pytest.mark.parametrize("others", [{}, {"DPMSolverMultistepScheduler": 20, "HeunDiscreteScheduler": 39}])
def test_a_walk_reaches_far_and_stays_valid(others: dict[str, int]) -> None:
    setting, random = Setting(SD15, 20, 21, values={"scheduler": others}), Random(1)
    space = make_space("joint", SD15, 20, 21, values={"scheduler": others})
    plan = strategy("DC0", mode="P3", steps=20, unet=SD15)
    seen, schedulers = set(), set()
    for _ in range(200):
        plan = neighbour(plan, setting, random) or plan  # now and then 20 attempts find none
        seen.add(plan.key(setting.evaluations_of(plan)))
        schedulers.add(plan.scheduler)
    assert len(seen) > 100 and schedulers == {None, *others}
    assert space.parameters(plan)


def test_a_written_schedule_goes_along_to_a_scheduler_of_other_evaluations() -> None:
    setting = Setting(SD15, 4, 5, values={"scheduler": {"HeunDiscreteScheduler": 7}})
    plan = replace(strategy("DC0/P2", steps=4, unet=SD15), schedule=Segments.of([0, 1, 0, 1, 1]))
    moved = move_scheduler(plan, setting, Random(0))
    assert moved is not None and moved.scheduler == "HeunDiscreteScheduler"
    assert moved.resolve(setting.evaluations_of(moved)) == (0, 0, 1, 0, 0, 1, 1)
    assert move_scheduler(plan, Setting(SD15, 4, 5), Random(0)) is None


def test_neighbours_of_a_fitted_plan_are_fitted_anew() -> None:
    fitter = Fitter({20: moments_of(SD15, 20, 21)})
    setting, random = Setting(SD15, 20, 21, fitter, {"scheduler": {"HeunDiscreteScheduler": 39}}), Random(2)
    plan = strategy("CO6/P3+fit", steps=20, unet=SD15, fit=fitter)
    moved = [neighbour(plan, setting, random) for _ in range(60)]
    rules = {other.rule.name for other in moved if other is not None}
    assert "fitted" in rules and len(rules) > 1
    for other in moved:
        assert other is not None and (other.rule.name != "fitted" or fitter(other) == other)
        assert other.scheduler is None or other.rule.name != "fitted"
    assert "fitted" in {
        neighbour(strategy("CO6/P3", steps=20, unet=SD15), setting, random).rule.name for _ in range(90)
    }


def test_a_fitted_plan_moves_to_every_other_rule() -> None:
    fitter = Fitter({20: moments_of(TINY, 20, 21)})
    setting, random = Setting(TINY, 20, 21, fitter), Random(0)
    plan = strategy("CO6/P3+fit", steps=20, unet=TINY, fit=fitter)
    assert {move_rule(plan, setting, random).rule.name for _ in range(30)} == {"copy", "forecast1", "forecast2"}
    moved = [neighbour(plan, setting, random) for _ in range(100)]
    same = {each.rule.name for each in moved if each and each.masks == plan.masks and each.schedule == plan.schedule}
    assert same >= {"copy", "forecast1", "forecast2"}


def test_a_fitted_plan_stays_fitted_at_every_step_count_with_moments() -> None:
    setting = Setting(TINY, 20, 21)
    fitter = Fitter({n: moments_of(TINY, n, n + 1) for n in setting.fractions(STEPS_OF_FIFTY)})
    setting, random = Setting(TINY, 20, 21, fitter), Random(1)
    plan = strategy("CO6/P3+fit", steps=16, unet=TINY, fit=fitter)
    moved = [neighbour(plan, setting, random) for _ in range(100)]
    others = [each for each in moved if each is not None and each.steps != 16]
    assert {each.steps for each in others} == {20, 14} and {each.rule.name for each in others} == {"fitted"}
    bare = replace(setting, fit=Fitter({}))
    moved = [neighbour(plan, bare, random) for _ in range(100)]
    others = [each for each in moved if each is not None and each.steps != 16]
    assert others and {each.rule.name for each in others} == {"copy"}
