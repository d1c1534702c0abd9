"""Folders that were saved from another pipeline than text-to-image: loaded by their networks, or refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer import ModelError, load_pipeline
from explorer.models.loading import EMBEDDED, load_empty_unet
from explorer.models.pictures import generate
from explorer.models.pipeline_classes import text_to_image_class
from tests.conftest import SHAPES, make_unet

SD_PARTS = {"text_encoder": ["transformers", "CLIPTextModel"], "vae": ["diffusers", "AutoencoderKL"]}
XL_PARTS = SD_PARTS | {"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}
SD_UNET, XL_UNET = ({"in_channels": 4, "out_channels": 4, **SHAPES[shape]} for shape in ("sd1", "sdxl"))


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    shutil.copytree(EMBEDDED / "emoji", tmp_path / "model")
    return tmp_path / "model"


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    "kind",
    [
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInpaintPipeline",
        "StableDiffusionControlNetPipeline",
        ["my_pipeline", "MyPipeline"],
        "NoSuchPipeline",
    ],
    ids=str,
)
def test_the_same_networks_saved_from_another_pipeline_make_the_same_pictures(kind: Any, folder: Path) -> None:
    """Their folder may lack parts that a text-to-image run does not read."""
    parts = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
             "feature_extractor": ["transformers", "CLIPImageProcessor"],
             "controlnet": ["diffusers", "ControlNetModel"]}  # fmt: skip
    change(folder / "model_index.json", _class_name=kind, requires_safety_checker=True, **parts)
    pipe = load_pipeline(str(folder))
    assert type(pipe).__name__ == "StableDiffusionPipeline"
    how: dict[str, Any] = {"seed": 1, "steps": 2, "guidance": 3.0, "batch_size": 1}
    prompts = ["house, flat style"]
    assert torch.equal(generate(pipe, prompts, **how), generate(load_pipeline("emoji"), prompts, **how))


@pytest.mark.parametrize(
    ("kind", "channels", "reason"),
    [
        ("StableDiffusionInpaintPipeline", 9, "a picture and its mask (an inpainting model)"),
        ("StableDiffusionInstructPix2PixPipeline", 8, "an InstructPix2Pix model"),
        ("StableDiffusionDepth2ImgPipeline", 5, "a depth map"),
        ("StableDiffusionUpscalePipeline", 7, "a small picture"),
    ],
)
def test_a_unet_that_takes_more_than_latents_is_refused_with_its_class(
    kind: str, channels: int, reason: str, folder: Path
) -> None:
    shutil.rmtree(folder / "unet")
    make_unet(in_channels=channels).save_pretrained(folder / "unet")
    change(folder / "model_index.json", _class_name=kind)
    with pytest.raises(ModelError, match=rf"is a {kind} that cannot be run as a text-to-image pipeline") as error:
        load_pipeline(str(folder))
    assert reason in str(error.value) and f"takes {channels} channels" in str(error.value)
    assert load_empty_unet(str(folder)).config.in_channels == channels  # its anatomy is still of use


@pytest.mark.parametrize(
    ("kind", "parts", "unet", "expected"),
    [
        ("StableDiffusionXLPipeline", XL_PARTS, XL_UNET, "StableDiffusionXLPipeline"),
        ("StableDiffusionXLImg2ImgPipeline", XL_PARTS, XL_UNET, "StableDiffusionXLPipeline"),
        ("StableDiffusionXLInpaintPipeline", XL_PARTS, XL_UNET, "StableDiffusionXLPipeline"),
        ("LatentConsistencyModelPipeline", SD_PARTS, SD_UNET, "StableDiffusionPipeline"),
        ("AnimateDiffPipeline", SD_PARTS, SD_UNET, "StableDiffusionPipeline"),
    ],
)
def test_the_networks_decide_which_text_to_image_pipeline_they_make(
    kind: str, parts: dict[str, Any], unet: dict[str, Any], expected: str
) -> None:
    assert text_to_image_class("model", {"_class_name": kind, **parts}, unet) == expected


@pytest.mark.parametrize(
    ("kind", "parts", "unet", "reason"),
    [
        ("StableDiffusionXLImg2ImgPipeline", {**XL_PARTS, "text_encoder": [None, None]}, XL_UNET, "a refiner"),
        ("StableDiffusionXLPipeline", SD_PARTS, XL_UNET, "has text_encoder, which its UNet cannot be run with"),
        ("StableDiffusionImageVariationPipeline", {"vae": SD_PARTS["vae"]}, SD_UNET, "no text encoder"),
        ("StableUnCLIPPipeline", SD_PARTS, {**SD_UNET, "class_embed_type": "projection"}, "class embeddings"),
        ("KolorsPipeline", SD_PARTS, {**SD_UNET, "encoder_hid_dim_type": "text_proj"}, "(text_proj)"),
        ("AudioLDMPipeline", {**SD_PARTS, "text_encoder": ["transformers", "ClapText"]}, SD_UNET, "is a ClapText"),
        ("IFPipeline", {"text_encoder": SD_PARTS["text_encoder"]}, SD_UNET, "no autoencoder"),
    ],
)
def test_networks_that_no_text_alone_drives_are_refused_with_the_reason(
    kind: str, parts: dict[str, Any], unet: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelError, match=f"model is a {kind}") as error:
        text_to_image_class("model", {"_class_name": kind, **parts}, unet)
    assert reason in str(error.value)
