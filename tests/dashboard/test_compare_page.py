"""The Compare page: differences with intervals, the same prompts side by side, masks overlaid."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from dashboard.parts.compare_pictures import STOCK, labelled, picture_rows
from dashboard.pictures.overlay import overlay
from dashboard.pictures.steps import COMPUTED, NOT_RUN, Steps, steps_of
from dashboard.wording import plain
from explorer.plans.strategies import strategy
from studies import Store, trials
from studies.results.summary import plain_row
from tests.dashboard.small_study import ARCHITECTURE, HOSTILE, PROMPTS, STEPS, fill
from tests.dashboard.test_pages import texts, whole

Open = Callable[..., AppTest]
COMPARE, PLAN = "views/page_compare.py", "views/page_plan.py"


def test_it_begins_with_a_plan_and_its_rival(open_app: Open, small_storage: Path) -> None:
    app = whole(open_app(small_storage, COMPARE), "Compare")
    assert app.multiselect(key="compare-box").value == [5, 1]  # the fastest without loss, and plain@10
    app = open_app(small_storage, COMPARE, trial="4")
    assert app.multiselect(key="compare-box").value == [4, 1]


def test_by_its_address_and_by_its_box(open_app: Open, small_storage: Path) -> None:
    app = whole(open_app(small_storage, COMPARE, compared="2,4,99"), "Compare")
    assert app.multiselect(key="compare-box").value == [2, 4]
    assert app.query_params["compared"] == "2,4"
    app.multiselect(key="compare-box").set_value([2, 4, 1, 0]).run()
    assert [metric.label for metric in app.metric] == [
        f"**{x}**, trial {n}" for x, n in zip("ABCD", (2, 4, 1, 0), strict=True)
    ]
    app.multiselect(key="compare-box").set_value([2]).run()
    assert "choose two to 4 plans" in texts(app)
    assert not app.get("plotly_chart")


def test_differences_are_paired_where_prompts_are(open_app: Open, small_storage: Path) -> None:
    app = open_app(small_storage, COMPARE, compared="2,4")
    table = app.dataframe[0].value.set_index("metric")
    assert table.loc["clip", "B less A"] == "↓ -0.65 (-0.65 to -0.65), paired"
    assert table.loc["fd_toy", "B less A"].startswith("↓ +")
    assert table.loc["measured speed-up", "B less A"].startswith("↑ +")
    assert "paired" not in table.loc["fd_toy", "B less A"]
    figure = json.loads(app.get("plotly_chart")[0].proto.spec)
    assert len(figure["data"]) == len(table)
    assert all(min(trace["error_x"]["array"]) >= 0 for trace in figure["data"])


def test_the_grid_shows_the_worst_prompt_first(open_app: Open, small_storage: Path) -> None:
    with Store.open(small_storage, read_only=True) as store:
        study = store.study("small")
        rows = trials(store, study)
        named = {"A": rows[2], "B": rows[4]}
        found = picture_rows(store, study, named, plain_row(rows, STEPS))
        assert len(found) == len(PROMPTS)
        assert [row.worst for row in found] == sorted(row.worst for row in found)
        for row in found:
            assert list(row.pictures) == [STOCK, "A", "B"] and all(row.pictures.values())
            assert len({picture.path for picture in row.pictures.values() if picture}) == 3
        assert picture_rows(store, study, {"A": rows[0], "B": rows[2]}, rows[0])[0].pictures.keys() == {"A", "B"}
    app = open_app(small_storage, COMPARE, compared="2,4")
    assert len(app.get("image")) == 6
    app.toggle(key="all-prompts").set_value(True).run()
    assert len(app.get("image")) == len(PROMPTS)
    assert plain(HOSTILE) in texts(app) and HOSTILE not in texts(app)


def test_missing_pictures_are_frames(open_app: Open, small_storage: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(small_storage.parent, tmp_path / "copy") / small_storage.name
    for path in (copy.parent / "explorer-pictures").rglob("*.png"):
        path.unlink()
    app = whole(open_app(copy, COMPARE, compared="2,4"), "Compare")
    assert len(app.get("image")) == 6
    assert plain("A: this picture's file is missing") in texts(app)


def test_a_card_opens_its_plan(open_app: Open, small_storage: Path) -> None:
    app = open_app(small_storage, COMPARE, compared="2,4")
    app.button(key="open-B").click().run()
    whole(app, "Plan")
    assert app.session_state["trial"] == 4


def test_one_plan_cannot_be_compared(open_app: Open, tmp_path: Path) -> None:
    with Store.open(tmp_path / "one.db") as store:
        fill(store, "one", ["plain@20"])
    app = whole(open_app(tmp_path / "one.db", COMPARE), "Compare")
    assert "choose two to 4 plans" in texts(app)


def test_a_study_of_failures_says_why(open_app: Open, tmp_path: Path) -> None:
    with Store.open(tmp_path / "sad.db") as store:
        fill(store, "sad", ["plain@20", "DC0/P3"], broken=True)
    app = open_app(tmp_path / "sad.db", COMPARE)
    assert not app.exception
    assert "failed; the first one: plan 0 ran out of memory" in texts(app).replace("\\", "")


def of(*columns: tuple[int, int]) -> Steps:
    return Steps(("a", "b"), np.array(columns, dtype=np.int8).T)


def test_two_plans_overlaid() -> None:
    computed, none = COMPUTED, NOT_RUN
    shown = overlay([of((computed, none), (computed, computed)), of((computed, none), (none, computed))])
    assert shown.cells.tolist() == [[0, 2], [1, 0]]
    assert [words for words, _ in shown.legend] == [
        "all compute", "none computes", "only A computes", "only B computes"
    ]  # fmt: skip
    assert shown.who.tolist() == [["computed by A, B", "computed by A"], ["computed by none", "computed by A, B"]]
    assert shown.agree == 0.75 and not shown.stretched
    other = overlay([of((none, none)), of((computed, none))])
    assert other.cells.tolist() == [[3], [1]]


def test_more_plans_overlaid_and_stretched() -> None:
    each = [steps_of(strategy(name, steps=20, unet=ARCHITECTURE), n) for name, n in (("DC0/P3", 21), ("CO6/P3", 21))]
    short = steps_of(strategy("plain@10", steps=10, unet=ARCHITECTURE), 11)
    shown = overlay([*each, short])
    assert shown.stretched and shown.cells.shape == (44, 21)
    assert (shown.cells[:, 0] == 0).all()
    assert set(np.unique(shown.cells)) == {0, 2}  # the plain run computes all, so none is computed by none
    assert shown.who[0, 1] == "computed by C"


@pytest.mark.parametrize("count", [2, 5])
def test_labels_stand_over_the_pictures(count: int) -> None:
    row = labelled([("A", Image.new("RGB", (8, 8), "red")), *[("B", None)] * (count - 1)], 100)
    assert row.width == count * 106 - 6
    assert row.getpixel((50, row.height - 50)) == (255, 0, 0, 255)
    assert row.getpixel((156, row.height - 20)) == (0, 0, 0, 0)
