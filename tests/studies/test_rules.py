"""A rule is declared once: what reads rules knows a new one from its declaration alone."""

from __future__ import annotations

import importlib.util
from itertools import islice
from pathlib import Path
from random import Random

import pytest
import torch
from optuna.trial import FixedTrial

from dashboard.views.page_calibration import label_of
from explorer.calibration.fitting import weights_of
from explorer.calibration.step_errors import Design
from explorer.plans.plan import InheritancePlan, resolve_run
from explorer.plans.rules import RULES, Rule, RuleType, every_rule
from explorer.plans.strategies import baselines, strategy
from explorer.runtime.combining import Combining
from search_spaces import SPACES, make_space
from search_spaces.axes import AXES
from search_spaces.neighbour import neighbour
from search_spaces.space import Setting
from studies.proposing.descriptors import describe, lengths
from studies.proposing.proposers.seeds import seeds
from studies.storage.facts import PlanFacts
from tests.architectures import TINY
from tests.studies.plan_problem import STEPS, tiny_drift_model

ROOT = Path(__file__).parents[2]


def mean(at: int, points: tuple[int, ...]) -> tuple[float, ...]:
    return tuple(1 / len(points) for _ in points)


TOY = RuleType("mean2", "mean", 2, 2, "+m2", "mean of the last two", "#009E73", weigh=mean)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> RuleType:
    monkeypatch.setitem(RULES, TOY.name, TOY)
    return TOY


def plan_under(rule: str = "mean2") -> InheritancePlan:
    return strategy("DC0", mode="P3", steps=STEPS, unet=TINY, rule=rule)


def test_a_plan_names_it_and_keeps_it_in_a_file(toy: RuleType) -> None:
    plan = plan_under()
    assert plan.name == "DC0/P3+m2" and plan == strategy("DC0/P3+m2", steps=STEPS, unet=TINY)
    document = plan.to_json()
    assert document["rule"] == {"kind": "mean", "order": 2}
    assert InheritancePlan.from_json(document) == plan
    assert plan.key(STEPS) != plan_under("copy").key(STEPS)


def test_a_step_inherits_what_it_weighs(toy: RuleType) -> None:
    plan = plan_under()
    features = [torch.full((1, 2), value) for value in (1.0, 4.0)]
    mask = plan.masks[0]
    held = {feature: dict(zip((0, 3), features, strict=True)) for feature in mask.entries}
    made = Combining(plan.rule, held, mask, 4)
    assert all(torch.equal(made[feature], torch.full((1, 2), 2.5)) for feature in mask.entries)
    run = resolve_run(plan, 7)
    reads = [last for (source, _), last in run.last_read.items() if source == 0]
    assert max(reads) == 5, "a feature is held until the second extract step after it is read for the last time"


@pytest.mark.parametrize("name", SPACES)
def test_every_space_holds_it(name: str, toy: RuleType) -> None:
    space = make_space(name, TINY, STEPS, STEPS + 1)
    plan = plan_under() if name in ("joint", "named", "schedule") else None
    if plan is None:  # a cut is no mask over whole blocks
        mask = strategy("IN1", mode="P3", steps=STEPS, unet=TINY)
        plan = mask.with_rule(Rule.parse("mean2"))
    found = space.parameters(plan)
    assert found["rule"] == "mean2"
    assert space.suggest(FixedTrial(found)).key(STEPS + 1) == plan.key(STEPS + 1)


def test_proposers_reach_it(toy: RuleType) -> None:
    setting, random = Setting(TINY, STEPS, STEPS + 1), Random(0)
    moved = [neighbour(plan_under("copy"), setting, random) for _ in range(80)]
    assert "mean2" in {plan.rule.name for plan in moved if plan is not None}
    assert "mean2" in {plan.rule.name for plan in islice(seeds(setting), 60)}
    assert "mean2" in {plan.rule.name for plan in baselines(TINY, STEPS)}


def test_the_surrogate_tells_it_from_others(toy: RuleType) -> None:
    model = tiny_drift_model()
    ours, copied = describe(plan_under(), model), describe(plan_under("copy"), model)
    assert len(ours) == len(copied) == len(lengths())
    kinds = [kind for axis in AXES for kind in axis.kinds()]
    place = len(ours) - len(kinds) + kinds.index("mean2")
    assert (ours[place], copied[place]) == (1.0, 0.0)


def test_a_calibration_measures_it(toy: RuleType) -> None:
    design = Design.of(TINY, STEPS + 1, count=3)
    assert design.rules == ("copy", "forecast1", "forecast2", "mean2", "fitted")
    assert design.sources(6, 2, "mean2") == (2, 4)
    assert weights_of("mean2", torch.eye(1).numpy(), (2, 4), 6) == (0.5, 0.5)


def test_rows_and_pages_show_it(toy: RuleType) -> None:
    facts = PlanFacts.of(plan_under().to_json())
    assert facts.rule == "mean2" and facts.nickname == f"DC0/P3+m2@{STEPS}"
    assert label_of("mean2") == "mean of the last two"


def test_pages_show_a_rule_that_is_not_known_by_its_name() -> None:
    assert label_of("mean2") == "mean2"
    assert PlanFacts.of(plan_under("copy").to_json() | {"rule": {"kind": "mean", "order": 2}}).rule == "other"


def test_the_docs_list_it(toy: RuleType) -> None:
    spec = importlib.util.spec_from_file_location("reference_pages", ROOT / "docs" / "reference.py")
    assert spec and spec.loader
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    assert "| `mean2` | `+m2` | 2 | mean of the last two |" in pages.rule_table().splitlines()


def test_names_suffixes_and_forms_are_of_one_rule_each() -> None:
    rules = every_rule()
    for names in ([r.name for r in rules], [r.suffix for r in rules], [(r.kind, r.order) for r in rules]):
        assert len(set(names)) == len(rules)
