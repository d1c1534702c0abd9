"""The Front page on a small real storage, without a browser; its filters and its chart on columns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from streamlit.testing.v1 import AppTest

from dashboard.parts.front_filters import in_order
from dashboard.parts.front_wish import templates
from dashboard.pictures.front_chart import View, front_chart, front_line, thinned
from dashboard.views.page_front import chart_words, clicked, front_table
from dashboard.wording import plain
from studies import Objective, Store, trials
from studies.results.board import Board
from studies.storage import tables
from tests.dashboard.small_study import PLANS, fill, settings
from tests.dashboard.test_pages import texts, whole
from tests.studies.results.test_summary import row

Open = Callable[..., AppTest]
FRONT = "views/page_front.py"
VIEW = View("speedup", "fd_toy")


def chart(app: AppTest) -> dict[str, Any]:
    return dict(json.loads(app.get("plotly_chart")[0].proto.spec))


def drawn(app: AppTest) -> dict[str, list[int]]:
    """Trials by the trace's name."""
    return {trace["name"]: trace["customdata"] for trace in chart(app)["data"] if trace.get("customdata")}


@pytest.fixture(scope="module")
def board(small_storage: Path) -> Board:
    with Store.open(small_storage, read_only=True) as store:
        study = store.study("small")
        return Board.of(trials(store, study), study.settings)


def test_front_draws_every_scored_plan_with_its_number(open_app: Open, small_storage: Path) -> None:
    app = whole(open_app(small_storage, FRONT), "Front")
    traces = drawn(app)
    rings = traces.pop("tied within noise", []), traces.pop("the plan to take")
    assert sorted(number for numbers in traces.values() for number in numbers) == list(range(7))
    assert rings[1] == [5]
    table = app.dataframe[0].value
    assert 5 in list(table["trial"])
    assert table["speedup (x)"].is_monotonic_decreasing
    assert "hold 1 of them: plain\\@10" in texts(app)
    axes = chart(app)["layout"]
    assert axes["xaxis"]["title"]["text"] == "measured speed-up"
    assert axes["yaxis"]["title"]["text"] == "fd_toy, lower is better"


def test_axes_and_colour_are_chosen(open_app: Open, small_storage: Path) -> None:
    app = open_app(small_storage, FRONT)
    app.selectbox(key="axis-x-1").select("latency").run()
    app.selectbox(key="axis-y-1").select("psnr").run()
    app.selectbox(key="axis-colour-1").select("clip").run()
    shown = chart(app)
    assert shown["layout"]["xaxis"]["title"]["text"] == "latency (s per picture)"
    assert shown["layout"]["yaxis"]["title"]["text"] == "psnr (dB), higher is better"
    assert shown["layout"]["coloraxis"]["colorbar"]["title"]["text"] == "clip"
    plain_steps = next(trace for trace in shown["data"] if trace.get("name") == "plain steps")
    assert plain_steps["marker"]["coloraxis"] == "coloraxis"
    assert plain_steps["marker"]["color"] == [30.0, 28.5]


def test_front_filters_by_series_and_kind(open_app: Open, small_storage: Path) -> None:
    app = open_app(small_storage, FRONT)
    app.button_group(key="series-1").set_value(["DeepCache", "searched"]).run()
    assert set(drawn(app)) >= {"DeepCache", "searched"}
    assert "plain steps" not in drawn(app)
    app.multiselect(key="kind-1").select("residual").run()
    assert [n for name, numbers in drawn(app).items() if name == "searched" for n in numbers] == [6]
    app.button_group(key="series-1").set_value([]).run()
    assert not app.get("plotly_chart")
    assert "no plan passes the filters" in texts(app)


