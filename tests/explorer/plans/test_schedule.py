"""Schedules: the paper's modes at 50 and 51 evaluations, DeepCache's curve against its released function, files."""

from __future__ import annotations

import ast
import importlib.util
import json
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.errors import PlanError
from explorer.plans.plan import InheritancePlan, resolve_run
from explorer.plans.schedule import Curve, Every, Periodic, Schedule, Segments, parse_mode, schedule_from_json
from explorer.unet.mask import Mask
from tests.architectures import TINY


def extracts(schedule: Schedule, evaluations: int) -> list[int]:
    return [i for i, choice in enumerate(schedule.resolve(evaluations)) if choice == 0]


@pytest.mark.parametrize(
    ("mode", "evaluations", "expected"),
    [
        ("P5", 50, list(range(0, 50, 5))),
        ("P5", 51, list(range(0, 51, 5))),
        ("P5†", 50, [*range(0, 40, 5), *range(40, 50)]),
        ("P5†", 51, [*range(0, 41, 5), *range(41, 51)]),
        ("P2†", 50, [*range(0, 40, 2), *range(40, 50)]),
        ("P2†", 51, [*range(0, 41, 2), *range(41, 51)]),
        ("P5†", 20, [0, 5, 10, 15, 16, 17, 18, 19]),
        ("P1", 4, [0, 1, 2, 3]),
        ("P9", 4, [0]),
    ],
)
def test_modes_of_the_paper(mode: str, evaluations: int, expected: list[int]) -> None:
    assert extracts(parse_mode(mode), evaluations) == expected


def test_the_dagger_has_an_ascii_spelling() -> None:
    assert parse_mode("P5d") == parse_mode("P5†") == Periodic(5, tail=0.2)
    assert parse_mode("P5d").name == "P5†"


@pytest.mark.parametrize("bad", ["", "5", "P", "P0", "P-1", "P5x", "p5", "P5††", "P5\n", "P99999", None, 5])
def test_an_unknown_mode_is_refused(bad: object) -> None:
    with pytest.raises(PlanError, match="expected Pn"):
        parse_mode(bad)  # type: ignore[arg-type]


periodic = st.integers(1, 30).flatmap(
    lambda period: st.builds(
        Periodic, st.just(period), st.integers(0, period - 1), st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0])
    )
)
curves = st.builds(
    Curve, st.integers(1, 30), st.sampled_from([0.0, 0.3, 0.55, 1.0]), st.floats(1, 10), st.sampled_from([0.0, 0.2])
)
segments = st.lists(st.integers(0, 3), min_size=1, max_size=80).map(Segments.of)
every = st.builds(Every, st.sampled_from([(), (0.4,), (0.25, 0.5)]))


@given(schedule=st.one_of(periodic, curves), evaluations=st.integers(1, 120))
def test_a_schedule_from_a_mode_fits_every_run_and_begins_with_an_extract_step(
    schedule: Periodic | Curve, evaluations: int
) -> None:
    choices = schedule.resolve(evaluations)
    assert len(choices) == evaluations and choices[0] == 0 and set(choices) <= {0, 1}
    tail = int(schedule.tail * evaluations + 1e-9)
    assert not any(choices[evaluations - tail :])


@given(schedule=periodic, evaluations=st.integers(1, 120))
def test_no_gap_is_longer_than_the_period(schedule: Periodic, evaluations: int) -> None:
    gaps = np.diff([*extracts(schedule, evaluations), evaluations])
    assert max(gaps) <= schedule.period


@given(schedule=curves, evaluations=st.integers(2, 80))
def test_a_curve_has_no_more_extract_steps_than_asked(schedule: Curve, evaluations: int) -> None:
    without_tail = Curve(schedule.extracts, schedule.centre, schedule.power)
    assert len(extracts(without_tail, evaluations)) <= schedule.extracts


@given(schedule=segments)
def test_segments_fit_only_the_run_they_were_written_for(schedule: Segments) -> None:
    choices = schedule.resolve(schedule.evaluations)
    assert Segments.of(choices) == schedule
    with pytest.raises(PlanError, match=f"writes out {schedule.evaluations} UNet evaluations"):
        schedule.resolve(schedule.evaluations + 1)


def test_switches_hand_over_to_the_next_mask() -> None:
    choices = Periodic(2, switches=(0.3, 0.7)).resolve(20)
    assert choices == (0, 1, 0, 1, 0, 1, 0, 2, 0, 2, 0, 2, 0, 2, 0, 3, 0, 3, 0, 3)
    assert set(Curve(4, 0.3, 1.4, switches=(0.5,)).resolve(50)) == {0, 1, 2}


