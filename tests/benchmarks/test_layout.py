"""The layout benchmark: the model's own shapes, choices that compute the same, and rounding that is told."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import layout
from benchmarks.layout import BACKENDS, CHANGES, LOADED, arguments_of, choices_of, measure, rounding
from explorer.models.workload import text_tokens
from tests.conftest import make_unet
from tests.explorer.runtime.small_runs import small_pipeline

CPU = torch.device("cpu")


def test_rounding_is_the_largest_and_the_mean_square() -> None:
    reference = torch.tensor([3.0, -4.0])
    assert rounding(reference, reference) == {"max_difference": 0.0, "rms_difference": 0.0}
    found = rounding(reference + torch.tensor([0.0, 0.4]), reference)
    assert found["max_difference"] == pytest.approx(0.1) and found["rms_difference"] == pytest.approx(0.4 / 5)


@pytest.mark.parametrize("shape", ["sd1", "sdxl"])
def test_every_choice_computes_the_same_up_to_rounding(shape: str) -> None:
    unet = make_unet(shape)
    found = measure(choices_of(unet), arguments_of(unet, 2, (16, 16), 7, CPU), CPU, rounds=2)
    assert set(found["rows"]) | set(found["left out"]) == {LOADED, *CHANGES, *BACKENDS}
    assert {LOADED, *CHANGES, "SDPA, math"} <= set(found["rows"])
    assert not set(found["rows"]) & set(found["left out"])
    assert all(row["max_difference"] < 1e-4 and row["rms_difference"] < 1e-4 for row in found["rows"].values())
    assert found["rows"][LOADED]["speedup"] == 1 and found["rows"][LOADED]["max_difference"] == 0
    assert all(len(each["eager"]) == 2 for each in found["samples"].values())
    assert all(reason for reason in found["left out"].values())


def test_a_choice_that_computes_something_else_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    def halved(unet: Any) -> None:
        unet.conv_out.weight.data.mul_(0.5)

    monkeypatch.setattr(layout, "CHANGES", {"halved": halved})
    unet = make_unet()
    found = measure(choices_of(unet), arguments_of(unet, 1, (16, 16), 7, CPU), CPU, rounds=1)
    assert found["rows"]["halved"]["rms_difference"] > 0.1


def test_the_model_s_own_tokens_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Size] = []
    made = layout.measure
    monkeypatch.setattr(layout, "write_figure", lambda *_: None)
    monkeypatch.setattr(
        layout, "measure", lambda c, g, *more: seen.append(g["encoder_hidden_states"].shape) or made(c, g, *more)
    )
    out = tmp_path / "layout.json"
    words = ["--model", "emoji", "--device", "cpu", "--batches", "2", "--rounds", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["layout", *words])
    layout.main()
    from explorer.models.loading import load_pipeline

    assert seen == [torch.Size((2, 16, 128))] and text_tokens(load_pipeline("emoji")) == 16
    rows = json.loads(out.read_text())["figures"]["batch 2"]["rows"]
    assert all({"seconds", "max_difference", "rms_difference"} <= set(row) for row in rows.values())


def test_the_compiler_takes_turns_where_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its front half alone: generating code takes minutes on a CPU."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    monkeypatch.setattr(layout, "CHANGES", {})
    monkeypatch.setattr(layout, "BACKENDS", {})
    unet = small_pipeline().unet
    found = measure(choices_of(unet, compiled=True), arguments_of(unet, 2, (16, 16), 7, CPU), CPU, rounds=1)
    assert set(found["rows"]) == {LOADED, "compiled", "compiled, channels last"}
    assert all(row["max_difference"] < 1e-4 for row in found["rows"].values())


@pytest.mark.cuda
def test_replays_are_timed_on_a_gpu() -> None:
    device = torch.device("cuda", 0)
    unet = make_unet().to(device, torch.float16)
    found = measure(choices_of(unet), arguments_of(unet, 2, (16, 16), 7, device), device, rounds=3)
    assert all({"eager", "graph"} == set(each) for each in found["samples"].values())
    assert found["rows"][LOADED]["seconds"] < found["rows"][LOADED]["eager_seconds"]