def test_front_filters_by_scheduler_where_a_study_has_several(
    open_app: Open, small_storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not [box for box in open_app(small_storage, FRONT).multiselect if box.label == "Scheduler"]
    monkeypatch.setitem(PLANS, "plain@10/DPMSolverMultistep", (1.9, 20.0, "baseline"))
    with Store.open(tmp_path / "both.db") as store:
        fill(store, "both", ["plain@20", "plain@10", "plain@10/DPMSolverMultistep", "DC0/P3"])
    app = open_app(tmp_path / "both.db", FRONT)
    box = app.multiselect(key="scheduler-1")
    assert box.options == ["DPMSolverMultistep", "PNDM"] and drawn(app)["plain steps"] == [0, 1, 2]
    box.select("DPMSolverMultistep").run()
    assert drawn(app)["plain steps"] == [2] and "DeepCache" not in drawn(app)
    app.multiselect(key="scheduler-1").set_value(["PNDM"]).run()
    assert drawn(app)["plain steps"] == [0, 1] and drawn(app)["DeepCache"] == [3]


def test_a_range_hides_what_lies_outside(open_app: Open, small_storage: Path) -> None:
    app = open_app(small_storage, FRONT)
    slider = app.slider(key="range-1-speedup")
    assert slider.min <= 1.0 and slider.max >= 1.98
    slider.set_range(1.4, 1.6).run()
    assert drawn(app)["searched"] == [5]
    assert set(drawn(app)) <= {"searched", "the plan to take", "tied within noise"}


def test_an_untouched_range_grows_with_the_study(open_app: Open, tmp_path: Path) -> None:
    path = tmp_path / "growing.db"
    with Store.open(path) as store:
        fill(store, "growing", ["plain@20", "EP/P2"])
        app = open_app(path, FRONT)
        fill(store, "growing", ["plain@20", "EP/P2", "plain@10"])
    app.run()
    assert drawn(app)["plain steps"] == [0, 2]
    assert app.slider(key="range-1-speedup").value[1] >= 1.98


def test_a_plan_is_named_for_a_wish(open_app: Open, small_storage: Path) -> None:
    app = open_app(small_storage, FRONT)
    box = app.selectbox(key="wish-1")
    assert box.value == "As fast as possible at a clip loss of at most # %"
    assert "trial 5" in texts(app)
    app.number_input(key="wish-number-1-As fast as possible at a clip loss of at most # %").set_value(10.0).run()
    assert drawn(app)["the plan to take"] == [1]
    app.button(key="wish-open").click().run()
    whole(app, "Plan")
    assert app.session_state["trial"] == 1


def test_a_wish_that_none_keeps_says_what_comes_nearest(open_app: Open, small_storage: Path) -> None:
    app = open_app(small_storage, FRONT)
    sentence = "The best clip at # times the speed or more"
    app.selectbox(key="wish-1").select(sentence).run()
    app.number_input(key=f"wish-number-1-{sentence}").set_value(5.0).run()
    assert "None of 7 plans keeps" in texts(app)
    assert "the plan to take" not in drawn(app)


def test_every_sentence_offered_has_an_answer(board: Board) -> None:
    from studies.choosing.choice import choose

    known = templates(board)
    assert len(known) >= 5
    for template in known.values():
        found = choose(board.measured, template.wish(template.start), board.control)
        assert found.plan is not None or found.nearest is not None


def test_a_click_on_the_chart_opens_the_plan(open_app: Open, small_storage: Path) -> None:
    app = open_app(small_storage, FRONT)
    app.session_state["front-chart"] = {
        "selection": {"points": [{"customdata": 4}], "point_indices": [0], "box": [], "lasso": []}
    }
    app.run()
    whole(app, "Plan")
    assert app.session_state["trial"] == 4
    assert [shown.value for shown in app.header] == [plain("CO6/P5†")]
    app.switch_page(FRONT).run()
    assert drawn(app)["opened last"] == [4]


@pytest.mark.parametrize(
    ("points", "number"),
    [
        ([], None),
        ([{"x": 1.0}], None),
        ([{"customdata": 3}], 3),
        ([{"customdata": [3]}], 3),
        ([{"customdata": []}], None),
    ],
)
def test_the_clicked_trial(points: list[dict[str, object]], number: int | None) -> None:
    assert clicked({"selection": {"points": points}}) == number


@pytest.mark.parametrize("objective", [Objective("latency", "minimize"), Objective("speedup", "maximize")])
def test_a_study_of_time_alone_has_a_front(objective: Objective, open_app: Open, tmp_path: Path) -> None:
    with Store.open(tmp_path / "fast.db") as store:
        fill(store, "fast", ["plain@20", "DC0/P3"], objectives=(objective,))
    app = whole(open_app(tmp_path / "fast.db"), "Studies")
    assert app.metric[0].value == "none yet"
    assert "this study measures no quality" in texts(app)
    app = whole(open_app(tmp_path / "fast.db", FRONT), "Front")
    assert len(app.get("plotly_chart")) == 1
    assert list(app.dataframe[0].value["trial"]) == [1]


def test_screened_out_plans_are_shown_when_asked_for(open_app: Open, tmp_path: Path) -> None:
    path = tmp_path / "screened.db"
    with Store.open(path) as store:
        fill(store, "screened", ["plain@20", "DC0/P3", "AI/P2"])
        with store.begin() as connection:
            third = sa.select(tables.plans.c.id).where(tables.plans.c.trial_number == 2).scalar_subquery()
            mine = tables.measurements.c.plan_id == third
            connection.execute(sa.delete(tables.measurements).where(mine, tables.measurements.c.metric == "clip"))
    app = open_app(path, FRONT)
    assert "searched" not in drawn(app)
    app.toggle(key="screened-1").set_value(True).run()
    assert drawn(app)["searched"] == [2]


def many(count: int) -> Board:
    """A board of `count` searched plans behind a few baselines."""
    generator = np.random.default_rng(0)
    rows = [row(0, "plain@20", 10, 20, 30), row(1, "DC0/P3", 6, 22, 29.5)]
    for number in range(2, count + 2):
        seconds = float(generator.uniform(2, 10))
        rows.append(row(number, None, seconds, 20 + 60 / seconds + float(generator.exponential(9)), 28))
    return Board.of(rows, settings(objectives=(Objective("latency", "minimize"), Objective("fd_x", "minimize"))))


def test_thinning_keeps_the_front_the_baselines_and_the_shape() -> None:
    big = many(6000)
    view = View("speedup", "fd_x")
    shown = np.ones(len(big), dtype=bool)
    line = front_line(big, shown, view)
    kept = thinned(big, shown, view, line, most=800)
    assert kept.sum() <= 800
    assert kept[line].all() and kept[[0, 1]].all()
    assert thinned(big, shown, view, line, most=10_000).all()
    assert thinned(big, shown, view, range(len(big)), most=800).all()  # every plan is one to keep
    for metric in ("speedup", "fd_x"):
        values = big.columns[metric].value
        assert np.percentile(values[kept], 99) >= np.percentile(values, 98)
        assert values[kept].min() == values.min()


def test_a_big_chart_says_that_it_is_thinned() -> None:
    big = many(3000)
    made = front_chart(big, np.ones(len(big), dtype=bool), View("speedup", "fd_x"))
    assert made.points < len(big) and not made.all_bars
    said = chart_words(made, len(big), View("speedup", "fd_x"))
    assert f"{made.points:,} of {len(big):,} plans are drawn" in said
    assert "only of the front and the baselines" in said


def test_the_line_is_the_front_of_the_axes(board: Board) -> None:
    shown = np.ones(len(board), dtype=bool)
    line = [board.measured[i].words for i in front_line(board, shown, VIEW)]
    assert line[0] == "plain@20" and line[-1] == "plain@10"
    without = board.series != "plain steps"
    assert "plain@10" not in [board.measured[i].words for i in front_line(board, without, VIEW)]


def test_beats_counts_dominated_baselines(board: Board) -> None:
    from studies.results.summary import dominated_baselines

    table = front_table(board, ["fd_toy", "clip"])
    for line, i in zip(table, board.front, strict=True):
        assert line["beats"] == len(dominated_baselines(board.rows, board.measured[i], board.objectives))


def test_names_of_a_database_are_text_in_the_chart() -> None:
    hostile = row(2, None, 3, 10, 40, words="<img src=x onerror=alert(1)>")
    one = Board.of([row(0, "plain@20", 10, 20, 30), hostile], settings(objectives=(Objective("fd_x", "minimize"),)))
    made = front_chart(one, np.ones(2, dtype=bool), View("speedup", "fd_x", chosen=((2, "<b>me</b>"),)))
    text = json.dumps(made.figure.to_plotly_json(), default=str)
    assert "&lt;img" in text and "<img" not in text and "<b>me" not in text


def test_modes_are_sorted_as_people_count() -> None:
    assert in_order({"P10", "P2", "free", "P2†", "N"}) == ["N", "P2", "P2†", "P10", "free"]


def test_the_page_opens_with_its_question_then_the_answer_and_pictures(open_app: Open, small_storage: Path) -> None:
    app = open_app(small_storage, FRONT)
    said = [shown.value for shown in app.markdown]
    assert said[0].startswith("**Which plan do I take?**")
    words = "Take this plan: #5 DC0/P2+f2@20, 1.50 times as fast, at fd_toy 20.4 (stock: 20), clip 29.98 (stock: 30)."
    assert said[1].replace("\\", "") == f"### {words}"
    assert len(app.get("image")) == 3
    sentence = "The best clip at # times the speed or more"
    app.selectbox(key="wish-1").select(sentence).run()
    app.number_input(key=f"wish-number-1-{sentence}").set_value(5.0).run()
    assert "Take this plan" not in texts(app) and not app.get("image")


def test_families_are_filtered_by_what_a_plan_does(
    open_app: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["plain@20", "plain@10/DPMSolverMultistep", "DC0/P3", "base+plain@20", "base@0.4+plain@20", "AI/P2"]
    for name in names:
        monkeypatch.setitem(PLANS, name, PLANS.get(name, (1.4, 5.0, "baseline")))
    with Store.open(tmp_path / "families.db") as store:
        study = fill(store, "families", names)
        board = Board.of(trials(store, study), study.settings)
    families = ["fewer steps", "solver", "DeepCache", "students", "cast", "joint"]
    assert board.families.tolist() == families
    assert board.series.tolist()[3:5] == ["students", "casts"]
    app = open_app(tmp_path / "families.db", FRONT)
    assert app.button_group(key="family-1").options == families
    app.button_group(key="family-1").set_value(["solver", "cast"]).run()
    shown = {name: numbers for name, numbers in drawn(app).items() if name in board.series}
    assert shown == {"plain steps": [1], "casts": [4]}