@given(schedule=every, evaluations=st.integers(1, 120))
def test_a_mask_at_every_evaluation_begins_with_the_first_and_extracts_never(schedule: Every, evaluations: int) -> None:
    choices = schedule.resolve(evaluations)
    assert len(choices) == evaluations and choices[0] == 1 and list(choices) == sorted(choices)
    assert Every((0.4,)).resolve(5) == (1, 1, 2, 2, 2)


@given(schedule=st.one_of(periodic, curves, every, segments))
def test_json_round_trip(schedule: Schedule) -> None:
    assert schedule_from_json(json.loads(json.dumps(schedule.to_json()))) == schedule


@pytest.mark.parametrize(
    "make",
    [
        lambda: Periodic(0), lambda: Periodic(-3), lambda: Periodic(5, 5), lambda: Periodic(5, -1),
        lambda: Periodic(5, tail=1.5), lambda: Periodic(5, tail=float("nan")), lambda: Periodic(5, switches=(0.5, 0.5)),
        lambda: Periodic(5, switches=(0.7, 0.2)), lambda: Periodic(5, switches=(0.0,)), lambda: Periodic(10**9),
        lambda: Curve(0, 0.3, 1.4), lambda: Curve(5, -0.1, 1.4), lambda: Curve(5, 0.3, 0.5),
        lambda: Curve(5, 0.3, float("inf")), lambda: Curve(5, 0.3, 1.4, tail=-0.1),
        lambda: Segments(()), lambda: Segments(((0, 0),)), lambda: Segments(((0, 1), (-1, 2))),
        lambda: Segments(((0, 1), (65, 2))), lambda: Segments(((0, 10_001),)), lambda: Every((0.7, 0.2)),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(make: Callable[[], Schedule]) -> None:
    with pytest.raises(PlanError):
        make()


def test_a_schedule_whose_first_step_inherits_is_refused() -> None:
    masks = (Mask.of(["mid.res0"], "zero"), Mask.of(["mid.res0"]))
    with pytest.raises(PlanError, match="first step inherits"):
        InheritancePlan(TINY, 3, masks, Segments.of([2, 0, 2]))
    with pytest.raises(PlanError, match="first step inherits"):
        InheritancePlan(TINY, 3, masks, Segments.of([1, 2, 0]))
    with pytest.raises(PlanError, match="first step inherits"):
        InheritancePlan(TINY, 3, masks, Every((0.5,)))
    assert InheritancePlan(TINY, 3, masks, Segments.of([1, 0, 2])).resolve(3) == (1, 0, 2)


@pytest.mark.parametrize(
    "bad", [None, 3, "P5", [], {}, {"kind": "spiral"}, {"kind": []}, {"kind": "periodic", "period": "5"}]
)
def test_an_untrusted_schedule_is_refused(bad: object) -> None:
    with pytest.raises(PlanError):
        schedule_from_json(bad)


# DeepCache's non-uniform schedule ------------------------------------------------------------------------------------


@cache
def released() -> Callable[..., tuple[list[int], float]]:
    """`sample_from_quad_center` of DeepCache 0.1.1, cut out of its pipeline: that module needs an older diffusers."""
    package = importlib.util.find_spec("DeepCache")
    if package is None or package.origin is None:
        pytest.skip("DeepCache is not installed")
    source = Path(package.origin).parent / "sd" / "pipeline_stable_diffusion.py"
    tree = ast.parse(source.read_text(encoding="utf-8"))
    wanted = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "sample_from_quad_center"]
    names: dict[str, Any] = {"np": np}
    exec(compile(ast.Module(wanted, []), str(source), "exec"), names)
    return names["sample_from_quad_center"]


@pytest.mark.parametrize("steps", [20, 30, 50])
@pytest.mark.parametrize("fraction", [2, 3, 5, 10])
@pytest.mark.parametrize("centre", [0.0, 0.2, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("power", [1.2, 1.3, 1.4])
def test_the_curve_is_that_of_deepcache(steps: int, fraction: int, centre: float, power: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, of the imaginary part that the function drops
        try:
            expected, _ = released()(steps, steps // fraction, round(centre * steps), power)
        except ValueError:  # no power gives that many steps: there is nothing to compare with
            pytest.skip("DeepCache refuses this setting")
    assert extracts(Curve(steps // fraction, centre, power), steps) == [int(step) for step in expected]


@pytest.mark.parametrize(("count", "expected"), [(10, [0, 5, 9, 13, 17, 21, 26, 31, 37, 43]), (5, [0, 9, 17, 26, 37])])
def test_the_released_setting_of_sd15(count: int, expected: list[int]) -> None:
    """50 steps, centre 15, power 1.4."""
    assert extracts(Curve(count, 0.3, 1.4), 50) == expected


def test_a_mask_of_nothing_at_every_step_extracts() -> None:
    plan = InheritancePlan(TINY, 3, (Mask(),), Every())
    assert resolve_run(plan, 3).choices == (0, 0, 0)
