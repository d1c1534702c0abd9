"""A speed-up adapter (SpeedUpNet, arXiv 2312.08887): guidance in one UNet evaluation, and few steps.

At every cross-attention new keys and values read the negative prompt, by the UNet's own query and output projection.
With P the cross-attention's output for the prompt and N that for the negative prompt, in each sample and token

    out = P - s |P| N / |N| - t,    s = g (a + g b),  t = g (c + g d),  g = guidance - 1,

with learned vectors a, b, c, d of one number a channel, which begin at 0. So an untrained adapter leaves the unguided
prediction as it is, and so does any adapter at guidance 1. Norms are over the channels of a token: no picture depends
on its batch. The UNet's weights stay as they are, so an adapter plugs into fine-tunes of the UNet it was trained on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from explorer.errors import ModelError
from explorer.networks.speedup_branch import NegativeBranch, SpeedUpUse


class SpeedUp(nn.Module):
    """An adapter for UNets of one layout.

    Args:
        branches: By the name of the cross-attention in the UNet (`down_blocks.0....attn2`).
        use: What it was trained for.
    """

    def __init__(self, branches: Mapping[str, NegativeBranch], use: SpeedUpUse) -> None:
        super().__init__()
        self.use = use
        self.names = tuple(branches)
        self.branches = nn.ModuleList(branches.values())

    @classmethod
    def untrained(cls, unet: nn.Module, use: SpeedUpUse | None = None) -> SpeedUp:
        """An adapter whose keys and values are the UNet's own and which changes nothing yet.

        Args:
            unet: Of the layout that it is for.
            use: What it will be trained for.

        Raises:
            ModelError: For a UNet without cross-attention.
        """
        branches: dict[str, NegativeBranch] = {}
        for name, attention in cross_attentions(unet).items():
            key, value = attention.to_k.weight, attention.to_v.weight
            branch = NegativeBranch(key.shape[1], key.shape[0], attention.to_out[0].weight.shape[0])
            with torch.no_grad():
                branch.key.weight.copy_(key)
                branch.value.weight.copy_(value)
                branch.value.bias.zero_()
            branches[name] = branch
        if not branches:
            raise ModelError("the UNet has no cross-attention, which a speed-up adapter works at.")
        return cls(branches, use or SpeedUpUse())

    @property
    def parts(self) -> tuple[NegativeBranch, ...]:
        """The branches, in the order of `names`."""
        return tuple(cast("NegativeBranch", branch) for branch in self.branches)

    def check_unet(self, unet: nn.Module) -> dict[str, Any]:
        """The cross-attentions of a UNet by name, each of which the adapter fits.

        Raises:
            ModelError: For a UNet of another layout, and for attention that the adapter does not know how to extend.
        """
        found = cross_attentions(unet)
        if tuple(found) != self.names:
            raise ModelError(
                f"the speed-up adapter is for a UNet with {len(self.names)} cross-attentions and this one has "
                f"{len(found)}, or they have other names; give a UNet of the layout that it was trained on."
            )
        for (name, attention), branch in zip(found.items(), self.parts, strict=True):
            key, own = tuple(attention.to_k.weight.shape), tuple(branch.key.weight.shape)
            if key != own:
                raise ModelError(
                    f"the speed-up adapter has keys of {own} at {name}, and this UNet of {key}; give a UNet of the "
                    "layout that it was trained on."
                )
            if attention.residual_connection or attention.norm_cross or attention.spatial_norm is not None:
                raise ModelError(f"{name} is not attention as Stable Diffusion has it, which an adapter extends.")
        return found

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `speedup.json` and `speedup.safetensors` (half precision) into a folder. Raises ModelError where it
        cannot be written."""
        from explorer.networks.speedup_files import save_speed_up

        return save_speed_up(self, Path(folder))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> SpeedUp:
        """Read a folder that `save` wrote, or for `emoji` the adapter of the embedded model; it is validated, and no
        code is run. Raises ModelError."""
        from explorer.networks.speedup_files import read_speed_up, speed_up_folder

        return cls(*read_speed_up(speed_up_folder(folder)))

    def to_json(self) -> dict[str, Any]:
        """What `speedup.json` says besides its format."""
        return {"names": list(self.names), "use": asdict(self.use)}


def cross_attentions(unet: nn.Module) -> dict[str, Any]:
    """The cross-attentions of a UNet's transformer blocks by name, in the order of its modules."""
    from diffusers.models.attention import BasicTransformerBlock

    return {
        f"{name}.attn2": module.attn2
        for name, module in unet.named_modules()
        if isinstance(module, BasicTransformerBlock) and module.attn2 is not None
    }
