"""Coefficients of the rules: exact on polynomials of their order, and weights of one in sum."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.errors import PlanError
from explorer.plans.rules import RULES, Rule

sources = st.sets(st.integers(0, 60), min_size=1, max_size=6).map(lambda points: tuple(sorted(points)))


@pytest.mark.parametrize("name", RULES)
@given(sources=sources, ahead=st.integers(1, 20))
def test_coefficients_sum_to_one_and_read_the_last_extract_steps(
    name: str, sources: tuple[int, ...], ahead: int
) -> None:
    rule = Rule.parse(name)
    weights = rule.coefficients(sources[-1] + ahead, sources)
    assert len(weights) == min(rule.history, len(sources))
    assert sum(weights) == pytest.approx(1.0, abs=1e-9 * max(map(abs, weights)))
    assert weights == rule.coefficients(sources[-1] + ahead, sources[-rule.history :])


@pytest.mark.parametrize("order", [0, 1, 2])
@given(
    sources=st.sets(st.integers(0, 60), min_size=3, max_size=5).map(sorted),
    ahead=st.integers(1, 20),
    polynomial=st.lists(st.integers(-5, 5), min_size=3, max_size=3),
)
def test_a_forecast_of_order_n_is_exact_on_polynomials_of_degree_n(
    order: int, sources: list[int], ahead: int, polynomial: list[int]
) -> None:
    def feature(at: int) -> int:
        return sum(factor * at**degree for degree, factor in enumerate(polynomial[: order + 1]))

    rule = Rule("forecast", order) if order else Rule()
    at = sources[-1] + ahead
    weights = rule.coefficients(at, tuple(sources))
    given = sum(w * feature(s) for w, s in zip(weights, sources[-rule.history :], strict=True))
    assert given == pytest.approx(feature(at), rel=1e-9, abs=1e-6 * max(1, *map(abs, weights)))


def test_copy_takes_the_last_extract_step_as_it_is() -> None:
    assert Rule().coefficients(9, (0, 5)) == (1.0,)


def test_known_weights() -> None:
    assert Rule("forecast", 1).coefficients(7, (0, 5)) == (-0.4, 1.4)
    assert Rule("forecast", 2).coefficients(3, (0, 1, 2)) == (1.0, -3.0, 3.0)


@pytest.mark.parametrize(("sources", "count"), [((4,), 1), ((0, 4), 2), ((0, 4, 8), 3), ((0, 4, 8, 12), 3)])
def test_the_order_is_lower_while_fewer_extract_steps_stand(sources: tuple[int, ...], count: int) -> None:
    """The first inherit step of a run has one source: any rule copies it."""
    weights = Rule("forecast", 2).coefficients(sources[-1] + 2, sources)
    assert len(weights) == count
    if count < 3:
        assert weights == Rule("forecast", 1).coefficients(sources[-1] + 2, sources)


@pytest.mark.parametrize("name", RULES)
def test_names_and_json_round_trip(name: str) -> None:
    rule = Rule.parse(name)
    assert rule.name == name and Rule.from_json(rule.to_json()) == rule
    assert rule.suffix == {"copy": "", "forecast1": "+f1", "forecast2": "+f2"}[name]


@pytest.mark.parametrize("bad", ["", "Copy", "forecast", "forecast3", "forecast1 ", "copy\n", None, 3, ["copy"]])
def test_an_unknown_rule_is_refused_with_the_known_ones(bad: object) -> None:
    with pytest.raises(PlanError, match="copy, forecast1, forecast2"):
        Rule.parse(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad", [None, [], "copy", {}, {"kind": 1}, {"kind": "forecast"}, {"kind": "forecast", "order": 3}, {"kind": "fit"}]
)
def test_an_untrusted_rule_is_refused(bad: object) -> None:
    with pytest.raises(PlanError):
        Rule.from_json(bad)
