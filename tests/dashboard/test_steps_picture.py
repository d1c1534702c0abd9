from __future__ import annotations

import pytest

from dashboard.pictures.steps import (
    COMPUTED,
    NOT_RUN,
    OUTPUT,
    REMOVED,
    RESIDUAL,
    evaluations_of,
    network_words,
    steps_figure,
    steps_of,
)
from dashboard.pictures.unet import unet_figure
from explorer.errors import PlanError
from explorer.plans.plan import InheritancePlan
from explorer.plans.schedule import Segments
from explorer.plans.strategies import STRATEGIES, strategy
from explorer.unet.mask import Mask, liveness
from tests.dashboard.small_study import ARCHITECTURE


@pytest.mark.parametrize("evaluations", [20, 21, 39, 27])
@pytest.mark.parametrize("name", ["plain@20", "DC0/P3", "CO6/P5†"])
def test_the_key_tells_the_evaluations(name: str, evaluations: int) -> None:
    plan = strategy(name, steps=20, unet=ARCHITECTURE)
    assert evaluations_of(plan, plan.key(evaluations)) == evaluations


def test_another_key_tells_nothing() -> None:
    assert evaluations_of(strategy("DC0/P3", steps=20, unet=ARCHITECTURE), "0" * 20) is None


def test_a_written_out_schedule_tells_its_own() -> None:
    mask = STRATEGIES["DC0"].mask(ARCHITECTURE)
    plan = InheritancePlan(ARCHITECTURE, 4, (mask,), Segments.of([0, 1, 1, 0, 1]))
    assert evaluations_of(plan, "0" * 20) == 5
    assert steps_of(plan, 5).full == 2
    with pytest.raises(PlanError):
        steps_of(plan, 4)


def test_output_inheritance_leaves_the_rest_unrun() -> None:
    steps = steps_of(strategy("DC0/P3", steps=20, unet=ARCHITECTURE), 21)
    column = dict(zip(steps.nodes, steps.states[:, 1], strict=True))
    assert column.pop("up3.l1.attn") == OUTPUT
    assert {column.pop("up3.l2.res"), column.pop("up3.l2.attn")} == {COMPUTED}
    assert set(column.values()) == {NOT_RUN}
    assert (steps.states[:, 0] == COMPUTED).all()
    assert steps.full == 7


def test_residual_inheritance_keeps_the_path() -> None:
    steps = steps_of(strategy("CO6/P5†", steps=50, unet=ARCHITECTURE), 51)
    column = dict(zip(steps.nodes, steps.states[:, 1], strict=True))
    assert list(column.values()).count(RESIDUAL) == 35
    assert {column[name] for name in column if name.startswith("up3") and name.endswith("attn")} == {COMPUTED}
    assert column["dn0.down"] == COMPUTED
    assert (steps.states[:, -10:] == COMPUTED).all()


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_agrees_with_what_runs(name: str) -> None:
    plan = strategy(name, mode="P3", steps=9, unet=ARCHITECTURE)
    steps = steps_of(plan, 10)
    alive = liveness(ARCHITECTURE, plan.mask(1))
    for node, state in zip(steps.nodes, steps.states[:, 1], strict=True):
        assert (state == COMPUTED) == (node in alive.run)
        assert (state == NOT_RUN) == (node not in alive.run and node not in dict(alive.reads))


def test_removed_nodes_are_shown_as_such_in_both_pictures() -> None:
    mask = Mask.of({"mid.attn": "zero", "dn0.l1.res": "bypass", "dn0.l1.attn": "bypass"})
    steps = steps_of(InheritancePlan(ARCHITECTURE, 4, (mask,), Segments.of([1, 0, 1, 1])), 4)
    column = dict(zip(steps.nodes, steps.states[:, 0], strict=True))
    assert {name for name, state in column.items() if state == REMOVED} == set(mask.forms)
    assert {state for name, state in column.items() if name not in mask.forms} == {COMPUTED}
    assert steps.removes and steps.full == 1
    assert [trace.name for trace in steps_figure(steps).data[1:]][3:] == ["removed", "not run"]
    words = "<br>".join(str(word) for word in unet_figure(ARCHITECTURE, steps).data[0].customdata.flat)
    assert "mid.attn: computed in 25% of the evaluations<br>removed in 75%" in words


def test_the_figure_has_a_cell_for_each_and_a_legend() -> None:
    steps = steps_of(strategy("EP/P2", steps=20, unet=ARCHITECTURE), 21)
    figure = steps_figure(steps)
    assert figure.data[0].z.shape == (len(steps.nodes), 21) == (44, 21)
    assert [trace.name for trace in figure.data[1:]] == [
        "computed", "residual inherited", "output inherited", "not run"
    ]  # fmt: skip


def test_a_cast_is_a_band_above_the_steps_and_its_student_lacks_what_it_lacks() -> None:
    plan = strategy("DC0/P3", steps=20, unet=ARCHITECTURE).with_cast("base@0.4, teacher")
    lacks = {"base": Mask.of({"dn0.l1.res": "zero"})}
    steps = steps_of(plan, 20, lacks)
    assert steps.networks == ("base",) * 8 + ("teacher",) * 12
    row = steps.states[steps.nodes.index("dn0.l1.res")]
    assert (row[:8] != COMPUTED).all() and row[0] == REMOVED and (row[8:] == COMPUTED).any()
    assert network_words(steps.networks) == "base in evaluations 0 to 7, teacher in 8 to 19"
    bars = [trace for trace in steps_figure(steps).data if trace.type == "bar"]
    assert [(bar.base[0], bar.x[0], bar.text) for bar in bars] == [(-0.5, 8, "base"), (7.5, 12, "teacher")]
    alone = steps_figure(steps_of(strategy("DC0/P3", steps=20, unet=ARCHITECTURE), 20))
    assert not [trace for trace in alone.data if trace.type == "bar"]
    full = steps_of(plan, 20)  # of a student that is not here
    assert not full.removes and full.networks == steps.networks
