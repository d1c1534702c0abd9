"""What random proposals are like on SD1.5: valid, cheaper than a full step, and spread over the costs; and repairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FixedTrial

from explorer.plans.strategies import STRATEGIES
from explorer.unet.mask import Mask
from search_spaces import SPACES, make_space
from search_spaces.mask_genome import MaskGenome, repair
from search_spaces.pieces import parse_pieces, piece
from search_spaces.schedule_genome import ScheduleGenome
from search_spaces.space import Setting
from tests.architectures import SD15, TINY, sd15_anatomy


@pytest.mark.parametrize("name", SPACES)
def test_random_proposals_are_cheaper_and_spread(name: str) -> None:
    space, setting = make_space(name, SD15, 50, 51), Setting(SD15, 50, 51)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    plans = [space.suggest(study.ask()) for _ in range(150)]
    keys = {plan.key(setting.at(plan.steps)) for plan in plans}
    shares = {mask: sd15_anatomy().share(mask) for plan in plans for mask in plan.masks}
    runs = [
        sum(shares[plan.mask(c)] if c else 1 for c in plan.resolve(setting.at(plan.steps))) / setting.evaluations
        for plan in plans
    ]
    low, quarter, three_quarters, high = np.quantile(runs, [0.05, 0.25, 0.75, 0.95])
    assert len(keys) > 0.8 * len(plans)
    assert np.mean([all(shares[mask] < 1 for mask in plan.masks) for plan in plans]) > 0.95
    assert high - low > 0.4 and three_quarters - quarter > 0.12


def test_the_repair_computes_the_last_layer_and_leaves_valid_masks_alone() -> None:
    everything = Mask.of(SD15.units, "output")
    assert repair(SD15, everything).effective(SD15) == STRATEGIES["DC0"].mask(SD15)
    for entry in STRATEGIES.values():
        assert repair(SD15, entry.mask(SD15)) == entry.mask(SD15)
    both = Mask.of({"up1.l1.res": "output", "up1.l1.cat": "output", "dn0.l0.res": "residual"})
    assert repair(TINY, both) == Mask.of(["dn0.l0.res"])


@pytest.mark.parametrize(
    ("strategy", "level"),
    [("IN2", "block"), ("LI1", "layer"), ("CO6", "unit"), ("DC0", "branch"), ("DC2", "branch"), ("EP", "node")],
)
def test_masks_are_told_at_the_coarsest_granularity_that_has_them(strategy: str, level: str) -> None:
    parameters = MaskGenome(SD15).encode(STRATEGIES[strategy].mask(SD15), "m2")
    assert parameters is not None and parameters["m2.level"] == level
    assert all(name.startswith("m2.") for name in parameters)


def test_structured_names_carry_mask_and_granularity() -> None:
    parameters = MaskGenome(SD15, ("block",)).encode(STRATEGIES["CO3"].mask(SD15), "m1")
    blocks = {f"m1.block.{block}": "none" if block == "up3" else "all" for block in SD15.blocks}
    assert parameters == {"m1.form": "residual", **blocks}


@pytest.mark.parametrize(
    ("choices", "count"),
    [([0], 1), ([0, 1, 1, 1], 1), ([0, 1, 0, 1, 0, 2], 2), ([0, 0, 0, 1, 1, 0, 1, 1], 2), ([0, 1, 2, 2, 0, 2], 3),
     ([0, *[1] * 40], 2), ([0, 1, 2, 3, 0], 4)],
)  # fmt: skip
def test_pieces_are_the_fewest(choices: list[int], count: int) -> None:
    pieces = parse_pieces(choices)
    assert pieces is not None and len(pieces) == count
    assert [choice for length, period, mask in pieces for choice in piece(length, period, mask)] == choices


def test_no_pieces_where_the_first_step_inherits() -> None:
    assert parse_pieces([1, 0]) is None and parse_pieces([]) is None


@pytest.mark.parametrize(
    ("drawn", "switches"),
    [((30, 60), (0.3, 0.6)), ((60, 30), (0.3, 0.6)), ((40, 40), (0.4, 0.45)), ((95, 95), (0.9, 0.95))],
)
def test_switches_are_put_in_order_and_apart(drawn: tuple[int, int], switches: tuple[float, float]) -> None:
    values: dict[str, Any] = {"schedule.period": 4, "schedule.offset": 6, "schedule.tail": 20}
    values |= {"schedule.switch1": drawn[0], "schedule.switch2": drawn[1]}
    schedule = ScheduleGenome(50, ("periodic",)).suggest(FixedTrial(values), 3, 50)
    assert schedule.to_json() == {
        "kind": "periodic", "period": 4, "offset": 2, "tail": 0.2, "switches": list(switches),
    }  # fmt: skip
