"""LoRA files and negative prompts: what they do to pictures, and the files that do not fit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from explorer import inherit, strategy
from explorer.errors import ModelError
from explorer.models.loading import EMBEDDED, fingerprint, load_empty_unet, load_pipeline
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


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model with one layer a block fewer, as BK-SDM-Base has it."""
    from diffusers import UNet2DConditionModel

    folder = tmp_path_factory.mktemp("pruned") / "model"
    shutil.copytree(EMBEDDED / "emoji", folder, ignore=shutil.ignore_patterns("unet"))
    torch.manual_seed(0)
    config = {**load_empty_unet("emoji").config, "layers_per_block": 1}
    UNet2DConditionModel.from_config(config).save_pretrained(folder / "unet")
    return folder


def kohya(name: str) -> str:
    return "lora_unet_" + name.removeprefix("unet.").split(".lora_")[0].replace(".", "_")


def test_a_lora_of_another_layout_is_refused_though_its_shapes_fit(lora: Path, pruned: Path, tmp_path: Path) -> None:
    tensors = load_file(lora)
    other = {f"{kohya(name)}.lora_{'down' if '.lora_A.' in name else 'up'}.weight": value
             for name, value in tensors.items()}  # fmt: skip
    save_file(other, tmp_path / "kohya.safetensors")
    for path in (lora, tmp_path / "kohya.safetensors"):
        load_pipeline("emoji", loras=[str(path)])
        with pytest.raises(ModelError, match=r"UNet of another layout: 6 of the 16 .* such as down_blocks\.0\.att"):
            load_pipeline(str(pruned), loras=[str(path)])
    fitting = {name: value for name, value in tensors.items() if "up_blocks.1.attentions.0" in name}
    assert fitting
    save_file(fitting, tmp_path / "part.safetensors")
    plain, fused = (load_pipeline(str(pruned), loras=loras) for loras in ([], [str(tmp_path / "part.safetensors")]))
    assert fingerprint(plain) != fingerprint(fused)


def test_a_lora_of_another_layout_that_the_user_loaded_is_refused_where_its_names_were_kept(
    lora: Path, pruned: Path, tmp_path: Path
) -> None:
    """peft shortens long lists of names to `to_q` and `to_v`; of those nothing can be known any more."""
    named = [f"up_blocks.1.attentions.{i}.transformer_blocks.0.attn1" for i in (1, 2)]
    few = {name: value for name, value in load_file(lora).items() if any(part in name for part in named)}
    save_file(few, tmp_path / "few.safetensors")
    pipe = load_pipeline(str(pruned))
    plan = strategy("DC0/P3", steps=4, unet=pipe.unet)
    pipe.load_lora_weights(str(tmp_path / "few.safetensors"), adapter_name="style")
    with pytest.raises(ModelError, match=r"the LoRA 'style' .* such as up_blocks\.1\.attentions\.2"):
        inherit(pipe, plan)
    pipe.unload_lora_weights()
    inherit(pipe, plan).remove()


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
