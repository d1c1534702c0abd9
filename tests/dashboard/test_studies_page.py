"""The Studies page and the line that follows a search, on small real storages."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.live import words
from dashboard.views.page_studies import ago, overview, table, workers_alive
from studies import Store
from studies.queue.heartbeats import STALE_SECONDS
from studies.queue.queue import Counts
from studies.results.rows import WorkerRow
from tests.dashboard.small_study import fill
from tests.dashboard.test_pages import texts, whole

Open = Callable[..., AppTest]


def test_studies_shows_what_stands(open_app: Open, small_storage: Path) -> None:
    app = whole(open_app(small_storage), "Studies")
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown == {
        "Best at no measurable loss": "1.50x", "Done": "7", "Failed": "0", "Running": "0", "Waiting": "0",
        "Workers": "0",
    }  # fmt: skip
    line = app.dataframe[0].value.iloc[0]
    assert (line["study"], line["done"], line["lossless"], line["model"]) == ("small", 7, 1.5, "emoji")
    assert list(line["growth"])[-1] == max(line["growth"]) > 0
    assert "P2\\+f2" in texts(app)
    assert "a small machine" in texts(app)


def test_a_study_opens_its_front(open_app: Open, tmp_path: Path) -> None:
    with Store.open(tmp_path / "two.db") as store:
        fill(store, "first", ["plain@20", "DC0/P3"])
        fill(store, "second", ["plain@20"])
    app = open_app(tmp_path / "two.db")
    assert app.selectbox[0].value == "second"
    assert list(app.dataframe[0].value["study"]) == ["second", "first"]
    app.selectbox[0].select("first").run()
    assert [shown.value for shown in app.subheader] == ["first"]
    next(button for button in app.button if button.label == "Open the front").click().run()
    whole(app, "Front")
    assert app.query_params["study"] == "first"


def test_a_study_without_a_baseline_has_no_volume(tmp_path: Path) -> None:
    with Store.open(tmp_path / "one.db") as store:
        study = fill(store, "one", ["AI/P2"])
        found = table([overview(store, study)], time.time())[0]
    assert found["growth"] is None
    assert found["lossless"] is None
    assert found["done"] == 1


def test_new_scores_are_seen(open_app: Open, tmp_path: Path) -> None:
    path = tmp_path / "growing.db"
    with Store.open(path) as store:
        fill(store, "growing", ["plain@20"])
        app = open_app(path)
        assert app.metric[1].value == "1"
        fill(store, "growing", ["plain@20", "DC0/P3"])
        app.run()
        assert app.metric[1].value == "2"
        assert "2 plans finished, none running" in texts(app)


def test_workers_are_alive_while_their_hearts_beat() -> None:
    now = 1000.0
    rows = [
        WorkerRow(0, "here", 1, "running", now - 1),
        WorkerRow(1, "here", 2, "running", now - STALE_SECONDS - 1),
        WorkerRow(2, "here", 3, "stopped", now - 1),
        WorkerRow(3, "here", 4, "dead", now - 1),
    ]
    assert workers_alive(rows, now) == 1


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "just now"), (-5, "just now"), (60, "1 minute ago"), (7300, "2 hours ago"), (90000, "1 day ago")],
)
def test_ago(seconds: float, said: str) -> None:
    assert ago(seconds) == said


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (Counts(0, 0, 3, 1), "4 plans finished, none running"),
        (Counts(5, 0, 1200, 0), "1,200 plans finished, none running, 5 waiting"),
        (Counts(5, 2, 3, 0), ":material/autorenew: 3 plans finished, 2 running, 5 waiting"),
    ],
)
def test_where_a_search_stands(now: Counts, said: str) -> None:
    assert words(now) == said
