"""A metric is declared once: what reads metrics knows a new one from its declaration alone."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dashboard.parts.front_wish import templates
from dashboard.wording import axis_words, metric_words
from explorer.errors import StudyError
from explorer.estimate import Estimate
from explorer.quality import METRICS, Metric, Scorer, resolve
from explorer.quality.metrics import least_pictures
from explorer.quality.registry import Pair
from studies.choosing.choice import AskedLimits, choose
from studies.config import OPTIONS, make_config
from studies.metrics import AUXILIARY, SPEEDS, direction_of, is_clip, is_paired, metric_of, of_pictures
from studies.results.board import Board
from studies.results.rows import TrialRow
from studies.scoring.racing import losses_of
from studies.storage.judged import judged
from tests.explorer.scores_fixtures import random_pictures
from tests.studies.results.test_summary import row
from tests.studies.toy_study import toy_settings

ROOT = Path(__file__).parents[2]


def brightness(pair: Pair) -> Any:
    change = pair.pictures.double().mean(dim=(1, 2, 3)) - pair.baseline.double().mean(dim=(1, 2, 3))
    return change.abs().numpy()


TOY = Metric(
    "brightness", "change of the mean brightness", "minimize", frozenset({"baseline"}), unit="levels", perfect=0.0,
    usual=2.5, of_pairs=brightness,
)  # fmt: skip
SPREAD = Metric("spread", "variance of the features", "maximize", frozenset({"features"}), minimum=3)


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    for metric in (TOY, SPREAD):
        monkeypatch.setitem(METRICS, metric.name, metric)


def scored(number: int, name: str | None, seconds: float, value: float) -> TrialRow:
    made = row(number, name, seconds, 20.0, 30.0)
    return replace(made, scores={**made.scores, TOY.name: Estimate(value, value - 0.5, value + 0.5, 8)})


ROWS = [scored(0, "plain@50", 10, 0.0), scored(1, None, 5, 2.0), scored(2, None, 2, 9.0)]


def test_it_is_scored(toys: None) -> None:
    pictures, baseline = random_pictures(6), random_pictures(6, seed=1)
    scores = Scorer(["brightness", "psnr"], "emojiclip", None, None, torch.device("cpu")).score(pictures, (), baseline)
    expected = np.abs(pictures.double().mean(dim=(1, 2, 3)) - baseline.double().mean(dim=(1, 2, 3)))
    assert scores.each["brightness"] == pytest.approx(expected.tolist())
    assert scores["brightness"].value == pytest.approx(float(expected.mean())) and scores["brightness"].n == 6


def test_its_true_name_direction_and_least_pictures_follow(toys: None) -> None:
    assert [(each.name, each.direction) for each in resolve(["brightness", "spread"], "emojiclip")] == [
        ("brightness", "minimize"), ("spread_emojiclip", "maximize"),
    ]  # fmt: skip
    assert direction_of("spread_emojiclip") == "maximize" and direction_of("brightness") == "minimize"
    assert least_pictures("spread", "emojiclip") == 8 and least_pictures("brightness", "emojiclip") == 1
    assert is_paired("brightness") and not is_paired("spread_emojiclip") and not is_clip("brightness")


def test_a_race_counts_it_as_drift(toys: None) -> None:
    assert losses_of("brightness", [3.0, 1.0]).tolist() == [3.0, 1.0]


def test_a_study_may_have_it_as_an_objective_and_a_limit(toys: None) -> None:
    assert make_config({"objectives": "latency,brightness"}).objectives == ("latency", "brightness")
    metrics = ["speedup", "brightness"]
    chosen = choose(ROWS, AskedLimits(most=(("brightness", 4),)).wish(metrics), ROWS[0])
    assert chosen.plan is ROWS[1] and "brightness ≤ 4" in chosen.words
    with pytest.raises(StudyError, match="of brightness less is better"):
        AskedLimits(least=(("brightness", 4),)).wish(metrics)


def test_the_dashboard_shows_it_with_its_unit_and_offers_a_limit(toys: None) -> None:
    assert metric_words("brightness") == axis_words("brightness") == "brightness (levels)"
    board = Board.of(ROWS, toy_settings())
    offered = templates(board)["As fast as possible at brightness of at most #"]
    assert offered.start == 2.5 and offered.wish(2.5).limits[0].metric == "brightness"


def test_the_docs_list_it(toys: None) -> None:
    spec = importlib.util.spec_from_file_location("reference_pages", ROOT / "docs" / "reference.py")
    assert spec and spec.loader
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    lines = pages.metric_table().splitlines()
    assert (
        "| `brightness` | `brightness` | change of the mean brightness, in levels | lower | 1 or more | nothing |"
        in lines
    )
    assert any(line.startswith("| `spread` | `spread_<extractor>`, `spread` |") for line in lines)


def test_the_help_names_every_metric() -> None:
    listed = OPTIONS["objectives"].option.help.removeprefix("Comma-separated: ").removesuffix(".").split(", ")
    assert listed == [*SPEEDS, *METRICS]


def test_scores_that_are_not_of_pictures() -> None:
    names = [*SPEEDS, *AUXILIARY, "fd_x", "psnr", "new"]
    assert of_pictures(names) == ["fd_x", "psnr", "new"]
    assert metric_of("new") is None and metric_words("new") == "new" and direction_of("new") == "minimize"
    assert metric_words("speedup") == "speedup (x)" and axis_words("speedup") == "measured speed-up"
    assert metric_words("cache_mib") == "features kept (MiB)"
    interval = Estimate(2.0, 1.0, 3.0, 4)
    assert [judged(name, interval) for name in ("latency", "speedup", "psnr")] == [3.0, 1.0, 2.0]
