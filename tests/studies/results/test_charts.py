"""Drawing the front as a picture: without a browser, with one that fails, and at places that cannot be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from studies import Store
from studies.cli import run
from tests.studies.scored_study import fill


@pytest.fixture
def storage(tmp_path: Path) -> str:
    with Store.open(tmp_path / "explorer.db") as store:
        fill(store)
    return str(tmp_path / "explorer.db")


@pytest.mark.parametrize("browser", ["none", "failing", "no program"])
def test_no_browser_is_one_sentence(
    browser: str, storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "chrome"
    if browser != "none":
        place.write_text("#!/bin/sh\nexit 3\n" if browser == "failing" else "")
        place.chmod(0o755)
    monkeypatch.setenv("BROWSER_PATH", str(place))
    assert run(["show", "small", "--storage", storage, "--png", str(tmp_path / "front.png")]) == 1
    error = capfd.readouterr().err
    assert error.startswith("error: drawing ") and error.count("\n") == 1
    assert "needs Chrome or Chromium" in error and "--html" in error
    assert not (tmp_path / "front.png").exists()


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("front.gif", "its name must end in one of .png"),
        ("front", "must end in"),
        ("none/front.png", "there is no folder"),
    ],
)
def test_a_place_that_cannot_be_is_told_before_a_browser_starts(
    place: str, reason: str, storage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["show", "small", "--storage", storage, "--png", str(tmp_path / place)]) == 1
    assert reason in capsys.readouterr().err


def test_a_benchmark_draws_a_page_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import plotly.graph_objects as go

    from benchmarks.shared.report import write_figure

    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    (tmp_path / "result.json").write_text('{"quick": true}')
    assert write_figure(go.Figure(), tmp_path / "result.json") == tmp_path / "result.html"
