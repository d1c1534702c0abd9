"""The benchmark of proposals end to end on the embedded model, with few steps, plans and prompts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import search_cost
from benchmarks.shared.cached_scores import CEILING
from benchmarks.shared.proposal_runs import methods, usual_methods
from studies.config import PROPOSALS, SAMPLERS
from studies.scoring.evaluator import CandidateEvaluator

METHODS = "random,planned"
SMALL = ["--seeds", "2", "--plans", "3", "--steps", "4", "--count", "2", "--rounds", "2", "--points", "2"]
SMALL += ["--baselines", "short"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


def run(monkeypatch: pytest.MonkeyPatch, work: Path, *more: str) -> dict[str, Any]:
    out = work / "out.json"
    command = ["search_cost", "--device", "cpu", "--work", str(work), "--out", str(out), *SMALL, *more]
    monkeypatch.setattr(sys, "argv", command)
    search_cost.main()
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_every_sampler_and_kind_is_there_once() -> None:
    known = methods()
    assert {method.sampler for method in known.values() if method.proposals == "sampler"} == set(SAMPLERS)
    assert {method.proposals for method in known.values()} == set(PROPOSALS)
    assert set(usual_methods()) <= known.keys()
    assert known["planned"].calibrated and not known["random"].calibrated and known["random+calibrated"].calibrated


def test_runs_are_made_kept_and_told_again(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(monkeypatch, work, "--methods", METHODS)
    runs = first["samples"]["runs"]
    assert [(each["method"]["name"], each["seed"]) for each in runs] == [
        ("random", 0), ("random", 1), ("planned", 0), ("planned", 1),
    ]  # fmt: skip
    for each in runs:
        assert len(each["plans"]) == 3
        assert len({entry["key"] for entry in [*each["start"], *each["plans"]]}) == len(each["start"]) + 3
        assert all(name.startswith("plain@") for name in (entry["name"] for entry in each["start"]))
        assert each["start"][0]["share"] == 1 and each["start"][0]["psnr"] == CEILING
        assert all(entry["seconds"] > 0 and entry["proposing"] > 0 for entry in each["plans"])
    assert runs[0]["plans"] != runs[1]["plans"]
    assert runs[0]["calibration"] == 0 < runs[2]["calibration"] == runs[3]["calibration"]
    assert {"random", "planned"} == set(first["figures"]["methods"])
    assert "| planned |" in capsys.readouterr().out

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a plan was measured again")

    monkeypatch.setattr(CandidateEvaluator, "score", never)
    second = run(monkeypatch, work, "--methods", METHODS)
    assert second["figures"] == first["figures"]
    # Another search of the same method and seed proposes the same plans, whose quality stands.
    again = run(monkeypatch, work, "--methods", "random", "--again")["samples"]["runs"]
    assert [[entry["key"] for entry in each["plans"]] for each in again] == [
        [entry["key"] for entry in each["plans"]] for each in runs[:2]
    ]


def test_an_unknown_method_is_one_sentence(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"unknown --methods luck; known: random"):
        run(monkeypatch, work, "--methods", "luck")
