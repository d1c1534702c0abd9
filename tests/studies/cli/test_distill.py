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


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    sd().save_pretrained(folder)
    return str(folder)


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
    rows = (out / "checkpoint" / "drift.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "0", "1", "2", "3"]
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
