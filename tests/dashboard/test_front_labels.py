"""Names in the charts of a front: measured by a browser, no two lie on each other, on a phone and on a desk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from dashboard.pictures.front_chart import TAKE, View, front_chart
from studies import Objective
from studies.results.board import Board
from studies.results.charts import front_figure, write_html
from studies.results.labels import SMALLEST
from studies.results.rows import TrialRow
from tests.dashboard.small_study import settings
from tests.studies.results.test_summary import row

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
OBJECTIVES = (Objective("latency", "minimize"), Objective("fd_x", "minimize"))
BOXES = """() => [...document.querySelectorAll('.annotation-text-g .bg')].map(each => {
    const {left, right, top, bottom} = each.getBoundingClientRect(); return [left, right, top, bottom]})"""


def plans(count: int) -> list[TrialRow]:
    """Fewer plain steps and DeepCache, close to each other on the front, and `count` searched plans."""
    generator = np.random.default_rng(0)
    found = [
        row(i, f"plain@{steps}", steps / 2, 20 + 180 / steps**1.2, 30)
        for i, steps in enumerate((20, *range(12, 2, -1)))
    ]
    found += [row(50 + p, f"DC0/P{p}", 10 / (1 + p / 4), 21 + p, 30) for p in (2, 3, 4, 5)]
    for number in range(100, 100 + count):
        seconds = float(generator.uniform(2, 10))
        found.append(row(number, None, seconds, 25 + 60 / seconds + float(generator.exponential(9)), 28))
    return found


def on_the_page(rows: list[TrialRow]) -> go.Figure:
    board = Board.of(rows, settings(objectives=OBJECTIVES))
    return front_chart(board, np.ones(len(board), dtype=bool), View("speedup", "fd_x", chosen=((103, TAKE),))).figure


def printed(rows: list[TrialRow]) -> go.Figure:
    return front_figure(rows, OBJECTIVES, "a study")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


def touching(boxes: list[list[float]]) -> list[tuple[int, int]]:
    """Pairs of boxes (left, right, top, bottom) of which one covers a part of the other."""
    return [
        (i, j)
        for i, (left, right, top, bottom) in enumerate(boxes)
        for j, (x0, x1, y0, y1) in enumerate(boxes[:i])
        if left < x1 and x0 < right and top < y1 and y0 < bottom
    ]


@pytest.mark.parametrize("make", [on_the_page, printed])
@pytest.mark.parametrize("count", [9, 2000])
def test_no_label_or_legend_lies_on_another(make: Any, count: int, browser: Any, tmp_path: Path) -> None:
    figure = make(plans(count))
    write_html(figure, tmp_path / "front.html")
    texts = [note.text for note in figure.layout.annotations if note.showarrow]
    assert len(texts) >= 6 and "4" in texts and "DC0/P5" in texts
    for width in (1280, 390):
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.goto(f"file://{tmp_path}/front.html")
        page.wait_for_selector(".annotation-text")
        page.wait_for_selector(".legend .traces")
        boxes = page.evaluate(BOXES)
        assert len(boxes) >= len(texts) and touching(boxes) == []
        assert all(left >= 0 and right <= width for left, right, _, _ in boxes)
        title, legend = (page.locator(each).last.bounding_box() for each in (".xtitle", ".legend"))
        assert title["y"] + title["height"] <= legend["y"]
        area = page.locator(".nsewdrag").first.bounding_box()
        assert area["width"] >= SMALLEST[0] and area["height"] >= SMALLEST[1]  # what the layout was made for
        page.close()


def test_only_the_taken_plan_and_the_baselines_on_the_line_are_named() -> None:
    rows = [row(0, "plain@20", 10, 20, 30), row(1, "plain@10", 5, 30, 30), row(2, "DC0/P3", 6, 40, 30)]
    rows += [row(3, None, 4, 35, 30), row(4, None, 8, 21, 30)]
    board = Board.of(rows, settings(objectives=OBJECTIVES))
    view = View("speedup", "fd_x", chosen=((3, TAKE), (4, "opened last")))
    notes = front_chart(board, np.ones(5, dtype=bool), view).figure.layout.annotations
    assert {note.text for note in notes} == {board.measured[3].nickname, "20", "10"}
