"""What ships is what this recipe trained and what the card measured."""

from __future__ import annotations

import csv
import json

import pytest

from recipe.evaluation.evaluate import RESULTS
from recipe.packing.export import EMBEDDED, TRAININGS
from training.folders import digest

# The weights that ship were made before captions of several levels and placed pictures, by an earlier preset.
STEPS = dict(zip(TRAININGS, (1000, 5000, 3600, 1300), strict=True))


@pytest.mark.parametrize("part", ["emoji", "emojiclip", "statistics"])
def test_the_figures_are_of_the_weights_that_ship(part: str) -> None:
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert found[{"emoji": "weights", "emojiclip": "judge"}.get(part, part)] == digest(EMBEDDED / part)


@pytest.mark.parametrize("name", TRAININGS)
def test_every_training_was_logged_to_the_end_of_its_budget(name: str) -> None:
    with (EMBEDDED / "card" / f"losses-{name}.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    steps = [int(row["step"]) for row in rows]
    assert steps == sorted(set(steps)) and steps[-1] == STEPS[name]
    losses = [float(row["loss"]) for row in rows]
    assert losses[-1] < 0.5 * losses[0]
