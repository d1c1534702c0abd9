"""The embedded model as it ships: it loads offline with stock libraries, has its topology and size, and repeats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from explorer import load_pipeline
from explorer.models.pictures import generate
from explorer.quality import Reference, load_clip, load_extractor
from explorer.unet.architecture import Architecture

EMBEDDED = Path(__file__).parents[3] / "explorer" / "embedded"
LIMIT_MB = 76


@pytest.fixture(scope="module")
def pipe() -> Any:
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(EMBEDDED / "emoji", local_files_only=True)


def test_everything_that_ships_is_small_and_safe() -> None:
    files = [path for path in EMBEDDED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LIMIT_MB * 1e6
    assert {path.suffix for path in files} <= {".json", ".jsonl", ".safetensors", ".md", ".png", ".svg", ".csv"}


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_are_half_precision_on_disk(part: str) -> None:
    from safetensors import safe_open

    (path,) = (EMBEDDED / "emoji" / part).glob("*.safetensors")
    with safe_open(path, "pt") as opened:
        names = list(opened.keys())
        assert {opened.get_slice(name).get_dtype() for name in names} == {"F16"}


def test_the_parts_are_stock_and_load_in_single_precision(pipe: Any) -> None:
    expected = {
        "vae": "AutoencoderKL",
        "text_encoder": "CLIPTextModel",
        "tokenizer": "CLIPTokenizer",
        "unet": "UNet2DConditionModel",
        "scheduler": "PNDMScheduler",
    }
    assert {name: type(getattr(pipe, name)).__name__ for name in expected} == expected
    assert pipe.unet.dtype == pipe.vae.dtype == pipe.text_encoder.dtype == torch.float32
    assert pipe.safety_checker is None and pipe.feature_extractor is None


def test_every_token_of_the_prompts_was_trained(pipe: Any) -> None:
    """A token that no training caption held keeps the short row that it was given; under another tokenizer's numbers
    some words would come to such rows."""
    prompts = [
        json.loads(line)["prompt"]
        for name in ("search", "certificate")
        for line in (EMBEDDED / "prompts" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    used = sorted({i for ids in pipe.tokenizer(prompts).input_ids for i in ids})
    lengths = pipe.text_encoder.get_input_embeddings().weight.detach().norm(dim=1)
    bytes_alone = [i for i in range(512) if i not in used]
    assert len(bytes_alone) > 400
    short = float(lengths[bytes_alone].median())
    untrained = [pipe.tokenizer.convert_ids_to_tokens(i) for i in used if lengths[i] < 1.25 * short]
    assert not untrained


def test_the_topology_is_that_of_sd15(pipe: Any) -> None:
    config = pipe.unet.config
    assert config.down_block_types == ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]
    assert config.mid_block_type == "UNetMidBlock2DCrossAttn"
    assert config.up_block_types == ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
    assert config.layers_per_block == 2
    units = Architecture.of(pipe.unet).units
    assert len(units) == 38 and sum(name.endswith(".attn") for name in units) == 16


def test_the_scheduler_is_that_of_sd(pipe: Any) -> None:
    config = pipe.scheduler.config
    expected = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "skip_prk_steps": True,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "timestep_spacing": "linspace",
        "prediction_type": "v_prediction",
    }
    assert {key: config[key] for key in expected} == expected
    pipe.scheduler.set_timesteps(50)
    assert len(pipe.scheduler.timesteps) == 51
    assert DDIMScheduler.from_config(config).config.clip_sample is False  # latents are not within [-1, 1]


def test_the_same_seed_gives_the_same_picture_and_another_does_not() -> None:
    pipe = load_pipeline("emoji")
    first, again, other = (
        generate(pipe, ["taxi, flat style"], seed=seed, steps=4, guidance=3.75, batch_size=1) for seed in (3, 3, 4)
    )
    assert first.shape == (1, 3, 64, 64)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_pictures_show_their_captions() -> None:
    """Far above chance: the judge finds the caption of a generated picture among those of the search set."""
    prompts = [row["prompt"] for row in prompt_rows("search") if row["category"] == "full"][:24]
    made = generate(load_pipeline("emoji"), prompts, seed=0, steps=20, guidance=3.75, batch_size=12)
    clip = load_clip("emojiclip", torch.device("cpu"))
    similarity = clip.encode_pictures(made) @ clip.encode_prompts(prompts).T
    ranks = (similarity > similarity.diagonal()[:, None]).sum(1)
    assert (ranks < 5).mean() > 0.6


def prompt_rows(name: str) -> list[dict[str, str]]:
    """The prompts of a set that ships, as they are written."""
    lines = (EMBEDDED / "prompts" / f"{name}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_prompt_sets_hold_full_and_open_captions_half_and_half_and_share_none() -> None:
    rows = {name: prompt_rows(name) for name in ("search", "certificate")}
    assert {name: len(found) for name, found in rows.items()} == {"search": 64, "certificate": 256}
    for found in rows.values():
        assert sum(row["category"] == "full" for row in found) == len(found) / 2
        assert {row["category"] for row in found} == {"full", "open"}
        assert len({row["prompt"] for row in found}) == len(found)
    full = {name: [row["prompt"] for row in found if row["category"] == "full"] for name, found in rows.items()}
    concepts = {name: {text.rsplit(", ", 1)[0] for text in texts} for name, texts in full.items()}
    assert not concepts["search"] & concepts["certificate"]
    assert not {row["prompt"] for row in rows["search"]} & {row["prompt"] for row in rows["certificate"]}
    for texts in full.values():
        assert {text.rsplit(", ", 1)[1] for text in texts} == {"noto style", "flat style", "3d style"}


def test_emojiclip_is_an_open_clip_model() -> None:
    import open_clip

    name = f"local-dir:{EMBEDDED / 'emojiclip'}"
    model, _, transform = open_clip.create_model_and_transforms(name)
    assert next(model.parameters()).dtype == torch.float32
    assert open_clip.get_tokenizer(name)("taxi, flat style").shape == (1, 16)
    assert model.visual.image_size in (64, (64, 64)) and transform is not None


def test_statistics_are_those_of_the_extractor() -> None:
    reference = Reference.load(EMBEDDED / "statistics" / "emojiclip.safetensors")
    reference.check(load_extractor("emojiclip", torch.device("cpu")))
    assert reference.count > 500 and reference.features.shape[1] == 64
    general = Reference.load(EMBEDDED / "statistics" / "efficientnet.safetensors")
    assert general.features.shape == (reference.count, 1280)
    # the mean is that of all pictures, of which the features that ship are a random part, in half precision
    error = np.sqrt(np.diag(general.cov) / reference.count)
    assert (abs(general.features.mean(0) - general.mean) < 3 * error + 2e-3).all()
