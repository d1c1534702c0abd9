"""Every stage of the recipe, end to end on drawn pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from explorer.errors import TrainingError
from recipe.__main__ import STAGES, main
from recipe.data.prepare import load_dataset
from recipe.data.prompts import FULL, OPEN
from recipe.data.tokens import load_tokenizer, numbering
from recipe.evaluation.card import write_card
from recipe.evaluation.evaluate import evaluate
from recipe.evaluation.tradeoff import SOLVERS
from recipe.networks.autoencoder import LEGS, latents_of, train_autoencoder
from recipe.networks.unet import cached_latents, train_unet
from recipe.packing.export import TRAININGS, export
from tests.recipe.conftest import CHANNELS, Made
from tests.recipe.drawn import LISTED, OTHERS
from training.folders import alone, digest
from training.loop import Budget
from training.tensors import load_tensors, metadata_of, save_tensors


def test_prepare_splits_by_concept(prepared: Path) -> None:
    data = load_dataset(prepared)
    assert data.pictures.shape == (3 * len(LISTED + OTHERS), 3, 64, 64) and data.pictures.dtype == torch.uint8
    splits = {key: {item.split for item in data.items if item.key == key} for key in LISTED + OTHERS}
    assert all(len(found) == 1 for found in splits.values())
    assert {key for key, found in splits.items() if found == {"extra"}} == set(OTHERS)
    assert sum(found == {"held"} for found in splits.values()) == 1
    # no concept that the judge is tested on is one that the generator draws
    assert {i.split for i in data.items if i.judge == "held"} == {"extra"}


def test_pictures_are_on_white(prepared: Path) -> None:
    corners = load_dataset(prepared).pictures[:, :, -1, -1]
    assert (corners == 255).float().mean() > 0.9


def test_latents_are_white(made: Made) -> None:
    from diffusers import AutoencoderKL

    data = load_dataset(made.work)
    known = [i for i, item in enumerate(data.items) if item.split != "held" and item.judge != "held"]
    model = AutoencoderKL.from_pretrained(made.work / LEGS[-1] / "model")
    latents = latents_of(model, data.pictures[known])
    np.testing.assert_allclose(latents.mean((0, 2, 3)), 0, atol=1e-3)
    np.testing.assert_allclose(latents.std((0, 2, 3)), 1, atol=1e-3)


def test_the_same_seed_trains_the_same_weights(made: Made, tmp_path: Path) -> None:
    for name in ("data", LEGS[-1]):
        (tmp_path / name).symlink_to(made.work / name)
    train_unet(tmp_path, Budget(steps=3), channels=CHANNELS, batch=4)
    again = load_tensors(tmp_path / "unet" / "checkpoint.safetensors")
    before = load_tensors(made.work / "unet" / "checkpoint.safetensors")
    assert all(torch.equal(again[key], before[key]) for key in before)


def test_what_is_exported_loads_and_draws(made: Made) -> None:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(made.embedded / "emoji", local_files_only=True)
    assert pipe.unet.dtype == pipe.text_encoder.dtype == pipe.vae.dtype == torch.float32
    pipe.set_progress_bar_config(disable=True)
    assert pipe("cat face, flat style", num_inference_steps=2).images[0].size == (64, 64)
    assert not any("_name_or_path" in p.read_text(encoding="utf-8") for p in (made.embedded / "emoji").rglob("c*.json"))


def test_both_text_encoders_ship_with_the_tokens_that_they_learnt(made: Made) -> None:
    from transformers import CLIPTokenizer

    for name in ("emoji/tokenizer", "emojiclip"):
        shipped = CLIPTokenizer.from_pretrained(made.embedded / name, local_files_only=True)
        assert shipped.get_vocab() == load_tokenizer(made.work).get_vocab()
    with safe_open(made.work / "unet" / "checkpoint.safetensors", "pt") as opened:
        assert opened.metadata()["tokens"] == numbering(load_tokenizer(made.work))


def test_nothing_is_exported_before_it_is_trained(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(prepared / "data")
    train_autoencoder(tmp_path, Budget(steps=1), channels=(8, 8, 8, 8), latents=4, leg=LEGS[-1])
    with pytest.raises(TrainingError, match="train-clip"):
        export(tmp_path, tmp_path / "embedded", CHANNELS)
    assert not (tmp_path / "embedded").exists()


def test_a_new_autoencoder_drops_the_latents_of_the_old(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(prepared / "data")
    for steps in (1, 2):
        train_autoencoder(tmp_path, Budget(steps=steps), channels=(8, 8, 8, 8), latents=4, leg=LEGS[-1])
        assert not list((tmp_path / LEGS[-1]).glob("latents*"))
        assert cached_latents(tmp_path, "cpu", LEGS[-1]).shape[1] == 4
        assert list((tmp_path / LEGS[-1]).glob("latents*"))


def test_figures_are_kept_only_for_all_that_they_rest_on(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.embedded / "emoji", tmp_path / "emoji")
    before = digest(tmp_path / "emoji")
    assert before == made.found["weights"]
    path = tmp_path / "emoji" / "tokenizer" / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace("ca", "cb"), encoding="utf-8")
    assert digest(tmp_path / "emoji") != before


def test_the_judge_loads_in_open_clip(made: Made) -> None:
    import open_clip

    name = f"local-dir:{made.embedded / 'emojiclip'}"
    model = open_clip.create_model(name)
    tokens = open_clip.get_tokenizer(name)(["cat face, flat style", "x"])
    assert next(model.parameters()).dtype == torch.float32
    assert tokens.shape == (2, 16) and model.encode_text(tokens).shape == (2, 64)


def test_prompt_sets_share_no_concept(made: Made) -> None:
    sets = [
        [json.loads(line) for line in (made.embedded / "prompts" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("search", "certificate")
    ]
    full, left_open = ([{r["prompt"] for r in rows if r["category"] == kind} for rows in sets] for kind in (FULL, OPEN))
    assert all(full) and not full[0] & full[1]
    assert all(left_open)  # too few subcategories here for two sets that share none


def test_the_evaluation_measures_everything(made: Made) -> None:
    assert json.loads(made.results.read_text(encoding="utf-8")) == made.found
    assert made.found["machine"]["same_picture_twice"] is True
    names = [row["name"] for row in made.found["tradeoff"]]
    plain = [f"{solver.name}, {n} steps" for solver in SOLVERS for n in (6, 5)]
    reused = [("DC0", n) for n in (2, 3, 5, 10)] + [("every unit", n) for n in (2, 5, 10)]
    assert names == plain + [f"DDIM leading, 6 steps, {mask}/P{n}" for mask, n in reused]
    for row in made.found["tradeoff"]:
        assert row["clip_gain"]["n"] == row["psnr"]["n"] == row["psnr_full"]["n"] + row["psnr_open"]["n"]
        assert (row["psnr"]["value"] == 100) == (row["steps"] == 6 and row["mask"] is None)
    assert 0 <= made.found["alignment_open"]["value"] <= 1 and len(made.found["placings"]) == 8
    sheets = {name: len(captions) for name, captions in made.found["grids"].items()}
    assert sheets["placings"] == 24 and set(sheets) == {"training", "held-out", "open", "placings"}
    assert set(made.found["alignment"]) == {"real", "generated", "wrong caption"}
    assert made.found["distance"]["fd_emojiclip"]["n"] == 8


def test_the_card_quotes_the_evaluation(made: Made) -> None:
    card = write_card(made.work, made.embedded, made.results)
    text = card.read_text(encoding="utf-8")
    for quoted in ("CC-BY-4.0", "Apache-2.0", "MIT", "DDIM leading, 6 steps, DC0/P5", "What it is not"):
        assert quoted in text
    pictures = [part.split(")")[0] for part in text.split("](card/")[1:]]
    assert all((made.embedded / "card" / name).is_file() for name in pictures)
    assert {f"{name}.svg" for name in TRAININGS} < set(pictures)


def test_a_card_without_logs_says_so(made: Made, tmp_path: Path) -> None:
    embedded = tmp_path / "embedded"
    shutil.copytree(made.embedded, embedded)
    for log in (embedded / "card").glob("losses-*.csv"):
        log.unlink()
    text = write_card(made.work, embedded, made.results).read_text(encoding="utf-8")
    assert "were not kept" in text and ".svg" not in text


@pytest.mark.parametrize(("changed", "folder"), [("weights", "emoji"), ("judge", "emojiclip"), ("statistics",) * 2])
def test_no_card_is_written_of_other_figures(changed: str, folder: str, made: Made, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    results.write_text(json.dumps({**made.found, changed: "another"}), encoding="utf-8")
    with pytest.raises(TrainingError, match=rf"not of what ships in {folder}; run"):
        write_card(made.work, made.embedded, results)


def test_no_card_is_written_of_half_an_evaluation(made: Made, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    with pytest.raises(TrainingError, match="not of what ships"):
        write_card(made.work, made.embedded, results)
    results.write_text(json.dumps({k: v for k, v in made.found.items() if k != "distance"}), encoding="utf-8")
    with pytest.raises(TrainingError, match="without distance"):
        write_card(made.work, made.embedded, results)


def test_stages_are_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(stage in shown for stage in STAGES)


def ends(arguments: list[str], capsys: pytest.CaptureFixture[str], status: int = 1) -> str:
    """The sentence with which a stage ends."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr().err or str(ended.value.code)
    assert (1 if isinstance(ended.value.code, str) else ended.value.code) == status, said
    return said


