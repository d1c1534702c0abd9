"""Benchmarks of quality write a result and draw a figure of it, at the smallest size."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import plotly.graph_objects as go
import pytest
import torch

from benchmarks import controlnet_residuals, guidance_cutoff, rules


def written(benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[Any, Any]:
    """The document that the benchmark wrote and the figure that it drew beside it."""
    out, drawn = tmp_path / "result.json", []
    monkeypatch.setattr(benchmark, "write_figure", lambda figure, path: drawn.append((figure, path)))
    monkeypatch.setattr(
        sys, "argv", [str(benchmark.__file__), "--device", "cpu", "--quick", "--out", str(out), *words]
    )  # fmt: skip
    benchmark.main()
    ((figure, path),) = drawn
    assert path == out and isinstance(figure, go.Figure)
    return json.loads(out.read_text()), figure


def test_controlnet_residuals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document, figure = written(controlnet_residuals, tmp_path, monkeypatch)
    rows = document["figures"]["rows"]
    assert document["quick"] and len(rows) == 4 == len(document["samples"])
    for row, sample in zip(rows, document["samples"], strict=True):
        assert len(sample["live"]) == len(sample["inherited"]) == 2
        assert row["live"] == pytest.approx(sum(sample["live"]) / 2)
        assert row["difference"] == pytest.approx(row["live"] - row["inherited"]) and row["difference"] != 0
    assert [list(bar.y) for bar in figure.data] == [[row[k] for row in rows] for k in ("live", "inherited")]


def test_psnr_is_that_of_each_picture() -> None:
    plain = torch.zeros(2, 3, 4, 4)
    assert controlnet_residuals.psnr(plain + torch.tensor([0.1, 0.0]).view(2, 1, 1, 1), plain) == pytest.approx(
        [20, 100]
    )


def test_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PLANS", ("DC0/P3",))
    document, figure = written(rules, tmp_path, monkeypatch, "--solvers", "DDIM")
    assert len(document["samples"]) == len(document["figures"]) == len(figure.data)
    assert sorted(value for line in figure.data for value in line.y) == sorted(document["figures"].values())


def test_guidance_is_drawn_at_the_batch_s_cost() -> None:
    rows = [
        {"solver": "PNDM", "plan": "plain@20", "cut": cut, "psnr": psnr, "cost_b1": 0.9, "cost_b16": cost}
        for cut, psnr, cost in (("drop@0.5", 30.0, 0.8), (None, 40.0, 1.0), (None, 35.0, 0.5))
    ]
    cut, whole = guidance_cutoff.chart(rows, 16).data
    assert list(cut.x) == [0.8] and list(cut.y) == [30.0]
    assert list(whole.x) == [1.0, 0.5] and list(whole.y) == [40.0, 35.0]
