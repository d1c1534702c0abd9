"""The Calibration page: what stands is drawn, only what is drawn is read, and what is missing is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from streamlit.testing.v1 import AppTest

from dashboard.pictures.calibration import ends_of, error_map, percent, prediction_chart
from explorer.errors import StudyError
from explorer.estimate import Estimate
from studies import Store, trials
from studies.predicting import calibration
from studies.results.summary import agreements, predicted_rows
from studies.storage import tables
from tests.dashboard.small_study import calibrated, fill
from tests.dashboard.test_pages import texts, whole

Open = Callable[..., AppTest]
PAGE = "views/page_calibration.py"


def charts(app: AppTest) -> list[dict[str, Any]]:
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def test_what_stands_is_drawn(open_app: Open, small_storage: Path) -> None:
    app = whole(open_app(small_storage, PAGE), "Calibration")
    errors, effects, times, plain, nodes, scatter = charts(app)
    with Store.open(small_storage, read_only=True) as store:
        study = store.study("small")
        made = calibration.load(store, study, with_moments=False)
        rows = trials(store, study)
    assert made is not None
    shown = {metric.label: metric.value for metric in app.metric}
    agreed = agreements(rows, study.settings.objectives)
    assert shown["Pictures"] == "4" and shown["Cost"] == "35 s" and shown["Evaluations"] == "5 of 21"
    assert shown["Rank correlation"] == f"{agreed[0].spearman:.2f}"
    assert f"**{agreed[0].spearman:.2f}** over 7 plans" in texts(app)
    assert errors["data"][0]["y"] == list(made.design.masks)
    assert [float(value.removesuffix("%")) for value in errors["data"][1]["text"][:4]] == pytest.approx(
        100 * made.error_map("DC0")[1:, 1][:4], rel=0.06
    )  # the first evaluation has none two before it
    assert effects["data"][0]["x"] == list(made.design.steps)
    assert len(times["data"][0]["y"]) == len(made.design.masks) and plain["data"][0]["text"] == ["20%"]
    assert len(nodes["data"][0]["y"]) == len(made.design.nodes)
    assert sum(len(trace["customdata"]) for trace in scatter["data"]) == 6  # the un-accelerated one has no drift


def test_predicted_cost_is_held_against_latency(open_app: Open, tmp_path: Path) -> None:
    path = tmp_path / "explorer.db"
    with Store.open(path) as store:
        study = fill(store, "small")
        calibrated(store, study)
        done = [row for row in trials(store, study) if row.state == "done"]
        with store.begin() as connection:
            ids = dict(connection.execute(sa.select(tables.plans.c.key, tables.plans.c.id)).all())
            costs = [row.scores["latency"].value / 2 for row in done]
            connection.execute(
                sa.insert(tables.measurements),
                [
                    Estimate(cost, cost, cost, 1).to_json() | {"plan_id": ids[row.key], "metric": "predicted_cost"}
                    for row, cost in zip(done, costs, strict=True)
                ],
            )
    said = texts(whole(open_app(path, PAGE), "Calibration"))
    assert f"with measured latency: **1.00** over {len(done)} plans." in said


def test_rule_age_and_mask_are_chosen(open_app: Open, small_storage: Path) -> None:
    app = open_app(small_storage, PAGE)
    before = charts(app)[0]
    app.selectbox(key="calibration-rule").set_value("forecast2")
    after = charts(app.selectbox(key="calibration-age").set_value(1).run())[0]
    assert after["data"][1]["text"] != before["data"][1]["text"]
    assert after["data"][0]["zmin"] == before["data"][0]["zmin"]  # one scale, whatever is chosen
    app.button_group(key="calibration-rows").set_value("One mask, every rule").run()
    assert charts(app.selectbox(key="calibration-mask").set_value("RI").run())[0]["data"][0]["y"][:2] == [
        "copy, age 1", "copy, age 2",
    ]  # fmt: skip
    assert not app.exception


@pytest.mark.parametrize(
    ("parts", "words"),
    [((), "is not calibrated"), (("moments/0", "errors/0"), "2 of 4 parts"), (("plain/10",), "1 of 4")],
)
def test_what_is_missing_says_how_to_make_it(
    parts: tuple[str, ...], words: str, open_app: Open, tmp_path: Path
) -> None:
    with Store.open(tmp_path / "half.db") as store:
        calibrated(store, fill(store, "half", ["plain@20", "DC0/P3"]), parts)
    app = whole(open_app(tmp_path / "half.db", PAGE), "Calibration")
    assert words in texts(app) and ("a study created with" in texts(app)) == (not parts)
    assert app.code[0].value == f"explorer calibrate --study half --storage {tmp_path / 'half.db'}"
    assert not charts(app)


def test_a_damaged_calibration_is_one_sentence(open_app: Open, tmp_path: Path) -> None:
    """Of the moments, which no chart needs, the page does not even notice it."""
    with Store.open(tmp_path / "hurt.db") as store:
        study = fill(store, "hurt", ["plain@20"])
        calibrated(store, study)
        table = tables.calibrations
        for part, whole_page in (("moments/0", True), ("errors/1", False)):
            with store.begin() as connection:
                connection.execute(sa.update(table).where(table.c.part == part).values(data=b"", created=1.0))
            with pytest.raises(StudyError, match=f"is damaged .{part}"):
                calibration.parts(store, study) if whole_page else calibration.parts(store, study, moments=False)
            app = open_app(tmp_path / "hurt.db", PAGE)
            assert not app.exception
            assert ("How wrong one inherited step is" in texts(app)) == whole_page
            if whole_page:
                assert "fewer than three plans" in texts(app)
                with store.begin() as connection:  # what the page keeps is looked up by the newest part
                    connection.execute(sa.update(table).where(table.c.part == "plain/10").values(created=9e9))
    assert "is damaged" in texts(app)


def test_cells_tell_their_errors() -> None:
    values = np.array([[np.nan, 0.001], [0.05, 1.5]])
    heat, text = error_map(values, ["a", "b"], [1, 3], "mask", ends_of(values)).data
    assert list(text.text) == ["0.1%", "5%", "150%"] and list(text.x) == ["3", "1", "3"]
    assert np.isnan(heat.z[0][0]) and heat.z[1][1] == pytest.approx(np.log10(1.5))
    colours = list(text.textfont.color)
    assert colours[0] == "#FFFFFF" and colours[-1] != "#FFFFFF"  # light on the scale's dark end, dark on the light one
    assert ends_of(np.full((2, 2), np.nan)) == (-2.0, 0.0)


@pytest.mark.parametrize(
    ("value", "words"),
    [(np.nan, ""), (0.0, "<0.01%"), (0.00012, "0.012%"), (0.034, "3.4%"), (0.42, "42%"), (12.0, "12x")],
)
def test_shares_read_well(value: float, words: str) -> None:
    assert percent(value) == words


def test_the_scatter_is_thinned(small_storage: Path) -> None:
    with Store.open(small_storage, read_only=True) as store:
        rows = [row for row in predicted_rows(trials(store, store.study("small")), "psnr") if row.speedup != 1.0]
    assert len(rows) == 6
    figure = prediction_chart(rows * 1000, "psnr")
    assert 1000 < sum(len(trace.x) for trace in figure.data) <= 2000
