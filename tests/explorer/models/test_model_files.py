"""Which weight files of a model are read: variants, and checkpoints in a single file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from explorer import ModelError, load_pipeline
from explorer.models.loading import EMBEDDED, load_empty_unet, pixel_factor, weight_bytes
from explorer.models.single_files import PUBLISHED, read_single_file
from explorer.timing.anatomy import anatomy
from tests.explorer.models.test_single_files import checkpoint
from tests.explorer.runtime.counted_runs import TEXT
from tests.explorer.tiny_pipelines import sd


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    shutil.copytree(EMBEDDED / "emoji", tmp_path / "model")
    return tmp_path / "model"


def rename(folder: Path, variant: str, *parts: str) -> None:
    """As `hf download --include "*fp16*"` leaves a folder."""
    for part in parts or ("*",):
        for file in list(folder.glob(f"{part}/*.safetensors")):
            file.rename(file.with_name(f"{file.stem}.{variant}.safetensors"))


def add(folder: Path, variant: str, part: str = "unet") -> None:
    """A variant beside the main weights that shows where it was read: its first value is 7."""
    (file,) = folder.glob(f"{part}/*model.safetensors")
    tensors = load_file(file)
    tensors["conv_in.bias"][0] = 7
    save_file(tensors, file.with_name(f"{file.stem}.{variant}.safetensors"), {"format": "pt"})


def mark(pipe: Any) -> float:
    return pipe.unet.conv_in.bias[0].item()


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
@pytest.mark.parametrize("parts", [(), ("unet",), ("unet", "vae")], ids=["all", "unet", "unet and vae"])
def test_a_folder_whose_parts_have_a_variant_alone_loads(dtype: str, parts: tuple[str, ...], folder: Path) -> None:
    rename(folder, "fp16", *parts)
    pipe = load_pipeline(str(folder), dtype=dtype)
    assert pipe.unet.dtype == getattr(torch, dtype)
    stock = load_pipeline("emoji", dtype=dtype)
    assert all(
        torch.equal(ours, theirs)
        for part in ("unet", "vae", "text_encoder")
        for ours, theirs in zip(getattr(pipe, part).parameters(), getattr(stock, part).parameters(), strict=True)
    )


def test_a_dtype_reads_its_own_variant_and_others_the_main_weights(folder: Path) -> None:
    add(folder, "fp16")
    add(folder, "non_ema")
    assert mark(load_pipeline(str(folder), dtype="float16")) == 7
    assert mark(load_pipeline(str(folder))) == mark(load_pipeline("emoji")) != 7
    assert mark(load_pipeline(str(folder), variant="non_ema")) == 7
    assert weight_bytes(str(folder)) == weight_bytes("emoji")


def test_a_variant_that_a_model_lacks_names_those_it_has(folder: Path) -> None:
    add(folder, "fp16")
    with pytest.raises(ModelError, match=r"no weights of the variant 'fp8'; it has fp16"):
        load_pipeline(str(folder), variant="fp8")
    with pytest.raises(ModelError, match="it has none but the main ones"):
        load_pipeline("emoji", variant="fp16")


def test_weights_that_are_no_question_of_precision_are_read_when_asked_for_alone(folder: Path) -> None:
    rename(folder, "non_ema", "unet")
    with pytest.raises(ModelError, match=r"no variant of its weights that is complete \(unet: non_ema; vae: main"):
        load_pipeline(str(folder))
    assert load_pipeline(str(folder), variant="non_ema")


def test_a_damaged_file_of_a_variant_that_is_not_read_does_not_matter(folder: Path) -> None:
    add(folder, "fp16")
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"")
    assert load_pipeline(str(folder))
    with pytest.raises(ModelError, match="damaged or truncated"):
        load_pipeline(str(folder), dtype="float16")


# Single files --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made() -> Any:
    return sd()


@pytest.fixture()
def single(made: Any, tmp_path: Path) -> Path:
    """A checkpoint in the folder that describes it, which has no weights of its own."""
    made.save_pretrained(tmp_path / "repository")
    for weights in (tmp_path / "repository").rglob("*.safetensors"):
        weights.unlink()
    save_file(checkpoint(made), tmp_path / "repository" / "model.safetensors")
    return tmp_path / "repository" / "model.safetensors"


def test_a_checkpoint_in_the_folder_that_describes_it_is_a_model(made: Any, single: Path) -> None:
    pipe = load_pipeline(str(single))
    torch.testing.assert_close(TEXT.run(pipe), TEXT.run(made), rtol=1e-2, atol=1e-3)
    unet = load_empty_unet(str(single))
    assert anatomy(unet).parameters == sum(each.numel() for each in made.unet.parameters())
    assert pixel_factor(str(single)) == made.vae_scale_factor
    assert weight_bytes(str(single))["unet"] == 4 * anatomy(unet).parameters


def test_a_checkpoint_of_a_published_model_has_an_anatomy_without_the_hub(tmp_path: Path) -> None:
    """Its layout tells which model it is. Loading it needs that model's configuration, and says so."""
    path = tmp_path / "model.safetensors"
    tensors = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(320, 4, 3, 3),
               "first_stage_model.encoder.conv_in.weight": torch.zeros(1),
               "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": torch.zeros(1)}  # fmt: skip
    save_file(tensors, path)
    assert anatomy(load_empty_unet(str(path))).parameters == 859_520_964
    assert read_single_file(str(path)).like == "arch:sd15"
    with pytest.raises(ModelError, match=f"HF_HUB_OFFLINE is set and not all files of {PUBLISHED['arch:sd15']}"):
        load_pipeline(str(path))


