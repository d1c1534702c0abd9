"""LoRA files and negative prompts: what they do to pictures, and the files that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from explorer.errors import ModelError
from explorer.models.loading import fingerprint, load_pipeline
from explorer.models.lora import parse_lora
from explorer.models.pictures import run
from explorer.models.prompts import Prompt
from studies.scoring.running import encode


def pictures(pipe: Any, prompts: Any = ("a bee",), embed: Any = None) -> torch.Tensor:
    return run(pipe, list(prompts), seed=0, steps=2, guidance=3.0, embed=embed)


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random low-rank weights for the attention of the embedded model, as diffusers saves one."""
    from diffusers import StableDiffusionPipeline
    from peft import LoraConfig, get_peft_model_state_dict

    pipe = load_pipeline("emoji")
    torch.manual_seed(0)
    pipe.unet.add_adapter(LoraConfig(r=2, lora_alpha=2, init_lora_weights=False, target_modules=["to_q", "to_v"]))
    folder = tmp_path_factory.mktemp("lora")
    StableDiffusionPipeline.save_lora_weights(folder, get_peft_model_state_dict(pipe.unet), weight_name="s.safetensors")
    return folder / "s.safetensors"


def test_a_lora_is_fused_with_its_scale(lora: Path) -> None:
    plain, half = load_pipeline("emoji"), load_pipeline("emoji", loras=[f"{lora}:0.5"])
    stock = load_pipeline("emoji")
    stock.load_lora_weights(str(lora), adapter_name="s")
    stock.set_adapters(["s"], [0.5])
    assert torch.allclose(pictures(half), pictures(stock), atol=1e-3)
    assert not torch.allclose(pictures(half), pictures(plain), atol=1e-2)
    assert fingerprint(half) != fingerprint(plain)
    assert [name for name, _ in half.unet.named_modules()] == [name for name, _ in plain.unet.named_modules()]
    none = load_pipeline("emoji", loras=[f"{lora}:0"])
    assert torch.allclose(pictures(none), pictures(plain), atol=1e-5)


def test_a_file_that_does_not_fit_is_refused_in_a_sentence(lora: Path, tmp_path: Path) -> None:
    wide = {name: torch.cat([value, value], dim=-1) if "lora_A" in name or "lora.down" in name else value
            for name, value in load_file(lora).items()}  # fmt: skip
    save_file(wide, tmp_path / "wide.safetensors")
    save_file({"unet.nothing.lora_A.weight": torch.ones(2, 2)}, tmp_path / "other.safetensors")
    save_file({"weight": torch.ones(2)}, tmp_path / "bare.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"\x01\x02")
    for name in ("wide", "other", "bare", "broken"):
        with pytest.raises(ModelError, match=name) as caught:
            load_pipeline("emoji", loras=[str(tmp_path / f"{name}.safetensors")])
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_lora_is_a_path_with_a_scale(lora: Path) -> None:
    assert (parse_lora(str(lora)).scale, parse_lora(f"{lora}:-0.25").scale) == (1.0, -0.25)
    assert parse_lora(str(parse_lora(f"{lora}:2"))) == parse_lora(f"{lora}:2")
    with pytest.raises(ModelError, match="no LoRA file"):
        load_pipeline("emoji", loras=["none.safetensors"])
    for wrong in ("none.bin", "a:b:c", "", ":1", __file__, f"{lora}:nan", f"{lora}:x"):
        with pytest.raises(ModelError, match="LoRA"):
            parse_lora(wrong)


def test_a_negative_prompt_reaches_every_picture() -> None:
    pipe = load_pipeline("emoji")
    asked = [Prompt("a bee", negative="a lion"), Prompt("a dog", negative="a lion")]
    expected = pipe(
        ["a bee", "a dog"], negative_prompt=["a lion"] * 2, num_inference_steps=2, guidance_scale=3.0, output_type="pt",
        generator=[torch.Generator().manual_seed(seed) for seed in (0, 1)],
    ).images  # fmt: skip
    assert torch.equal(pictures(pipe, asked), expected)
    encoded = pictures(pipe, asked, embed=lambda words: encode(pipe, words, torch.device("cpu"), True, "a lion"))
    assert torch.allclose(encoded, expected, atol=1e-5)
    assert not torch.allclose(pictures(pipe, ["a bee", "a dog"]), expected, atol=1e-3)
