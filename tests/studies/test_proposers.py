"""Kinds of proposers: what each gives, how they share the turns, and what the study keeps of it."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from alembic import command
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.errors import StudyError
from explorer.mask import Mask
from explorer.plan import InheritancePlan
from explorer.strategies import strategy
from search_spaces import make_space
from search_spaces.space import Setting
from studies import Store, enqueue, run_worker, tables, trials
from studies.commands.browse import study_document
from studies.config import PROPOSALS, SearchConfig
from studies.database import parse_url, writing_engine
from studies.front import hypervolume
from studies.growth import gains
from studies.limits import Limits, age, variants
from studies.lineage import lineage
from studies.proposers import KINDS, MIXTURE
from studies.proposers.from_moves import room
from studies.proposers.masks import candidates, greedy_masks
from studies.proposers.mixture import LEAST, turns
from studies.proposers.record import Record, Standing
from studies.proposers.seeds import seeds
from studies.schema import config
from studies.tally import tally
from tests.architectures import ARCHITECTURES, SD15, TINY
from tests.studies.plan_problem import STEPS, PlanEvaluator, evaluations, plan_settings, search, share, tiny_screen
from tests.studies.toy_study import ToyEvaluator, ToyPlan, ToySpace, toy_settings

BASELINES = [strategy(name, steps=STEPS, unet=TINY) for name in ("plain@12", "plain@4", "DC0/P2", "RI/P3", "CO6/P4")]


def test_the_command_line_names_every_kind() -> None:
    assert (*KINDS, MIXTURE) == PROPOSALS
    with pytest.raises(StudyError, match="unknown --proposals 'magic'; use one of auto, planned, "):
        SearchConfig(proposals="magic")


@pytest.mark.parametrize("space", ["joint", "unit"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_new_plans_of_the_space(store_file: Store, kind: str, space: str) -> None:
    study = search(store_file, "s", 8, kind, space=space)
    rows, holds = trials(store_file, study), make_space(space, TINY, STEPS, STEPS + 1)
    assert len({row.key for row in rows}) == 8 and all(row.state == "done" for row in rows)
    assert {row.proposed_by for row in rows} <= {kind, "sampler", "drawn"}
    least = 1 if space == "unit" else 4  # the front of few plans has few neighbours in a small space
    assert sum(row.proposed_by == kind for row in rows) >= least
    for row in rows:
        plan = InheritancePlan.from_json(row.plan)
        assert plan.key(evaluations(plan)) == row.key and holds.parameters(plan)


@pytest.mark.parametrize("kind", ["sampler", "moves", "planned", MIXTURE])
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


@given(seed=st.integers(0, 99), rule=st.sampled_from(["copy", "forecast1"]), pair=st.booleans())
@settings(max_examples=15, deadline=None)
def test_greedy_masks_grow_cheaper_and_stay_valid(seed: int, rule: str, pair: bool) -> None:
    screen, setting = tiny_screen(seed), Setting(TINY, STEPS, STEPS + 1)
    choices = (0, 1, 1, 0, 1, 1, 0, 2, 2, 0, 2, 2, 0) if pair else (0, 1, 1) * 4 + (0,)
    found = list(greedy_masks(setting, screen, STEPS, choices, rule))
    costs = []
    for masks in found:
        for mask in masks:
            mask.check(TINY)
        costs.append(sum(share(masks[choice - 1]) for choice in choices if choice))
    assert found and costs == sorted(costs, reverse=True)


def test_greedy_masks_cost_less_error_for_their_time_than_most_entries_alone() -> None:
    screen, setting = tiny_screen(1), Setting(TINY, STEPS, STEPS + 1)
    choices = (0, 1, 1) * 4 + (0,)
    entries = candidates(setting)
    errors = dict(zip(entries, screen.squares(STEPS, choices, "copy", entries).sum(axis=1).tolist(), strict=True))

    def price(mask: Mask) -> float:
        return sum(errors[entry] for entry in mask.entries) / max(1e-6, 1 - screen.time(mask))

    alone = [price(mask) for entry in entries if (mask := Mask((entry,)).effective(TINY))]
    (first,) = next(greedy_masks(setting, screen, STEPS, choices, "copy"))
    assert price(first) <= np.median(alone)


# Turns ---------------------------------------------------------------------------------------------------------------


def _plan(number: int, kind: str, gain: float, state: str = "done") -> Standing:
    return Standing(number, str(number), state, kind, number, float(number), False, None, gain)


def _play(kinds: tuple[str, ...], gain: Any, count: int) -> list[Standing]:
    plans: list[Standing] = []
    for number in range(count):
        kind = turns(kinds, plans)[0]
        plans.append(_plan(number, kind, gain(kind, number)))
    return plans


def test_turns_begin_in_order_and_go_to_who_adds_most() -> None:
    kinds = ("a", "b", "c")
    plans = _play(kinds, lambda kind, _: 0.04 if kind == "b" else 0.0, 300)
    assert [plan.proposed_by for plan in plans[:3]] == ["a", "b", "c"]
    counts = {kind: sum(plan.proposed_by == kind for plan in plans[100:]) for kind in kinds}
    assert counts["b"] > 0.6 * 200 and min(counts.values()) >= LEAST / 3 * 200 * 0.8


def test_credit_follows_who_adds_now() -> None:
    plans = _play(("a", "b"), lambda kind, number: 0.01 if kind == ("a" if number < 100 else "b") else 0.0, 260)
    early, late = plans[50:100], plans[210:]
    assert sum(plan.proposed_by == "a" for plan in early) > 30 < sum(plan.proposed_by == "b" for plan in late)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1), st.sampled_from(["done", "failed", "running"]))))
@settings(max_examples=50, deadline=None)
def test_every_kind_has_a_turn_whatever_stands(standing: list[tuple[str, float, str]]) -> None:
    plans = [_plan(n, kind, gain, state) for n, (kind, gain, state) in enumerate(standing)]
    assert sorted(turns(("a", "b", "c"), plans)) == ["a", "b", "c"]
    assert turns(("a", "b", "c"), plans) == turns(("a", "b", "c"), list(plans))
    for number in range(len(plans), len(plans) + 90):
        plans.append(_plan(number, turns(("a", "b", "c"), plans)[0], 0.0))
    assert {plan.proposed_by for plan in plans[-90:]} == {"a", "b", "c"}


def test_a_mixture_resumes_where_it_stood(store_file: Store) -> None:
    """What a fresh reading of the study credits is what the running one did, plan for plan."""
    study = search(store_file, "s", 14, MIXTURE)
    record = Record(store_file, study)
    record.refresh()
    again = [plan.proposed_by for plan in record.proposed]
    # The n-th turn fell to the kind that is first for the n - 1 before it, or to the next one that had a plan.
    first = [turns(KINDS, record.proposed[:place]) for place in range(14)]
    assert sum(kind == order[0] for kind, order in zip(again, first, strict=True)) >= 10
    assert len(set(again)) >= 4
    search(store_file, "s", 18, MIXTURE)
    rows = trials(store_file, study)
    assert len({row.key for row in rows}) == 18


def test_a_mixture_without_a_calibration_leaves_out_what_needs_one(store_file: Store) -> None:
    study = store_file.create_study("s", plan_settings())
    space = make_space("joint", TINY, STEPS, STEPS + 1)
    how: dict[str, Any] = {"space": space, "evaluator": PlanEvaluator(), "read_plan": InheritancePlan.from_json}
    run_worker(store_file, "s", **how, total_trials=12, proposals=MIXTURE)
    assert {row.proposed_by for row in trials(store_file, study)} == {"seeds", "moves", "sampler"}
    with pytest.raises(StudyError, match="--proposals masks needs a calibration; run `explorer calibrate --study s`"):
        run_worker(store_file, "s", **how, total_trials=13, proposals="masks")


def test_a_space_of_another_kind_has_no_moves(store_file: Store) -> None:
    store_file.create_study("s", toy_settings())
    with pytest.raises(StudyError, match="needs a space of the explorer's own, and 'toy' is none"):
        run_worker(store_file, "s", ToySpace(), ToyEvaluator(), ToyPlan.from_json, total_trials=3, proposals="moves")
    run_worker(store_file, "s", ToySpace(), ToyEvaluator(), ToyPlan.from_json, total_trials=3, proposals=MIXTURE)


# What is kept --------------------------------------------------------------------------------------------------------


def test_a_record_read_piece_by_piece_is_that_read_at_once(store_file: Store) -> None:
    record = None
    for total in (2, 5, 9):
        study = search(store_file, "s", total, "moves")
        record = record or Record(store_file, study)
        record.refresh()
    assert record is not None
    fresh = Record(store_file, study)
    fresh.refresh()
    assert record.keys == fresh.keys and len(record.keys) == 9
    assert {plan.key for plan in record.front} == {plan.key for plan in fresh.front}
    whole = {row.key for row in trials(store_file, study) if row.number in study_document(store_file, study)["front"]}
    assert {plan.key for plan in fresh.front} == whole
    assert [plan.gain for plan in record.plans.values()] == pytest.approx([plan.gain for plan in fresh.plans.values()])


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
    study = search(store_file, "s", 12, "moves")
    rows = trials(store_file, study)
    moved = [row for row in rows if row.proposed_by == "moves"]
    numbers = {row.number for row in rows}
    for row in moved:
        found = lineage(store_file, study, row)
        assert len(found.parents) == 1 and found.parents[0] in numbers and found.parents[0] < (row.number or 0)
        assert f"moved from trial {found.parents[0]}" in found.words() and "proposed by moves" in found.words()
    assert moved


def test_show_says_who_found_what(store_file: Store) -> None:
    space = make_space("joint", TINY, STEPS, STEPS + 1)
    study = store_file.create_study("s", plan_settings())
    enqueue(store_file, study, BASELINES, space, evaluations)
    search(store_file, "s", 16, MIXTURE)
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
    assert Limits(cache_mib=1, variants=2, age=4, feature_bytes=sizes).reason(plan, 51) is None
    assert Limits(age=3).reason(plan, 51) == "beyond the limit of 3 steps of age: 4"
    assert "0.5 MiB of features: 1" in str(Limits(cache_mib=0.5, feature_bytes=sizes).reason(plan, 51))
    assert "limit of 1 variants: 2" in str(Limits(variants=1).reason(plan, 51))


@pytest.mark.parametrize("kind", ["sampler", "seeds", MIXTURE])
def test_nothing_beyond_a_limit_is_scored_but_baselines(store_file: Store, kind: str) -> None:
    study = store_file.create_study("s", plan_settings())
    enqueue(store_file, study, BASELINES, make_space("joint", TINY, STEPS, STEPS + 1), evaluations)
    search(store_file, "s", 14, kind, evaluator=PlanEvaluator(Limits(variants=2, age=2)))
    rows = trials(store_file, study)
    plans = {row.key: InheritancePlan.from_json(row.plan) for row in rows}
    for row in rows:
        plan = plans[row.key]
        assert row.origin == "baseline" or (variants(plan, plan.steps + 1) <= 2 and age(plan, plan.steps + 1) <= 2)
    assert any(age(plans[row.key], STEPS + 1) == 3 for row in rows if row.name == "CO6/P4")


def test_a_limit_of_one_variant_is_refused() -> None:
    with pytest.raises(StudyError, match="counts the extract step as well"):
        SearchConfig(max_variants=1)
    with pytest.raises(StudyError, match="--max-cache-mib must be more than zero"):
        SearchConfig(max_cache_mib=0)
