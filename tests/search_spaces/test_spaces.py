"""Every space: all draws are valid plans, plans go to parameters and back, and what is outside is refused."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from random import Random

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import FixedTrial

from explorer.calibration.fitting import Fitter
from explorer.errors import PlanError, StudyError
from explorer.plans.plan import InheritancePlan
from explorer.plans.rules import RULES, Rule
from explorer.plans.schedule import Curve, Every, Periodic, Segments
from explorer.plans.schedulers import SCHEDULERS, evaluations_of
from explorer.plans.strategies import PAPER_STRATEGIES, STRATEGIES, baselines, strategy
from explorer.unet.architecture import Architecture
from explorer.unet.mask import FORMS, Form, Mask
from search_spaces import DEFAULT_SPACE, SPACES, make_space
from search_spaces.axes import controls
from search_spaces.axes.steps import STEPS_OF_FIFTY
from search_spaces.neighbour import neighbour
from search_spaces.space import Setting, Space
from tests.architectures import ARCHITECTURES, SD15, SDXL, TINY
from tests.explorer.any_mask import removed
from tests.explorer.calibration.test_fitting import moments_of
from tests.search_spaces.trials import DrawnTrial, valid_masks

few = settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))


def again(space: Space, plan: InheritancePlan) -> InheritancePlan:
    """The plan by way of its parameters, with Optuna's warnings of values out of range as errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return space.suggest(FixedTrial(space.parameters(plan)))


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("shape", ARCHITECTURES)
@few
@given(data=st.data(), run=st.sampled_from([(50, 50), (50, 51), (20, 39), (4, 5), (1, 1)]))
def test_every_draw_is_a_plan_that_comes_back(name: str, shape: str, data: st.DataObject, run: tuple[int, int]) -> None:
    space = make_space(name, ARCHITECTURES[shape], *run)
    trial = DrawnTrial(data.draw)
    plan = space.suggest(trial)  # a mask that ignores the sample or a bad schedule would raise here
    evaluations = Setting(ARCHITECTURES[shape], *run).at(plan.steps)
    assert space.suggest(FixedTrial(trial.values)) == plan
    assert len(plan.resolve(evaluations)) == evaluations
    parameters = space.parameters(plan)
    assert again(space, plan).key(evaluations) == plan.key(evaluations)
    assert space.parameters(again(space, plan)) == parameters, "one plan has one set of parameters"
    assert InheritancePlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("name", ["joint", "block", "layer", "unit"])
@pytest.mark.parametrize("shape", ARCHITECTURES)
@pytest.mark.parametrize("forms", [("residual", "output", "zero", "bypass"), ("bypass",), ("zero", "residual")])
@few
@given(data=st.data())
def test_every_draw_that_removes_parts_comes_back(
    name: str, shape: str, forms: tuple[Form, ...], data: st.DataObject
) -> None:
    space = make_space(name, ARCHITECTURES[shape], 20, 21, forms=forms)
    trial = DrawnTrial(data.draw)
    plan = space.suggest(trial)
    count = Setting(ARCHITECTURES[shape], 20, 21).at(plan.steps)
    assert space.suggest(FixedTrial(trial.values)) == plan and len(plan.resolve(count)) == count
    found = {form for mask in plan.masks for _, form in mask.entries}
    assert found <= {*forms, "zero"}  # of a bypass that does not fit
    assert again(space, plan).key(count) == plan.key(count)
    assert space.parameters(again(space, plan)) == space.parameters(plan)
    assert InheritancePlan.from_json(plan.to_json()) == plan
    random = Random(data.draw(st.integers(0, 99)))
    moved = neighbour(plan, Setting(ARCHITECTURES[shape], 20, 21, forms=forms), random)
    assert moved is None or InheritancePlan.from_json(moved.to_json()) == moved


def test_layers_removed_at_every_step_are_in_the_space_that_has_the_form() -> None:
    mask = removed(SD15, "dn0.l1", "up3.l1")
    plans = [InheritancePlan(SD15, 20, (mask,), Every()), InheritancePlan(SD15, 20, (mask,), Periodic(2))]
    space = make_space("joint", SD15, 20, 21, forms=(*FORMS, "bypass"))
    for plan in plans:
        assert again(space, plan).key(21) == plan.key(21)
        with pytest.raises(PlanError, match="outside of the space joint"):
            make_space("joint", SD15, 20, 21).parameters(plan)
    assert space.parameters(plans[0])["schedule.family"] == "every"
    for forms in ((), ("zero", "zero"), ("sideways",)):
        with pytest.raises(StudyError, match="one or more of the forms residual, output, zero, bypass"):
            make_space("joint", SD15, 20, 21, forms=forms)


