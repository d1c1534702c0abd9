"""What ships is what this recipe trained, what the card measured, and a model whose trade-off bends."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from typing import Any

import pytest

from explorer.networks.found import BESIDE
from recipe.evaluation.evaluate import RESULTS, SEEDS
from recipe.networks.presets import PRESETS
from recipe.packing.export import EMBEDDED, TRAININGS
from training.folders import digest

CPU = PRESETS["cpu"]
STEPS = dict(zip(TRAININGS, (*CPU.legs, CPU.unet_steps, CPU.clip_steps), strict=True))
FEW_STEP_SOLVERS = ("DDIM leading", "DDIM trailing", "DPMSolverMultistep leading")


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return read


@pytest.fixture(scope="module")
def rows(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in found["tradeoff"]}


@pytest.mark.parametrize("part", ["emoji", "emojiclip", "statistics"])
def test_the_figures_are_of_the_weights_that_ship(part: str, found: dict[str, Any]) -> None:
    assert found[{"emoji": "weights", "emojiclip": "judge"}.get(part, part)] == digest(EMBEDDED / part, BESIDE)


@pytest.mark.parametrize("name", TRAININGS)
def test_every_training_was_logged_to_the_end_of_its_budget(name: str) -> None:
    with (EMBEDDED / "card" / f"losses-{name}.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    steps = [int(row["step"]) for row in rows]
    assert steps == sorted(set(steps)) and steps[-1] == STEPS[name]
    losses = [float(row["loss"]) for row in rows]
    assert losses[-1] < 0.5 * losses[0]


def test_generated_pictures_are_named_nearly_as_often_as_real_ones(found: dict[str, Any]) -> None:
    real, generated = (found["alignment"][kind]["top5"]["value"] for kind in ("real", "generated"))
    assert generated >= 0.85 * real


def test_one_caption_gives_a_placing_for_each_seed(found: dict[str, Any]) -> None:
    assert len({tuple(box) for box in found["placings"]}) == SEEDS


@pytest.mark.parametrize("masks", ["DC0", "every unit"])
def test_the_longer_features_are_reused_the_more_they_drift(masks: str, rows: dict[str, dict[str, Any]]) -> None:
    reused = [row for row in rows.values() if row["mask"] == masks]
    assert len(reused) >= 3
    assert all(before["psnr"]["value"] > after["psnr"]["value"] for before, after in pairwise(reused))
    first, last = reused[0], reused[-1]
    changes = [name for name in first if name.startswith("change_of_fd_")]
    assert any(first[name]["high"] < last[name]["low"] for name in changes)


def test_reuse_at_every_fifth_step_drifts_as_in_published_work(rows: dict[str, dict[str, Any]]) -> None:
    assert 22 <= rows["DDIM leading, 50 steps, DC0/P5"]["psnr"]["value"] <= 36


def test_pndm_keeps_its_score_at_25_steps_and_loses_some_at_10(rows: dict[str, dict[str, Any]]) -> None:
    most, half, few = (rows[f"PNDM linspace, {steps} steps"]["clip_score"] for steps in (50, 25, 10))
    assert most["low"] <= half["value"] <= most["high"]
    assert 0.04 <= 1 - few["value"] / most["value"] <= 0.15


@pytest.mark.parametrize("solver", FEW_STEP_SOLVERS)
def test_five_steps_of_a_good_solver_cost_quality(solver: str, rows: dict[str, dict[str, Any]]) -> None:
    few = rows[f"{solver}, 5 steps"]
    assert few["clip_gain"]["high"] < 0
    assert few["psnr"]["value"] < 24


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_twenty_steps_of_dpm_solver_lose_nothing(spacing: str, rows: dict[str, dict[str, Any]]) -> None:
    most, some = (rows[f"DPMSolverMultistep {spacing}, {steps} steps"] for steps in (50, 20))
    assert most["clip_score"]["low"] <= some["clip_score"]["value"] <= most["clip_score"]["high"]
    assert all(each["low"] <= 0 for name, each in some.items() if name.startswith("change_of_fd_"))
