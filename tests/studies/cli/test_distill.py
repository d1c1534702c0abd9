"""`explorer distill` and `explorer students`, on a small pipeline's folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from explorer import Student
from studies.cli.app import run
from tests.explorer.tiny_pipelines import sd


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    path = tmp_path / "prompts.txt"
    path.write_text("a cat\na dog\n", encoding="utf-8")
    return str(path)


def distil(model: str, out: Path, *more: str) -> int:
    return run(["distill", *more, "--model", model, "--out", str(out), "--device", "cpu"])


def test_a_student_is_distilled_and_listed(
    model: str, prompts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m1"
    short = ("--steps", "3", "--batch", "2", "--runs", "2", "--prompts", prompts)
    assert distil(model, out, "M1", *short) == 0
    said = capsys.readouterr()
    assert "trained: dn0, up3" in said.err and "dB" in said.err and "wrote" in said.err
    assert Student.load(out).trained == ("dn0", "up3")
    assert "predicted: about" in said.err and "a step of 2 samples, 3 steps take" in said.err
    rows = [row.split(",")[0] for row in (out / "checkpoint" / "drift.csv").read_text().splitlines()]
    assert rows[:2] == ["step", "0"] and rows[-1] == "3"
    assert "PSNR to the teacher" in (out / "curves.html").read_text(encoding="utf-8")
    assert run(["students", str(out), "--model", model, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in found] == ["Base", "Small", "Tiny", "M1", "M2", "M3", "M1"]
    assert found[-1]["weights"] == str(out) and found[-1]["trained_blocks"] == ["dn0", "up3"]
    assert found[-1] | {"weights": None, "trained_blocks": []} == found[3]
    assert all(0 < row["macs_share"] < 1 and row["parameters"] > 0 and row["removed"] for row in found)


def test_two_processes_of_accelerate_launch_distil_one_student(model: str, prompts: str, tmp_path: Path) -> None:
    out = tmp_path / "m1"
    launch = ["accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision",
              "no", "--dynamo_backend", "no", "-m", "studies.cli"]  # fmt: skip
    short = ["--steps", "2", "--batch", "2", "--runs", "2", "--prompts", prompts, "--device", "cpu", "--half"]
    done = subprocess.run(
        [sys.executable, "-m", *launch, "distill", "M1", "--model", model, "--out", str(out), *short],
        capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("wrote") == 1 and Student.load(out).trained == ("dn0", "up3")


def test_a_student_with_experts_takes_the_batch_that_fits_and_keeps_it(
    model: str, prompts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "m1"
    short = ("--batch", "auto", "--runs", "2", "--prompts", prompts, "--experts", "2", "--routing", "time",
             "--checkpointing")  # fmt: skip
    monkeypatch.setattr("training.step_profile.MOST", 4)
    assert distil(model, out, "M1", "--steps", "1", *short) == 0
    said = capsys.readouterr().err
    assert "2 experts by time in 6 convolutions" in said and "a step of 4 samples" in said
    found = Student.load(out)
    assert found.experts is not None and found.experts.routing == "time"
    monkeypatch.setattr("training.step_profile.MOST", 2)
    assert distil(model, out, "M1", "--steps", "2", *short) == 0  # as another batch would be another training
    assert "a step of 4 samples" in capsys.readouterr().err
    assert run(["students", str(out), "--model", model, "--json"]) == 0
    row = json.loads(capsys.readouterr().out)[-1]
    assert row["experts"] == {"count": 2, "routing": "time"} and row["parameters"] == found.parameters


def test_parts_are_removed_as_a_plan_writes_them(model: str, prompts: str, tmp_path: Path) -> None:
    out = tmp_path / "own"
    short = ("--steps", "1", "--batch", "2", "--runs", "1", "--prompts", prompts)
    assert distil(model, out, "dn0.l1-- up3.l1--", "--timesteps", "0..0.4", *short) == 0
    found = Student.load(out)
    assert found.removed == Student.named("M1", sd().unet).removed and found.timesteps == (0.0, 0.4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("M9",), "is no student"),
        (("dn9.l1--",), "unknown unit"),
        (("dn1.l0.res--",), "would read"),
        (("nowhere/m1",), "is no student"),
        (("M1", "--timesteps", "0.4"), "a part of the run such as"),
        (("M1", "--timesteps", "0.6..0.4"), "a part of the run such as"),
        (("M1", "--steps", "0"), "--steps must be positive"),
        (("M1", "--batch", "-2"), "--batch must be positive"),
        (("M1", "--batch", "many"), "a number of samples or auto"),
        (("M1", "--experts", "1"), "2 to 8 experts"),
        (("M1", "--experts", "2", "--routing", "dice"), "input or time"),
        (("M1", "--experts", "2", "--first-expert", "me"), "student or teacher"),
        (("M1", "--experts", "2", "--freeze", "dn0,dn1,dn2,up1,up2,up3"), "more than 1x1"),
        (("M1", "--data", "nowhere"), "is no folder"),
        (("M1", "--freeze", "dn7"), "unknown block 'dn7'"),
        (("M1", "--from", "nowhere"), "holds no student"),
        (("M1", "--lr", "7"), "a rate from 0 to 1"),
        (("M1", "--model", "arch:sd15"), "random weights"),
    ],
)
def test_bad_input_is_one_sentence(
    model: str, tmp_path: Path, given: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["distill", "--out", str(tmp_path / "out"), "--device", "cpu", *given]
    assert run([*arguments, *(() if "--model" in given else ("--model", model))]) == 1
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert not (tmp_path / "out" / "student.json").exists()