SEVERAL = {"DPMSolverMultistepScheduler": 20, "HeunDiscreteScheduler": 39}


@pytest.mark.parametrize("shape", ARCHITECTURES)
@pytest.mark.parametrize("calibrated", [False, True])
@few
@given(data=st.data())
def test_every_draw_of_several_schedulers_comes_back(shape: str, calibrated: bool, data: st.DataObject) -> None:
    architecture = ARCHITECTURES[shape]
    counts = Setting(architecture, 20, 21).fractions(STEPS_OF_FIFTY)
    fit = Fitter({n: moments_of(architecture, n, n + 1) for n in counts}) if calibrated else None
    space = make_space("joint", architecture, 20, 21, fit, {"scheduler": SEVERAL})
    setting = Setting(architecture, 20, 21, fit, {"scheduler": SEVERAL})
    trial = DrawnTrial(data.draw)
    plan = space.suggest(trial)
    assert (plan.scheduler or "own") == trial.values["scheduler"]
    evaluations = setting.evaluations_of(plan)
    if trial.values["rule"] == "fitted":  # at every step count; it is the own scheduler's
        copies = plan.scheduler is not None or plan.extracts_always
        assert plan.rule.name == ("copy" if copies else "fitted")
        assert InheritancePlan.from_json(plan.to_json()) == plan
    assert space.suggest(FixedTrial(trial.values)) == plan
    assert len(plan.resolve(evaluations)) == evaluations
    assert again(space, plan).key(evaluations) == plan.key(evaluations)
    assert InheritancePlan.from_json(plan.to_json()) == plan


def test_one_scheduler_is_no_dimension_and_another_space_has_none() -> None:
    plan = strategy("DC0/P3", steps=20, unet=SD15)
    other = replace(plan, scheduler="HeunDiscreteScheduler")
    one, several = make_space("joint", SD15, 20, 21), make_space("joint", SD15, 20, 21, values={"scheduler": SEVERAL})
    assert "scheduler" not in one.parameters(plan)
    assert several.parameters(plan)["scheduler"] == "own"
    assert several.parameters(other)["scheduler"] == "HeunDiscreteScheduler"
    for space in (one, make_space("schedule", SD15, 20, 21)):
        with pytest.raises(PlanError, match="no plans for HeunDiscreteScheduler"):
            space.parameters(other)
    with pytest.raises(StudyError, match="space block has one scheduler"):
        make_space("block", SD15, 20, 21, values={"scheduler": SEVERAL})


def test_controls_of_every_scheduler_are_in_joint() -> None:
    space = make_space("joint", SD15, 20, 21, values={"scheduler": SEVERAL})
    setting = Setting(SD15, 20, 21, values={"scheduler": SEVERAL})
    plans = [
        plan
        for plan in baselines(SD15, 20, complete=False, modes=(), controls=controls(setting))
        if plan.extracts_always
    ]
    assert [plan.name for plan in plans if plan.scheduler == "HeunDiscreteScheduler"] == [
        f"plain@{n}/HeunDiscrete" for n in (20, 10, 8, 6, 4)
    ]
    assert len(plans) == 15
    for plan in plans:
        at = setting.evaluations_of(plan)
        assert again(space, plan).key(at) == plan.key(at), plan.name


@pytest.mark.parametrize("shape", ARCHITECTURES)
@pytest.mark.parametrize("name", ["joint", "named"])
@pytest.mark.parametrize(("steps", "evaluations"), [(50, 51), (20, 20)])
def test_every_baseline_is_in_joint_and_named(name: str, shape: str, steps: int, evaluations: int) -> None:
    architecture = ARCHITECTURES[shape]
    space = make_space(name, architecture, steps, evaluations)
    plans = list(baselines(architecture, steps))
    assert len(plans) > 100
    for plan in plans:
        at = Setting(architecture, steps, evaluations).at(plan.steps)
        assert again(space, plan).key(at) == plan.key(at), plan.name


def test_named_gives_the_baselines_their_names() -> None:
    space = make_space("named", SD15, 50, 51)
    assert [again(space, plan).name for plan in baselines(SD15, 50)] == [plan.name for plan in baselines(SD15, 50)]


INSIDE = {
    "block": [n for n in PAPER_STRATEGIES if n[:2] in ("IN", "EX", "EN", "DE") or n in ("CO1", "CO2", "CO3")],
    "layer": [n for n in PAPER_STRATEGIES if n[:2] in ("LI", "IN", "EX", "EN", "DE") or n in ("CO1", "CO2", "CO3")],
    "unit": list(PAPER_STRATEGIES),
    "schedule": list(STRATEGIES),
}


