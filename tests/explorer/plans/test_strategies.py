"""The registry against the tables of the papers: units, shares of an inherit step, names, baselines."""

from __future__ import annotations

import pytest

from explorer.errors import PlanError
from explorer.plans.plan import InheritancePlan
from explorer.plans.rules import Rule
from explorer.plans.schedule import Periodic
from explorer.plans.strategies import (
    LAST_OF_FAMILIES,
    PAPER_MODES,
    PAPER_STRATEGIES,
    STRATEGIES,
    baselines,
    deepcache_curve,
    strategy,
)
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask
from tests.architectures import ARCHITECTURES, SD15, SDXL, sd15_anatomy

# Units inherited, and MACs of an inherit step over a full step in percent (SD1.5, 64x64 latents, residuals).
TABLE = {
    "LI1": (14, 65.8), "LI2": (8, 76.0), "LI3": (4, 85.7), "AI": (15, 52.7), "RI": (20, 60.3),
    "IN1": (10, 62.7), "IN2": (20, 38.2), "IN3": (30, 16.0), "EX1": (8, 95.4), "EX2": (18, 73.3), "EX3": (28, 48.7),
    "EN1": (6, 76.1), "EN2": (12, 59.8), "EN3": (18, 45.3), "DE1": (4, 86.6), "DE2": (8, 78.4), "DE3": (12, 70.7),
    "CO1": (20, 66.2), "CO2": (26, 51.6), "CO3": (32, 35.3), "CO4": (33, 24.6), "CO5": (33, 35.5), "CO6": (35, 25.9),
}  # fmt: skip
CACHES = {"DC0": 7.9, "DC1": 22.4, "DC2": 38.0, "EP": 67.5}


def test_anatomy_of_sd15() -> None:
    costs = sd15_anatomy()
    assert round(costs.parameters / 1e6, 2) == 859.52
    assert round(costs.macs / 1e9, 2) == 401.64
    assert len(costs.nodes) == 58 and len(costs.units) == 38
    assert sum(node.share for node in costs.nodes) == pytest.approx(1, abs=1e-3)
    assert costs.share(Mask()) == 1


@pytest.mark.parametrize("name", TABLE)
def test_table_of_the_paper_strategies(name: str) -> None:
    mask = STRATEGIES[name].mask(SD15)
    units, share = TABLE[name]
    assert len(mask) == units and set(mask.forms.values()) == {"residual"}
    assert round(100 * sd15_anatomy().share(mask), 1) == share


@pytest.mark.parametrize("name", CACHES)
def test_table_of_deepcache_and_encoder_propagation(name: str) -> None:
    mask = STRATEGIES[name].mask(SD15)
    assert set(mask.forms.values()) == {"output"}
    assert round(100 * sd15_anatomy().share(mask), 1) == CACHES[name]


def test_the_registry_is_the_table_and_cites_its_sections() -> None:
    assert set(PAPER_STRATEGIES) == set(TABLE) and set(STRATEGIES) == set(TABLE) | set(CACHES)
    assert all(entry.source and ("arXiv" in entry.source) for entry in STRATEGIES.values())


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("IN2", "dn0 dn1 up2 up3"), ("EX3", "dn1 dn2 dn3 mid up0 up1 up2"), ("EN1", "up3"), ("DE1", "dn0"),
        ("CO3", "dn0 dn1 dn2 dn3 mid up0 up1 up2"),
    ],
)  # fmt: skip
def test_block_strategies_name_whole_blocks(name: str, blocks: str) -> None:
    assert STRATEGIES[name].mask(SD15) == Mask.of([u for block in blocks.split() for u in SD15.blocks[block]])


@pytest.mark.parametrize(
    ("name", "kept"),
    [("CO4", "dn0 up3 res"), ("CO5", "dn0 up3 attn"), ("CO6", "up3 attn")],
)
def test_unit_strategies_keep_what_their_name_says(name: str, kept: str) -> None:
    *blocks, kind = kept.split()
    computed = set(SD15.units) - set(STRATEGIES[name].mask(SD15).forms)
    assert computed == {n.name for n in SD15.nodes if n.block in blocks and n.kind == kind}


def test_baselines_are_the_69_rows_and_the_controls() -> None:
    names = [plan.name for plan in baselines(SD15, 50)]
    assert len(names) == len(set(names))
    assert set(names) >= {f"{name}/{mode}" for name in TABLE for mode in PAPER_MODES}
    assert names[:5] == ["plain@50", "plain@25", "plain@20", "plain@15", "plain@10"]
    rest = {name for name in names if name and name.startswith("DC")}
    assert rest == {
        f"DC{b}/{mode}{rule}" for b in range(3) for mode in ("P2", "P3", "P5", "P8", "N") for rule in ("", "+f1", "+f2")
    }
    assert len([name for name in names if name and name.startswith("EP")]) == 2


