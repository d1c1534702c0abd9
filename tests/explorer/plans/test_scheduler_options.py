"""Options of the scheduler that a plan names: read, put on by the settings they declare, refused by name."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import diffusers
import pytest
import torch

from explorer import InheritancePlan, PlanError, inherit, strategy
from explorer.plans.schedulers import OPTIONS, SCHEDULERS, check_name, is_named, name_of, scheduler_for, short
from search_spaces.axes.scheduler import Scheduler
from search_spaces.nickname import nickname
from studies.storage.facts import PlanFacts
from tests.architectures import TINY
from tests.conftest import make_pipeline
from tests.explorer.plans.test_plan_schedulers import DPM, STEPS, latents

KARRAS = f"{DPM}+karras"
EVERY = [f"{name}+{each}" for each, option in OPTIONS.items() for name in option.schedulers]


@pytest.fixture(scope="module")
def pipe() -> Any:
    return make_pipeline()


def test_options_are_declared_for_schedulers_that_have_their_settings() -> None:
    for option in OPTIONS.values():
        for name in option.schedulers:
            assert name in SCHEDULERS
            on = {key for key, value in option.settings.items() if value}
            assert on <= {*inspect.signature(getattr(diffusers, name)).parameters}


@pytest.mark.parametrize("name", EVERY)
def test_an_option_is_the_setting_by_hand(name: str, pipe: Any) -> None:
    own, kind = pipe.scheduler, getattr(diffusers, name.partition("+")[0])
    on = {key: value for key, value in OPTIONS[name.partition("+")[2]].settings.items() if value}
    plan = InheritancePlan(strategy("DC1", unet=pipe.unet).architecture, STEPS, scheduler=name)
    with inherit(pipe, plan):
        assert name_of(pipe.scheduler) == name and is_named(pipe.scheduler, name)
        made = latents(pipe)
        assert torch.equal(latents(pipe), made) and torch.isfinite(made).all()
    assert pipe.scheduler is own
    pipe.scheduler = kind.from_config(own.config, **on)
    assert torch.equal(latents(pipe), made)
    pipe.scheduler = kind.from_config(own.config)
    assert not torch.equal(latents(pipe), made)
    pipe.scheduler = own


def test_several_are_written_in_one_order() -> None:
    assert check_name("DPMSolverMultistep+sde+karras") == f"{DPM}+karras+sde"
    assert short(f"{DPM}+karras+sde") == "DPMSolverMultistep+karras+sde"
    both = scheduler_for(diffusers.DDIMScheduler(), f"{DPM}+karras+sde")
    assert both.config.use_karras_sigmas and both.config.algorithm_type == "sde-dpmsolver++"


def test_a_pipeline_s_own_settings_hold_but_for_those_that_the_option_names() -> None:
    own = diffusers.DPMSolverMultistepScheduler(use_karras_sigmas=True, solver_order=3)
    assert scheduler_for(own, DPM) is own and scheduler_for(own, KARRAS) is own
    other = scheduler_for(own, f"{DPM}+exponential").config
    assert (other.use_karras_sigmas, other.use_exponential_sigmas, other.solver_order) == (False, True, 3)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("DDIM+karras", "may not name the option 'karras' of DDIMScheduler; expected no option"),
        (f"{DPM}+rho", "may not name the option 'rho' .* expected karras, exponential, sde"),
        (f"{DPM}+", "may not name the option ''"),
        (f"{DPM}+karras+exponential", "exclude each other"),
        (f"{KARRAS}+karras", "exclude each other"),
        ("os.system+karras", "may not name the scheduler"),
        (f"{DPM}+sde+karras", r"by its class, DPMSolverMultistepScheduler\+karras\+sde"),
    ],
)
def test_what_a_plan_may_not_name_is_refused(name: str, words: str) -> None:
    document = InheritancePlan(TINY, 4).to_json() | {"schema": 3, "scheduler": name}
    with pytest.raises(PlanError, match=words) as caught:
        InheritancePlan.from_json(document)
    assert "\n" not in str(caught.value)


def test_a_scheduler_without_the_option_is_refused_when_it_comes_later(pipe: Any) -> None:
    plan = replace(strategy("DC1", mode="P2", steps=STEPS, unet=pipe.unet), scheduler=KARRAS)
    with inherit(pipe, plan):
        put = pipe.scheduler
        pipe.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(put.config, use_karras_sigmas=False)
        with pytest.raises(PlanError, match=r"plan is for DPMSolverMultistepScheduler\+karras and the scheduler given"):
            latents(pipe)
        pipe.scheduler = put
    with pytest.raises(PlanError, match=r"\+karras and the scheduler given is DPMSolverMultistepScheduler;"):
        inherit(pipe.unet, plan, scheduler=diffusers.DPMSolverMultistepScheduler())


def test_names_and_facts_show_it() -> None:
    control = strategy("plain@10/DPMSolverMultistep+karras~trailing", unet=TINY)
    assert (control.scheduler, control.spacing) == (KARRAS, "trailing")
    assert strategy("m2+plain@10/DPMSolverMultistep+sde", unet=TINY).name == "m2+plain@10/DPMSolverMultistep+sde"
    plan = replace(strategy("DC0/P3", steps=20, unet=TINY), name=None, scheduler=KARRAS)
    assert nickname(plan) == "DC0/P3@20/DPMSolverMultistep+karras" == PlanFacts.of(plan.to_json()).nickname
    assert PlanFacts.of(plan.to_json()).scheduler == "DPMSolverMultistep+karras"
    assert InheritancePlan.from_json(plan.to_json()) == plan and plan.to_json()["schema"] == 3
    assert plan.key(20) != replace(plan, scheduler=DPM).key(20)


def test_a_study_s_own_scheduler_is_dropped_with_its_options(pipe: Any) -> None:
    own = make_pipeline(diffusers.DPMSolverMultistepScheduler(use_karras_sigmas=True))
    names = ["own", DPM, KARRAS, f"{DPM}+exponential", "HeunDiscreteScheduler+karras"]
    assert Scheduler.known(names, own, 4) == {f"{DPM}+exponential": 4, "HeunDiscreteScheduler+karras": 7}
