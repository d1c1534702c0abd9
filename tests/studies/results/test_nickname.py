"""Nicknames: short, made of what a plan is, equal for equal plans, and the same of a plan and of its JSON."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from explorer.errors import PlanError
from explorer.plans.plan import InheritancePlan
from explorer.plans.rules import Rule
from explorer.plans.schedule import Curve, Every, Periodic, Schedule, Segments
from explorer.plans.schedulers import SCHEDULERS
from explorer.plans.strategies import STRATEGIES, strategy
from explorer.unet.mask import Mask
from search_spaces import make_space
from search_spaces.nickname import mask_nickname, nickname
from studies.storage.facts import LONG, PlanFacts
from tests.architectures import ARCHITECTURES, SD15
from tests.explorer.any_mask import removed
from tests.search_spaces.trials import DrawnTrial

few = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
DC0, AI = (STRATEGIES[name].mask(SD15) for name in ("DC0", "AI"))
NEAR = Mask.of({"up3.l1.attn": "output", "dn3.l0.res": "residual", "up3.l2.attn": "residual"})


@pytest.mark.parametrize("shape", ARCHITECTURES)
@few
@given(data=st.data())
def test_of_any_plan(shape: str, data: st.DataObject) -> None:
    plan = make_space("joint", ARCHITECTURES[shape], 20, 21).suggest(DrawnTrial(data.draw))
    name = nickname(plan)
    assert 0 < len(name) <= 32 and name.endswith(f"@{plan.steps}") and " " not in name
    assert PlanFacts.of(plan.to_json(), plan.name, plan.describe()).nickname == name
    assert nickname(replace(plan, name="mine")) == "mine"


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_named_mask_keeps_its_name(name: str) -> None:
    found = mask_nickname(SD15, STRATEGIES[name].mask(SD15))
    assert STRATEGIES[found].mask(SD15).effective(SD15) == STRATEGIES[name].mask(SD15).effective(SD15)


@pytest.mark.parametrize(
    ("masks", "schedule", "rule", "expected"),
    [
        ((DC0,), Periodic(3), "copy", "DC0/P3@20"),
        ((DC0,), Periodic(3, 2, tail=0.2), "forecast2", "DC0/P3†+f2@20"),
        ((NEAR,), Curve(5, 0.3, 1.4), "forecast1", "~DC0/N5+f1@20"),
        ((DC0, AI), Segments(((0, 1), (2, 3), (0, 2), (1, 1))), "copy", "AI·DC0/S3@20"),
        ((DC0, AI), Segments(((0, 1), (2, 3))), "copy", "AI/S1@20"),
        ((DC0, AI, NEAR), Periodic(2, switches=(0.3, 0.6)), "copy", "DC0·AI·…/P2@20"),
        ((Mask.of(["up1.l1.res", "dn2.l0.attn"]),), Periodic(4), "copy", "2u/P4@20"),
        ((Mask.of([*AI.forms], "zero"),), Periodic(3), "copy", "AI-/P3@20"),
        ((removed(SD15, "dn0.l1", "up3.l1"),), Every(), "copy", "LI3--/every@20"),
        ((Mask.of({**AI.forms, "mid.attn": "zero"}),), Periodic(3), "copy", "~AI-/P3@20"),
    ],
)
def test_what_it_tells(masks: tuple[Mask, ...], schedule: Schedule, rule: str, expected: str) -> None:
    plan = InheritancePlan(SD15, 20, masks, schedule, Rule.parse(rule))
    assert nickname(plan) == expected


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_scheduler_of_its_own_ends_it(scheduler: str) -> None:
    plan = replace(strategy("DC0/P3+f2", steps=20, unet=SD15), name=None, scheduler=scheduler)
    expected = f"DC0/P3+f2@20/{scheduler.removesuffix('Scheduler')}"
    assert nickname(plan) == PlanFacts.of(plan.to_json(), None, plan.describe()).nickname == expected
    assert PlanFacts.of(plan.to_json()).scheduler == scheduler.removesuffix("Scheduler")


@pytest.mark.parametrize("hostile", ["os.system", "<b>", 3, {}, ["DDIMScheduler"], ""])
def test_what_is_no_scheduler_of_a_plan_is_no_name(hostile: object) -> None:
    document = strategy("DC0/P3", steps=20, unet=SD15).to_json() | {"scheduler": hostile}
    assert PlanFacts.of(document).scheduler == "other"
    assert PlanFacts.of(document, None, "these words").nickname == "DC0/P3@20/other"


def test_the_networks_and_the_spacing_are_facts_and_the_cast_comes_first() -> None:
    plan = replace(strategy("DC0/P3", steps=20, unet=SD15), name=None, spacing="trailing").with_cast("base@0.4")
    facts = PlanFacts.of(plan.to_json(), None, plan.describe())
    assert facts.nickname == nickname(plan) == "base@0.4+DC0/P3@20~trailing"
    assert facts.networks == ("base", "teacher") and facts.spacing == "trailing" and not facts.plain
    alone = PlanFacts.of(InheritancePlan(SD15, 20).with_cast("m2").to_json())
    assert alone.nickname == "m2+plain@20" and alone.networks == ("m2",) and not alone.plain
    for hostile in (3, "a b", {}, ["m2"]):
        broken = PlanFacts.of(plan.to_json() | {"cast": hostile, "spacing": hostile})
        assert broken.networks == (broken.spacing,) == ("other",) and broken.nickname == "DC0/P3@20~other"


@pytest.mark.parametrize(
    ("masks", "schedule", "expected"),
    [
        ((removed(SD15, "dn0.l1", "up3.l1"),), Every(), ("every", "removal", "none")),
        ((AI, removed(SD15, "mid", ending="-")), Periodic(3, switches=(0.5,)), ("P3", "mixed", "copy")),
        ((DC0, AI), Periodic(3, switches=(0.5,)), ("P3", "both", "copy")),
    ],
)
def test_what_a_plan_removes_is_its_form(
    masks: tuple[Mask, ...], schedule: Schedule, expected: tuple[str, str, str]
) -> None:
    facts = PlanFacts.of(InheritancePlan(SD15, 20, masks, schedule).to_json())
    assert (facts.mode, facts.form, facts.rule) == expected and not facts.plain


def test_a_mask_like_none_is_counted() -> None:
    assert mask_nickname(SD15, Mask.of(["dn0.l0.res"])) == "1u"


def test_controls_and_names_stay() -> None:
    for name in ("plain@20", "CO6/P5†"):
        assert nickname(strategy(name, steps=20, unet=SD15)) == name


@pytest.mark.parametrize("plan", [None, {}, {"architecture": {}, "masks": ["a b"], "schedule": "P3", "steps": 4}, 3])
def test_what_cannot_be_read_goes_by_its_words(plan: object) -> None:
    words = "word " * 40
    shown = PlanFacts.of(plan, None, words).nickname
    assert shown == words[: LONG - 4] + " ..." and len(shown) == LONG


def test_a_mask_that_does_not_fit_goes_by_its_words() -> None:
    document = replace(strategy("DC0/P3", steps=20, unet=SD15), name=None).to_json()
    with pytest.raises(PlanError):
        InheritancePlan.from_json(document | {"schedule": "P3 tail=x"})
    assert PlanFacts.of(document | {"schedule": "P3 tail=x"}, None, "these").nickname == "these"
