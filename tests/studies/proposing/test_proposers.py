"""Kinds of proposers: what each gives, how they share the turns, and what the study keeps of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from alembic import command
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.calibration.fitting import Fitter
from explorer.compile_modes import CompileMode
from explorer.errors import PlanError, ScoreError, StudyError
from explorer.plans.plan import InheritancePlan
from explorer.plans.strategies import strategy
from explorer.runtime.cache_size import peak_cache_bytes
from search_spaces import make_space
from search_spaces.axes.steps import STEPS_OF_FIFTY
from search_spaces.space import Setting
from studies import Store, enqueue, run_worker, trials
from studies.cli.commands.browse import study_document
from studies.config import PROPOSALS, SearchConfig
from studies.pareto.front import hypervolume
from studies.pareto.growth import gains
from studies.predicting.drift_model import DriftModel
from studies.proposing.proposers import KINDS, planned
from studies.proposing.proposers.planned import room
from studies.proposing.proposers.record import Record
from studies.proposing.proposers.seeds import seeds
from studies.results.lineage import lineage
from studies.results.tally import tally
from studies.scored import Prediction
from studies.scoring.limits import PlanLimits, age, variants
from studies.storage import tables
from studies.storage.database import parse_url, writing_engine
from studies.storage.schema import config
from tests.architectures import ARCHITECTURES, SD15, TINY
from tests.explorer.calibration.test_fitting import moments_of
from tests.studies.plan_problem import (
    STEPS,
    PlanEvaluator,
    evaluations,
    plan_settings,
    predicted,
    search,
    tiny_drift_model,
)
from tests.studies.toy_study import ToyEvaluator, ToyPlan, ToySpace, toy_settings

BASELINES = [strategy(name, steps=STEPS, unet=TINY) for name in ("plain@12", "plain@4", "DC0/P2", "RI/P3", "CO6/P4")]


def test_the_command_line_names_every_kind() -> None:
    assert KINDS == PROPOSALS
    with pytest.raises(StudyError, match="unknown --proposals 'magic'; use one of auto, planned, "):
        SearchConfig(proposals="magic")


@pytest.mark.parametrize("space", ["joint", "unit"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_new_plans_of_the_space(store_file: Store, kind: str, space: str) -> None:
    study = search(store_file, "s", 8, kind, space=space)
    rows, holds = trials(store_file, study), make_space(space, TINY, STEPS, STEPS + 1)
    assert len({row.key for row in rows}) == 8 and all(row.state == "done" for row in rows)
    own = {"seeds", "moves"} if kind == "planned" else {kind}
    assert {row.proposed_by for row in rows} <= {*own, "sampler", "drawn"}
    assert sum(row.proposed_by in own for row in rows) >= (1 if space == "unit" else 4)  # few seeds are of that space
    for row in rows:
        plan = InheritancePlan.from_json(row.plan)
        assert plan.key(evaluations(plan)) == row.key and holds.parameters(plan)


@pytest.mark.parametrize("kind", ["sampler", "seeds", "planned"])
def test_a_study_of_the_same_seed_is_the_same(store_file: Store, kind: str) -> None:
    found = []
    for name in ("one", "other"):
        rows = trials(store_file, search(store_file, name, 7, kind))
        found.append([(row.key, row.proposed_by) for row in rows])
    assert found[0] == found[1]


@pytest.mark.parametrize("shape", ARCHITECTURES)
@pytest.mark.parametrize("steps", [4, 20, 50])
def test_seeds_are_valid_and_begin_with_what_differs(shape: str, steps: int) -> None:
    setting = Setting(ARCHITECTURES[shape], steps, steps + 1)
    first = list(islice(seeds(setting), 40))
    assert first == list(islice(seeds(setting), 40)) and len(first) > 10
    assert any(plan.extracts_always for plan in first) and len({plan.steps for plan in first}) > 1
    assert len({plan.masks for plan in first}) > 1 and len({plan.rule.name for plan in first}) > 1
    space = make_space("joint", ARCHITECTURES[shape], steps, steps + 1)
    assert all(space.parameters(plan)["steps"] == plan.steps for plan in first[::8])


@pytest.mark.parametrize("shape", ARCHITECTURES)
def test_seeds_that_ask_for_the_fitted_rule_are_fitted_at_their_step_count(shape: str) -> None:
    architecture = ARCHITECTURES[shape]
    setting = Setting(architecture, 20, 21)
    fitter = Fitter({n: moments_of(architecture, n, n + 1) for n in setting.fractions(STEPS_OF_FIFTY)})
    asked: list[InheritancePlan] = []

    def fit(plan: InheritancePlan, rule: str) -> InheritancePlan:
        asked.append(fitter(plan, rule))
        return asked[-1]

    first = list(islice(seeds(replace(setting, fit=fit)), 60))
    assert len(asked) > 20 and len({plan.steps for plan in asked}) >= 6
    assert all(plan.rule.name == "fitted" for plan in asked) and {*map(id, asked)} <= {*map(id, first)}
    for plan in asked:
        assert fitter.moments[plan.steps].evaluations == setting.evaluations_of(plan) == plan.rule.weights.evaluations


# Plans that are searched for in predictions --------------------------------------------------------------------------


class Predicted(DriftModel):
    """A calibration that predicts rightly, but that plans with a forecast come out `bias` times as bad as they are."""

    bias = 1.0

    def __call__(self, plan: InheritancePlan) -> Prediction:
        found = predicted(plan)
        return Prediction(found.drift * (self.bias if plan.rule.history > 1 else 1.0), found.cost)


def drift_model(bias: float = 1.0) -> DriftModel:
    predictor = tiny_drift_model()
    predictor.__class__ = Predicted
    vars(predictor)["bias"] = bias
    return predictor


def _volume(store: Store, name: str, kind: str, predictor: DriftModel | None, total: int = 17) -> float:
    study = store.create_study(name, plan_settings())
    enqueue(store, study, BASELINES, make_space("joint", TINY, STEPS, STEPS + 1), evaluations)
    search(store, name, total, kind, predictor=predictor)
    return float(study_document(store, study)["hypervolume"]["all"])


def test_planned_plans_reach_further_than_sampled_ones(store_file: Store) -> None:
    """Also where what is predicted of a rule is wrong, as measurements tell."""
    sampled = _volume(store_file, "sampled", "sampler", None)
    right, wrong = (_volume(store_file, f"planned {b}", "planned", drift_model(b)) for b in (1.0, 20.0))
    assert right > 1.2 * sampled and wrong > 1.1 * sampled


def test_a_planned_search_resumes_and_says_who_thought_of_what(store_file: Store) -> None:
    study = search(store_file, "s", 8, "planned")
    search(store_file, "s", 13, "planned")
    rows = trials(store_file, study)
    assert len({row.key for row in rows}) == 13
    assert {row.proposed_by for row in rows} <= {"seeds", "moves"}
    assert sum(row.proposed_by == "moves" for row in rows) >= 2


def test_a_long_planned_search_goes_on_where_the_best_are_measured(
    store_file: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planned, "LONG_SHOTS", 4)
    monkeypatch.setattr(planned, "FIRST", 100)
    monkeypatch.setattr(planned, "LATER", 20)
    study = search(store_file, "s", 40, "planned")
    assert {row.proposed_by for row in trials(store_file, study)} == {"seeds", "moves"}


def test_plans_that_fail_are_not_expected_on_the_front(store_file: Store) -> None:
    class Fails(PlanEvaluator):
        def score(self, plan: InheritancePlan, part: Any = None) -> Any:
            if plan.rule.history == 3:
                raise ScoreError("no picture: infinities or NaNs")
            return super().score(plan, part)

    study = store_file.create_study("s", plan_settings())
    enqueue(store_file, study, BASELINES, make_space("joint", TINY, STEPS, STEPS + 1), evaluations)
    search(store_file, "s", 60, "planned", evaluator=Fails(), predictor=drift_model())
    assert sum(row.state == "done" for row in trials(store_file, study)[-30:]) >= 10


def test_what_needs_a_calibration_says_so(store_file: Store) -> None:
    store_file.create_study("s", plan_settings())
    space = make_space("joint", TINY, STEPS, STEPS + 1)
    with pytest.raises(StudyError, match="--proposals planned needs a calibration; run `explorer calibrate --study s`"):
        run_worker(
            store_file, "s", space, PlanEvaluator(), InheritancePlan.from_json, total_trials=3, proposals="planned"
        )


def test_predictions_that_fail_for_every_plan_do_not_hold_up_the_search(store_file: Store) -> None:
    class Fails(DriftModel):
        def __call__(self, plan: InheritancePlan) -> Prediction:
            raise PlanError("not calibrated")

    predictor = tiny_drift_model()
    predictor.__class__ = Fails
    study = search(store_file, "s", 3, "planned", predictor=predictor)
    assert {row.proposed_by for row in trials(store_file, study)} <= {"sampler", "drawn"}


@pytest.mark.parametrize("kind", ["planned", "seeds"])
def test_a_space_of_another_kind_has_the_sampler_alone(store_file: Store, kind: str) -> None:
    store_file.create_study("s", toy_settings())
    how: dict[str, Any] = {"predictor": lambda plan: Prediction(0.1, 0.5), "proposals": kind, "total_trials": 3}
    with pytest.raises(StudyError, match="needs one of the explorer's spaces, and 'toy' is not"):
        run_worker(store_file, "s", ToySpace(), ToyEvaluator(), ToyPlan.from_json, **how)


# What is kept --------------------------------------------------------------------------------------------------------


def test_a_record_read_piece_by_piece_is_that_read_at_once(store_file: Store) -> None:
    record = None
    for total in (2, 5, 9):
        study = search(store_file, "s", total, "planned")
        record = record or Record(store_file, study)
        record.refresh()
    assert record is not None
    fresh = Record(store_file, study)
    fresh.refresh()
    assert record.keys == fresh.keys and len(record.keys) == 9
    assert record.scale is not None and fresh.scale is not None
    assert np.array_equal(record.scale.low, fresh.scale.low) and np.array_equal(record.scale.high, fresh.scale.high)
    both = [{plan.key: (plan.state, plan.number, tuple(plan.losses)) for plan in each.plans.values()}  # type: ignore[arg-type]
            for each in (record, fresh)]  # fmt: skip
    assert both[0] == both[1] and all(fresh.finished(id) for id in fresh.plans)


@given(st.lists(st.tuples(st.floats(0, 1.2), st.floats(0, 1.2), st.floats(0, 1.2)), min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_gains_add_up_to_the_hypervolume(points: list[tuple[float, float, float]]) -> None:
    array = np.array(points)
    assert sum(gains(array, [1.0] * 3)) == pytest.approx(hypervolume(array, [1.0] * 3))


def test_more_room_more_often_a_parent() -> None:
    weights = room(np.array([[0.0, 1.0], [0.1, 0.9], [0.2, 0.8], [1.0, 0.0]]))
    assert np.argsort(weights)[0] in (0, 1) and weights[2] > weights[1] and weights[3] == max(weights)
    assert room(np.array([[1.0, 2.0]])) == pytest.approx([1e-6])


def test_a_moved_plan_tells_its_parent(store_file: Store) -> None:
    study = search(store_file, "s", 12, "planned")
    rows = trials(store_file, study)
    moved = [row for row in rows if row.proposed_by == "moves"]
    numbers = {row.number for row in rows}
    told = 0
    for row in moved:
        found = lineage(store_file, study, row)
        assert "proposed by moves" in found.words()
        if found.parents:  # otherwise it goes back to a plan that was never measured
            told += 1
            assert len(found.parents) == 1 and found.parents[0] in numbers and found.parents[0] < (row.number or 0)
            assert f"moved from trial {found.parents[0]}" in found.words()
    assert told


def test_show_says_who_found_what(store_file: Store) -> None:
    space = make_space("joint", TINY, STEPS, STEPS + 1)
    study = store_file.create_study("s", plan_settings())
    enqueue(store_file, study, BASELINES, space, evaluations)
    search(store_file, "s", 16, "planned")
    document = study_document(store_file, study)
    table = {each["kind"]: each for each in document["proposals"]}
    assert next(iter(table)) == "baseline" and table["baseline"]["scored"] == len(BASELINES)
    assert sum(each["scored"] for each in table.values()) == 16
    assert sum(each["on_front"] for each in table.values()) == len(document["front"])
    volume = document["hypervolume"]["all"]
    assert sum(each["hypervolume_gain"] for each in table.values()) == pytest.approx(volume)
    assert {trial["proposed_by"] for trial in document["trials"]} == {None, *table} - {"baseline"}


def test_plans_of_before_their_proposer_was_kept_are_of_an_unknown_kind(new_url: str) -> None:
    """A storage of the schema before, with plans, is migrated; what stands keeps its place in the table."""
    engine = writing_engine(parse_url(new_url))
    with engine.begin() as connection:
        command.upgrade(config(connection), "0005")
        study = {"id": 1, "name": "s", "settings": toy_settings().to_json(), "created": 0.0}
        connection.execute(sa.insert(tables.studies).values(study))
        older = sa.table(
            "explorer_plans", *(sa.column(c.name, c.type) for c in tables.plans.c if c.name != "proposed_by")
        )
        for number, origin in enumerate(["baseline", "search"]):
            plan = ToyPlan(2 + number, 3)
            row = {"study_id": 1, "key": plan.key(51), "plan": plan.to_json(), "words": "a plan", "origin": origin}
            row |= {"id": number + 1, "aliases": [], "state": "failed", "attempts": 0, "reason": "broken"}
            connection.execute(sa.insert(older).values(row))
    engine.dispose()
    with Store.open(new_url) as store:
        rows = trials(store, store.study("s"))
        assert [row.proposed_by for row in rows] == [None, None]
        found = tally(rows, store.study("s").settings.objectives)
        assert [(each.kind, each.failed) for each in found] == [("baseline", 1), ("unknown", 1)]


# Limits --------------------------------------------------------------------------------------------------------------


def test_limits_say_in_words_what_is_beyond() -> None:
    plan = strategy("DC0/P5", steps=50, unet=SD15)
    assert (variants(plan, 51), age(plan, 51)) == (2, 4)
    assert (variants(strategy("plain@50", unet=SD15), 51), age(strategy("plain@50", unet=SD15), 51)) == (1, 0)
    sizes = dict.fromkeys((node.name for node in SD15.nodes), 2**20)
    assert PlanLimits(cache_mib=1, variants=2, age=4, feature_bytes=sizes).reason(plan, 51) is None
    assert PlanLimits(age=3).reason(plan, 51) == "beyond the limit of 3 steps of age: 4"
    assert "0.5 MiB of features: 1" in str(PlanLimits(cache_mib=0.5, feature_bytes=sizes).reason(plan, 51))
    assert "limit of 1 variants: 2" in str(PlanLimits(variants=1).reason(plan, 51))


@pytest.mark.parametrize("kind", ["sampler", "seeds", "planned"])
def test_nothing_beyond_a_limit_is_scored_but_baselines(store_file: Store, kind: str) -> None:
    study = store_file.create_study("s", plan_settings())
    enqueue(store_file, study, BASELINES, make_space("joint", TINY, STEPS, STEPS + 1), evaluations)
    search(store_file, "s", 14, kind, evaluator=PlanEvaluator(PlanLimits(variants=2, age=2)))
    rows = trials(store_file, study)
    plans = {row.key: InheritancePlan.from_json(row.plan) for row in rows}
    for row in rows:
        plan = plans[row.key]
        assert row.origin == "baseline" or (variants(plan, plan.steps + 1) <= 2 and age(plan, plan.steps + 1) <= 2)
    assert any(age(plans[row.key], STEPS + 1) == 3 for row in rows if row.name == "CO6/P4")


@pytest.mark.parametrize("compile", ["off", "cudagraphs"])
@pytest.mark.parametrize("kind", ["sampler", "planned"])
def test_nothing_beyond_a_limit_on_memory_is_scored(store_file: Store, kind: str, compile: CompileMode) -> None:
    """Of features of 1 MiB each: the limit leaves room for few nodes, and fewer with rules of several terms."""
    sizes = dict.fromkeys((node.name for node in TINY.nodes), 2**20)
    study = store_file.create_study("s", plan_settings())
    enqueue(store_file, study, BASELINES, make_space("joint", TINY, STEPS, STEPS + 1), evaluations)
    search(
        store_file,
        "s",
        12,
        kind,
        evaluator=PlanEvaluator(PlanLimits(cache_mib=6, feature_bytes=sizes, compile=compile)),
    )
    held = {"baseline": 0.0, "search": 0.0}
    rows = trials(store_file, study)
    for row in rows:
        plan = InheritancePlan.from_json(row.plan)
        peak = peak_cache_bytes(plan, plan.steps + 1, sizes, compile=compile) / 2**20
        held[row.origin] = max(held[row.origin], peak)
    assert 0 < held["search"] <= 6 < held["baseline"]
    assert kind == "sampler" or any(row.proposed_by in ("seeds", "moves") for row in rows)


def test_a_limit_of_one_variant_is_refused() -> None:
    with pytest.raises(StudyError, match="counts the extract step as well"):
        SearchConfig(max_variants=1)
    with pytest.raises(StudyError, match="--max-cache-mib must be more than zero"):
        SearchConfig(max_cache_mib=0)
