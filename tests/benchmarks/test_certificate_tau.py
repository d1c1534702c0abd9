"""Certificates of a small study's plans, end to end, and which plans are chosen."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import certificate_tau
from benchmarks.certificate_tau import choose, figures_of
from explorer.errors import StudyError
from explorer.estimate import Estimate
from explorer.plans.plan import InheritancePlan
from explorer.plans.strategies import strategy
from studies import Objective, Store, trials
from studies.cli.commands.search import run_search
from studies.results.rows import TrialRow
from studies.scoring.evaluator import CandidateEvaluator
from studies.searching.asking import config_asked
from studies.storage.tables import DONE
from tests.studies.scored_study import emoji_architecture, fill

OBJECTIVES = (Objective("latency", "minimize"), Objective("psnr", "maximize"))


def rows(folder: Path, points: list[tuple[float, float]]) -> list[TrialRow]:
    """Scored rows at these latencies and PSNR, each of a plan that inherits."""
    with Store.open(folder / "explorer.db") as store:
        example = trials(store, fill(store))[1]
    plan = strategy("DC0/P3", steps=8, unet=emoji_architecture()).to_json()

    def scores(cost: float, psnr: float) -> dict[str, Estimate]:
        return {"latency": Estimate(cost, cost, cost, 3), "psnr": Estimate(psnr, psnr, psnr, 3)}

    return [
        replace(example, number=k, key=str(k), state=DONE, plan=plan, words=f"{k}", scores=scores(*each))
        for k, each in enumerate(points)
    ]


def test_half_is_spread_over_the_front_and_half_behind_it(tmp_path: Path) -> None:
    front = [(k / 10, 20.0 + k) for k in range(10)]
    behind = [(cost + 0.05, value - 0.5) for cost, value in front]
    far = [(cost + 5, value - 30) for cost, value in front]
    chosen = choose(rows(tmp_path, [*far, *behind, *front]), OBJECTIVES, 8)
    assert [each.layer for each in chosen].count(0) == 4 and max(each.layer for each in chosen) == 1
    costs = [each.row.scores["latency"].value for each in chosen if each.layer == 0]
    assert min(costs) == 0 and max(costs) == 0.9
    assert len({each.row.key for each in chosen}) == 8


def test_a_short_front_leaves_more_to_the_layers_behind(tmp_path: Path) -> None:
    points = [(0.1, 50.0), *((0.2 + k / 10, 40.0 - k) for k in range(9))]
    chosen = choose(rows(tmp_path, points), OBJECTIVES, 6)
    assert len(chosen) == 6 and [each.layer for each in chosen].count(0) == 1


def test_the_unaccelerated_run_is_none_of_them_and_too_few_are_said(tmp_path: Path) -> None:
    made = rows(tmp_path, [(0.1, 50.0), (0.2, 40.0), (0.3, 45.0), (0.4, 60.0)])
    plain = InheritancePlan(emoji_architecture(), 8).to_json()
    made[3] = replace(made[3], plan=plain)
    with pytest.raises(StudyError, match="3 scored plans"):
        choose(made, OBJECTIVES, 4)


def test_figures_turn_each_metric_so_that_more_is_better() -> None:
    found = [
        {"layer": 0, "search": {"psnr": k, "fd": -k}, "certificate": {"psnr": 2 * k + 1, "fd": 3 - k}}
        for k in np.arange(6.0)
    ]
    figures = figures_of(found, {"psnr": 1.0, "fd": -1.0}, ["fd"])
    assert figures["metrics"]["psnr"]["kendall"]["value"] == pytest.approx(1)
    assert figures["tau of all pairs"]["psnr"]["fd"] == pytest.approx(1)
    assert figures["metrics"]["fd"]["measured again"] and not figures["metrics"]["psnr"]["measured again"]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('study') / 'explorer.db'}"
    given = {
        "study": "small", "storage": url, "steps": 5, "prompt_count": 8, "trials": 6, "pairs": 3, "device": "cpu",
        "baselines": "none", "objectives": "latency,clip", "sampler": "random", "batch": 8,
    }  # fmt: skip
    run_search(config_asked(given), as_json=False)
    return url


def run(monkeypatch: pytest.MonkeyPatch, storage: str, folder: Path) -> dict[str, Any]:
    out = folder / "out.json"
    command = ["certificate_tau", "--study", "small", "--storage", storage, "--device", "cpu", "--quick"]
    monkeypatch.setattr(sys, "argv", [*command, "--work", str(folder / "work"), "--out", str(out)])
    certificate_tau.main()
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_certificates_are_made_once_and_compared(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(monkeypatch, storage, tmp_path)
    metrics, plans = first["figures"]["metrics"], first["samples"]
    assert set(metrics) == {"clip_emojiclip", "fd_emojiclip", "kid_emojiclip", "psnr", "ssim"}
    assert [name for name, row in metrics.items() if row["measured again"]] == ["fd_emojiclip", "kid_emojiclip"]
    assert len(plans) == first["figures"]["count"] >= 4
    for plan in plans:
        assert plan["certificate"].keys() == plan["search"].keys() == metrics.keys()
        assert plan["certificate"]["psnr"] != plan["search"]["psnr"]
    assert "| psnr |" in capsys.readouterr().out

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("pictures were made again")

    monkeypatch.setattr(CandidateEvaluator, "painter", never)
    assert run(monkeypatch, storage, tmp_path)["figures"] == first["figures"]
