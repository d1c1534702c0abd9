"""What a study does with a model that is unusual: run without guidance, blank, moved, or no text-to-image model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import CLIPTokenizer

from explorer import load_pipeline, strategy
from explorer.errors import ScoreError, StudyError
from explorer.models.loading import EMBEDDED
from explorer.models.pictures import generate
from studies.cli import run
from studies.config import SearchConfig
from studies.predicting import calibration
from studies.searching.asking import config_of
from studies.searching.profiles import standing_profile
from studies.searching.session import Session, open_session
from studies.storage.store import Store
from studies.wording import cut_words
from tests.conftest import make_unet
from tests.studies import scored_study

CONFIG = SearchConfig(
    steps=3, prompt_count=2, objectives=("latency", "psnr"), reference="baseline", baselines="none", batch=2, pairs=3
)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def session_of(pipe: Any = None, **change: Any) -> Session:
    return open_session(replace(CONFIG, **change), pipe)


# Guidance and steps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [0.0, 1.0])
def test_guidance_up_to_one_is_none_as_in_diffusers(guidance: float, store_file: Store) -> None:
    session = session_of(guidance=guidance)
    evaluator, seen = session.evaluator, []
    assert evaluator.guidance == guidance == session.settings.guidance
    assert config_of(session.settings, "s").guidance == guidance
    hook = evaluator.pipe.unet.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    pictures = evaluator.baseline_pictures()
    assert set(seen) == {2}  # two prompts, and no second half
    hook.remove()
    stock = generate(evaluator.pipe, evaluator.prompts, seed=0, steps=3, guidance=guidance, batch_size=2)
    assert torch.equal(pictures, stock)
    plan = strategy("DC0", mode="P2", steps=3, unet=evaluator.pipe.unet)
    assert {"latency", "psnr"} <= evaluator.score(plan).estimates.keys()
    assert standing_profile(session, store_file) is None  # what is profiled is a run with guidance


def test_a_guidance_below_zero_is_refused() -> None:
    with pytest.raises(StudyError, match="--guidance must be 0 or more"):
        replace(CONFIG, guidance=-1.0)


@pytest.mark.parametrize("command", ["search", "calibrate"])
def test_a_single_step_is_refused_in_a_sentence_and_leaves_nothing(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run([command, "--study", "s", "--steps", "1"]) == 1
    assert "--steps 1 is a single UNet evaluation" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# Pictures without information ----------------------------------------------------------------------------------------


def blank(pipe: Any, value: float) -> None:
    """Every picture of the pipeline is of one colour from now on, or of NaNs."""
    with torch.no_grad():
        pipe.vae.decoder.conv_out.weight.zero_()
        pipe.vae.decoder.conv_out.bias.fill_(value)


@pytest.mark.parametrize(
    ("value", "reason"), [(-1.0, "the first is black"), (0.0, "of one colour"), (float("nan"), "infinities or NaNs")]
)
def test_an_unaccelerated_pipeline_without_pictures_stops_the_study(value: float, reason: str) -> None:
    pipe = load_pipeline("emoji")
    blank(pipe, value)
    evaluator = session_of(pipe).evaluator
    plan = strategy("DC0", mode="P2", steps=3, unet=pipe.unet)
    with pytest.raises(StudyError, match="the un-accelerated pipeline cannot make its pictures") as error:
        evaluator.score(plan, "quality")
    assert reason in str(error.value)
    assert "precision is not the cause" in str(error.value) and "--dtype" not in str(error.value)


@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_a_candidate_without_pictures_fails_and_the_study_goes_on(value: float) -> None:
    pipe = load_pipeline("emoji")
    evaluator = session_of(pipe).evaluator
    evaluator.baseline_pictures()
    blank(pipe, value)
    plan = strategy("DC0", mode="P2", steps=3, unet=pipe.unet)
    with pytest.raises(ScoreError, match=r"of one colour|infinities or NaNs"):
        evaluator.score(plan, "quality")


# Where the model is --------------------------------------------------------------------------------------------------


def test_a_model_that_makes_no_text_to_image_pictures_leaves_no_study(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "inpaint"
    shutil.copytree(EMBEDDED / "emoji", folder)
    shutil.rmtree(folder / "unet")
    make_unet(in_channels=9).save_pretrained(folder / "unet")
    index = json.loads((folder / "model_index.json").read_text()) | {"_class_name": "StableDiffusionInpaintPipeline"}
    (folder / "model_index.json").write_text(json.dumps(index))
    assert run(["search", "--model", str(folder), "--study", "s"]) == 1
    assert "is a StableDiffusionInpaintPipeline that cannot be run as a text-to-image" in capsys.readouterr().err
    with Store.open("sqlite:///explorer.db") as store:
        assert store.studies() == []


def test_a_study_goes_on_with_its_model_in_another_place(store: Store) -> None:
    made = store.create_study("s", scored_study.settings("weights", model="/before"))
    moved = store.create_study("s", scored_study.settings("weights", model="/after"))
    assert moved.id == made.id
    assert store.study("s").settings == moved.settings == replace(made.settings, model="/after")
    assert config_of(store.study("s").settings, "s").model == "/after"  # what its workers load
    calibration._check(store, moved, calibration.identity(made.settings))  # a calibration holds wherever the model is
    for other in (scored_study.settings("others", model="/after"), scored_study.settings(None, model="/elsewhere")):
        with pytest.raises(StudyError, match="measures something else"):
            store.create_study("s", other)


def test_a_model_that_is_gone_asks_where_it_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    with Store.open("sqlite:///explorer.db") as store:
        store.create_study("s", scored_study.settings("weights", model=gone))
    for command in ("search", "worker", "calibrate"):
        assert run([command, "--study", "s"]) == 1
        said = capsys.readouterr().err
        assert f"is not at {gone} any more" in said and "--model PATH" in said


# What other libraries say --------------------------------------------------------------------------------------------


def test_prompts_that_are_cut_are_said_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    pipe = SimpleNamespace(tokenizer=CLIPTokenizer.from_pretrained(EMBEDDED / "emoji" / "tokenizer"))
    limit = pipe.tokenizer.model_max_length
    assert cut_words(pipe, ["house, flat style"]) is None
    said = cut_words(pipe, ["house, flat style", "house " * 3 * limit])
    assert said is not None and f"1 of 2 prompts are longer than the {limit} tokens" in said
    assert "house house" in said and len(said) < 250
    assert capsys.readouterr() == ("", "")


def test_remarks_of_other_libraries_stay_out_of_the_terminal() -> None:
    code = (
        "from explorer.models.library_messages import quiet_process; quiet_process()\n"
        "import warnings\n"
        "from diffusers.utils import deprecate, logging\n"
        "from transformers.utils import logging as others\n"
        "logging.get_logger('diffusers.pipelines').warning('truncated')\n"
        "others.get_logger('transformers.tokenization').warning('longer than the maximum')\n"
        "deprecate('argument', '99.0', 'is deprecated', standard_warn=False)\n"
        "warnings.warn('ours')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "ours" in done.stderr and all(word not in done.stderr for word in ("truncated", "longer", "deprecated"))
