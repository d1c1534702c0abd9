"""Loading models: the true architectures, local folders, and what is said of a folder that is damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from explorer import ModelError, load_pipeline
from explorer.models.loading import EMBEDDED, load_empty_unet
from explorer.timing.anatomy import anatomy
from explorer.unet.architecture import Architecture
from tests.conftest import make_unet


@pytest.mark.parametrize(
    ("name", "parameters", "units"),
    [("arch:sd15", 859_520_964, 38), ("arch:sd21", 865_910_724, 38), ("arch:sdxl", 2_567_463_684, 28)],
)
def test_true_architectures(name: str, parameters: int, units: int) -> None:
    """Parameter counts as published for the UNets of SD 1.5, SD 2.1 and SDXL base."""
    unet = load_empty_unet(name)
    found = anatomy(unet)
    assert found.parameters == parameters
    assert len(found.units) == units
    assert sum(node.macs for node in found.nodes) <= found.macs


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    """A small pipeline on disk: the embedded model's folder."""
    shutil.copytree(EMBEDDED / "emoji", tmp_path / "model")
    return tmp_path / "model"


def test_a_local_folder_loads_like_the_embedded_model(folder: Path) -> None:
    pipe = load_pipeline(str(folder))
    assert Architecture.of(pipe.unet) == Architecture.of(load_empty_unet("emoji"))
    assert next(pipe.unet.parameters()).dtype == torch.float32


def test_a_unet_of_another_architecture_is_refused_by_name(folder: Path) -> None:
    plain = {"down_block_types": ("DownBlock2D",) * 4, "up_block_types": ("UpBlock2D",) * 4}
    unet = make_unet(mid_block_type="UNetMidBlock2DSimpleCrossAttn", **plain)
    shutil.rmtree(folder / "unet")
    unet.save_pretrained(folder / "unet")
    with pytest.raises(ModelError, match="UNetMidBlock2DSimpleCrossAttn is not supported"):
        load_pipeline(str(folder))


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _index(folder: Path, **parts: Any) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **parts}))


def _swap(folder: Path, source: str, target: str) -> None:
    (weights,) = (folder / target).glob("*.safetensors")
    shutil.copyfile(next((folder / source).glob("*.safetensors")), weights)


def _cut(path: Path) -> None:
    tensors = load_file(path)
    save_file({name: tensors[name] for name in sorted(tensors)[: 2 * len(tensors) // 3]}, path, {"format": "pt"})


DAMAGE: dict[str, tuple[Any, str]] = {
    "truncated unet": (lambda f: _truncate(f / "unet" / "diffusion_pytorch_model.safetensors"), "damaged or truncated"),
    "truncated text encoder": (lambda f: _truncate(f / "text_encoder" / "model.safetensors"), "damaged or truncated"),
    "empty weights": (
        lambda f: (f / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b""),
        "damaged or truncated",
    ),
    "missing weights": (
        lambda f: (f / "unet" / "diffusion_pytorch_model.safetensors").unlink(),
        "no safetensors weights",
    ),
    "missing part": (lambda f: shutil.rmtree(f / "vae"), "no safetensors weights"),
    "no index": (lambda f: (f / "model_index.json").unlink(), "is not a pipeline"),
    "broken index": (lambda f: (f / "model_index.json").write_text("{"), "cannot be read"),
    "bottomless index": (lambda f: (f / "model_index.json").write_text("[" * 100_000), "cannot be read"),
    "a number for a part": (lambda f: _index(f, unet=5), "gives 5 for unet"),
    "half a part": (lambda f: _index(f, tokenizer=["transformers"]), "for tokenizer"),
    "no tokenizer": (lambda f: shutil.rmtree(f / "tokenizer"), "no vocabulary"),
    "another network's unet": (lambda f: _swap(f, "vae", "unet"), "unet are not those of its model: they hold 0 of"),
    "another network's text encoder": (
        lambda f: _swap(f, "vae", "text_encoder"),
        "not those of its model: they hold 0 of",
    ),
    "two thirds of the text encoder": (
        lambda f: _cut(f / "text_encoder" / "model.safetensors"),
        "not those of its model",
    ),
    "broken configuration": (lambda f: (f / "unet" / "config.json").write_text("{"), "cannot load"),
    "pickled weights only": (
        lambda f: (f / "unet" / "diffusion_pytorch_model.safetensors").rename(
            f / "unet" / "diffusion_pytorch_model.bin"
        ),
        "no safetensors weights",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_one_sentence(damage: str, folder: Path) -> None:
    harm, expected = DAMAGE[damage]
    harm(folder)
    with pytest.raises(ModelError, match=expected) as error:
        load_pipeline(str(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", ["bottomless index", "broken index", "a number for a part"])
def test_an_anatomy_wants_a_whole_index_too(damage: str, folder: Path) -> None:
    harm, expected = DAMAGE[damage]
    harm(folder)
    with pytest.raises(ModelError, match=expected):
        load_empty_unet(str(folder))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ([], "is a None"),
        ({"_class_name": "FluxTransformer2DModel"}, "is a Flux"),
        ({"down_block_types": [1]}, "cannot load"),
    ],
)
def test_an_anatomy_wants_a_unet_s_configuration(config: Any, expected: str, folder: Path) -> None:
    path = folder / "unet" / "config.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({**whole, **config} if isinstance(config, dict) else config))
    with pytest.raises(ModelError, match=expected) as error:
        load_empty_unet(str(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["", "nothing", "arch:sd99", "../emoji", "a/b/c", "/no/such"])
def test_no_such_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="no such"):
        load_pipeline(name)


def test_random_architecture_runs_without_text_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stock loop on an `arch:` pipeline, at a width that a test can afford."""
    from explorer.models import true_architectures
    from explorer.models.workload import random_embeds

    small = {
        "sample_size": 8,
        "block_out_channels": (32, 32, 64, 64),
        "cross_attention_dim": 24,
        "attention_head_dim": 4,
    }
    monkeypatch.setitem(true_architectures.ARCHITECTURES, "arch:sd15", (small, "epsilon"))
    pipe = load_pipeline("arch:sd15")
    made = pipe(
        num_inference_steps=2, output_type="latent", height=64, width=64, **random_embeds(pipe, 1, torch.device("cpu"))
    )
    assert made.images.shape == (1, 4, 8, 8)
