from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.shared.cached_scores import CEILING
from benchmarks.shared.hypervolume import (
    ALL,
    FLOOR,
    PUBLISHED,
    baseline_volumes,
    chart,
    curve,
    figures_of,
    first_reaching,
    group_of,
    median_over_seeds,
    table,
    volume,
)

MIDDLE = (CEILING + FLOOR) / 2


def entry(share: float, psnr: float, name: str | None = None, seconds: float = 2.0) -> dict[str, Any]:
    return {"share": share, "psnr": psnr, "name": name, "seconds": seconds, "proposing": 0.5, "words": "", "key": ""}


def run(name: str, seed: int, *plans: dict[str, Any], calibration: float = 0.0) -> dict[str, Any]:
    start = [entry(1.0, CEILING, "plain@20"), entry(0.5, FLOOR, "plain@10")]
    return {"method": {"name": name}, "seed": seed, "start": start, "plans": list(plans), "calibration": calibration}


@pytest.mark.parametrize(
    ("points", "wanted"),
    [
        ([(0.5, CEILING)], 0.5),
        ([(0.5, MIDDLE)], 0.25),
        ([(0.0, CEILING)], 1.0),
        ([(1.0, CEILING), (0.2, FLOOR), (1.3, CEILING), (0.1, FLOOR - 5)], 0.0),
        ([(0.5, MIDDLE), (0.75, CEILING)], 0.25 + 0.125),
        ([(0.5, MIDDLE), (0.6, MIDDLE)], 0.25),
    ],
)
def test_the_volume_is_the_part_of_the_rectangle(points: list[tuple[float, float]], wanted: float) -> None:
    assert volume(np.array(points)) == pytest.approx(wanted)


plan = st.builds(entry, st.floats(0.05, 1.4), st.floats(5, CEILING))


@settings(deadline=None, max_examples=30)
@given(st.lists(plan, max_size=8))
def test_a_curve_never_falls_and_seconds_add_up(plans: list[dict[str, Any]]) -> None:
    found = curve(run("tpe", 0, *plans, calibration=7.0), 8)
    assert len(found.volume) == len(found.seconds) == 9
    assert np.all(np.diff(found.volume) >= 0) and found.volume[0] == 0
    assert found.seconds[0] == 7.0 and found.seconds[-1] == pytest.approx(7.0 + 2.5 * len(plans))


def test_the_goal_is_reached_at_the_first_plan_above_it() -> None:
    assert first_reaching(np.array([0, 0.2, 0.5, 0.5]), 0.5) == 2
    assert first_reaching(np.array([0, 0.2]), 0.5) == float("inf")


def test_the_interval_over_seeds_holds_the_median() -> None:
    found = median_over_seeds(np.array([0.1, 0.4, 0.2, 0.3, 0.25]))
    assert found.value == 0.25 and 0.1 <= found.low < 0.25 < found.high <= 0.4
    alone = median_over_seeds(np.array([0.3]))
    assert (alone.value, alone.low, alone.high) == (0.3, 0.3, 0.3)


def test_baselines_belong_to_their_source() -> None:
    names = ["plain@10", "CO6/P5†", "DC0/P3", "DC0/P3+f2", "EP/P2"]
    assert len({group_of(entry(0.5, 30, name)) for name in names}) == 5
    found = baseline_volumes([entry(0.5, MIDDLE, "DC0/P3"), entry(0.5, CEILING, "DC0/P3+f2")])
    assert (found[PUBLISHED], found[ALL]) == (pytest.approx(0.25), pytest.approx(0.5))


def test_figures_set_methods_beside_the_best_known_and_the_baselines() -> None:
    runs = [
        run("good", 0, entry(0.5, MIDDLE), entry(0.5, CEILING), calibration=20),
        run("good", 1, entry(0.9, MIDDLE), entry(0.5, CEILING), calibration=20),
        run("bad", 0, entry(0.9, MIDDLE), entry(0.9, MIDDLE)),
    ]
    figures = figures_of(runs, [entry(0.5, MIDDLE, "DC0/P3")], 2)
    good, bad = figures["methods"]["good"], figures["methods"]["bad"]
    assert figures["best known hypervolume"] == pytest.approx(0.5)
    assert good["plans to 95% of the best known"] == {"each": [2, 2], "reached by": 2, "median": 2.0}
    assert bad["plans to 95% of the best known"]["median"] is None
    assert good["over all baselines"]["value"] == pytest.approx(2.0)
    assert good["seconds in all"] == pytest.approx(25)
    lines = table(figures).splitlines()
    assert lines[2].startswith("| good") and "> 2 (0 of 1 seeds)" in lines[3]
    assert {trace.name for trace in chart(runs, figures).data} >= {"good", "bad", ALL}


def test_a_table_says_which_kind_found_the_front() -> None:
    seeds, moves = {"by": "seeds"}, {"by": "moves"}
    plans = [entry(0.5, MIDDLE) | seeds, entry(0.6, MIDDLE) | seeds, entry(0.4, MIDDLE + 1) | moves]
    figures = figures_of([run("planned", 0, *plans)], [entry(0.5, MIDDLE, "DC0/P3")], 3)
    assert figures["methods"]["planned"]["found the front"] == {
        "seeds": {"plans": 2, "front": 0},
        "moves": {"plans": 1, "front": 1},
    }
    assert "| planned | moves | 1 | 1 |" in table(figures)
