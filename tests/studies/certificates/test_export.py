"""Taking a trial home: what the folder holds, what refuses, and the pipeline that diffusers makes of it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from explorer import InheritancePlan, StudyError, inherit, load_pipeline
from explorer.models.loading import EMBEDDED
from studies import Store
from studies.certificates.asked import asked_trial
from studies.certificates.export import find_trial, public_name, read_export, write_export
from studies.cli import run
from studies.results.rows import trials
from studies.results.summary import without_loss
from tests.studies.scored_study import STEPS, fill

FILES = {"inheritance.json", "metrics.json", "README.md", "reproduce.sh", "pipeline.py", "pictures.png"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A file alone: what is read here does not differ between databases."""
    with Store.open(tmp_path / "explorer.db") as opened:
        yield opened


@pytest.fixture
def exported(store: Store, tmp_path: Path) -> Path:
    study = fill(store, weights="a6f18ff4075c")
    files = write_export(store, study, find_trial(store, study, 2), tmp_path / "plan")
    assert {path.name for path in files} == FILES == {path.name for path in (tmp_path / "plan").iterdir()}
    return tmp_path / "plan"


def test_an_export_holds_the_plan_and_its_numbers(exported: Path) -> None:
    plan, metrics = read_export(exported)
    assert metrics is not None and plan.name == "DC0/P3+f2"
    assert plan.made_for is not None
    assert plan.made_for.to_json() == {
        "model": "emoji", "fingerprint": "a6f18ff4075c", "scheduler": "PNDMScheduler", "evaluations": STEPS + 1,
    }  # fmt: skip
    document = json.loads((exported / "inheritance.json").read_text())
    assert document["schedule"] == "P3" and document["masks"] == ["up3.l1.attn="]
    assert metrics["scores"]["speedup"] == {"value": 2.0, "low": 1.9, "high": 2.1, "n": 3}
    assert metrics["unaccelerated"]["scores"]["clip_emojiclip"]["value"] == 60.0
    assert metrics["seeds"] == {"first": 5, "count": 3} and metrics["device"] == "a machine"
    assert torch.__version__.startswith(metrics["versions"]["torch"])
    card = (exported / "README.md").read_text()
    assert "2.00x [1.90, 2.10] as fast as 4 plain steps" in card and "num_inference_steps=4" in card
    with Image.open(exported / "pictures.png") as strip:
        assert strip.width > 3 * 128 and strip.height > 2 * 128
    assert subprocess.run(["sh", "-n", exported / "reproduce.sh"], check=True).returncode == 0
    assert os.access(exported / "reproduce.sh", os.X_OK)


def test_what_is_read_only_stays_as_it_was(store: Store, tmp_path: Path) -> None:
    study = fill(store)
    before = {path: path.read_bytes() for path in store.folder.rglob("*") if path.is_file()}
    with Store.open(tmp_path / "explorer.db", read_only=True) as reading:
        write_export(reading, study, find_trial(reading, study, 0), tmp_path / "out")
    after = {path: path.read_bytes() for path in store.folder.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before if not path.name.endswith("-shm")} == {
        path: content for path, content in before.items() if not path.name.endswith("-shm")
    }


