"""Columns, ties, growth, incremental reading, and facts of plans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from explorer.errors import StudyError
from explorer.plans.plan import InheritancePlan
from explorer.plans.schedule import Curve, Segments
from explorer.plans.strategies import STRATEGIES, strategy
from studies import Store, enqueue, trials
from studies.cli.commands.browse import print_front
from studies.pareto.ties import tied
from studies.results.board import Board
from studies.results.charts import front_figure, group_of
from studies.results.history import history
from studies.results.importance import FEWER_STEPS, by_block, describe, effects, given_up
from studies.results.reading import Reading
from studies.results.rows import trial
from studies.results.summary import front_of, gain, scale_of, without_loss
from studies.storage import tables
from studies.storage.facts import PlanFacts
from tests.dashboard.small_study import ARCHITECTURE, PLANS, OutsideSpace, fill, plan_of, settings
from tests.studies.results.test_summary import CLOSE, OBJECTIVES, PLAIN, ROWS, row


@pytest.fixture
def board() -> Board:
    return Board.of(ROWS, settings(steps=50, objectives=OBJECTIVES))


def test_the_board_says_what_the_rows_say(board: Board) -> None:
    assert [board.measured[i] for i in board.front] == front_of(ROWS, OBJECTIVES)
    assert board.lossless == without_loss(ROWS, OBJECTIVES, 50)
    assert board.control is PLAIN
    assert len(board) == 5 and board.rows is ROWS
    assert board.columns["fd_x"].value.tolist() == [20, 24, 20.4, 25, 40]
    assert board.columns["fd_x"].low[0] == 19.5
    assert board.series.tolist() == ["plain steps", "plain steps", "searched", "A-SDM concurrent", "searched"]
    assert board.whole.all() and board.by_number[2] == 2


def test_an_empty_board_has_an_empty_front() -> None:
    empty = Board.of([], settings())
    assert len(empty) == 0 and empty.front == [] and not empty.tied.any() and empty.growth is None


def test_what_lacks_an_objective_is_not_on_the_front(board: Board) -> None:
    screened = row(9, None, 0.5, 1, 99)
    del screened.scores["clip"]
    found = Board.of([*ROWS, screened], board.settings)
    assert found.whole.tolist() == [True] * 5 + [False]
    assert found.front == board.front
    assert np.isnan(found.columns["clip"].value[5])
    assert not found.tied[5]


def test_ties_are_what_the_intervals_cannot_tell() -> None:
    losses = np.array([[1.0, 1.0], [1.1, 1.0], [1.0, 3.0], [np.nan, 0.0]])
    front = np.array([True, False, False, False])
    for half, expected in ((0.05, [False, False, False, False]), (0.08, [False, True, False, False])):
        assert tied(losses, losses - half, losses + half, front).tolist() == expected
    exact = tied(losses, losses, losses, front)
    assert not exact.any()
    assert not tied(losses, losses - 1, losses + 1, np.zeros(4, dtype=bool)).any()


def test_growth_ends_at_the_hypervolume_of_all() -> None:
    scale = scale_of(ROWS, OBJECTIVES)
    assert scale is not None
    grown = history(ROWS, OBJECTIVES, scale)
    assert grown.volume == sorted(grown.volume)
    found = gain(ROWS, OBJECTIVES)
    assert found is not None and grown.volume[-1] == pytest.approx(found.all)
    assert grown.trials == [1, 2, 3, 4, 5, 6]
    assert grown.seconds[-1] == pytest.approx(6.0)
    assert scale_of([CLOSE], OBJECTIVES) is None


def test_growth_takes_the_seconds_that_were_measured_of_what_has_ended() -> None:
    scale = scale_of(ROWS, OBJECTIVES)
    assert scale is not None
    parts = replace(row(6, None, 5, 30, 25, started=0.9), seconds={"latency": 2.0, "fd_x": 3.5})
    untimed = replace(row(7, None, 5, 30, 25, state="untimed"), seconds={"fd_x": 50.0})
    grown = history([*ROWS, parts, untimed], OBJECTIVES, scale)
    assert grown.trials[-1] == 7
    assert grown.seconds[-1] == pytest.approx(6.0 + 5.5)


def test_growth_of_many_plans_has_few_points() -> None:
    generator = np.random.default_rng(0)
    rows = [PLAIN, *(row(i, None, float(generator.uniform(1, 9)), 20, 30, finished=float(i)) for i in range(1, 1000))]
    scale = scale_of([PLAIN, ROWS[1]], OBJECTIVES)
    assert scale is not None
    grown = history(rows, OBJECTIVES, scale)
    assert len(grown.trials) <= 240 and grown.trials[-1] == 1000


def test_only_what_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import studies.results.reading as module

    asked: list[int] = []
    real = module.read_rows

    def counted(*args: Any, **named: Any) -> Any:
        found = real(*args, **named)
        asked.append(len(found))
        return found

    monkeypatch.setattr(module, "read_rows", counted)
    with Store.open(tmp_path / "s.db") as store:
        study = fill(store, "s", ["plain@20", "DC0/P3", "EP/P2"])
        reading = Reading(study)
        assert reading.refresh(store) == 1 and sum(asked) == 3
        assert reading.refresh(store) == 1 and sum(asked) == 3
        first = reading.board(store)
        assert reading.board(store) is first
        fill(store, "s", ["plain@20", "plain@10"])
        assert reading.refresh(store) == 2 and sum(asked) == 4
        assert [r.words for r in reading.rows] == [r.words for r in trials(store, study)]
        assert reading.board(store) is not first
        with store.begin() as connection:  # put back by other means: everything is read anew
            connection.execute(sa.update(tables.plans).where(tables.plans.c.id == 1).values(state="waiting"))
        reading.refresh(store)
        assert reading.rows[0].state == "waiting" and reading.counts.waiting == 1
        with store.begin() as connection:
            connection.execute(sa.update(tables.plans).where(tables.plans.c.id == 1).values(state="done"))
            connection.execute(sa.update(tables.plans).where(tables.plans.c.id == 2).values(state="waiting"))
        reading.refresh(store)
        assert [r.state for r in reading.rows[:2]] == ["done", "waiting"]


def test_rows_without_plans_have_their_facts(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.db") as store:
        study = fill(store, "s", ["plain@20", "DC0/P2+f2"])
        reading = Reading(study)
        reading.refresh(store)
        light, whole = reading.rows, trials(store, study)
        assert [r.plan for r in light] == [None, None]
        assert [r.facts for r in light] == [r.facts for r in whole] == [
            PlanFacts("none", "none", "none", 20, nickname="plain@20"),
            PlanFacts("P2", "output", "forecast2", 20, nickname="DC0/P2+f2@20"),
        ]  # fmt: skip
        assert [r.scores for r in light] == [r.scores for r in whole]
        assert InheritancePlan.from_json(trial(store, study, 1).plan) == plan_of("DC0/P2+f2", "search")
        with pytest.raises(StudyError, match="no trial 9"):
            trial(store, study, 9)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("CO6/P5†", PlanFacts("P5†", "residual", "copy", 20, nickname="CO6/P5†@20")),
        ("DC0/P3", PlanFacts("P3", "output", "copy", 20, nickname="DC0/P3@20")),
        ("DC1/N+f1", PlanFacts("N", "output", "forecast1", 20, nickname="DC1/N4+f1@20")),
        ("plain@10", PlanFacts("none", "none", "none", 10, nickname="plain@10")),
    ],
)
def test_facts_of_named_plans(name: str, facts: PlanFacts) -> None:
    assert PlanFacts.of(strategy(name, steps=20, unet=ARCHITECTURE).to_json()) == facts


def test_facts_of_free_and_mixed_plans() -> None:
    masks = (STRATEGIES["DC0"].mask(ARCHITECTURE), STRATEGIES["AI"].mask(ARCHITECTURE))
    free = InheritancePlan(ARCHITECTURE, 4, masks, Segments.of([0, 1, 2, 0, 1]))
    assert PlanFacts.of(free.to_json()) == PlanFacts("free", "both", "copy", 4, nickname="DC0·AI/S2@4")
    never = InheritancePlan(ARCHITECTURE, 4, masks, Segments.of([0, 0, 0, 0]))
    assert never.extracts_always and PlanFacts.of(never.to_json()).plain
    curve = InheritancePlan(ARCHITECTURE, 9, masks[:1], Curve(3, 0.3, 1.4))
    assert PlanFacts.of(curve.to_json()).mode == "N"


@pytest.mark.parametrize(
    ("masks", "schedule", "rule", "facts"),
    [
        (["mid dn0.l1"], "P5@2 tail=0.2", {"kind": "copy"}, PlanFacts("P5†", "residual", "copy", 9)),
        (
            ["mid", "up3.l2.attn="],
            "0 1*4 0 2*4",
            {"kind": "fitted", "order": 2},
            PlanFacts("free", "both", "fitted3", 9),
        ),
        (
            ["up3="],
            "N3 centre=0.3 power=1.4",
            {"kind": "forecast", "order": 1},
            PlanFacts("N", "output", "forecast1", 9),
        ),
        ([], "P1", {"kind": "copy"}, PlanFacts("none", "none", "none", 9, nickname="plain@9")),
    ],
)
def test_facts_of_short_texts(masks: list[str], schedule: str, rule: dict[str, Any], facts: PlanFacts) -> None:
    assert PlanFacts.of({"steps": 9, "masks": masks, "schedule": schedule, "rule": rule}) == facts


@pytest.mark.parametrize(
    "document", [None, 3, {}, {"schedule": 1, "masks": 2, "rule": []}, {"masks": [{}], "schedule": {"kind": "moon"}}]
)
def test_facts_of_anything(document: Any) -> None:
    PlanFacts.of(document)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
FIELDS = sorted(strategy("DC0/P3", steps=20, unet=ARCHITECTURE).to_json())


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, min_size=1, max_size=3))
@hypothesis_settings(max_examples=100, deadline=None)
def test_facts_of_damaged_plans_fit_their_columns(damage: dict[str, Any]) -> None:
    """A migration reads whatever is stored: no plan may stop it."""
    plan = plan_of("CO6/P5†", "search")
    found = PlanFacts.of(plan.to_json() | damage, None, plan.describe()).columns()
    for name, value in found.items():
        column = tables.plans.c[name]
        assert value is not None or column.nullable
        if isinstance(column.type, sa.String) and column.type.length:
            assert value is None or len(value) <= column.type.length
    assert found["nickname"] and (found["steps"] is None or 0 < found["steps"] < 2**31)


def test_rows_are_shown_without_their_plans(tmp_path: Path) -> None:
    """Nothing but the columns is read for the front, its table, its chart and the board, however plans are stored."""
    with Store.open(tmp_path / "s.db") as store:
        study = fill(store, "s")
        shown = [(row.title, row.facts, group_of(row)) for row in trials(store, study)]
        asked: list[str] = []
        sa.event.listen(store.engine, "before_cursor_execute", lambda c, k, statement, *_: asked.append(statement))
        reading = Reading(study)
        board = reading.board(store)
        print_front(store, study)
        front_figure(trials(store, study, keep_plans=False), study.settings.objectives, "s")
        assert asked and not any("explorer_plans.plan" in each.replace("explorer_plans.plan_id", "") for each in asked)
        assert [(row.title, row.facts, group_of(row)) for row in board.rows] == shown


def test_a_name_that_a_plan_gets_later_is_its_nickname(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.db") as store:
        study = store.create_study("s", settings())
        for origin, expected in (("search", "DC0/P3@20"), ("baseline", "DC0/P3")):
            enqueue(store, study, [plan_of("DC0/P3", origin)], OutsideSpace(), lambda plan: plan.steps + 1, origin)
            (row,) = trials(store, study)
            assert row.nickname == expected


def test_given_up_is_the_fraction_not_computed() -> None:
    units = [node.name for node in ARCHITECTURE.nodes if node.is_unit]
    every_second = dict(zip([*units, FEWER_STEPS], given_up(plan_of("AI/P2", "search"), units, 20), strict=True))
    assert every_second["dn0.l0.attn"] == 0.5 and every_second["dn0.l0.res"] == 0.0
    branch = dict(zip(units, given_up(plan_of("DC0/P3", "baseline"), units, 20), strict=False))
    assert branch["mid.attn"] == pytest.approx(13 / 20) and branch["up3.l2.res"] == 0.0
    assert given_up(plan_of("plain@10", "baseline"), units, 20) == [0.0] * len(units) + [0.5]


def test_effects_find_what_was_planted() -> None:
    names, features = describe([plan_of(name, "search").to_json() for name in PLANS] + [{"kind": "none"}], 20)
    assert features.shape == (len(PLANS) + 1, len(names)) and np.isnan(features[-1]).all()
    assert effects(names, features, np.arange(len(features), dtype=float)) is None  # less than 20 plans
    generator = np.random.default_rng(0)
    x = generator.random((120, 4))
    x[:, 3] = 0.5
    y = 3 * x[:, 0] - x[:, 1] + generator.normal(0, 0.1, 120)
    found = effects(("a", "b", "c", "d"), x, y)
    assert found is not None and found.explained > 0.9
    assert found.effect[:3] == pytest.approx([3, -1, 0], abs=0.25)
    assert found.low[0] <= found.effect[0] <= found.high[0] and found.low[0] > 0
    assert not found.varied[3] and np.isnan(found.effect[3])
    assert effects(("a", "b", "c", "d"), x, np.ones(120)) is None


def test_blocks_are_the_mean_of_their_units() -> None:
    names, features = by_block(("dn0.l0.res", "dn0.l1.res", "mid.attn"), np.array([[0.0, 1.0, 0.25]]))
    assert names == ("dn0", "mid") and features.tolist() == [[0.5, 0.25]]
