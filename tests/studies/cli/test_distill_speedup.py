"""`explorer distill --speedup`, on a small pipeline's folder and on the embedded model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer import load_pipeline, speed_up
from explorer.networks.speedup import SpeedUp
from studies.cli.app import run
from tests.explorer.tiny_pipelines import sd

SHORT = ("--batch", "4", "--runs", "4", "--anchors", "2", "--guidance", "1..5")


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    path = tmp_path / "prompts.txt"
    path.write_text("a cat, flat style\na dog, flat style\n", encoding="utf-8")
    return str(path)


def distil(model: str, out: Path, *more: str) -> int:
    return run(["distill", "--speedup", *more, "--model", model, "--out", str(out), "--device", "cpu"])


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return dict(SpeedUp.load(folder).named_parameters())


def test_an_adapter_is_trained_shown_and_used(
    model: str, prompts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adapter"
    assert distil(model, out, *SHORT, "--steps", "20", "--prompts", prompts) == 0
    said = capsys.readouterr()
    assert "2 steps, guidance 1 to 5" in said.err and "guided runs: 4 of 4" in said.err
    assert "before:" in said.err and "to 24 guided steps" in said.err and f"wrote {out}" in said.err
    assert "min left" in said.out
    rows = [row.split(",")[0] for row in (out / "checkpoint" / "drift.csv").read_text().splitlines()]
    assert rows[:2] == ["step", "0"] and rows[-1] == "20"
    page = (out / "curves.html").read_text(encoding="utf-8")
    assert "consistency" in page and "PSNR to the teacher" in page
    found = SpeedUp.load(out)
    assert (found.use.guidance, found.use.most, found.use.steps) == (5.0, 5.0, 2)
    pipe = load_pipeline(model)

    def picture(negative: str) -> Any:
        how: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 1.0, "output_type": "pt"}
        return pipe("a cat", negative_prompt=negative, generator=torch.Generator().manual_seed(0), **how).images

    plain = picture("")
    with speed_up(pipe, out):
        assert not torch.equal(picture("flat style"), picture("")) and not torch.equal(picture(""), plain)
    assert torch.equal(picture(""), plain)


def test_a_training_that_was_stopped_is_gone_on_with_to_the_same_weights(
    model: str, prompts: str, tmp_path: Path
) -> None:
    told = ["distill", "--speedup", *SHORT, "--steps", "30", "--prompts", prompts, "--model", model, "--device", "cpu"]
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    process = subprocess.Popen(
        [sys.executable, "-m", "studies.cli", *told, "--out", str(stopped)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("step 20 "):
            process.send_signal(signal.SIGINT)
    process.stdout.close()
    assert process.wait(timeout=60) == 130, "".join(lines)
    assert not (stopped / "speedup.json").exists()
    assert run([*told, "--out", str(stopped)]) == 0 and run([*told, "--out", str(whole)]) == 0
    one, other = tensors(stopped), tensors(whole)
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_a_longer_budget_goes_on_and_another_adapter_is_refused(
    model: str, prompts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adapter"
    assert distil(model, out, *SHORT, "--steps", "2", "--prompts", prompts) == 0
    assert distil(model, out, *SHORT, "--steps", "3", "--prompts", prompts) == 0
    assert "resumed at step 2" in capsys.readouterr().out
    for more, message in (
        (("--guidance", "1..6"), "of other settings"),
        (("--anchors", "3"), "was trained with"),
        (("--batch", "5"), "was trained with"),
    ):
        assert distil(model, out, *SHORT, "--steps", "4", "--prompts", prompts, *more) == 1
        assert message in capsys.readouterr().err
    assert run(["distill", "M1", "--model", model, "--out", str(out), "--steps", "1"]) == 1
    assert "holds a speed-up adapter" in capsys.readouterr().err


def test_the_embedded_model_gets_an_adapter(tmp_path: Path) -> None:
    began = time.monotonic()
    assert distil("emoji", tmp_path / "a", "--batch", "2", "--runs", "1", "--steps", "1", "--anchors", "1") == 0
    assert SpeedUp.load(tmp_path / "a").use.steps == 1 and time.monotonic() - began < 300


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--speedup", "--anchors", "0"), "--anchors must be positive"),
        (("--speedup", "--guidance", "6..1"), "a range of scales from 1"),
        (("--speedup", "--guidance", "1..1"), "a range of scales from 1"),
        (("--speedup", "--guidance", "4"), "a range of scales from 1"),
        (("--speedup", "--guidance", "1..nan"), "a range of scales from 1"),
        (("--speedup", "--steps", "0"), "--steps must be positive"),
        (("--speedup", "--minutes", "nan"), "--minutes must be positive"),
        (("--speedup", "--batch", "auto"), "--batch auto is for students"),
        (("--speedup", "--lr", "7"), "a rate from 0 to 1"),
        (("--speedup", "--model", "arch:sd15"), "random weights"),
        (("--speedup", "--prompts", "nowhere"), "no prompt set or file"),
        (("--speedup", "M1"), "leave out 'M1' or --speedup"),
        (("--speedup", "--freeze", "deep", "--experts", "2"), "--freeze, --experts are for students; leave them out"),
        (("M1", "--anchors", "4"), "--anchors is for a speed-up adapter"),
        (("M1", "--guidance", "1..4"), "--guidance is for a speed-up adapter"),
        ((), "give a student"),
    ],
)
def test_bad_input_is_one_sentence(
    model: str, tmp_path: Path, given: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["distill", "--out", str(tmp_path / "out"), "--device", "cpu", *given]
    assert run([*arguments, *(() if "--model" in given else ("--model", model))]) == 1
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_a_model_that_guides_by_itself_is_refused(
    prompts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = sd()
    config = {name: value for name, value in pipe.unet.config.items() if name != "_use_default_values"}
    pipe.unet = type(pipe.unet).from_config(config | {"time_cond_proj_dim": 8})
    pipe.save_pretrained(tmp_path / "model")
    assert distil(str(tmp_path / "model"), tmp_path / "out", *SHORT, "--steps", "1", "--prompts", prompts) == 1
    assert "guide by itself" in capsys.readouterr().err


def test_a_students_folder_is_left_alone(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "student.json").write_text("{}", encoding="utf-8")
    assert distil(model, tmp_path, *SHORT) == 1
    assert "holds a student" in capsys.readouterr().err
