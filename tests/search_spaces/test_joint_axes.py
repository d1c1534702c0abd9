"""The axes of networks and spacings: drawn, found again, moved along, repaired, and with controls of their own."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import FixedTrial

from explorer.errors import PlanError
from explorer.networks.removals import named_removal
from explorer.plans.cast import TEACHER, Cast
from explorer.plans.plan import InheritancePlan
from explorer.plans.schedule import Every
from explorer.plans.strategies import strategy
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask, without
from search_spaces import make_space
from search_spaces.axes import controls, names_nothing
from search_spaces.axes.networks import Networks, cast_of, move_cast
from search_spaces.axes.spacing import Spacings, move_spacing
from search_spaces.neighbour import neighbour
from search_spaces.space import Setting
from studies.storage.facts import PlanFacts
from tests.architectures import ARCHITECTURES, SD15, SDXL
from tests.search_spaces.trials import DrawnTrial

few = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
HEUN = "HeunDiscreteScheduler"


def takes(scheduler: str | None) -> bool:
    return scheduler != HEUN


def values_for(architecture: Architecture) -> dict[str, dict[str, Any]]:
    removed = {"base": Mask.of(["dn0.l1.res", "dn0.l1.attn"][: 1 + ("dn0.l1.attn" in architecture.units)], "bypass")}
    removed["m1"] = Mask.of(["mid.res0"], "zero")
    return {
        "scheduler": {HEUN: 39},
        "cast": {name: SimpleNamespace(removed=mask) for name, mask in removed.items()},
        "spacing": {"trailing": takes, "linspace": takes},
    }


def setting(architecture: Architecture = SD15, **values: Mapping[str, Any]) -> Setting:
    return Setting(architecture, 20, 21, values=values or values_for(architecture))


@pytest.mark.parametrize("shape", ARCHITECTURES)
@few
@given(data=st.data())
def test_every_draw_comes_back(shape: str, data: st.DataObject) -> None:
    architecture = ARCHITECTURES[shape]
    space = make_space("joint", architecture, 20, 21, values=values_for(architecture))
    trial = DrawnTrial(data.draw)
    plan = space.suggest(trial)
    assert space.suggest(FixedTrial(trial.values)) == plan == InheritancePlan.from_json(plan.to_json())
    count = setting(architecture).evaluations_of(plan)
    found = space.parameters(plan)
    again = space.suggest(FixedTrial(found))
    assert again.key(count) == plan.key(count) and space.parameters(again) == found
    assert plan.spacing is None or plan.scheduler != HEUN
    moved = neighbour(plan, setting(architecture), Random(data.draw(st.integers(0, 99))))
    if moved is not None:
        assert InheritancePlan.from_json(moved.to_json()) == moved
        assert moved.spacing is None or moved.scheduler != HEUN
        for name in moved.cast.students if moved.cast else ():
            for mask in moved.masks:
                without(mask, values_for(architecture)["cast"][name].removed).check(architecture)


def test_a_space_has_a_parameter_for_each_and_says_what_it_holds() -> None:
    space: Any = make_space("joint", SD15, 20, 21, values=values_for(SD15))
    names = ["steps", "scheduler", "rule", "masks", "schedule", "cast", "spacing"]
    assert [axis.name for axis in space.axes] == names
    with pytest.raises(PlanError, match="networks teacher, base, m1 in turn with timesteps own, trailing, linspace"):
        space.parameters(strategy("m2+DC0/P3", steps=20, unet=SD15))
    bare: Any = make_space("joint", SD15, 20, 21)
    assert [axis.name for axis in bare.axes] == ["steps", "rule", "masks", "schedule"]


def test_controls_are_each_student_alone_table_iii_and_plain_steps_of_every_spacing() -> None:
    names = [plan.name for plan in controls(setting())]
    assert names[:5] == ["plain@20", "plain@10", "plain@8", "plain@6", "plain@4"]
    assert [name for name in names if "+" in name or name[0] == "S"] == [
        "base+plain@20", "m1+plain@20", "S1", "S2", "S3",
    ]  # fmt: skip
    assert [name for name in names if "~" in name and "@20" in name] == ["plain@20~trailing", "plain@20~linspace"]
    space = make_space("joint", SD15, 20, 21, values=values_for(SD15))
    for plan in controls(setting()):
        assert space.suggest(FixedTrial(space.parameters(plan))).key(21) == plan.key(21)
    small = setting(SD15, cast={"m1": SimpleNamespace(removed=Mask.of(["mid.res0"], "zero"))})
    assert [plan.name for plan in controls(small)][5:] == ["m1+plain@20"], "S1 to S3 are of the student base"


@pytest.mark.parametrize(
    ("names", "switches", "cast"),
    [
        (["teacher"], [], None),
        (["base"], [], "base"),
        (["base", "teacher"], [0.4], "base@0.4, teacher"),
        (["base", "base", "teacher"], [0.2, 0.4], "base@0.4, teacher"),
        (["teacher", "teacher"], [0.4], None),
        (["teacher", "base", "teacher"], [0.2, 0.4], "teacher@0.2, base@0.4, teacher"),
    ],
)
def test_equal_networks_in_turn_are_one(names: list[str], switches: list[float], cast: str | None) -> None:
    assert cast_of(names, switches) == (None if cast is None else Cast.parse(cast))


def test_a_cast_off_the_grid_is_found_by_what_it_does() -> None:
    space = make_space("joint", SD15, 20, 20, values=values_for(SD15))
    plan = InheritancePlan(SD15, 20).with_cast("base@0.41, teacher")
    assert space.parameters(plan)["cast.switch1"] == 45  # as 0.45 it runs base for the first nine of 20
    late = InheritancePlan(SD15, 20).with_cast("teacher@0.01, base")
    assert space.parameters(late)["cast.pieces"] == 2
    four = InheritancePlan(SD15, 20).with_cast("base@0.2, m1@0.4, base@0.6, m1")
    with pytest.raises(PlanError, match="outside of the space joint"):
        space.parameters(four)


def test_where_a_mask_leaves_a_student_no_path_the_teacher_runs() -> None:
    """EP inherits all but the skip of conv_in, which only the last layer reads."""
    last = Mask.of([node.name for node in SD15.nodes if node.layer == "up3.l2"], "bypass")
    values = {"last": SimpleNamespace(removed=last), "base": SimpleNamespace(removed=named_removal("Base", SD15))}
    axis = Networks(setting(SD15, cast=values))
    plan = strategy("last@0.5+DC2/P3", steps=20, unet=SD15)
    assert axis.repaired(plan) == plan
    assert axis.repaired(strategy("last+EP/P2", steps=20, unet=SD15)).cast is None
    mixed = strategy("last@0.3,base@0.6+EP/P2", steps=20, unet=SD15)
    assert str(axis.repaired(mixed).cast) == "teacher@0.3, base@0.6, teacher"


def test_moves_go_one_step_and_reach_every_kind() -> None:
    random, plan = Random(0), strategy("DC0/P3", steps=20, unet=SD15)
    seen = set()
    for _ in range(300):
        moved = move_cast(plan, setting(), random)
        if moved is not None:
            plan = moved
            seen.add(str(plan.cast))
            assert plan.cast is None or len(plan.cast.entries) <= 3
    assert {"None", "base", "m1"} <= seen and len(seen) > 30
    kinds = {moved.spacing for _ in range(50) if (moved := move_spacing(plan, setting(), random))}
    assert kinds == {"trailing", "linspace"}
    spaced = strategy("plain@20/HeunDiscrete", unet=SD15)
    assert move_spacing(spaced, setting(), random) is None


def test_what_a_scheduler_cannot_have_is_left_out() -> None:
    axis = Spacings(setting())
    heun = strategy("plain@20/HeunDiscrete~trailing", unet=SD15)
    assert axis.repaired(heun).spacing is None
    own = strategy("plain@20~trailing", unet=SD15)
    assert axis.repaired(own) == own


def test_a_fitted_rule_is_of_the_pipelines_own_alone() -> None:
    student, spaced = strategy("base@0.4+DC0/P3", unet=SD15), strategy("plain@20~trailing", unet=SD15)
    assert not names_nothing(student) and not names_nothing(spaced)
    assert not setting().calibrates(student) and not setting().calibrates(spaced)


def test_columns_and_labels() -> None:
    study: Any = SimpleNamespace(scheduler="PNDMScheduler", extra={"students": ["teacher", "base=/x/y"]})
    facts = PlanFacts.of(strategy("S2", unet=SDXL).to_json(), "S2")
    assert (facts.networks, facts.nickname, Networks.label(facts, study)) == (
        ("teacher", "base"),
        "S2",
        "teacher, base",
    )
    assert Networks.differs(facts) and not Networks.differs(PlanFacts.of(strategy("DC0", unet=SDXL).to_json()))
    assert Networks.among(study) == ["base"]
    spaced = PlanFacts.of(strategy("plain@10/DDIM~trailing", unet=SDXL).to_json())
    assert (spaced.nickname, spaced.spacing, Spacings.label(spaced, study)) == (
        "plain@10/DDIM~trailing", "trailing", "trailing",
    )  # fmt: skip
    assert Spacings.label(facts, study) == "own"
    for hostile in ("x" * 5000, 3, ["m2"], {"a": 1}):
        document = {"cast": hostile, "spacing": hostile}
        assert Networks.fact(document) == ("other",) and Spacings.fact(document) == "other"


def test_a_removal_at_every_step_goes_with_a_student() -> None:
    plan = InheritancePlan(SD15, 20, (Mask.of(["mid.attn"], "zero"),), Every()).with_cast("base@0.5")
    space = make_space("joint", SD15, 20, 21, values=values_for(SD15), forms=("residual", "zero"))
    assert space.suggest(FixedTrial(space.parameters(plan))).key(21) == plan.key(21)
    assert TEACHER in plan.networks(21)
