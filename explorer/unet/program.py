"""A UNet2DConditionModel read once into a straight-line program: every node bound to the modules it runs.

Each function repeats the arithmetic of diffusers' own forward, operation for operation, so that a program without a
mask gives the stock UNet's output to the bit. Units are split into their residual branch F(x) and their identity path,
which is what residual inheritance needs (A-SDM, Eq. 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from explorer.errors import ModelError
from explorer.unet.architecture import Architecture, Node
from explorer.unet.conditional_conv import ConditionalConv
from explorer.unet.transformer import run_block


@dataclass(frozen=True)
class Conditions:
    """What every node of one evaluation may read besides its inputs.

    emb: time embedding (B, E). context: text states (B, T, C), or with them the image states that an IP-Adapter's
    processors read. adds: tensors added to a node's output (T2I-Adapter, ControlNet's mid residual). skip_adds: tensors
    added where a skip is read (ControlNet). bottom_add: one added where the first up layer reads the deepest tensor
    (ControlNet's mid residual in a UNet without a mid block, whose deepest tensor is a skip as well). upsample: whether
    upsamplers must be told their size, as `size` (H, W of the sample) is no multiple of the total factor. time: the
    time embedding alone, (1, E) where all samples share a timestep; None where no convolution reads it.
    """

    emb: Tensor
    context: Any
    size: tuple[int, int]
    upsample: bool = False
    attention_mask: Tensor | None = None
    context_mask: Tensor | None = None
    attention_kwargs: dict[str, Any] | None = None
    adds: Mapping[str, Tensor] = field(default_factory=dict)
    skip_adds: Mapping[str, Tensor] = field(default_factory=dict)
    bottom_add: Tensor | None = None
    time: Tensor | None = None


class Program:
    """The node list of one UNet, with its modules. Holds references only: no weight is copied or changed."""

    def __init__(self, unet: nn.Module) -> None:
        self.unet = unet
        self.architecture = Architecture.of(unet)
        self.modules: dict[str, nn.Module] = _bind(unet, self.architecture)
        for name, module in self.modules.items():
            _check_module(name, module)

    def is_current(self) -> bool:
        """Whether the UNet still has the modules that this program runs: adapters may exchange one (conv_in)."""
        now = _bind(self.unet, self.architecture)
        return all(now[name] is module for name, module in self.modules.items() if not name.endswith(".cat"))

    def branch(self, node: Node, x: Tensor, at: Conditions) -> Tensor:
        """The residual branch F(x) of a unit, before the identity path is added. Shape (B, C_out, H, W)."""
        module: Any = self.modules[node.name]
        return _res_branch(module, x, at) if node.kind == "res" else _attn_branch(module, x, at)

    def join(self, node: Node, branch: Tensor | None, x: Tensor) -> Tensor:
        """A unit's output from its residual branch and its input: the identity path with its 1x1 shortcut. None is a
        branch that was removed: the identity path alone."""
        module: Any = self.modules[node.name]
        if node.kind == "attn":
            return x if branch is None else branch + x
        identity = x if module.conv_shortcut is None else module.conv_shortcut(x)
        joined = identity if branch is None else identity + branch
        scale = module.output_scale_factor
        # A division by 1 changes no bit and is one more kernel.
        return joined if scale == 1 else joined / scale

    def run(self, node: Node, inputs: tuple[Tensor, ...], at: Conditions) -> Tensor:
        """A node that is no unit, in full."""
        module: Any = self.modules[node.name]
        x = inputs[0]
        match node.kind:
            case "conv_in" | "down":
                return module(x)
            case "cat":
                return torch.cat([x, inputs[1]], dim=1)
            case "up":
                return module(x, self._upsample_size(node, at))
            case "out":
                unet: Any = self.unet
                if unet.conv_norm_out:
                    x = unet.conv_act(unet.conv_norm_out(x))
                return unet.conv_out(x)
        raise ModelError(f"{node.name} is a unit; run its branch and join it.")

    def _upsample_size(self, node: Node, at: Conditions) -> tuple[int, int] | None:
        if not at.upsample:
            return None
        level = self.architecture.level(node.block) - 1
        height, width = at.size
        return -(-height // 2**level), -(-width // 2**level)  # each halving rounds up


def _bind(unet: Any, architecture: Architecture) -> dict[str, nn.Module]:
    modules: dict[str, nn.Module] = {"conv_in": unet.conv_in, "out": unet.conv_out}
    for prefix, blocks in (("dn", unet.down_blocks), ("up", unet.up_blocks)):
        for b, block in enumerate(blocks):
            for i, resnet in enumerate(block.resnets):
                modules[f"{prefix}{b}.l{i}.res"] = resnet
                if prefix == "up":
                    modules[f"{prefix}{b}.l{i}.cat"] = nn.Identity()
            for i, attention in enumerate(getattr(block, "attentions", [])):
                modules[f"{prefix}{b}.l{i}.attn"] = attention
            for sampler in getattr(block, "downsamplers", None) or []:
                modules[f"{prefix}{b}.down"] = sampler
            for sampler in getattr(block, "upsamplers", None) or []:
                modules[f"{prefix}{b}.up"] = sampler
    mid = unet.mid_block
    if mid is not None:
        modules |= {f"mid.res{i}": resnet for i, resnet in enumerate(mid.resnets)}
        attentions = [each for each in mid.attentions if each is not None]
        modules |= {f"mid.attn{i or ''}": attention for i, attention in enumerate(attentions)}
    missing = [name for name in architecture.by_name if name not in modules]
    if missing:
        raise ModelError(f"this UNet lacks {missing[0]}, which its configuration has; load the model again.")
    further = [name for name in modules if name not in architecture.by_name]
    if further:
        raise ModelError(
            f"this UNet has {further[0]}, which its configuration does not name; save it with the right configuration "
            "and load it again."
        )
    return {node.name: modules[node.name] for node in architecture.nodes}


def _check_module(name: str, module: Any) -> None:
    """Refuse what this program would silently run differently from the stock forward."""
    kind = name.rsplit(".", 1)[-1]
    expected = ResnetBlock2D if kind.startswith("res") else Transformer2DModel if kind == "attn" else None
    if expected is None:
        return
    if not isinstance(module, expected):
        raise ModelError(f"{name} is a {type(module).__name__}; only {expected.__name__} is supported.")
    if expected is Transformer2DModel and not module.is_input_continuous:
        raise ModelError(f"{name} is a Transformer2DModel for patches or codes; only continuous inputs are supported.")
    if expected is ResnetBlock2D and (module.upsample is not None or module.downsample is not None):
        raise ModelError(f"{name} resamples inside the ResUnit, which is not supported.")


def _res_branch(module: Any, x: Tensor, at: Conditions) -> Tensor:
    hidden = _convolved(module.conv1, module.nonlinearity(module.norm1(x)), at)
    if module.time_emb_proj is not None:
        emb = at.emb
        if not module.skip_time_act:
            emb = module.nonlinearity(emb)
        hidden = hidden + module.time_emb_proj(emb)[:, :, None, None]
    hidden = module.nonlinearity(module.norm2(hidden))
    return _convolved(module.conv2, module.dropout(hidden), at)


def _convolved(conv: Any, x: Tensor, at: Conditions) -> Tensor:
    return conv(x, at.time) if isinstance(conv, ConditionalConv) else conv(x)


def _attn_branch(module: Any, x: Tensor, at: Conditions) -> Tensor:
    batch, _, height, width = x.shape
    linear = module.use_linear_projection
    hidden = module.norm(x)
    if not linear:
        hidden = module.proj_in(hidden)
    inner = hidden.shape[1]
    hidden = hidden.permute(0, 2, 3, 1).reshape(batch, height * width, inner)
    if linear:
        hidden = module.proj_in(hidden)
    for block in module.transformer_blocks:
        hidden = run_block(block, hidden, at.context, at.attention_mask, at.context_mask, at.attention_kwargs)
    if linear:
        hidden = module.proj_out(hidden)
    # As in diffusers, the width after the blocks is the width before them.
    hidden = hidden.reshape(batch, height, width, inner).permute(0, 3, 1, 2).contiguous()
    return hidden if linear else module.proj_out(hidden)
