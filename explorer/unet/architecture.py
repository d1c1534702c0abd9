"""The structure of a UNet as a straight-line list of named nodes, without weights and without torch.

SD1.x has 58 nodes, 38 of which are units (22 res, 16 attn). The list is what masks, liveness, plans and spaces are
checked against; `explorer.unet.program` binds it to the modules of a real UNet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from explorer.errors import ModelError

NodeKind = Literal["conv_in", "res", "attn", "down", "cat", "up", "out"]
UNIT_KINDS: tuple[NodeKind, ...] = ("res", "attn")

_DOWN_TYPES = {"CrossAttnDownBlock2D": True, "DownBlock2D": False}
_UP_TYPES = {"CrossAttnUpBlock2D": True, "UpBlock2D": False}
_MID_TYPES: dict[str | None, int] = {"UNetMidBlock2DCrossAttn": 2, "UNetMidBlock2D": 1, None: 0}
"""The ResUnits of each kind of mid block. diffusers builds the second one without attention."""


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
    """A down or up block.

    Attributes:
        channels: Of its output.
        layers: How many it has.
        transformers: Transformer blocks of an AttnUnit (0: no attention); one number for each layer where they differ,
            as in SSD-1B.
    """

    channels: int
    layers: int
    transformers: int | tuple[int, ...]

    def depth(self, layer: int) -> int:
        """Transformer blocks of a layer's AttnUnit."""
        return self.transformers if isinstance(self.transformers, int) else self.transformers[layer]


