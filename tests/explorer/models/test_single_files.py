"""Single files in the layout of the original checkpoints: the UNet of one, and a whole pipeline, loaded offline."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import save_file

from explorer import InheritancePlan, inherit
from explorer.unet.architecture import Architecture
from tests.explorer.runtime.counted_runs import TEXT, plan_for
from tests.explorer.tiny_pipelines import sd


@pytest.mark.parametrize("whole", [False, True], ids=["unet", "pipeline"])
def test_what_comes_from_a_single_file_inherits(whole: bool, tmp_path: Path) -> None:
    """The converter of single files asks the hub for a published configuration unless one is given; so a local file is
    read with the folder that describes it. The folder holds no weights here: they are the file's."""
    made = sd()
    expected = TEXT.run(made)
    made.save_pretrained(tmp_path / "described")
    for weights in (tmp_path / "described").rglob("*.safetensors"):
        weights.unlink()
    save_file(checkpoint(made), tmp_path / "model.safetensors")
    given = {"config": str(tmp_path / "described"), "local_files_only": True}
    if whole:
        pipe = diffusers.StableDiffusionPipeline.from_single_file(tmp_path / "model.safetensors", **given)
        pipe.set_progress_bar_config(disable=True)
    else:
        pipe = made
        pipe.unet = diffusers.UNet2DConditionModel.from_single_file(
            tmp_path / "model.safetensors", subfolder="unet", **given
        ).eval()
    plain = TEXT.run(pipe)
    torch.testing.assert_close(plain, expected, rtol=1e-2, atol=1e-3)
    with inherit(pipe, InheritancePlan(Architecture.of(pipe.unet), 6)):
        assert torch.equal(TEXT.run(pipe), plain)
    with inherit(pipe, plan_for(pipe)):
        first = TEXT.run(pipe)
        assert not torch.equal(first, plain)
        TEXT.run(pipe, prompt="two blue boats", num_inference_steps=8)
        assert torch.equal(TEXT.run(pipe), first)
    assert torch.equal(TEXT.run(pipe), plain)


def checkpoint(pipe: Any) -> dict[str, torch.Tensor]:
    """A Stable Diffusion 1.x pipeline's weights as the original checkpoints hold them."""
    text = {key.removeprefix("text_model."): value for key, value in pipe.text_encoder.state_dict().items()}
    parts = {"model.diffusion_model": unet_names(pipe.unet), "first_stage_model": vae_names(pipe.vae),
             "cond_stage_model.transformer.text_model": text}  # fmt: skip
    return {f"{part}.{key}": value.contiguous() for part, named in parts.items() for key, value in named.items()}


def vae_names(vae: Any) -> dict[str, torch.Tensor]:
    """An autoencoder's weights under the original names, without the first. The decoder's blocks count from the
    picture's side there, and what is linear in the attention is a convolution of one pixel."""
    last = len(vae.config.block_out_channels) - 1
    renamed = [
        (r"encoder\.down_blocks\.(\d)", r"encoder.down.\1"),
        (r"decoder\.up_blocks\.(\d)", lambda found: f"decoder.up.{last - int(found[1])}"),
        (r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}"),
        (r"mid_block\.attentions\.0", "mid.attn_1"),
        (r"\.resnets\.", ".block."),
        (r"\.(down|up)samplers\.0\.", r".\1sample."),
        (r"conv_shortcut", "nin_shortcut"),
        (r"conv_norm_out|group_norm", lambda found: "norm_out" if found[0].startswith("conv") else "norm"),
        (r"to_out\.0", "proj_out"),
        (r"to_([qkv])", r"\1"),
    ]  # fmt: skip
    named: dict[str, torch.Tensor] = {}
    for key, value in vae.state_dict().items():
        ours = key
        for old, new in renamed:
            ours = re.sub(old, new, ours)
        named[ours] = value[..., None, None] if ".attn_1." in ours and value.ndim == 2 else value
    return named


def unet_names(unet: Any) -> dict[str, torch.Tensor]:
    """A UNet's weights under the names of the original Stable Diffusion checkpoints, without the first."""
    table = {"conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0",
             "time_embedding.linear_2": "time_embed.2", "conv_norm_out": "out.0", "conv_out": "out.2",
             "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
             "mid_block.resnets.1": "middle_block.2"}  # fmt: skip
    for b in range(4):
        for i in range(2):
            table[f"down_blocks.{b}.resnets.{i}"] = f"input_blocks.{3 * b + i + 1}.0"
            table[f"down_blocks.{b}.attentions.{i}"] = f"input_blocks.{3 * b + i + 1}.1"
        table[f"down_blocks.{b}.downsamplers.0.conv"] = f"input_blocks.{3 * b + 3}.0.op"
        for i in range(3):
            table[f"up_blocks.{b}.resnets.{i}"] = f"output_blocks.{3 * b + i}.0"
            table[f"up_blocks.{b}.attentions.{i}"] = f"output_blocks.{3 * b + i}.1"
        table[f"up_blocks.{b}.upsamplers.0"] = f"output_blocks.{3 * b + 2}.{2 if b else 1}"
    parts = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
             "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}  # fmt: skip
    named: dict[str, torch.Tensor] = {}
    for key, value in unet.state_dict().items():
        ours = next(name for name in sorted(table, key=len, reverse=True) if key.startswith(f"{name}."))
        rest = key.removeprefix(f"{ours}.")
        if "resnets" in ours:
            part, _, leaf = rest.rpartition(".")
            rest = f"{parts[part]}.{leaf}"
        named[f"{table[ours]}.{rest}"] = value.contiguous()
    return named
