"""The command line on the embedded model: what it prints, what it stores, and how it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer import InheritancePlan
from explorer.models.loading import MODELS
from explorer.plans.strategies import PAPER_MODES, PAPER_STRATEGIES
from studies.cli import app, run
from studies.config import STORAGE_VARIABLE
from studies.results.rows import trials
from studies.storage.store import Store

SMALL = ["--steps", "4", "--prompt-count", "8", "--baselines", "short", "--batch", "8"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_help_imports_nothing_slow() -> None:
    """What makes `explorer --help` take seconds instead of a fifth of one."""
    slow = "('torch', 'optuna', 'sqlalchemy', 'diffusers', 'plotly', 'pydantic')"
    code = f"import sys, studies.cli.app; studies.cli.run(['--help']); print([m for m in {slow} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "search" in done.stdout and done.stdout.endswith("[]\n")


def test_every_command_with_a_storage_reads_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.main import get_command

    monkeypatch.setenv(STORAGE_VARIABLE, "sqlite:///elsewhere.db")
    root: Any = get_command(app)
    found = {}
    for name, command in root.commands.items():
        if any("--storage" in parameter.opts for parameter in command.params):
            found[name] = command.make_context(name, [], resilient_parsing=True).params["storage"]
    assert {"search", "worker", "calibrate", "show", "list", "export"} <= found.keys()
    assert set(found.values()) == {"sqlite:///elsewhere.db"}, found


def test_models(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "models")
    assert [row["name"] for row in found] == [model.name for model in MODELS]


def test_anatomy_of_sd15(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "anatomy", "--model", "arch:sd15")
    assert len(found["units"]) == 38 and len(found["nodes"]) == 58
    assert round(found["parameters"] / 1e6, 2) == 859.52
    assert round(found["macs"] / 1e9, 2) == 401.64


@pytest.mark.parametrize("model", ["arch:sd15", "arch:sdxl", "emoji"])
def test_strategies_contract(capsys: pytest.CaptureFixture[str], model: str) -> None:
    rows = document(capsys, "strategies", "--model", model, "--steps", "50")
    assert {"name", "mode", "inherited_units", "inherit_step_macs_share", "predicted_speedup"} <= rows[0].keys()
    paper = {(row["name"], row["mode"]) for row in rows if row["name"] in PAPER_STRATEGIES}
    assert paper == {(name, mode) for name in PAPER_STRATEGIES for mode in PAPER_MODES} and len(paper) == 69
    for row in rows:
        cost = row["extract_steps"] + (50 - row["extract_steps"]) * row["inherit_step_macs_share"]
        assert row["predicted_speedup"] == pytest.approx(50 / cost)


def test_a_search_from_beginning_to_end(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Search, resume, list, show: what the contract promises, on a real study."""
    capsys.readouterr()
    assert run(["search", "--study", "small", "--trials", "7", *SMALL, "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err.count("note: fd_emojiclip of 8 pictures is almost all bias, because its features have ") == 1
    first = json.loads(printed.out)
    assert [trial["state"] for trial in first["trials"]].count("done") == 7
    told = [(trial["networks"], trial["scheduler"], trial["spacing"]) for trial in first["trials"]]
    assert (["teacher"], None, None) in told and (["base"], None, None) in told  # which ships beside the model
    baseline = next(trial for trial in first["trials"] if trial["name"] == "plain@4")
    assert baseline["origin"] == "baseline" and baseline["scores"]["psnr"]["value"] == 100
    assert baseline["scores"]["speedup"]["low"] <= baseline["scores"]["speedup"]["value"]
    names = [objective["name"] for objective in first["objectives"]]
    assert names == ["latency", "fd_emojiclip", "clip_emojiclip"]
    assert all(name in baseline["scores"] for name in names)
    # Resuming to the same total measures nothing again; a larger total goes on.
    assert run(["search", "--study", "small", "--trials", "7", *SMALL]) == 0
    again = document(capsys, "show", "small")
    assert again["trials"] == first["trials"]
    assert run(["search", "--study", "small", "--trials", "8", *SMALL]) == 0
    more = document(capsys, "show", "small")
    assert sum(trial["state"] == "done" for trial in more["trials"]) == 8
    assert set(more["front"]) <= {trial["number"] for trial in more["trials"] if trial["state"] == "done"}
    listed = document(capsys, "list")
    assert [(row["study"], row["done"]) for row in listed] == [("small", 8)]
    # The front is printed, drawn, and its pictures lie beside the storage.
    assert run(["show", "small", "--html", "front.html"]) == 0
    assert all(0 < len(trial["nickname"]) <= len(trial["words"]) for trial in again["trials"] if not trial["name"])
    shown = capsys.readouterr().out
    assert "fd_emojiclip" in shown and "on the front" in shown
    assert "plotly" in (tmp_path / "front.html").read_text()[:100_000].lower()
    assert list((tmp_path / "explorer-pictures").rglob("*.png"))
    InheritancePlan.from_json(more["trials"][0]["plan"])
    # What is not given is the study's; another measurement never enters it.
    assert run(["search", "--study", "small", "--trials", "8", "--baselines", "short"]) == 0
    assert run(["search", "--study", "small", "--trials", "9", *SMALL, "--steps", "5"]) == 1
    refused = capsys.readouterr().err
    assert "steps: the study has 4, this run 5" in refused


def test_only_the_space_is_searched_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    options = [*SMALL, "--baselines", "none", "--space", "layer", "--sampler", "random", "--objectives", "latency,psnr"]
    assert run(["search", "--study", "layers", "--trials", "3", *options]) == 0
    assert "almost all bias" not in capsys.readouterr().err  # no Frechet distance is measured
    found = document(capsys, "show", "layers")
    assert [trial["origin"] for trial in found["trials"] if trial["state"] == "done"] == ["search"] * 3


def test_two_workers_share_a_study(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["search", "--study", "two", "--trials", "6", "--workers", "2", *SMALL]) == 0
    found = document(capsys, "show", "two")
    done = [trial for trial in found["trials"] if trial["state"] == "done"]
    assert len(done) == 6
    with Store.open("explorer.db", read_only=True) as store:
        rows = trials(store, store.study("two"))
    assert {row.worker for row in rows if row.state == "done"} == {0, 1}


def test_a_worker_of_another_device_scores_quality_and_the_study_adds_latency(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by its number of threads, which on a CPU is part of the device; the storage comes by the environment."""
    monkeypatch.setenv("EXPLORER_STORAGE", "sqlite:///explorer.db")
    assert run(["search", "--study", "parts", "--trials", "1", *SMALL]) == 0
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert run(["worker", "--study", "parts", "--trials", "3"]) == 0
    finally:
        torch.set_num_threads(threads)
    said = capsys.readouterr().err
    assert f"threads: the study has {threads}, this run {threads + 1}): scoring only quality" in said
    assert "2 wait for their latency on the study's device" in said
    waiting = [trial for trial in document(capsys, "show", "parts")["trials"] if trial["state"] == "untimed"]
    assert len(waiting) == 2 and all("latency" not in trial["scores"] for trial in waiting)
    assert run(["worker", "--study", "parts", "--trials", "3", "--quality-only"]) == 0  # nothing is left for it
    assert run(["search", "--study", "parts", "--trials", "3", *SMALL]) == 0
    found = [trial for trial in document(capsys, "show", "parts")["trials"] if trial["state"] == "done"]
    assert len(found) == 3
    assert all({"latency", "speedup", "fd_emojiclip", "psnr"} <= trial["scores"].keys() for trial in found)
    assert [trial["scores"]["psnr"] for trial in found[1:]] == [trial["scores"]["psnr"] for trial in waiting]


def test_interrupting_leaves_the_study_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "studies.cli", "search", "--study", "cut", "--trials", "30", *SMALL]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("[2/"):
            process.send_signal(signal.SIGINT)
            break
    rest = process.stderr.read()
    assert process.wait(60) == 130
    assert "Resume with the same command" in rest
    found = document(capsys, "show", "cut")
    states = [trial["state"] for trial in found["trials"]]
    done = states.count("done")
    assert done >= 2 and "running" not in states
    assert run(["search", "--study", "cut", "--trials", str(done + 1), *SMALL]) == 0
    assert sum(trial["state"] == "done" for trial in document(capsys, "show", "cut")["trials"]) == done + 1


def test_a_toml_file_with_the_same_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "study.toml").write_text(
        'study = "toml"\nsteps = 4\nprompt-count = 6\nbaselines = "none"\nspace = "named"\ntrials = 9\n'
        'objectives = ["latency", "clip"]\n'
    )
    assert run(["search", "study.toml", "--trials", "2"]) == 0
    assert sum(trial["state"] == "done" for trial in document(capsys, "show", "toml")["trials"]) == 2


BAD = {
    "no such model": (["--model", "nothing"], "no such model 'nothing'"),
    "folder that is not a pipeline": (["--model", "empty"], "is not a pipeline"),
    "unknown space": (["--space", "cube"], "cube"),
    "unknown metric": (["--objectives", "latency,beauty"], "'beauty' is not a metric"),
    "metric twice": (["--objectives", "latency,fd,fd_emojiclip"], "twice"),
    "no metric": (["--objectives", ","], "--objectives names none"),
    "unknown sampler": (["--sampler", "magic"], "unknown --sampler 'magic'"),
    "unknown device": (["--device", "abacus"], "'abacus' is not a device"),
    "a GPU that is not here": (["--device", "cuda:99"], "cuda"),
    "unknown dtype": (["--dtype", "int3"], "'int3' is not a dtype"),
    "no such prompts": (["--prompts", "none.txt"], "none.txt"),
    "empty prompts": (["--prompts", "empty.txt"], "empty"),
    "binary prompts": (["--prompts", "binary.txt"], "binary.txt"),
    "zero trials": (["--trials", "0"], "--trials must be more than zero"),
    "negative steps": (["--steps", "-3"], "--steps must be more than zero"),
    "zero workers": (["--workers", "0"], "--workers must be more than zero"),
    "a timeout that is no number": (["--timeout", "nan"], "--timeout must be more than zero, and a number, got nan"),
    "endless timeout": (["--timeout", "inf"], "--timeout must be more than zero, and a number, got inf"),
    "negative timeout": (["--timeout", "-1"], "--timeout must be more than zero"),
    "more steps than there are": (["--steps", "1001"], "--steps must be at most 1000"),
    "seed out of range": (["--seed", "99999999999999999999"], "--seed must be from 0"),
    "negative guidance": (["--guidance", "-1"], "--guidance must be 0 or more"),
    "resolution that is no size": (["--resolution", "3q"], "HEIGHTxWIDTH, such as 512x768, got '3q'"),
    "resolution off the grid": (["--resolution", "64x100"], "multiple of 8 pixels, got 64x100"),
    "storage that is no URL": (["--storage", "nosuch://x/y"], "nosuch"),
    "storage in no folder": (["--storage", "not/there/x.db"], "not/there"),
    "storage that is no database": (["--storage", "binary.txt"], "binary.txt"),
    "few reference pictures": (["--reference", "few"], "1 picture"),
    "no such reference": (["--reference", "nowhere"], "nowhere"),
    "quality of random weights": (["--model", "arch:sd15"], "random weights"),
    "one prompt": (["--prompt-count", "1"], "fd_emojiclip needs at least 8 prompts"),
    "too few prompts for fd": (["--prompt-count", "7", "--objectives", "latency,fd"], "needs at least 8 prompts, as"),
    "too few prompts for kid": (["--prompt-count", "2", "--objectives", "latency,kid"], "kid_emojiclip needs at least"),
    "bad study name": (["--study", "../up"], "cannot name a study"),
    "no such file": (["none.toml"], "none.toml"),
    "file of another kind": (["binary.txt"], "is not valid TOML"),
    "unknown name in a file": (["odd.toml"], "unknown name 'stpes'"),
    "wrong type in a file": (["typed.toml"], "steps must be a int"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_sentence_and_status_1(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    (tmp_path / "empty").mkdir()
    (tmp_path / "few").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "few" / "one.png")
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 64)
    (tmp_path / "odd.toml").write_text("stpes = 3\n")
    (tmp_path / "typed.toml").write_text('steps = "many"\n')
    arguments, expected = BAD[what]
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    there = set(tmp_path.rglob("*"))
    assert run(["search", "--trials", "1", *arguments]) == 1
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if not line.startswith("loading")]
    assert len(lines) == 1 and lines[0].startswith("error: ") and expected in lines[0]
    assert "Traceback" not in captured.err and captured.out == ""
    assert all(path.read_bytes() == content for path, content in before.items())
    assert set(tmp_path.rglob("*")) == there  # no database file is left


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["show", "none"], "explorer search"),
        (["list"], "explorer search"),
        (["strategies", "--model", "arch:sd99"], "no such architecture"),
        (["strategies", "--steps", "0"], "--steps must be more than zero"),
        (["anatomy", "--model", "emoji", "--resolution", "-8"], "--resolution"),
        (["dashboard", "--storage", "none.db"], "none.db"),
        (["worker", "--study", "other"], "explorer search"),
    ],
)
def test_other_commands_refuse_as_clearly(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 1
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["search", "--no-such-option"], ["nothing"], ["show"], ["worker"], ["search", "--trials", "x"]]
)
def test_wrong_usage_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory")]
)
def test_too_little_memory_is_one_sentence(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("studies.cli.commands.engine.models_command", fail)
    assert run(["models"]) == 1
    assert "out of memory" in capsys.readouterr().err
