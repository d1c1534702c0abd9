"""Each page on a small real storage, without a browser."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.page_plan import plan_text
from dashboard.wording import plain
from explorer.plan import InheritancePlan
from studies import Store
from tests.dashboard.small_study import HOSTILE, PROMPTS, fill, plan_of, psnr

Open = Callable[..., AppTest]
FRONT, PLAN = "page_front.py", "page_plan.py"


def texts(app: AppTest) -> str:
    """Everything that Streamlit reads as Markdown."""
    parts = [*app.markdown, *app.caption, *app.header, *app.subheader, *app.info]
    return "\n".join(str(part.value) for part in parts)


def whole(app: AppTest, title: str) -> AppTest:
    assert not app.exception
    assert [shown.value for shown in app.title] == [title]
    return app


def test_plan_by_its_address(open_app: Open, small_storage: Path) -> None:
    app = whole(open_app(small_storage, PLAN, trial="5"), "Plan")
    assert {metric.label: metric.value for metric in app.metric} == {
        "measured speed-up": "1.50x", plain("latency (s per picture)"): "0.6667", plain("fd_toy"): "20.4",
        "clip": "29.98",
    }  # fmt: skip
    scores = app.dataframe[0].value.set_index("metric")
    assert scores.loc["fd_toy", "N"] == len(PROMPTS)
    assert scores.loc["fd_toy", "extractor"] == "toy-extractor"
    assert scores.loc["fd_toy", "un-accelerated"] == "20 (19 to 21)"
    assert set(scores["device"]) == {"a small machine"}
    assert "inherit(pipe, InheritancePlan.load(" in app.code[0].value
    assert len(app.code[0].value.splitlines()) == 2
    figure = json.loads(app.get("plotly_chart")[0].proto.spec)
    assert figure["data"][0]["type"] == "heatmap"
    assert "11 of 21 evaluations compute everything" in texts(app)


def test_plan_shows_the_worst_pictures_first(open_app: Open, small_storage: Path) -> None:
    app = open_app(small_storage, PLAN, trial="2")
    captions = [caption.value for caption in app.caption if "dB\\, seed" in str(caption.value)]
    values = sorted((psnr(i, 12.0), i) for i in range(len(PROMPTS)))
    assert len(captions) == 6
    assert [plain(f"{value:.1f} dB, seed {i}") for value, i in values[:6]] == [c.split("\\:")[0] for c in captions]
    app.toggle(key="all-pairs").set_value(True).run()
    assert sum("dB\\, seed" in str(caption.value) for caption in app.caption) == len(PROMPTS)
    assert plain(HOSTILE) in texts(app)
    assert HOSTILE not in texts(app)


def test_plan_can_be_chosen_from_the_front(open_app: Open, small_storage: Path) -> None:
    app = open_app(small_storage, PLAN)
    box = app.selectbox(key="trial-box")
    assert box.value == 1
    assert box.options[0] == "trial 1: 1.98x, plain@10"
    box.select(0).run()
    assert [shown.value for shown in whole(app, "Plan").header] == [plain("plain@20")]
    assert "The un-accelerated pictures themselves." in texts(app)


def test_the_download_is_a_plan(tmp_path: Path) -> None:
    plan = plan_of("DC0/P2+f2", "search")
    (tmp_path / "plan.json").write_text(plan_text(plan), encoding="utf-8")
    assert InheritancePlan.load(tmp_path / "plan.json") == plan


def test_an_unknown_trial_is_one_sentence(open_app: Open, small_storage: Path) -> None:
    app = open_app(small_storage, PLAN, trial="99")
    assert not app.exception
    assert [info.value for info in app.info] == [
        plain("the study small has no trial 99; choose a point on the Front page.")
    ]


def _newer(path: Path) -> None:
    Store.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE explorer_schema SET version_num = '9999'")


def _failed(path: Path) -> None:
    with Store.open(path) as store:
        fill(store, "sad", ["plain@20", "DC0/P3"], broken=True)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "there is no database at"),
    "empty": (lambda path: Store.open(path).close(), "holds no study"),
    "no tables": (lambda path: sqlite3.connect(path).close(), "holds no study"),
    "newer": (_newer, "has schema 9999"),
    "no database": (lambda path: path.write_bytes(b"not a database at all" * 100), "is not a SQLite database"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_storage_is_one_sentence(case: str, open_app: Open, tmp_path: Path) -> None:
    make, words = BAD[case]
    path = tmp_path / "explorer.db"
    make(path)
    app = open_app(path)
    assert not app.exception
    assert len(app.info) == 1
    assert words in app.info[0].value.replace("\\", "")
    assert not app.title


@pytest.mark.parametrize("page", [FRONT, PLAN])
def test_a_study_of_failures_says_why(page: str, open_app: Open, tmp_path: Path) -> None:
    _failed(tmp_path / "sad.db")
    app = open_app(tmp_path / "sad.db")
    assert {metric.label: metric.value for metric in app.metric}["Failed"] == "2"
    app = open_app(tmp_path / "sad.db", page)
    assert not app.exception
    assert [info.value.replace("\\", "") for info in app.info] == [
        "all 2 plans that were tried in the study sad failed; the first said: plan 0 ran out of memory."
    ]


def test_a_failed_plan_says_why(open_app: Open, tmp_path: Path) -> None:
    _failed(tmp_path / "sad.db")
    app = whole(open_app(tmp_path / "sad.db", PLAN, trial="1"), "Plan")
    assert "this plan is failed: plan 1 ran out of memory" in texts(app).replace("\\", "")
    assert not app.metric