@dataclass(frozen=True)
class Architecture:
    """What makes two UNets the same for a plan: blocks, layers, channels and conditioning, not their weights.

    Attributes:
        down: Down blocks, outermost first.
        mid_transformers: Transformer blocks of the mid block's AttnUnit; 0 without one.
        up: Up blocks, innermost first.
        in_channels: Of the sample.
        out_channels: Of the prediction.
        context: Width of the text embeddings.
        mid_res: ResUnits of the mid block: 2 around the AttnUnit, 1 without it (UNetMidBlock2D), 0 for no mid block.
    """

    down: tuple[BlockSpec, ...]
    mid_transformers: int
    up: tuple[BlockSpec, ...]
    in_channels: int
    out_channels: int
    context: int
    mid_res: int = 2

    @classmethod
    def of(cls, unet: Any) -> Architecture:
        """Read a `UNet2DConditionModel` (or anything with such a `config`).

        Raises:
            ModelError: For a model or a block type that is not supported.
        """
        config = getattr(unet, "config", None)
        if config is None or "down_block_types" not in config:
            raise ModelError(
                f"{type(unet).__name__} is not a UNet2DConditionModel; give a Stable Diffusion 1.x, 2.x or XL UNet."
            )
        return cls.of_config(config)

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Architecture:
        """Read a diffusers UNet configuration.

        Raises:
            ModelError: Naming the first thing that is not supported.
        """
        try:
            return _read_config(config)
        except (KeyError, TypeError, IndexError, ValueError) as error:
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
                if spec.depth(i):
                    value = add(f"{layer}.attn", "attn", value, block=block, layer=layer)
                skips.append(value)
            if b < len(self.down) - 1:
                value = add(f"{block}.down", "down", value, block=block, layer=f"{block}.down")
                skips.append(value)
        for i in range(self.mid_res):
            if i == 1:
                value = add("mid.attn", "attn", value, block="mid", layer="mid")
            value = add(f"mid.res{i}", "res", value, block="mid", layer="mid")
        for b, spec in enumerate(self.up):
            block = f"up{b}"
            for i in range(spec.layers):
                layer = f"{block}.l{i}"
                value = add(f"{layer}.cat", "cat", value, skips.pop(), block=block, layer=layer)
                value = add(f"{layer}.res", "res", value, block=block, layer=layer)
                if spec.depth(i):
                    value = add(f"{layer}.attn", "attn", value, block=block, layer=layer)
            if b < len(self.up) - 1:
                value = add(f"{block}.up", "up", value, block=block, layer=f"{block}.up")
        add("out", "out", value, block="out", layer="out")
        return tuple(nodes)

    @cached_property
    def by_name(self) -> dict[str, Node]:
        """The nodes by their names."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def first_cat(self) -> str:
        """The name of the first node of the up path."""
        return next(node.name for node in self.nodes if node.kind == "cat")

    @cached_property
    def bottom(self) -> str:
        """The node whose output the first up layer reads: the last one of the mid block or, without a mid block, of the
        last down layer, which is a skip as well."""
        return self.by_name[self.first_cat].inputs[0]

    @cached_property
    def skips(self) -> tuple[str, ...]:
        """The nodes whose outputs are skips, in the order of the down path, which is that of ControlNet's residuals."""
        return tuple(node.inputs[1] for node in reversed(self.nodes) if node.kind == "cat")

    @cached_property
    def skip_channels(self) -> tuple[int, ...]:
        """Channels of each of `skips`."""
        widths = {f"dn{b}": spec.channels for b, spec in enumerate(self.down)}
        return tuple(widths.get(self.by_name[name].block, self.down[0].channels) for name in self.skips)

    @cached_property
    def units(self) -> tuple[str, ...]:
        """Names of the units (res and attn) in running order: what can be inherited as a residual."""
        return tuple(node.name for node in self.nodes if node.is_unit)

    @cached_property
    def layers(self) -> dict[str, tuple[str, ...]]:
        """Layer name -> its units. The mid block, where there is one, counts as one layer."""
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
        """JSON of the fields. A mid block with 2 ResUnits is left out, so that earlier signatures stay the same."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        if self.mid_res == 2:
            del data["mid_res"]
        return data

    @classmethod
    def from_json(cls, data: Any) -> Architecture:
        """Read untrusted JSON that `to_json` wrote. Every number is checked.

        Raises:
            ModelError: For anything that is not an architecture.
        """
        try:
            architecture = cls(
                down=tuple(_block(spec) for spec in data["down"]),
                mid_transformers=_count(data["mid_transformers"], 0),
                up=tuple(_block(spec) for spec in data["up"]),
                in_channels=_count(data["in_channels"]),
                out_channels=_count(data["out_channels"]),
                context=_count(data["context"]),
                mid_res=_count(data.get("mid_res", 2), 0, 2),
            )
            if bool(architecture.mid_transformers) != (architecture.mid_res == 2):
                raise ValueError("a mid block has attention between 2 ResUnits, and otherwise none")
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"this file's architecture cannot be read ({error}); export the plan again.") from error
        down, up = architecture.down, architecture.up
        if not 1 <= len(down) == len(up) <= 8 or sum(s.layers + 1 for s in down) != sum(s.layers for s in up):
            raise ModelError("this file's architecture is not a UNet (its skips do not match); export the plan again.")
        return architecture


def _count(value: Any, least: int = 1, most: int = 1_000_000) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"expected a whole number from {least} to {most}, found {value!r}")
    return value


def _block(data: Any) -> BlockSpec:
    layers, transformers = _count(data["layers"], most=16), data["transformers"]
    if not isinstance(transformers, list):
        return BlockSpec(_count(data["channels"]), layers, _count(transformers, 0, most=64))
    depths = [_count(depth, most=64) for depth in transformers]
    if len(depths) != layers:
        raise ValueError(f"expected transformer blocks of {layers} layers, found {len(depths)}")
    return BlockSpec(_count(data["channels"]), layers, _one_if_equal(depths))


def _one_if_equal(depths: Sequence[int]) -> int | tuple[int, ...]:
    return depths[0] if len(set(depths)) == 1 else tuple(depths)


def _per_block(value: Any, count: int) -> list[Any]:
    return [value] * count if isinstance(value, int) else list(value)


def _read_config(config: Mapping[str, Any]) -> Architecture:
    down_types, up_types = list(config["down_block_types"]), list(config["up_block_types"])
    mid_type = config.get("mid_block_type", "UNetMidBlock2DCrossAttn")
    for name in down_types:
        if name not in _DOWN_TYPES:
            raise ModelError(f"block type {name} is not supported; known down blocks: {', '.join(_DOWN_TYPES)}.")
    for name in up_types:
        if name not in _UP_TYPES:
            raise ModelError(f"block type {name} is not supported; known up blocks: {', '.join(_UP_TYPES)}.")
    if mid_type not in _MID_TYPES:
        known = ", ".join(name for name in _MID_TYPES if name)
        raise ModelError(f"block type {mid_type} is not supported; known mid blocks: {known}, or none (null).")
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
    layers = [int(value) for value in _per_block(config["layers_per_block"], count)]
    depths = _per_block(config.get("transformer_layers_per_block", 1), count)
    reverse = config.get("reverse_transformer_layers_per_block")
    up_depths = list(reversed(depths)) if reverse is None else _per_block(reverse, count)
    up_layers = [number + 1 for number in reversed(layers)]
    context = config["cross_attention_dim"]
    mid_res = _MID_TYPES[mid_type]
    return Architecture(
        down=tuple(
            BlockSpec(channels[i], layers[i], _transformers(down_types[i], depths[i], layers[i])) for i in range(count)
        ),
        mid_transformers=_depths(str(mid_type), depths[-1], 1)[0] if mid_res == 2 else 0,
        up=tuple(
            BlockSpec(channels[-1 - i], up_layers[i], _transformers(up_types[i], up_depths[i], up_layers[i]))
            for i in range(count)
        ),
        in_channels=int(config["in_channels"]),
        out_channels=int(config["out_channels"]),
        context=int(context) if isinstance(context, int) else int(context[0]),
        mid_res=mid_res,
    )


def _transformers(kind: str, depth: Any, layers: int) -> int | tuple[int, ...]:
    """Transformer blocks of the layers of a block: of one of type `kind`, and 0 for a type without attention."""
    attends = _DOWN_TYPES.get(kind, _UP_TYPES.get(kind))
    return _one_if_equal(_depths(kind, depth, layers)) if attends else 0


def _depths(kind: str, depth: Any, layers: int) -> list[int]:
    """One number of transformer blocks for each layer: of a longer list diffusers reads the first ones.

    Raises:
        ModelError: for an AttnUnit without transformer blocks, which diffusers builds as a bare projection.
        IndexError: for a list that is too short.
    """
    found = [int(_per_block(depth, layers)[i]) for i in range(layers)]
    if min(found) < 1:
        raise ModelError(f"a {kind} with {min(found)} transformer blocks a layer is not supported; expected 1 or more.")
    return found
