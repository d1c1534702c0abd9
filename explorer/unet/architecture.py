"""The structure of a UNet as a straight-line list of named nodes, without weights and without torch.

SD1.x has 58 nodes, 38 of which are units (22 res, 16 attn). The list is what masks, liveness, plans and spaces are
checked against; `explorer.unet.program` binds it to the modules of a real UNet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from explorer.errors import ModelError

NodeKind = Literal["conv_in", "res", "attn", "down", "cat", "up", "out"]
UNIT_KINDS: tuple[NodeKind, ...] = ("res", "attn")

_DOWN_TYPES = {"CrossAttnDownBlock2D": True, "DownBlock2D": False}
_UP_TYPES = {"CrossAttnUpBlock2D": True, "UpBlock2D": False}


@dataclass(frozen=True)
class Node:
    """One operation: `name` is also the name of the tensor it gives; `inputs` name the tensors it reads."""

    name: str
    kind: NodeKind
    inputs: tuple[str, ...]
    block: str
    layer: str

    @property
    def is_unit(self) -> bool:
        return self.kind in UNIT_KINDS


@dataclass(frozen=True)
class BlockSpec:
    """A down or up block: output channels, number of layers, transformer blocks of an AttnUnit (0: no attention)."""

    channels: int
    layers: int
    transformers: int


@dataclass(frozen=True)
class Architecture:
    """What makes two UNets the same for a plan: blocks, layers, channels and conditioning, not their weights."""

    down: tuple[BlockSpec, ...]
    mid_transformers: int
    up: tuple[BlockSpec, ...]
    in_channels: int
    out_channels: int
    context: int

    @classmethod
    def of(cls, unet: Any) -> Architecture:
        """Read a `UNet2DConditionModel` (or anything with such a `config`).

        Raises:
            ModelError: for a model or a block type that this engine does not know, by name.
        """
        config = getattr(unet, "config", None)
        if config is None or "down_block_types" not in config:
            raise ModelError(
                f"{type(unet).__name__} is not a UNet2DConditionModel; give a Stable Diffusion 1.x, 2.x or XL UNet."
            )
        return cls.of_config(config)

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Architecture:
        """Read a diffusers UNet configuration. Raises ModelError naming the first thing that is not supported."""
        try:
            return _read_config(config)
        except (KeyError, TypeError, IndexError) as error:
            raise ModelError(f"this UNet configuration cannot be read ({error!r}); give a diffusers UNet.") from error

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes in the order in which the stock UNet runs them."""
        nodes: list[Node] = [Node("conv_in", "conv_in", ("sample",), "conv_in", "conv_in")]
        skips = ["conv_in"]

        def add(name: str, kind: NodeKind, *inputs: str, block: str, layer: str) -> str:
            nodes.append(Node(name, kind, inputs, block, layer))
            return name

        value = "conv_in"
        for b, spec in enumerate(self.down):
            block = f"dn{b}"
            for i in range(spec.layers):
                layer = f"{block}.l{i}"
                value = add(f"{layer}.res", "res", value, block=block, layer=layer)
                if spec.transformers:
                    value = add(f"{layer}.attn", "attn", value, block=block, layer=layer)
                skips.append(value)
            if b < len(self.down) - 1:
                value = add(f"{block}.down", "down", value, block=block, layer=f"{block}.down")
                skips.append(value)
        value = add("mid.res0", "res", value, block="mid", layer="mid")
        if self.mid_transformers:
            value = add("mid.attn", "attn", value, block="mid", layer="mid")
        value = add("mid.res1", "res", value, block="mid", layer="mid")
        for b, spec in enumerate(self.up):
            block = f"up{b}"
            for i in range(spec.layers):
                layer = f"{block}.l{i}"
                value = add(f"{layer}.cat", "cat", value, skips.pop(), block=block, layer=layer)
                value = add(f"{layer}.res", "res", value, block=block, layer=layer)
                if spec.transformers:
                    value = add(f"{layer}.attn", "attn", value, block=block, layer=layer)
            if b < len(self.up) - 1:
                value = add(f"{block}.up", "up", value, block=block, layer=f"{block}.up")
        add("out", "out", value, block="out", layer="out")
        return tuple(nodes)

    @cached_property
    def by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def units(self) -> tuple[str, ...]:
        """Names of the units (res and attn) in running order: what residual inheritance may name."""
        return tuple(node.name for node in self.nodes if node.is_unit)

    @cached_property
    def layers(self) -> dict[str, tuple[str, ...]]:
        """Layer name -> its units. The mid block counts as one layer."""
        return self._group(lambda node: node.layer)

    @cached_property
    def blocks(self) -> dict[str, tuple[str, ...]]:
        """Block name -> its units."""
        return self._group(lambda node: node.block)

    def _group(self, key: Any) -> dict[str, tuple[str, ...]]:
        groups: dict[str, list[str]] = {}
        for node in self.nodes:
            if node.is_unit:
                groups.setdefault(key(node), []).append(node.name)
        return {name: tuple(units) for name, units in groups.items()}

    def level(self, block: str) -> int:
        """How many times the sample was halved where `block` works: dn0 and the last up block are level 0."""
        if block.startswith("dn"):
            return int(block[2:])
        if block.startswith("up"):
            return len(self.up) - 1 - int(block[2:])
        return len(self.down) - 1 if block == "mid" else 0

    @cached_property
    def signature(self) -> str:
        """Twelve hexadecimal digits that name this architecture in plans, profiles and studies."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:12]

    def describe(self) -> str:
        """One line for error messages: units, channels, context width."""
        channels = "-".join(str(spec.channels) for spec in self.down)
        inputs = f", {self.in_channels} input channels" if self.in_channels != 4 else ""
        return f"{len(self.units)} units, channels {channels}, context {self.context}{inputs}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Architecture:
        """Inverse of `to_json`, for untrusted input: every number is checked. Raises ModelError."""
        try:
            architecture = cls(
                down=tuple(_block(spec) for spec in data["down"]),
                mid_transformers=_count(data["mid_transformers"], 0),
                up=tuple(_block(spec) for spec in data["up"]),
                in_channels=_count(data["in_channels"]),
                out_channels=_count(data["out_channels"]),
                context=_count(data["context"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"this file's architecture cannot be read ({error}); export the plan again.") from error
        down, up = architecture.down, architecture.up
        if not 1 <= len(down) == len(up) <= 8 or sum(s.layers + 1 for s in down) != sum(s.layers for s in up):
            raise ModelError("this file's architecture is no UNet (its skips do not match); export the plan again.")
        return architecture


def _count(value: Any, least: int = 1, most: int = 1_000_000) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"expected a whole number from {least} to {most}, found {value!r}")
    return value


def _block(data: Any) -> BlockSpec:
    layers, transformers = _count(data["layers"], most=16), _count(data["transformers"], 0, most=64)
    return BlockSpec(_count(data["channels"]), layers, transformers)


def _per_block(value: Any, count: int) -> list[int]:
    return [int(value)] * count if isinstance(value, int) else [int(v) for v in value]


def _read_config(config: Mapping[str, Any]) -> Architecture:
    down_types, up_types = list(config["down_block_types"]), list(config["up_block_types"])
    mid_type = config.get("mid_block_type", "UNetMidBlock2DCrossAttn")
    for name in down_types:
        if name not in _DOWN_TYPES:
            raise ModelError(f"block type {name} is not supported; known down blocks: {', '.join(_DOWN_TYPES)}.")
    for name in up_types:
        if name not in _UP_TYPES:
            raise ModelError(f"block type {name} is not supported; known up blocks: {', '.join(_UP_TYPES)}.")
    if mid_type != "UNetMidBlock2DCrossAttn":
        raise ModelError(f"block type {mid_type} is not supported; the mid block must be UNetMidBlock2DCrossAttn.")
    refused = {
        "dual_cross_attention": config.get("dual_cross_attention"),
        "resnet_time_scale_shift": config.get("resnet_time_scale_shift", "default") != "default",
        "resnet_skip_time_act": config.get("resnet_skip_time_act"),
        "gated attention (GLIGEN)": str(config.get("attention_type", "default")).startswith("gated"),
        "addition_embed_type image_hint": config.get("addition_embed_type") == "image_hint",
    }
    for name, present in refused.items():
        if present:
            raise ModelError(f"a UNet with {name} is not supported; give a Stable Diffusion 1.x, 2.x or XL UNet.")
    count = len(down_types)
    channels = list(config["block_out_channels"])
    layers = _per_block(config["layers_per_block"], count)
    transformers = config.get("transformer_layers_per_block", 1)
    depth = _per_block(transformers, count)
    reverse = config.get("reverse_transformer_layers_per_block")
    up_depth = list(reversed(depth)) if reverse is None else [int(v) for v in reverse]
    context = config["cross_attention_dim"]
    return Architecture(
        down=tuple(
            BlockSpec(channels[i], layers[i], depth[i] if _DOWN_TYPES[down_types[i]] else 0) for i in range(count)
        ),
        mid_transformers=depth[-1],
        up=tuple(
            BlockSpec(channels[-1 - i], layers[-1 - i] + 1, up_depth[i] if _UP_TYPES[up_types[i]] else 0)
            for i in range(count)
        ),
        in_channels=int(config["in_channels"]),
        out_channels=int(config["out_channels"]),
        context=int(context) if isinstance(context, int) else int(context[0]),
    )
