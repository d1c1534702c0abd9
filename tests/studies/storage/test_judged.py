"""A speed counts with the worse end of its interval, wherever one plan is put before another."""

from __future__ import annotations

import pytest

from explorer.estimate import Estimate
from studies.choosing.choice import Limit, Wish, choose
from studies.results.board import Board
from studies.results.rows import TrialRow
from studies.results.summary import front_of, without_loss
from studies.settings import Objective
from studies.storage.judged import judged
from studies.storage.tables import UNSTEADY
from tests.studies.toy_study import toy_settings

OBJECTIVES = (Objective("latency", "minimize"), Objective("clip", "maximize"))


def row(number: int, name: str, speed: tuple[float, float, float], clip: float, state: str = "done") -> TrialRow:
    value, low, high = speed
    scores = {
        "speedup": Estimate(value, low, high, 3),
        "latency": Estimate(1 / value, 1 / high, 1 / low, 3),
        "clip": Estimate(clip, clip - 1, clip + 1, 8),
    }
    if state == UNSTEADY:
        scores = {"clip": scores["clip"]}
    return TrialRow(
        number, name, state, "baseline", name, [], name, {}, None, None, None, None, scores, {}, {}, None
    )  # fmt: skip


PLAIN = row(0, "plain@50", (1.0, 0.99, 1.01), 30.0)
SURE = row(1, "DC0/P3", (2.0, 1.95, 2.05), 30.0)
LUCKY = row(2, "CO2/P5†", (19.0, 1.79, 35.1), 30.0)
ROWS = [PLAIN, LUCKY, SURE]


def test_a_wide_interval_is_on_no_front_and_in_no_headline() -> None:
    assert front_of(ROWS, OBJECTIVES) == [SURE]
    assert without_loss(ROWS, OBJECTIVES, 50)[0] is SURE
    board = Board.of(ROWS, toy_settings(objectives=OBJECTIVES))
    assert [board.measured[i] for i in board.front] == [SURE] and board.lossless[0] is SURE


@pytest.mark.parametrize(("least", "kept"), [(1.5, 2), (1.9, 1), (2.0, 0)])
def test_a_choice_and_its_limit_on_speed_are_decided_by_the_worse_end(least: float, kept: int) -> None:
    found = choose(ROWS, Wish((Limit("speedup", least),)), PLAIN)
    assert found.kept == kept
    if kept:
        assert found.plan is SURE and "2.00x [1.95, 2.05]" in found.words


def test_quality_counts_with_its_value() -> None:
    assert judged("clip", SURE.scores["clip"]) == 30.0
    assert judged("speedup", LUCKY.scores["speedup"]) == 1.79
    assert judged("latency", LUCKY.scores["latency"]) == pytest.approx(1 / 1.79)


def test_plans_are_held_against_an_un_accelerated_run_whose_timings_are_unsteady() -> None:
    """Its quality is known, and its speed-up is one."""
    plain = row(0, "plain@50", (1.0, 0.99, 1.01), 30.0, UNSTEADY)
    assert without_loss([plain, SURE], OBJECTIVES, 50) == [SURE]
