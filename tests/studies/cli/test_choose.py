"""`explorer students --choose`, on a small pipeline's folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from explorer import Student, load_pipeline
from explorer.timing.profiling import workload_of
from studies.cli.app import run
from studies.searching.profiles import measured_profile
from studies.storage.store import Store
from tests.explorer.tiny_pipelines import sd


@pytest.fixture(scope="module")
def storage(model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """With a profile of few rounds."""
    place = str(tmp_path_factory.mktemp("storage") / "explorer.db")
    pipe = load_pipeline(model)
    with Store.open(place) as store:
        measured_profile(store, pipe, model, workload_of(pipe, device="cpu"), steps=4, rounds=3)
    return place


def choose(model: str, storage: str, *more: str) -> int:
    return run(["students", "--model", model, "--storage", storage, "--device", "cpu", *more])


def test_what_is_chosen_is_listed_kept_and_can_be_distilled(
    model: str, storage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studies.cli.commands.choose.STEPS", 4)
    monkeypatch.setattr("studies.cli.commands.choose.PICTURES", 1)
    out, distilled = tmp_path / "chosen", tmp_path / "distilled"
    assert choose(model, storage, "--choose", "0.8", "--out", str(out), "--json") == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    chosen, named = found["chosen"], {row["name"]: row for row in found["students"]}
    assert chosen["name"] == "chosen80" and chosen["predicted_time_share"] <= 0.8 + 1e-5
    assert chosen["predicted_error"] == pytest.approx(chosen["least_error"]) and chosen["measured_time_share"] > 0
    assert named.keys() == {"Base", "Small", "Tiny", "M1", "M2", "M3"} and named["Tiny"]["predicted_error"] is None
    for row in named.values():
        assert row["predicted_error"] is None or row["predicted_error"] >= row["least_error"] * (1 - 1e-6)
    kept = Student.load(out)
    assert kept.removed.forms == chosen["removed"] and not kept.tensors and "explorer distill" in said.err
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat\na dog\n", encoding="utf-8")
    short = ["--steps", "1", "--batch", "2", "--runs", "1", "--prompts", str(prompts), "--device", "cpu"]
    assert run(["distill", str(out), "--model", model, "--out", str(distilled), *short]) == 0
    made = Student.load(distilled)
    assert (made.name, made.removed, made.timesteps) == ("chosen80", kept.removed, kept.timesteps) and made.tensors
    capsys.readouterr()
    assert choose(model, storage, "--choose", "0.8", "--out", str(distilled)) == 1
    assert "holds the weights of a distilled student" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--choose", "0"), "above 0 and at most 1"),
        (("--choose", "1.2"), "above 0 and at most 1"),
        (("--choose", "nan"), "above 0 and at most 1"),
        (("--out", "x"), "give --choose SHARE"),
        (("--choose", "0.7", "--model", "arch:sd15"), "random weights"),
    ],
)
def test_bad_input_is_one_sentence(
    model: str, storage: str, given: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert choose(model, storage, *given) == 1
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_a_share_that_cannot_be_reached_names_the_least(
    model: str, storage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from explorer.networks.removals import unit_removals
    from explorer.unet.architecture import Architecture

    squares = dict.fromkeys(unit_removals(Architecture.of(sd().unet)), 1.0)
    monkeypatch.setattr("studies.predicting.calibration.removals_of_weights", lambda *_: squares)
    assert choose(model, storage, "--choose", "0.01", "--out", str(tmp_path / "none")) == 1
    assert "removing every unit leaves 0." in capsys.readouterr().err and not (tmp_path / "none").exists()
    assert choose(model, storage, "--choose", "1", "--out", str(tmp_path / "none")) == 1
    assert "nothing has to be removed" in capsys.readouterr().err and not (tmp_path / "none").exists()