@pytest.mark.parametrize("name", INSIDE)
@pytest.mark.parametrize("rule", RULES)
def test_the_structures_of_the_paper_are_in_the_spaces_of_their_granularity(name: str, rule: str) -> None:
    space = make_space(name, SD15, 50, 51)
    for structure in PAPER_STRATEGIES:
        plan = strategy(structure, mode="P5†", unet=SD15, rule=rule)
        if structure in INSIDE[name]:
            assert again(space, plan).key(51) == plan.key(51), structure
        else:
            with pytest.raises(PlanError, match="outside of the space"):
                space.parameters(plan)


@few
@given(mask=valid_masks(SD15), rule=st.sampled_from(tuple(RULES)))
def test_joint_reaches_every_valid_mask(mask: Mask, rule: str) -> None:
    plan = InheritancePlan(SD15, 20, (mask,), Periodic(3), Rule.parse(rule))
    assert again(make_space("joint", SD15, 50, 51), plan).key(21) == plan.key(21)


@pytest.mark.parametrize("level", ["block", "layer", "unit"])
@pytest.mark.parametrize("architecture", [SD15, SDXL, TINY])
@few
@given(data=st.data())
def test_block_layer_and_unit_reach_every_mask_of_theirs(
    level: str, architecture: Architecture, data: st.DataObject
) -> None:
    groups = {"block": architecture.blocks, "layer": architecture.layers}.get(
        level, {unit: (unit,) for unit in architecture.units}
    )
    chosen = data.draw(st.sets(st.sampled_from(list(groups))))
    mask = Mask.of([unit for group in chosen for unit in groups[group]])
    plan = InheritancePlan(architecture, 50, (mask,), Periodic(4, 1, 0.1))
    space = make_space(level, architecture, 50, 50)
    assert again(space, plan).key(50) == plan.key(50)
    assert again(space, plan).masks == (mask,)


@pytest.mark.parametrize("name", ["joint", "schedule"])
@few
@given(choices=st.lists(st.integers(0, 3), min_size=49, max_size=49))
def test_joint_and_schedule_reach_every_choice_of_every_step(name: str, choices: list[int]) -> None:
    masks = tuple(STRATEGIES[n].mask(SD15) for n in ("DC0", "CO6", "EP"))
    plan = InheritancePlan(SD15, 50, masks, Segments.of([0, *choices]), Rule("forecast", 1))
    space = make_space(name, SD15, 50, 50)
    assert again(space, plan).key(50) == plan.key(50)


@pytest.mark.parametrize(
    "schedule",
    [
        Periodic(2), Periodic(20, 19, 0.4), Periodic(7, 3, 0.2, (0.3, 0.85)), Periodic(40),
        Periodic(5, 0, 0.15, (0.5,)), Curve(10, 0.3, 1.4), Curve(25, 1.0, 2.0, 0.1, (0.05, 0.95)),
        Curve(7, 0.33, 1.37, 0.0, (0.5,)),
        Segments(((0, 3), (1, 5), (0, 1), (2, 6), (0, 1), (3, 20), (0, 15))),
    ],
    ids=lambda schedule: schedule.name,
)  # fmt: skip
def test_schedules_on_and_off_the_grid_come_back_in_joint(schedule: Periodic | Curve | Segments) -> None:
    masks = tuple(STRATEGIES[n].mask(SD15) for n in ("DC2", "CO6", "DC0"))
    plan = InheritancePlan(SD15, 50, masks, schedule)
    assert again(make_space("joint", SD15, 50, 51), plan).key(51) == plan.key(51)


CO6 = strategy("CO6", mode="P5", unet=SD15)
MANY = tuple(Mask.of([unit]) for unit in SD15.units[:4])
OUTSIDE = {
    "another architecture": ("joint", strategy("CO6", mode="P5", unet=SDXL)),
    "another number of steps": ("unit", replace(CO6, steps=20)),
    "a step count off the grid": ("joint", replace(CO6, steps=33)),
    "half a block": ("block", CO6),
    "half a layer": ("layer", CO6),
    "two forms": ("unit", replace(CO6, masks=(Mask.of({"dn0.l0.res": "residual", "up2.l1.attn": "output"}),))),
    "a tail off the grid": ("unit", replace(CO6, schedule=Periodic(5, 0, 0.35))),
    "a curve": ("unit", replace(CO6, schedule=Curve(10, 0.3, 1.4))),
    "two masks": ("unit", replace(CO6, masks=MANY[:2], schedule=Periodic(5, 0, 0.0, (0.5,)))),
    "four masks": ("joint", replace(CO6, masks=MANY, schedule=Periodic(5, 0, 0.0, (0.2, 0.4, 0.6)))),
    "a mask that has no name": ("schedule", replace(CO6, masks=MANY[:1])),
    "a mode without a name": ("named", strategy("CO6", mode="P7", unet=SD15)),
    "plain@n of another n": ("named", strategy("plain@17", unet=SD15)),
    "written out for another run": ("joint", replace(CO6, schedule=Segments(((0, 1), (1, 4))))),
}


