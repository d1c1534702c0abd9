"""What a study's rows say: no loss, gains, dominated baselines, and the chart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from explorer.errors import StudyError
from explorer.estimate import Estimate
from studies import Store
from studies.cli import run
from studies.results.charts import front_figure, group_of, write_html
from studies.results.rows import TrialRow
from studies.results.summary import dominated_baselines, front_of, gain, plain_row, without_loss
from studies.settings import Objective
from studies.storage.facts import PlanFacts
from tests.studies.scored_study import fill

OBJECTIVES = (Objective("latency", "minimize"), Objective("fd_x", "minimize"), Objective("clip", "maximize"))


def row(number: int, name: str | None, seconds: float, fd: float, clip: float, **changes: Any) -> TrialRow:
    def around(value: float) -> Estimate:
        return Estimate(value, value - 0.5, value + 0.5, 64)

    scores = {"latency": around(seconds), "speedup": around(10 / seconds), "fd_x": around(fd), "clip": around(clip)}
    words = changes.get("words") or name or f"plan {number}"
    values: dict[str, Any] = {
        "facts": PlanFacts("none" if words.startswith("plain@") else "P2", nickname=words),
        "number": number, "key": f"k{number}", "state": "done", "origin": "baseline" if name else "search",
        "name": name,
        "aliases": [], "words": words, "plan": {}, "reason": None, "worker": 0, "started": 0.0,
        "finished": 1.0, "scores": scores, "seconds": {}, "extractors": {}, "device": "cpu",
    }  # fmt: skip
    return TrialRow(**(values | changes))


PLAIN = row(0, "plain@50", 10, 20, 30)
FEWER = row(1, "plain@25", 5, 24, 29)
CLOSE = row(2, None, 4, 20.4, 29.6)
WORSE = row(3, "CO6/P5†", 6, 25, 28)
FASTEST = row(4, None, 2, 40, 20)
ROWS = [PLAIN, FEWER, CLOSE, WORSE, FASTEST, row(5, None, 1, 1, 99, state="failed", scores={})]


def test_no_loss_means_within_the_baseline_interval() -> None:
    assert plain_row(ROWS, 50) is PLAIN and plain_row(ROWS, 20) is None
    assert without_loss(ROWS, OBJECTIVES, 50) == [CLOSE, PLAIN]
    assert without_loss(ROWS, OBJECTIVES, 20) == []
    assert without_loss(ROWS, OBJECTIVES[:1], 50) == []
    perfect = row(0, "plain@50", 10, 20, 30)
    perfect.scores["fd_x"] = Estimate(0.0, 0.0, 6e-14, 64)
    assert without_loss([perfect, FEWER, CLOSE], OBJECTIVES, 50) == [CLOSE, perfect]


def test_front_and_whom_it_dominates() -> None:
    assert front_of(ROWS, OBJECTIVES) == [FASTEST, CLOSE, PLAIN]
    assert dominated_baselines(ROWS, CLOSE, OBJECTIVES) == ["plain@25", "CO6/P5†"]
    assert dominated_baselines(ROWS, PLAIN, OBJECTIVES) == []


def test_hypervolume_grows_with_what_the_search_adds() -> None:
    found = gain(ROWS, OBJECTIVES)
    assert found is not None and found.ratio > 1
    fewer_by_search = row(6, None, 3, 22, 29.9, words="plain@15")
    assert gain([*ROWS[:1], FEWER, WORSE, fewer_by_search], OBJECTIVES).ratio == 1  # type: ignore[union-attr]
    # the scale is the baselines' own, which a useless searched plan of two steps must not widen
    useless = row(7, None, 0.1, 500, 1, words="plain@2")
    assert gain([*ROWS, useless], OBJECTIVES) == found
    alone = gain([PLAIN, FEWER, WORSE], OBJECTIVES)
    assert alone is not None and alone.ratio == 1
    assert gain([CLOSE], OBJECTIVES) is None


@pytest.mark.parametrize(
    ("name", "group"),
    [(None, "searched"), ("plain@20", "plain steps"), ("DC1/P3+f2", "DeepCache"), ("EP/P2", "encoder propagation"),
     ("IN1/P5", "A-SDM block"), ("LI2/P5†", "A-SDM layer"), ("RI/P2", "A-SDM unit"), ("CO6/P5†", "A-SDM concurrent")],
)  # fmt: skip
def test_groups(name: str | None, group: str) -> None:
    assert group_of(row(0, name, 1, 1, 1)) == group


def test_the_chart_holds_every_scored_plan_once_a_panel(tmp_path: Path) -> None:
    figure = front_figure(ROWS, OBJECTIVES, "a study")
    numbers = [number for trace in figure.data if trace.customdata is not None for number in trace.customdata]
    assert sorted(numbers) == sorted([0, 1, 2, 3, 4] * 2)
    assert [axis.title.text for axis in figure.select_yaxes()] == ["fd_x (lower is better)", "clip (higher is better)"]
    write_html(figure, tmp_path / "chart.html")
    assert (tmp_path / "chart.html").stat().st_size > 1_000_000
    with pytest.raises(StudyError, match="cannot write"):
        write_html(figure, tmp_path / "no" / "chart.html")
    with pytest.raises(StudyError, match="nothing has been scored"):
        front_figure([], OBJECTIVES, "empty")


def test_names_of_a_database_are_text_in_the_chart() -> None:
    """A plan's name from elsewhere must not become markup in the page."""
    hostile = row(9, None, 3, 10, 40, words="<img src=x onerror=alert(1)>")
    figure = front_figure([*ROWS, hostile], OBJECTIVES, "a study")
    texts = [text for trace in figure.data if trace.hovertext is not None for text in trace.hovertext]
    assert not any("<img" in text for text in texts)


def test_students_and_casts_are_series_of_their_own() -> None:
    for name, networks, series in (("S1", ("base", "teacher"), "casts"), ("m2+plain@20", ("m2",), "students"),
                                   ("IN1/P5", ("teacher",), "A-SDM block")):  # fmt: skip
        facts = PlanFacts("P2", networks=networks)
        assert group_of(row(1, name, 1.0, 2.0, 3.0, origin="baseline", facts=facts)) == series
        assert group_of(row(1, name, 1.0, 2.0, 3.0, origin="search", facts=facts)) == "searched"


def test_show_json_tells_what_runs_each_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Networks in the order in which they first run; scheduler and spacing are None where they are the pipeline's."""
    names = ("plain@4", "base@0.5+DC0/P2", "teacher@0.4,base+plain@4", "plain@3/DPMSolverMultistep+karras~trailing")
    with Store.open(tmp_path / "explorer.db") as store:
        fill(store, names=names)
    assert run(["show", "small", "--storage", str(tmp_path / "explorer.db"), "--json"]) == 0
    shown = {each["name"]: each for each in json.loads(capsys.readouterr().out)["trials"]}
    found = {name: [shown[name][key] for key in ("networks", "scheduler", "spacing")] for name in names}
    assert found == {
        "plain@4": [["teacher"], None, None],
        "base@0.5+DC0/P2": [["base", "teacher"], None, None],
        "teacher@0.4,base+plain@4": [["teacher", "base"], None, None],
        "plain@3/DPMSolverMultistep+karras~trailing": [["teacher"], "DPMSolverMultistep+karras", "trailing"],
    }
    assert all(each["plan"]["cast"] for name, each in shown.items() if "base" in name)
