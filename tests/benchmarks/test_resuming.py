"""The long timing benchmarks write as they go, end early without loss, and go on with what stands."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmarks import cost_model_error, table5_speed
from benchmarks.shared import measure
from benchmarks.shared.report import QUICK, options, resumable, resumed, write_result
from benchmarks.table5_speed import QUICK_ROWS, chosen, part_of
from explorer.errors import StudyError
from explorer.plans.strategies import baselines
from explorer.timing.profile import Profile
from explorer.unet.architecture import Architecture
from tests.conftest import make_pipeline, make_unet

SMALL = ["--model", "arch:tiny", "--device", "cpu", "--rounds", "3", "--resume"]


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def profile() -> Profile:
    """A profile of the tiny pipeline, complete, as the benchmarks would measure it."""
    from explorer.timing.profiling import profile_pipeline, workload_of

    pipe = make_pipeline()
    return profile_pipeline(pipe, "arch:tiny", workload_of(pipe, device="cpu"), steps=4, rounds=3)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch, profile: Profile) -> None:
    """The benchmarks load a tiny pipeline; its profile stands, so that a test times only what it is about."""
    pipe = make_pipeline()
    profiled = measure.profiled

    def standing(pipe: Any, arguments: Any, steps: int, started: Profile | None, on_round: Any) -> Profile:
        if started is None:
            on_round(profile)
        return profiled(pipe, arguments, steps, started or profile, on_round)

    monkeypatch.setattr(measure, "load", lambda _: pipe)
    monkeypatch.setattr(measure, "profiled", standing)
    # other processes' measurements are not waited for: no time is looked at here
    monkeypatch.setattr("studies.scoring.evaluator.on_device", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(table5_speed, "write_figure", lambda *_: None)
    monkeypatch.setattr(cost_model_error, "write_figure", lambda *_: None)


def run(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", [str(benchmark.__file__), *SMALL, *words])
    benchmark.main()


def killed_after(count: int, monkeypatch: pytest.MonkeyPatch, benchmark: ModuleType, words: tuple[str, ...]) -> None:
    """Run until the `count`-th thing was told, and end there as a kill would: nothing is written at the end."""
    told: list[str] = []

    def tell(self: measure.Pace, words: str, count: int = 1) -> None:
        told.append(words)
        if len(told) == limit:
            raise Killed

    limit = count
    with monkeypatch.context() as patch:
        patch.setattr(measure.Pace, "tell", tell)
        with pytest.raises(Killed):
            run(benchmark, monkeypatch, *words)


def test_rows_stand_and_the_rest_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "rows.json"
    words = ("--steps", "2", "--only", "paper", "--out", str(out))
    killed_after(2, monkeypatch, table5_speed, (*words, "--part", "1/24"))
    early = json.loads(out.read_text())
    assert early["figures"]["rows_measured"] == 2 and early["figures"]["rows_planned"] == 3
    run(table5_speed, monkeypatch, *words, "--part", "1/24")
    whole = json.loads(out.read_text())
    assert whole["figures"]["rows"][:2] == early["figures"]["rows"] and whole["figures"]["rows_measured"] == 3
    assert list(whole["samples"]["loops"]) == [row["plan"] for row in whole["figures"]["rows"]]
    assert whole["samples"]["profile"] == early["samples"]["profile"]
    run(table5_speed, monkeypatch, *words, "--part", "2/24")  # another part, in the same file
    plans = [row["plan"] for row in json.loads(out.read_text())["figures"]["rows"]]
    assert len(plans) == 6 == len(set(plans)) and plans[:3] == [row["plan"] for row in whole["figures"]["rows"]]
    assert not list(tmp_path.glob(".*.part"))


def test_chunks_of_masks_stand_and_the_rest_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "masks.json"
    words = ("--masks", "6", "--out", str(out))
    monkeypatch.setattr(cost_model_error, "CHUNK", 2)
    killed_after(2, monkeypatch, cost_model_error, words)
    early = json.loads(out.read_text())
    assert early["figures"]["masks"] == 4 and early["figures"]["masks_planned"] == 6
    run(cost_model_error, monkeypatch, *words)
    whole = json.loads(out.read_text())
    assert whole["figures"]["masks"] == 6 and whole["figures"]["steps"][:4] == early["figures"]["steps"]
    assert len(whole["samples"]["masks"]) == 3
    masks = [json.dumps(step["mask"]) for step in whole["figures"]["steps"]]
    assert len(set(masks)) == 6


def test_paper_is_69_rows_and_5_controls_and_parts_are_all_of_them() -> None:
    architecture = Architecture.of(make_unet())
    whole = chosen(architecture, 50, False)
    assert {plan.describe() for plan in whole} == {plan.describe() for plan in baselines(architecture, 50)}
    paper = [plan.describe() for plan in chosen(architecture, 50, False, "paper")]
    assert len(paper) == len(set(paper)) == 74
    assert sum(name.startswith("plain@") for name in paper) == 5
    parts = [chosen(architecture, 50, False, "paper", (n, 4)) for n in (1, 2, 3, 4)]
    assert sorted(plan.describe() for part in parts for plan in part) == sorted(paper)
    quick = [plan.describe() for plan in chosen(architecture, 50, True, "paper")]
    assert quick == paper[:QUICK_ROWS] and any("P5†" in name for name in quick) and any("P2†" in name for name in quick)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/2"])
def test_what_is_no_part(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no part"):
        part_of(text)


def arguments_of(out: Path, *words: str) -> argparse.Namespace:
    parser = options("")
    resumable(parser)
    return parser.parse_args(["--device", "cpu", "--out", str(out), *words])


@pytest.mark.parametrize(
    ("name", "words", "told"),
    [
        ("other", (), "benchmark"),
        ("some", ("--batch", "2"), "--batch 1 there and 2 here"),
        ("some", ("--quick",), "--quick False there and True here"),
    ],
)
def test_another_measurement_is_not_gone_on_with(tmp_path: Path, name: str, words: tuple[str, ...], told: str) -> None:
    out = tmp_path / "some.json"
    assert resumed("some", arguments_of(out, "--resume")) is None
    write_result("some", {"a": 1}, [], arguments_of(out))
    assert resumed("some", arguments_of(out)) is None
    found = resumed("some", arguments_of(out, "--resume"))
    assert found is not None and found["figures"] == {"a": 1}
    with pytest.raises(StudyError, match=told):
        resumed(name, arguments_of(out, "--resume", *words))
    out.write_text("{")
    with pytest.raises(StudyError, match="no result to go on with"):
        resumed("some", arguments_of(out, "--resume"))


def test_a_quick_result_says_that_it_is_not_to_be_quoted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import plotly.graph_objects as go

    from benchmarks.shared import report

    monkeypatch.undo()
    path = write_result("some", {}, [], arguments_of(tmp_path / "some.json", "--quick"))
    assert json.loads(path.read_text())["note"] == QUICK and "not to be quoted" in capsys.readouterr().err

    def no_browser(*_: object) -> None:
        raise StudyError("no browser")

    monkeypatch.setattr("studies.results.charts.write_png", no_browser)
    figure = go.Figure()
    assert "not to be quoted" in report.write_figure(figure, path).read_text()