def pictures(pipe: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return pipe(
        "bee, flat style", num_inference_steps=STEPS, guidance_scale=3.0, generator=generator, output_type="pt"
    ).images


@pytest.fixture(scope="module")
def pipe() -> Any:
    return load_pipeline("emoji")


def test_three_ways_to_use_an_export_make_one_picture(exported: Path, pipe: Any) -> None:
    """`inherit(pipe, DIR)`, the plan file, and diffusers' own custom_pipeline."""
    from diffusers import DiffusionPipeline

    stock = pictures(pipe)
    made = []
    for place in (exported, str(exported / "inheritance.json"), InheritancePlan.from_pretrained(exported)):
        with inherit(pipe, place):
            made.append(pictures(pipe))
    custom = DiffusionPipeline.from_pretrained(
        EMBEDDED / "emoji", custom_pipeline=str(exported), trust_remote_code=True, safety_checker=None
    )
    assert not type(custom).__module__.startswith("diffusers.") and custom.inheritance is not None
    made.append(pictures(custom))
    assert all(torch.equal(each, made[0]) for each in made) and not torch.equal(stock, made[0])
    custom.inheritance.remove()
    assert torch.equal(pictures(custom), stock) and torch.equal(pictures(pipe), stock)


def test_two_custom_pipelines_keep_their_own_plans(store: Store, tmp_path: Path) -> None:
    """diffusers loads both files as one module, the second over the first."""
    from diffusers import DiffusionPipeline

    study = fill(store)
    made = []
    for number in (1, 3):
        write_export(store, study, find_trial(store, study, number), tmp_path / f"plan{number}")
        made.append(
            DiffusionPipeline.from_pretrained(
                EMBEDDED / "emoji", custom_pipeline=str(tmp_path / f"plan{number}"), trust_remote_code=True
            )
        )
    assert [each.inheritance.plan.name for each in made] == ["DC0/P2", "CO6/P2"]
    assert [type(each).plan["name"] for each in made] == ["DC0/P2", "CO6/P2"]


def test_a_custom_pipeline_becomes_others_and_is_saved_as_the_stock_one(exported: Path, tmp_path: Path) -> None:
    """`AutoPipeline*.from_pipe` runs by the plan too; what `save_pretrained` writes is loaded without it."""
    import diffusers

    load = diffusers.DiffusionPipeline.from_pretrained
    given: dict[str, Any] = {"custom_pipeline": str(exported), "trust_remote_code": True}
    custom = load(EMBEDDED / "emoji", **given)
    made = pictures(custom)
    assert torch.equal(pictures(diffusers.AutoPipelineForText2Image.from_pipe(custom)), made)
    for kind in ("Image2Image", "Inpainting"):
        other = getattr(diffusers, f"AutoPipelineFor{kind}").from_pipe(custom)
        assert kind[:4] in type(other).__name__.replace("Img2Img", "Image2Image") and other.unet is custom.unet
    custom.save_pretrained(tmp_path)
    saved = load(tmp_path)
    assert type(saved) is diffusers.StableDiffusionPipeline
    assert torch.equal(pictures(load(tmp_path, **given)), made)
    custom.inheritance.remove()
    assert torch.equal(pictures(saved), pictures(custom)) and not torch.equal(pictures(saved), made)


def test_exporting_again_replaces_and_drops_what_was_another_plan_s(store: Store, tmp_path: Path) -> None:
    study = fill(store)
    folder = tmp_path / "plan"
    write_export(store, study, find_trial(store, study, 1), folder)
    (folder / "notes.txt").write_text("mine")
    (folder / "certificate.json").write_text('{"kind": "inheritance-certificate", "schema": 1}')
    write_export(store, study, find_trial(store, study, 2), folder)
    assert {path.name for path in folder.iterdir()} == {*FILES, "notes.txt"}
    assert InheritancePlan.from_pretrained(folder).name == "DC0/P3+f2"


def test_a_local_model_s_path_is_not_given_away(store: Store, tmp_path: Path) -> None:
    home = "/home/someone/models/tuned"
    study = fill(store, model=home, prompts="/home/someone/prompts.txt", reference="/home/someone/pictures")
    write_export(store, study, find_trial(store, study, 1), tmp_path / "plan")
    for path in (tmp_path / "plan").iterdir():
        assert b"/home/someone" not in path.read_bytes()
    assert "set MODEL" in (tmp_path / "plan" / "reproduce.sh").read_text()
    done = subprocess.run(["sh", tmp_path / "plan" / "reproduce.sh"], capture_output=True, text=True, env={})
    assert done.returncode != 0 and "set MODEL to the folder" in done.stderr


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("emoji", "emoji"),
        ("owner/name", "owner/name"),
        ("/a/b/model", "model"),
        ("openclip:/a/b/clip", "openclip:clip"),
        ("openclip:ViT-B-32/laion2b", "openclip:ViT-B-32/laion2b"),
        ("openclip:hf-hub:org/repo", "openclip:hf-hub:org/repo"),
    ],
)
def test_public_names(text: str, public: str) -> None:
    assert public_name(text) == public