@pytest.mark.parametrize("what", OUTSIDE)
def test_a_plan_outside_of_the_space_is_refused_in_one_sentence(what: str) -> None:
    name, plan = OUTSIDE[what]
    with pytest.raises(PlanError) as caught:
        make_space(name, SD15, 50, 51).parameters(plan)
    assert (
        str(caught.value).endswith(".")
        and "\n" not in str(caught.value)
        and not re.search(r"\. [A-Z]", str(caught.value))
    )


def test_a_plan_beyond_four_masks_that_uses_three_is_inside() -> None:
    plan = replace(CO6, masks=MANY, schedule=Segments(((0, 1), (2, 20), (0, 1), (4, 29))))
    assert again(make_space("joint", SD15, 50, 51), plan).key(51) == plan.key(51)


@pytest.mark.parametrize("bad", ["", "jiont", "Block"])
def test_an_unknown_space_is_refused_with_the_known_ones(bad: str) -> None:
    with pytest.raises(StudyError, match=", ".join(SPACES)):
        make_space(bad, SD15, 50, 51)


@pytest.mark.parametrize(("steps", "evaluations"), [(0, 1), (-5, 50), (50, 0)])
def test_no_steps_are_refused(steps: int, evaluations: int) -> None:
    with pytest.raises(StudyError, match="at least 1"):
        make_space(DEFAULT_SPACE, SD15, steps, evaluations)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("steps", [50, 20, 2])
def test_evaluations_of_fewer_steps_are_those_of_the_scheduler(scheduler: str, steps: int) -> None:
    import diffusers

    options = {"skip_prk_steps": True} if scheduler == "PNDMScheduler" else {}
    made = getattr(diffusers, scheduler)(num_train_timesteps=100, **options)
    tried = sorted({n for n in (1, 2, 3, 7, 10, 15) if n < steps} | {steps})
    counts = {n: evaluations_of(made, n) for n in tried}
    for setting in (
        Setting(SD15, steps, counts[steps]),
        Setting(SD15, steps, 3, values={"scheduler": {scheduler: counts[steps]}}),
    ):
        named = scheduler if setting.values else None
        assert {n: setting.at(n, named) for n in counts} == counts


@pytest.mark.parametrize("name", SPACES)
def test_optuna_enqueues_baselines_and_learns_in_the_space(name: str) -> None:
    """The real sampler of a study, over conditional parameters and enqueued baselines, with a made-up cost."""
    space = make_space(name, SD15, 50, 51)
    plan = strategy("CO3", mode="P5", unet=SD15)
    sampler = optuna.samplers.TPESampler(multivariate=True, group=True, seed=0, n_startup_trials=5)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    study.enqueue_trial(space.parameters(plan))

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        found = space.suggest(trial)
        choices = found.resolve(Setting(SD15, 50, 51).at(found.steps))
        live = [len(found.mask(choice)) for choice in choices]
        return sum(38 - n for n in live), sum(n**2 for n in live)

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study.optimize(objective, n_trials=10)
    assert all(trial.state == optuna.trial.TrialState.COMPLETE for trial in study.trials)
    assert space.suggest(FixedTrial(study.trials[0].params)).key(51) == plan.key(51)


@pytest.mark.parametrize("name", ["joint", "named", "schedule", "unit"])
def test_a_space_with_a_fitter_holds_fitted_plans(name: str) -> None:
    """The weights follow from mask and schedule, so that a fitted plan is found again by its rule alone."""
    fitter = Fitter({50: moments_of(SD15, 50, 51)})
    space = make_space(name, SD15, 50, 51, fitter)
    plan = strategy("CO6/P3+fit", unet=SD15, fit=fitter)
    values = space.parameters(plan)
    assert values["rule"] == "fitted" and space.suggest(FixedTrial(values)).key(51) == plan.key(51)
    other = strategy("CO6/P3+fit", unet=SD15, fit=Fitter({50: moments_of(SD15, 50, 51, seed=5)}))
    for outside in (make_space(name, SD15, 50, 51).parameters, lambda _: space.parameters(other)):
        with pytest.raises(PlanError, match="outside of the space"):
            outside(plan)
