"""Casts, spacings and speed-up adapters of plans: files of schema 4, keys, names, and what earlier schemas keep."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.errors import PlanError
from explorer.plans.cast import TEACHER, Cast
from explorer.plans.document import SCHEMA
from explorer.plans.plan import InheritancePlan, resolve_run
from explorer.plans.schedule import Every, Periodic, Segments
from explorer.plans.strategies import strategy
from explorer.timing.cost_model import CostModel
from explorer.unet.mask import Mask
from tests.architectures import SD15, TINY

names = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,8}", fullmatch=True)


@st.composite
def casts(draw: st.DrawFn) -> Cast:
    fractions = sorted(draw(st.lists(st.floats(1e-6, 0.999999), max_size=3, unique=True)))
    chosen = draw(st.lists(names, min_size=len(fractions) + 1, max_size=len(fractions) + 1, unique=True))
    return Cast(tuple(zip(chosen, [*fractions, None], strict=True)))


@given(cast=casts())
def test_a_cast_comes_back_from_its_text(cast: Cast) -> None:
    assert Cast.parse(str(cast)) == cast


@given(cast=casts(), evaluations=st.integers(1, 120))
def test_a_cast_fits_every_number_of_evaluations(cast: Cast, evaluations: int) -> None:
    found = cast.resolve(evaluations)
    order = [name for name, _ in cast.entries]
    assert len(found) == evaluations and set(found) <= set(order)
    assert [order.index(name) for name in found] == sorted(order.index(name) for name in found)
    for k, (_, until) in enumerate(cast.entries[:-1]):
        ran = sum(order.index(name) <= k for name in found)  # by this network and those before it
        assert until is not None and ran - 1 < until * evaluations <= ran + 1e-8


def test_the_paper_s_first_schedule() -> None:
    """S1: Base for the first 10 of 25 evaluations."""
    assert Cast.parse("base@0.4, teacher").resolve(25) == ("base",) * 10 + (TEACHER,) * 15
    assert Cast.parse("teacher@0.6,base").resolve(5) == (TEACHER,) * 3 + ("base",) * 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "letter"),
        ("base@", "cannot be read"),
        ("base@x, teacher", "cannot be read"),
        ("base@0.4", "each entry of a cast but the last"),
        ("base, teacher", "each entry of a cast but the last"),
        ("base@0.4, m2@0.4, teacher", "must ascend"),
        ("base@1.5, teacher", "must ascend between 0 and 1"),
        ("base@0.4, base", "twice in turn"),
        ("../base@0.4, teacher", "a letter and up to 39"),
        (", ".join(f"n{i}@0.{i}" for i in range(1, 10)) + ", teacher", "from 1 to 8 entries"),
        (3, "cannot be read"),
        (["base"], "cannot be read"),
        ("a" * 5000, "cannot be read"),
        ("teacher", "the same as no cast"),
    ],
)
def test_a_cast_that_is_none_is_refused(text: Any, words: str) -> None:
    document = InheritancePlan(SD15, 20).to_json() | {"schema": 4, "cast": text}
    with pytest.raises(PlanError, match=words) as caught:
        InheritancePlan.from_json(document)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spacing": "even"}, "may not name the spacing 'even'; expected one of leading, linspace, trailing"),
        ({"spacing": ["trailing"]}, "may not name the spacing"),
        ({"speedup": "a b"}, "a speed-up adapter is called by a letter"),
        ({"speedup": 4}, "a speed-up adapter is called by a letter"),
        ({"later": 1}, "the plan has the field 'later', which this version does not know"),
        ({"masks": ["mid.attn-"], "later": None}, "the field 'later'"),
    ],
)
def test_a_bad_or_unknown_field_of_schema_4_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(PlanError, match=words):
        InheritancePlan.from_json(InheritancePlan(SD15, 20).to_json() | {"schema": 4} | change)


@pytest.mark.parametrize("cast", [None, "base@0.4, teacher"])
def test_a_plan_is_read_with_what_a_study_keeps_beside_it(cast: str | None) -> None:
    plan = InheritancePlan(SD15, 20)
    plan = plan if cast is None else plan.with_cast(cast)
    assert InheritancePlan.from_json(plan.to_json() | {"evaluations": 20}) == plan


def test_earlier_schemas_pass_unknown_fields_over() -> None:
    plan = strategy("DC0/P3", steps=20, unet=SD15)
    assert InheritancePlan.from_json(plan.to_json() | {"later": 1, "cast": None, "spacing": None}) == plan


BASE = strategy("DC0/P3", steps=20, unet=SD15)
NEW = {
    "cast": BASE.with_cast("m2@0.4, teacher"),
    "spacing": replace(BASE, spacing="trailing"),
    "speedup": replace(BASE, speedup="sun-4"),
    "zero": replace(BASE, masks=(Mask.of(["mid.attn"], "zero"),)),
    "bypass": replace(BASE, masks=(Mask.of(["mid.attn"], "bypass"),)),
    "every": replace(BASE, masks=(Mask.of(["mid.attn"], "zero"),), schedule=Every()),
    "all": replace(BASE, scheduler="DDIMScheduler", spacing="leading", speedup="x").with_cast("m2"),
}


@pytest.mark.parametrize("name", NEW)
def test_what_is_new_is_written_as_schema_4_and_has_a_key_of_its_own(name: str) -> None:
    plan = NEW[name]
    document = json.loads(json.dumps(plan.to_json()))
    assert document["schema"] == SCHEMA == 4
    assert InheritancePlan.from_json(document) == plan
    assert plan.key(21) != BASE.key(21) and plan.key(21) not in [NEW[n].key(21) for n in NEW if n != name]
    assert not plan.extracts_always or name == "spacing"


def test_a_network_that_runs_nothing_changes_no_key() -> None:
    """In a run of two evaluations base would run those before 0.02 x 2."""
    late = BASE.with_cast("teacher@0.9, base")
    assert late.key(5) == BASE.key(5) and late.key(20) != BASE.key(20)


def test_each_network_s_first_evaluation_extracts_and_rules_begin_anew() -> None:
    plan = InheritancePlan(TINY, 10, (Mask.of(["mid.attn"]),), Periodic(4)).with_cast("base@0.3, teacher")
    feature = ("mid.attn", "residual")
    plan = plan.with_rule(strategy("DC0", unet=TINY, rule="forecast1").rule)
    run = resolve_run(plan, 10)
    assert run.choices == (0, 1, 1, 0, 0, 1, 1, 1, 0, 1)
    assert run.last_read == {(0, feature): 2, (3, feature): 9 - 2, (4, feature): 9, (8, feature): 9}
    segments = InheritancePlan(TINY, 4, plan.masks, Segments.of([0, 1, 1, 1])).with_cast("base@0.5, teacher")
    assert segments.resolve(4) == (0, 1, 0, 1)


def test_names_show_the_cast_and_are_read_back() -> None:
    assert BASE.with_cast("m2").name == "m2+DC0/P3" == BASE.with_cast("base@0.4").with_cast("m2").name
    assert BASE.with_cast("base@0.4, teacher").name == BASE.with_cast("base@0.4").name == "base@0.4+DC0/P3"
    assert BASE.with_cast("m2").with_cast(None) == BASE == BASE.with_cast("teacher")
    for name in ("m2+DC0/P3", "teacher@0.6,base+CO6/P5†", "base@0.4+DC0/P3+f2", "m2+plain@20"):
        plan = strategy(name, steps=20, unet=SD15)
        assert plan.name == plan.describe() == name and plan.cast is not None
    unnamed = replace(BASE.with_cast("m2"), name=None)
    assert unnamed.describe() == "m2+up3.l1.attn= / P3, 20 steps"
    assert InheritancePlan(SD15, 20, spacing="trailing").describe() == "plain@20~trailing"
    assert InheritancePlan(SD15, 20).with_cast("m2").describe() == "m2+plain@20"


def test_nothing_is_predicted_for_what_cannot_be_run() -> None:
    cost = CostModel(SD15, dict.fromkeys(SD15.by_name, 1.0), dict.fromkeys(SD15.units, 0.1), 1.0, 0.1)
    for plan in (NEW["cast"], NEW["speedup"]):
        with pytest.raises(PlanError, match="the plan needs"):
            cost.loop_seconds(plan, 21)
    assert cost.loop_seconds(NEW["spacing"], 21) == cost.loop_seconds(BASE, 21)