def test_hostile_names_are_text_in_the_card(store: Store, tmp_path: Path) -> None:
    study = fill(store, "small", model="<img src=x>/[a](http://x)")
    write_export(store, study, find_trial(store, study, 1), tmp_path / "plan")
    card = (tmp_path / "plan" / "README.md").read_text().split("```")[0]
    assert r"\<img src=x\>/\[a\](http://x)" in card and " <img" not in card and "[a](" not in card


def test_pictures_that_are_gone_leave_no_strip(store: Store, tmp_path: Path) -> None:
    study = fill(store)
    write_export(store, study, find_trial(store, study, 1), tmp_path / "plan")
    for path in (store.folder / "explorer-pictures").rglob("*.png"):
        path.unlink()
    files = write_export(store, study, find_trial(store, study, 1), tmp_path / "plan")
    assert {path.name for path in files} == FILES - {"pictures.png"} == {p.name for p in (tmp_path / "plan").iterdir()}
    assert "pictures.png" not in (tmp_path / "plan" / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing", "--trial", "0"], "there is no study 'nothing'"),
        (["small", "--trial", "99"], "has no trial 99 (it has: 0 to 3)"),
        (["small", "--trial", "-1"], "has no trial -1"),
        (["small", "--trial", "1"], "failed (it ran out of memory)"),
        (["small", "--trial", "0", "--out", "full"], "not empty and is not an earlier export"),
        (["small", "--trial", "0", "--out", "file"], "is a file"),
        (["small", "--trial", "0", "--out", "file/deep"], "cannot make the folder file/deep"),
        (["small", "--trial", "0", "--storage", "none.db"], "none.db"),
    ],
)
def test_bad_exports_are_one_sentence(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with Store.open(tmp_path / "explorer.db") as store:
        fill(store, fail="DC0/P2")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    (tmp_path / "file").write_text("")
    more = [] if "--out" in arguments else ["--out", "plan"]
    assert run(["export", *arguments, *more]) == 1
    captured = capsys.readouterr()
    assert words in captured.err and len(captured.err.splitlines()) == 1 and captured.out == ""
    assert (tmp_path / "full" / "x").exists() and not (tmp_path / "plan").exists()


def test_the_command_prints_one_document_and_force_keeps_other_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with Store.open(tmp_path / "explorer.db") as store:
        fill(store)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    assert run(["export", "small", "--trial", "0", "--out", "full", "--force", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document["files"]) == FILES and document["trial"] == 0
    assert (tmp_path / "full" / "x").read_text() == "mine"
    assert run(["export", "small", "--trial", "3", "--out", "full"]) == 0
    assert "inherit(pipe, 'full')" in capsys.readouterr().out


def test_what_is_no_export_is_refused(tmp_path: Path, exported: Path) -> None:
    for content in ("[]", '{"kind": "other"}', "{", '{"kind": "inheritance-metrics", "settings": 3}'):
        (exported / "metrics.json").write_text(content)
        with pytest.raises(StudyError, match=r"metrics\.json"):
            read_export(exported)
    (exported / "metrics.json").unlink()
    assert read_export(exported)[1] is None


def test_the_best_plan_is_the_one_that_show_names(store: Store, tmp_path: Path) -> None:
    study = fill(store)
    lossless = without_loss(trials(store, study), study.settings.objectives, study.settings.steps)
    assert asked_trial(store, study, "best").key == lossless[0].key
    assert asked_trial(store, study, "2").number == 2
    with pytest.raises(StudyError, match="--trial must be a trial's number or best, got 'the fastest'"):
        asked_trial(store, study, "the fastest")
    bare = store.create_study("bare", replace(study.settings, seed=99))
    with pytest.raises(StudyError, match="'bare' has no plan without a measurable loss yet"):
        asked_trial(store, bare, "best")