UNET, FIRST, VAE, TEXT_WEIGHT = (
    "model.diffusion_model.out.2.bias", "model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.a",
    "cond_stage_model.transformer.a",
)  # fmt: skip
NOT_MODELS: dict[str, tuple[dict[str, tuple[int, ...]], str]] = {
    "part of a folder": ({"down_blocks.0.resnets.0.conv1.weight": (1,)}, "one part of a pipeline in diffusers' layout"),
    "LoRA": ({"lora_unet_down_blocks_0.lora_up.weight": (1,)}, "holds a LoRA"),
    "no text encoder": ({UNET: (1,), VAE: (1,)}, "has no text_encoder"),
    "something else": ({"double_blocks.0.img_attn.weight": (1,)}, "no Stable Diffusion checkpoint"),
    "inpainting": ({FIRST: (320, 9, 3, 3), VAE: (1,), TEXT_WEIGHT: (1,)}, "an inpainting model"),
    "refiner": ({UNET: (1,), VAE: (1,), "conditioner.embedders.0.model.a": (1,)}, "a refiner"),
    "another width": ({FIRST: (16, 4, 3, 3), VAE: (1,), TEXT_WEIGHT: (1,)}, "begins with 16 channels, not 320"),
}


@pytest.mark.parametrize("kind", NOT_MODELS)
def test_a_file_that_is_no_model_says_what_it_is(kind: str, tmp_path: Path) -> None:
    shapes, expected = NOT_MODELS[kind]
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, tmp_path / "it.safetensors")
    for load in (load_pipeline, load_empty_unet):
        with pytest.raises(ModelError, match=expected) as error:
            load(str(tmp_path / "it.safetensors"))
        assert "\n" not in str(error.value)


def test_files_that_are_pickled_or_cut_are_refused(single: Path) -> None:
    cut = single.with_name("cut.safetensors")
    cut.write_bytes(single.read_bytes()[:1000])
    with pytest.raises(ModelError, match="damaged or truncated"):
        load_pipeline(str(cut))
    with pytest.raises(ModelError, match="pickled weights"):
        load_pipeline(str(shutil.copyfile(single, single.with_suffix(".ckpt"))))
