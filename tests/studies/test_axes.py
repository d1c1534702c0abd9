"""An axis of the search is declared once: a toy one is searched, predicted and shown without a change of anything else.

A real one that is like the scheduler takes six files: `explorer/plans/plan.py` (the field of a plan: file, key and
description), `explorer/plans/NAME.py` (its values, and how one comes onto a pipeline), `explorer/runtime/targets.py`
(puts it there), `search_spaces/axes/NAME.py` (the axis), `search_spaces/axes/__init__.py` (its place in `AXES`) and
`studies/config.py` (its option). The toy varies the schedule, which plans have, so it is the fourth and fifth alone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from optuna.trial import BaseTrial, FixedTrial

from dashboard.parts.front_filters import has_choice
from explorer.errors import PlanError, StudyError
from explorer.plans.plan import InheritancePlan
from explorer.plans.schedule import Schedule, Segments
from explorer.plans.strategies import baselines, strategy
from search_spaces import make_space
from search_spaces.axes import (
    AXES,
    Choice,
    Draft,
    PlanRun,
    Study,
    alone,
    choices,
    controls,
    keys,
    names_nothing,
    values_of,
)
from search_spaces.neighbour import moves, neighbour
from search_spaces.space import Setting
from studies import Store, run_worker
from studies.cli.commands.browse import print_front
from studies.proposing.descriptors import describe, lengths
from studies.queue.queue import enqueue
from studies.results.board import Board
from studies.results.rows import trials
from studies.settings import scheduler_words
from tests.architectures import TINY
from tests.studies.plan_problem import STEPS, PlanEvaluator, evaluations, plan_settings, tiny_drift_model

ROOT = Path(__file__).parents[2]
FULL = "full"


def last(count: int) -> int:
    return max(1, count // 3)


def ended(schedule: Schedule, count: int) -> Schedule:
    choices = schedule.resolve(count)
    return Segments.of([*choices[: count - last(count)], *[0] * last(count)])


def move_ending(plan: InheritancePlan, setting: Setting, random: Random) -> InheritancePlan | None:
    return replace(plan, schedule=ended(plan.schedule, setting.evaluations_of(plan))) if plan.masks else None


class Ending(Choice):
    """Whether the last third of a run extracts throughout."""

    name, part, column = "ending", "choices", "spacing"  # a column that no plan here fills otherwise
    after = ("schedule",)
    option = "endings"
    moves = (move_ending,)
    lengths = (0.5,)
    title, help = "Ending", "Whether the last third extracts throughout."
    alone = "a full ending alone"

    def suggest(self, trial: BaseTrial, draft: Draft) -> None:
        names = tuple(self.own if each is None else each for each in self.values)
        if trial.suggest_categorical(self.name, names) == FULL:
            draft.fields["schedule"] = ended(draft.fields["schedule"], draft.evaluations)

    def baselines(self) -> Iterator[InheritancePlan]:
        yield self.control(strategy("DC0/P2", steps=self.setting.steps, unet=self.setting.architecture), FULL)

    @classmethod
    def of(cls, plan: InheritancePlan) -> str | None:
        count = evaluations(plan)
        inherits = [i for i, choice in enumerate(plan.resolve(count)) if choice]
        return FULL if inherits and inherits[-1] < count - last(count) else None

    @classmethod
    def encode(cls, run: PlanRun) -> list[float]:
        return [float(cls.of(run.plan) == FULL)]

    @classmethod
    def known(cls, names: Sequence[str], pipe: Any, steps: int) -> dict[str, Any]:
        return {name: None for name in names if name != cls.own}

    @classmethod
    def control(cls, plan: InheritancePlan, value: str) -> InheritancePlan:
        schedule = ended(plan.schedule, evaluations(plan))
        return replace(plan, schedule=schedule, name=f"{plan.name}{cls.suffix(value)}")

    @classmethod
    def fact(cls, document: Mapping[str, Any]) -> str | None:
        try:
            return cls.of(InheritancePlan.from_json(document))
        except PlanError:
            return "other"

    @classmethod
    def shown(cls, value: str) -> str:
        return f"{value}-ending"

    @classmethod
    def own_shown(cls, study: Study) -> str:
        return "as the schedule says"

    @classmethod
    def applied(cls, value: str) -> str:
        return "Its last third extracts throughout."


@pytest.fixture
def toy() -> Iterator[type[Ending]]:
    AXES.append(Ending)
    yield Ending
    AXES.remove(Ending)


VALUES: dict[str, dict[str, Any]] = {"ending": {FULL: None}}
EXTRA = {"endings": ["own", FULL]}


def setting() -> Setting:
    return Setting(TINY, STEPS, STEPS + 1, values=VALUES)


def test_a_search_draws_proposes_and_shows_it(toy: type[Ending], store_file: Store, capsys: Any) -> None:
    study = store_file.create_study("toy", plan_settings(extra=EXTRA))
    space = make_space("joint", TINY, STEPS, STEPS + 1, values=VALUES)
    first = baselines(TINY, STEPS, modes=(), complete=False, controls=controls(setting()))
    enqueue(store_file, study, first, space, evaluations)
    for total, proposals in ((22, "sampler"), (34, "planned")):
        run_worker(
            store_file, "toy", space, PlanEvaluator(), InheritancePlan.from_json, total, proposals=proposals,
            predictor=tiny_drift_model(),
        )  # fmt: skip
    rows = trials(store_file, study)
    plans = {row.number: InheritancePlan.from_json(row.plan) for row in rows}
    assert len(rows) == 34 and {row.state for row in rows} == {"done"}
    control = next(row for row in rows if row.name == "DC0/P2/full-ending")
    assert control.origin == "baseline" and Ending.of(plans[control.number]) == FULL
    for mine in ([r for r in rows if r.proposed_by == "sampler"], [r for r in rows if r.proposed_by == "moves"]):
        assert {Ending.of(plans[row.number]) for row in mine} == {None, FULL}
    assert all(row.facts.spacing == Ending.of(plans[row.number]) for row in rows)
    board = Board.of(rows, study.settings)
    assert set(board.axes["ending"].tolist()) == {"full", "as the schedule says"}
    assert has_choice(Ending, board.axes["ending"]) and not has_choice(Ending, board.axes["ending"][:0])
    print_front(store_file, study)
    assert "PNDMScheduler (plans also of full-ending)" in " ".join(capsys.readouterr().out.split())
    assert any(row.nickname.endswith("/full-ending") for row in rows if row.name is None)


def test_every_value_gives_a_plan_and_every_plan_its_values(toy: type[Ending]) -> None:
    space = make_space("joint", TINY, STEPS, STEPS + 1, values=VALUES)
    assert [axis.name for axis in space.axes] == ["steps", "rule", "masks", "schedule", "ending"]  # type: ignore[attr-defined]
    plan = Ending.control(strategy("DC0/P2", steps=STEPS, unet=TINY), FULL)
    found = space.parameters(plan)
    assert list(found)[-1] == "ending" and found["ending"] == FULL
    assert space.suggest(FixedTrial(found)).key(STEPS + 1) == plan.key(STEPS + 1)
    own = space.parameters(strategy("DC0/P2", steps=STEPS, unet=TINY))
    assert own["ending"] == "own"
    with pytest.raises(StudyError, match="the space named has one ending"):
        make_space("named", TINY, STEPS, STEPS + 1, values=VALUES)


def test_a_study_without_it_is_what_it_was(toy: type[Ending]) -> None:
    bare = make_space("joint", TINY, STEPS, STEPS + 1)
    assert [axis.name for axis in bare.axes] == ["steps", "rule", "masks", "schedule"]  # type: ignore[attr-defined]
    assert move_ending not in moves(Setting(TINY, STEPS, STEPS + 1)) and move_ending in moves(setting())
    own = {"schedulers": ("own",), "students": ("teacher",), "spacings": ("own",)}
    assert values_of({}) == {**own, "endings": ("own",)}
    assert values_of(EXTRA)["endings"] == ("own", FULL)
    assert scheduler_words(plan_settings()) == "PNDMScheduler"


def test_moves_keys_and_encodings_are_its_own(toy: type[Ending]) -> None:
    plan, random = strategy("DC0/P2", steps=STEPS, unet=TINY), Random(0)
    moved = [each for _ in range(60) if (each := neighbour(plan, setting(), random)) is not None]
    full = next(each for each in moved if Ending.of(each) == FULL and each.masks == plan.masks)
    mine, theirs = keys(plan, STEPS + 1), keys(full, STEPS + 1)
    assert {name for name in mine if mine[name] != theirs[name]} == {"schedule", "ending"}
    model = tiny_drift_model()
    ours, other = describe(full, model), describe(plan, model)
    assert len(ours) == len(lengths()) and lengths()[8] == 0.5
    assert (ours[8], other[8]) == (1.0, 0.0)


def test_every_part_of_a_plans_key_is_of_an_axis() -> None:
    """A plan that an axis tells apart is another plan, and no axis is left out."""
    plan = strategy("DC0/P2+f2", steps=STEPS, unet=TINY)
    changed = replace(plan, scheduler="HeunDiscreteScheduler", spacing="trailing", name=None).with_cast("m2@0.5")
    parts = {axis.part or axis.name for axis in AXES}
    assert set(changed.canonical(STEPS + 1)) == {"architecture"} | parts
    assert keys(plan, STEPS + 1) != keys(changed, STEPS + 1)
    assert names_nothing(plan) and not names_nothing(changed)
    model = tiny_drift_model()
    spoken = "runs of HeunDiscreteScheduler with trailing timesteps were not calibrated"
    assert not model.unmeasured(plan) and model.unmeasured(changed) == spoken
    assert alone([]) == []


def test_the_surrogate_is_told_as_many_lengths_as_numbers() -> None:
    model = tiny_drift_model()
    assert len(describe(strategy("CO6/P3", steps=STEPS, unet=TINY), model)) == len(lengths()) == 17


def test_columns_and_filters_are_of_one_axis_each() -> None:
    for names in ([axis.name for axis in AXES], [axis.column for axis in AXES], [axis.option for axis in choices()]):
        assert len(set(names)) == len(names)
    assert [axis.title for axis in AXES if axis.title] == [
        "Scheduler", "Rule", "Mode", "Kind", "Network", "Spacing",
    ]  # fmt: skip


OWN_BUSINESS = {
    "search_spaces/axes/scheduler.py": "the axis",
    "search_spaces/axes/spacing.py": "a scheduler takes a spacing or does not",
    "search_spaces/axes/steps.py": "a plan of other steps keeps its scheduler",
    "search_spaces/space.py": "how many evaluations a run has",
    "studies/predicting/drift_model.py": "what was measured under each scheduler and spacing",
    "studies/results/charts.py": "fewer steps are not another solver",
    "studies/cli/commands/browse.py": "a column in the document of `show --json`",
}


def test_what_searches_and_shows_knows_no_scheduler_but_by_its_axis() -> None:
    found = set()
    for room in ("search_spaces", "studies/proposing", "studies/predicting", "studies/results", "studies/choosing",
                 "studies/autotune", "studies/cli", "dashboard"):  # fmt: skip
        for path in (ROOT / room).rglob("*.py"):
            if any(map(of_a_plan, ast.walk(ast.parse(path.read_text(encoding="utf-8"))))):
                found.add(str(path.relative_to(ROOT)))
    assert found == set(OWN_BUSINESS)


def of_a_plan(node: ast.AST) -> bool:
    """Whether code reads the scheduler of a plan; that of a pipeline or of a study is nobody's axis."""
    if isinstance(node, ast.ImportFrom):
        return node.module == "explorer.plans.schedulers"
    if not isinstance(node, ast.Attribute) or node.attr not in ("scheduler", "schedulers"):
        return False
    owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
    return owner not in ("pipe", "settings", "study", "moments")