def test_a_short_list_of_baselines_keeps_the_controls() -> None:
    names = {plan.name for plan in baselines(SD15, 20, modes=("P3",), complete=False)}
    assert {"plain@20", "plain@10", "plain@4", "DC0/P3", "DC0/P3+f2", "EP/P2"} <= names
    assert len([name for name in names if name and name.split("/")[0] in TABLE]) == 23


def test_a_few_baselines_have_one_strategy_of_each_family() -> None:
    names = [plan.name for plan in baselines(SD15, 20, modes=("P3",), complete=False, strategies=LAST_OF_FAMILIES)]
    chosen = [name.split("/")[0] for name in names if name and name.split("/")[0] in TABLE]
    assert {STRATEGIES[name].family for name in chosen} == {STRATEGIES[name].family for name in TABLE}
    assert len(chosen) == len({STRATEGIES[name].family for name in chosen})


@pytest.mark.parametrize("shape", ARCHITECTURES)
@pytest.mark.parametrize("steps", [50, 20, 4, 1])
def test_baselines_are_valid_plans_for_every_unet(shape: str, steps: int) -> None:
    for plan in baselines(ARCHITECTURES[shape], steps):
        assert plan.resolve(plan.steps)[0] == 0 and plan.steps <= steps


@pytest.mark.parametrize("architecture", [SD15, SDXL])
def test_spellings(architecture: Architecture) -> None:
    spelled = strategy("DC0/P3+f2", unet=architecture)
    assert spelled == strategy("DC0", mode="P3", unet=architecture, rule="forecast2")
    assert spelled.name == "DC0/P3+f2" and spelled.rule == Rule("forecast", 2) and spelled.schedule == Periodic(3)
    assert strategy("CO6/P5d", unet=architecture) == strategy("CO6", mode="P5†", unet=architecture)
    assert strategy("plain@20", unet=architecture).steps == 20
    assert strategy("CO6", mode="P1", unet=architecture).extracts_always


@pytest.mark.parametrize("steps", [50, 25, 20])
def test_the_non_uniform_mode_extracts_a_fifth(steps: int) -> None:
    plan = strategy("DC1", mode="N", steps=steps, unet=SD15)
    assert plan.schedule == deepcache_curve(steps) and plan.resolve(steps).count(0) == steps // 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "CO7"}, "unknown strategy 'CO7'"),
        ({"name": "plain@0"}, "unknown strategy"),
        ({"name": ""}, "unknown strategy"),
        ({"name": "CO6", "mode": "Q5"}, "unknown sampling mode 'Q5'"),
        ({"name": "CO6/P0"}, "unknown sampling mode 'P0'"),
        ({"name": "CO6", "rule": "guess"}, "unknown rule 'guess'"),
        ({"name": "CO6", "steps": 0}, "steps, got 0"),
    ],
)
def test_bad_names_are_refused(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(PlanError, match=words):
        strategy(unet=SD15, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "cast", "of_25"),
    [
        ("S1", "base@0.4, teacher", ["base"] * 10 + ["teacher"] * 15),
        ("S2", "teacher@0.6, base", ["teacher"] * 15 + ["base"] * 10),
        ("S3", "teacher@0.4, base", ["teacher"] * 10 + ["base"] * 15),
    ],
)
def test_table_iii_switches_between_networks_at_a_fraction(name: str, cast: str, of_25: list[str]) -> None:
    plan = strategy(name, steps=25, unet=SD15, students={"base": None})
    assert (plan.name, str(plan.cast), plan.masks, plan.extracts_always) == (name, cast, (), False)
    assert list(plan.networks(25)) == of_25
    assert plan.networks(50).count("base") == 2 * of_25.count("base")
    assert plan.describe() == name and InheritancePlan.from_json(plan.to_json()) == plan
    assert plan.with_cast("m2").describe() == "m2+plain@25", "the name of one cast is none of another"
    assert strategy(f"{name}+DC0/P3", steps=25, unet=SD15).cast == plan.cast
    with pytest.raises(PlanError, match="needs the student 'base'"):
        strategy(name, unet=SD15, students=["m2"])
    with pytest.raises(PlanError, match="needs the student 'm2'"):
        strategy("m2+DC0/P3", unet=SD15, students=())
