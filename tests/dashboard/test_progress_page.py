"""The Progress page on small real storages, without a browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from streamlit.testing.v1 import AppTest

from dashboard.palette import DARK, LIGHT
from dashboard.parts.proposed import mark
from dashboard.pictures.progress_charts import Line, effects_chart, growth_chart
from dashboard.views.page_progress import comparable, duration, effects_words, failure_table
from studies import SamplerSettings, Store, trials
from studies.results.board import Board
from studies.results.history import History
from studies.results.importance import effects
from studies.results.tally import tally
from studies.storage.tables import plans
from tests.dashboard.small_study import PLANS, fill
from tests.dashboard.test_pages import texts, whole
from tests.studies.results.test_summary import row

Open = Callable[..., AppTest]
PROGRESS = "views/page_progress.py"


def test_progress_of_one_study(open_app: Open, small_storage: Path) -> None:
    app = whole(open_app(small_storage, PROGRESS), "Progress")
    shown = {metric.label: metric.value for metric in app.metric}
    assert (shown["Done"], shown["Failed"], shown["Workers alive"]) == ("7", "0", "0")
    line = json.loads(app.get("plotly_chart")[0].proto.spec)["data"][0]
    assert line["name"] == "tpe: small"
    assert line["y"] == sorted(line["y"])
    assert line["x"] == list(range(1, len(PLANS) + 1))
    assert "No plan has failed." in texts(app)
    assert "too few different plans" in texts(app)
    assert app.dataframe[1].value.iloc[0]["state"] == "stopped"


def test_who_proposed_what_is_told(open_app: Open, tmp_path: Path) -> None:
    with Store.open(tmp_path / "kinds.db") as store:
        study = fill(store, "kinds")
        with store.begin() as connection:
            of = sa.update(plans).where(plans.c.words.contains("up3"))
            connection.execute(of.where(plans.c.origin == "search").values(proposed_by="moves"))
        board = Board.of(trials(store, study), study.settings)
    app = whole(open_app(tmp_path / "kinds.db", PROGRESS), "Progress")
    table = app.dataframe[0].value
    kinds = {each.kind: each for each in tally(board.rows, study.settings.objectives)}
    assert kinds.keys() == {"baseline", "moves", "unknown"} and kinds["moves"].hypervolume_gain > 0
    assert list(table["proposed by"]) == ["baselines", "moves", "unknown"]
    assert list(table["on the front"]) == [each.on_front for each in kinds.values()]
    assert table["share"].sum() == pytest.approx(100)
    moved = next(row for row in board.rows if row.proposed_by == "moves")
    assert "proposed by moves" in mark(moved, LIGHT) and LIGHT.shade("#D55E00") in mark(moved, LIGHT)
    assert "another kind" in mark(replace(moved, proposed_by="<b>"), DARK)  # what a database says is no markup
    assert not [mark(row, LIGHT) for row in board.rows if row.proposed_by is None and mark(row, LIGHT)]


def test_time_is_summed_over_workers(open_app: Open, small_storage: Path) -> None:
    app = open_app(small_storage, PROGRESS)
    app.button_group(key="growth-over").set_value("time").run()
    spec = json.loads(app.get("plotly_chart")[0].proto.spec)
    assert "seconds, summed over workers" in spec["layout"]["xaxis"]["title"]["text"]
    assert spec["data"][0]["x"] == sorted(spec["data"][0]["x"])


def test_only_what_measures_the_same_is_compared(open_app: Open, tmp_path: Path) -> None:
    path = tmp_path / "several.db"
    with Store.open(path) as store:
        first = fill(store, "by tpe", ["plain@20", "DC0/P3"])
        fill(store, "by chance", PLANS, sampler=SamplerSettings("random", {}, 3))
        fill(store, "by predictions", PLANS, extra={**first.settings.extra, "calibrated": True})
        fill(store, "elsewhere", ["plain@20"], device="cuda: another")
        studies = store.studies()
    assert [study.name for study in comparable(first, studies)] == ["by tpe", "by chance", "by predictions"]
    app = open_app(path, PROGRESS, study="by tpe")
    app.multiselect(key="studies-1").select("by chance").select("by predictions").run()
    names = [trace["name"] for trace in json.loads(app.get("plotly_chart")[0].proto.spec)["data"]]
    assert names == ["tpe: by tpe", "random: by chance", "calibrated: by predictions"]


def test_failures_are_counted_by_reason(open_app: Open, tmp_path: Path) -> None:
    rows = [row(i, None, 1, 1, 1, state="failed", reason="out of memory" if i < 3 else None) for i in range(4)]
    table = failure_table(rows)
    assert [(line["plans"], line["why"]) for line in table] == [(3, "out of memory"), (1, "no reason was recorded")]
    assert table[0]["trials"] == "0, 1, 2"
    with Store.open(tmp_path / "sad.db") as store:
        fill(store, "sad", ["plain@20", "DC0/P3"], broken=True)
    app = whole(open_app(tmp_path / "sad.db", PROGRESS), "Progress")
    assert list(app.dataframe[0].value["why"]) == ["plan 0 ran out of memory", "plan 1 ran out of memory"]
    assert "no baseline is scored yet" in texts(app)


def test_studies_of_one_sampler_share_a_colour_and_a_median() -> None:
    lines = [
        Line("a", "tpe", History([1, 2], [1.0, 2.0], [0.0, 1.0])),
        Line("b", "tpe", History([1, 2], [1.0, 3.0], [0.5, 0.8])),
        Line("c<b>", "random", History([1], [1.0], [0.2])),
    ]
    figure = growth_chart(lines, "trials", "seconds")
    assert [trace.name for trace in figure.data] == ["tpe: a", "tpe: b", "tpe: median of 2", "random: c&lt;b&gt;"]
    assert len({trace.line.color for trace in figure.data[:3]}) == 1
    assert figure.data[2].y[-1] == pytest.approx(0.9)


def test_the_effects_say_whether_to_believe_them() -> None:
    generator = np.random.default_rng(0)
    features = generator.random((60, 3))
    good = effects(("dn0", "mid", "up0"), features, 2 * features[:, 0] + generator.normal(0, 0.05, 60))
    noise = effects(("dn0", "mid", "up0"), features, generator.normal(0, 1, 60))
    assert good is not None and noise is not None
    assert "can be trusted" in effects_words(good, "latency", "blocks")
    assert "do not choose by them" in effects_words(noise, "latency", "blocks")
    bars = effects_chart(good, "latency", True).data[0]
    assert bars.customdata[0] == "worse"
    assert effects_chart(good, "latency", False).data[0].customdata[0] == "better"


@pytest.mark.parametrize(("seconds", "words"), [(3.2, "3 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
