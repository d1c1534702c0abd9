"""Benchmarks of quality write a result and draw a figure of it, at the smallest size."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import plotly.graph_objects as go
import pytest

from benchmarks import rules


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


def test_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PLANS", ("DC0/P3",))
    document, figure = written(rules, tmp_path, monkeypatch, "--solvers", "DDIM")
    assert len(document["samples"]) == len(document["figures"]) == len(figure.data)
    assert sorted(value for line in figure.data for value in line.y) == sorted(document["figures"].values())
