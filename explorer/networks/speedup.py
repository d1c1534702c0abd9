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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from explorer.errors import ModelError

SCALES = ("a", "b", "c", "d")


@dataclass(frozen=True)
class SpeedUpUse:
    """What an adapter was trained for.

    Attributes:
        guidance: The guidance scale that it takes by default.
        most: The largest that it was trained for; the least is 1.
        steps: UNet evaluations of a run.
        scheduler: A scheduler that a plan may name.
        spacing: Of its timesteps.
        base: Fingerprint of the UNet that it was trained on; it plugs into others of the same layout.
    """

    guidance: float = 3.0
    most: float = 6.0
    steps: int = 4
    scheduler: str = "DDIMScheduler"
    spacing: str = "trailing"
    base: str | None = None

    def __post_init__(self) -> None:
        from explorer.plans.schedulers import check_name, check_spacing

        if not 1 <= self.guidance <= self.most <= 100 or not 1 <= self.steps <= 1000:
            raise ModelError(
                f"a speed-up adapter takes a guidance from 1 to the largest that it was trained for and 1 to 1000 "
                f"steps, got {self.guidance:g} of {self.most:g} and {self.steps}."
            )
        check_name(self.scheduler)
        check_spacing(self.spacing)


class NegativeBranch(nn.Module):
    """What an adapter has at one cross-attention.

    Args:
        context: Channels of the text states.
        inner: Channels of keys and values.
        channels: Of the cross-attention's output.
    """

    def __init__(self, context: int, inner: int, channels: int) -> None:
        super().__init__()
        self.key = nn.Linear(context, inner, bias=False)
        self.value = nn.Linear(context, inner)
        self.a, self.b, self.c, self.d = (nn.Parameter(torch.zeros(channels)) for _ in SCALES)

    def forward(
        self, attention: Any, hidden: Tensor, negative: Tensor, out: Tensor, guidance: float | Tensor
    ) -> Tensor:
        """The output (B, tokens, C) of a cross-attention with the negative prompt taken off.

        Args:
            attention: The cross-attention.
            hidden: Its input (B, tokens, C).
            negative: Text states of the negative prompt (B, T, D).
            out: What it gives for the prompt (B, tokens, C).
            guidance: The guidance scale; of each sample, (B, 1, 1).
        """
        g = guidance - 1
        query = self._heads(attention, attention.to_q(hidden))
        key, value = (self._heads(attention, part(negative)) for part in (self.key, self.value))
        read = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        taken = functional.linear(read, attention.to_out[0].weight)
        # in single precision, where no length overflows
        away = out.float().norm(dim=-1, keepdim=True) * functional.normalize(taken.float(), dim=-1, eps=1e-6)
        change = g * (self.a + g * self.b) * away + g * (self.c + g * self.d)
        return out - change.to(out.dtype)

    @staticmethod
    def _heads(attention: Any, states: Tensor) -> Tensor:
        """(B, tokens, heads x d) to (B, heads, tokens, d)."""
        return states.unflatten(-1, (attention.heads, -1)).transpose(1, 2)


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
        """Read a folder that `save` wrote; it is validated, and no code is run. Raises ModelError."""
        from explorer.networks.speedup_files import read_speed_up

        return read_speed_up(Path(folder))

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
