"""The cost of a candidate end to end: both sides on the same plans, and the naive loop's scores those of the study."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import candidate_cost
from benchmarks.shared.candidate_figures import figures_of, ratio
from benchmarks.shared.naive_loop import NaiveLoop
from studies.scoring.evaluator import CandidateEvaluator

SMALL = ["--plans", "4", "--steps", "3", "--count", "8", "--truth", "8", "--repeats", "1", "--pictures-batch", "4"]
ALL_STANDING = candidate_cost.standing_plans


def run(monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict[str, Any]:
    out = folder / "out.json"
    command = ["candidate_cost", "--device", "cpu", "--work", str(folder / "work"), "--out", str(out), *SMALL]
    monkeypatch.setattr(sys, "argv", command)
    # Each plan that stands is timed, which takes the most of this test; three are enough to race against.
    monkeypatch.setattr(candidate_cost, "standing_plans", lambda session: ALL_STANDING(session)[-3:])
    candidate_cost.main()
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_both_sides_score_the_same_plans_and_a_second_run_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(monkeypatch, tmp_path)
    figures, rows = first["figures"], first["samples"]
    assert len(rows) == figures["plans"] == 4 - figures["left out"]
    for row in rows:
        naive, ours = row["naive"]["scores"], row["ours"]["scores"]
        assert {"fd_emojiclip", "kid_emojiclip", "clip_emojiclip", "psnr", "ssim"} == set(naive) == set(row["truth"])
        if row["ours"]["state"] == "done":
            # Larger batches round differently, and a byte's step is far below what tells plans apart.
            assert ours["ssim"] == pytest.approx(naive["ssim"], abs=2e-3)
            assert ours["clip_emojiclip"] == pytest.approx(naive["clip_emojiclip"], abs=0.2)
        assert row["ours"]["seconds"] > 0 and row["ours"]["latency"] > 0
    assert figures["seconds a plan"]["naive"] > figures["seconds a plan"]["ours, without what is shared"]
    assert "naive over ours" in capsys.readouterr().out

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("something was measured again")

    for owner, name in ((CandidateEvaluator, "score"), (CandidateEvaluator, "painter"), (NaiveLoop, "score"),
                        (NaiveLoop, "plain")):  # fmt: skip
        monkeypatch.setattr(owner, name, never)
    assert run(monkeypatch, tmp_path)["figures"] == figures


def row(naive: float, ours: float, value: float, state: str = "done") -> dict[str, Any]:
    scores = {"psnr": value} | ({"fd": -value} if state == "done" else {})
    return {
        "words": "", "truth": {"psnr": value, "fd": -value},
        "naive": {"scores": {"psnr": value, "fd": -value}, "seconds": {"pictures": naive, "reference": 1, "scores": 1}},
        "ours": {"scores": scores, "state": state, "pictures": 4, "seconds": ours, "latency": 0.5},
    }  # fmt: skip


def test_what_is_shared_is_borne_by_all_and_repetition_is_charged() -> None:
    rows = [row(8, 2, k, "screened" if k == 0 else "done") for k in range(6)]
    figures = figures_of(rows, {"psnr": 1.0, "fd": -1.0}, plain=10, once=6)
    assert figures["naive over ours"]["value"] == pytest.approx((8 + 1 + 1 + 10) / (2 + 1))
    assert figures["naive without repetition over ours"]["value"] == pytest.approx((8 + 1) / (2 + 1))
    assert (figures["screened out"], figures["ranks"]["psnr"]["plans"], figures["ranks"]["fd"]["plans"]) == (1, 6, 5)
    assert figures["ranks"]["fd"]["kendall"]["ours"]["value"] == pytest.approx(1)
    assert figures["ranks"]["fd"]["kendall"]["ours less naive"]["value"] == 0


def test_a_ratio_is_of_sums_with_an_interval_over_plans() -> None:
    found = ratio(np.array([2.0, 4.0, 6.0]), np.array([1.0, 1.0, 1.0]))
    assert found.value == 4 and found.low < 4 < found.high