@pytest.mark.parametrize("stage", [s for s in STAGES if s not in ("fetch", "card", "train-students")])
def test_a_stage_before_its_time_names_what_is_missing(
    stage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recipe.packing.export.EMBEDDED", tmp_path / "embedded")  # whatever goes wrong, not what ships
    said = ends([stage, "--work", str(tmp_path / "none"), "--parcel", str(tmp_path / "no" / "parcel")], capsys)
    assert said.startswith("error: ") and "\n" not in said.strip()
    assert ("bring all of its files" if stage == "unpack" else "run `python -m recipe ") in said


@pytest.mark.parametrize(
    ("stage", "lacks", "needs"),
    [("train-unet", LEGS[-1], "train-autoencoder"), ("train-unet", "data/tokenizer/tokenizer.json", "prepare"),
     ("export", "unet/checkpoint.safetensors", "train-unet"), ("export", "clip", "train-clip")],
)  # fmt: skip
def test_a_stage_names_the_one_before_it(
    stage: str,
    lacks: str,
    needs: str,
    made: Made,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("recipe.packing.export.EMBEDDED", tmp_path / "embedded")
    work = tmp_path / "work"
    shutil.copytree(made.work, work, ignore=shutil.ignore_patterns("npm", "pictures", "evaluation", "embedded"))
    path = work / lacks
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert f"run `python -m recipe {needs} --work" in ends([stage, "--work", str(work)], capsys)


@pytest.mark.parametrize(
    "given",
    [["--device", "toaster"], ["--minutes", "0"], ["--minutes", "-3"], ["--minutes", "nan"], ["--count", "0"]],
)
def test_options_that_cannot_be(given: list[str], made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    status = 1 if given[0] == "--device" else 2
    assert given[1] in ends(["train-clip", "--work", str(made.work), *given], capsys, status)


DAMAGED = {
    "half a checkpoint": (lambda path: path.write_bytes(path.read_bytes()[:1000]), "cannot be read"),
    "a checkpoint of another network": (lambda path: save_tensors({"a/x": torch.zeros(2)}, path), "no checkpoint of"),
    "a checkpoint of other data": (
        lambda path: save_tensors(load_tensors(path), path, {**metadata_of(path), "data": "other"}),
        "was trained with {'data': 'other'}",
    ),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_checkpoint_that_cannot_be_gone_on_from(damage: str, made: Made, tmp_path: Path) -> None:
    for name in ("data", LEGS[-1]):
        (tmp_path / name).symlink_to(made.work / name)
    shutil.copytree(made.work / "unet", tmp_path / "unet")
    harm, expected = DAMAGED[damage]
    harm(tmp_path / "unet" / "checkpoint.safetensors")
    with pytest.raises(TrainingError, match=expected):
        train_unet(tmp_path, Budget(steps=3), channels=CHANNELS, batch=4)


def test_weights_are_not_exported_with_tokens_numbered_otherwise(made: Made, tmp_path: Path) -> None:
    """Words would come to rows of the text encoder that were trained for others."""
    for name in ("data", LEGS[-1], "clip"):
        (tmp_path / name).symlink_to(made.work / name)
    shutil.copytree(made.work / "unet", tmp_path / "unet")
    path = tmp_path / "unet" / "checkpoint.safetensors"
    save_tensors(load_tensors(path), path, {**metadata_of(path), "tokens": "other"})
    with pytest.raises(TrainingError, match="trained with other tokens"):
        export(tmp_path, tmp_path / "embedded", CHANNELS)
    assert not (tmp_path / "embedded").exists()


def test_one_process_trains_at_a_time(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    with alone(made.work, "train-clip"):
        assert "another process runs train-clip" in ends(["train-clip", "--work", str(made.work)], capsys)


def test_the_machine_alone_keeps_the_rest_or_refuses(made: Made, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    shutil.copy(made.results, results)
    options: dict[str, Any] = {
        "embedded": made.embedded, "results": results, "model": str(made.embedded / "emoji"), "count": 8,
        "paired_count": 6, "steps": 6, "extractors": ("emojiclip",), "repeats": 1, "machine_only": True,
    }  # fmt: skip
    again = evaluate(made.work, **options)
    assert {k: v for k, v in again.items() if k != "machine"} == {k: v for k, v in made.found.items() if k != "machine"}
    before = results.read_bytes()
    for other in ({"guidance": 2.0}, {"placed": True}, {"count": 9}):
        with pytest.raises(TrainingError, match="other weights or options"):
            evaluate(made.work, **{**options, **other})
    assert results.read_bytes() == before


def test_a_killed_evaluation_goes_on_where_it_was(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    found = dict(made.found)
    del found["retrieval"], found["distance"]
    made.results.write_text(json.dumps(found), encoding="utf-8")
    again = evaluate(
        made.work,
        embedded=made.embedded,
        results=made.results,
        model=str(made.embedded / "emoji"),
        count=8,
        paired_count=6,
        steps=6,
        extractors=("emojiclip",),
    )
    assert again == made.found and json.loads(made.results.read_text(encoding="utf-8")) == made.found
    # the pictures of the distance were kept: none was made again
    shown = capsys.readouterr().out
    assert "retrieval" in shown and "alignment" in shown and "of 8 pictures" not in shown
