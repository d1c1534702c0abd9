"""Anatomy: what every node of a UNet costs. Parameters and multiply-accumulates; time is measured elsewhere.

MACs are counted by torch's own flop counter on tensors without data, so that SD1.5 takes no memory: convolutions,
linear layers and attention's two products, per sample of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from explorer.errors import ModelError
from explorer.models.empty_unets import empty_inputs, empty_unet
from explorer.unet.architecture import Architecture, Node
from explorer.unet.mask import Mask, liveness

if TYPE_CHECKING:
    from explorer.unet.program import Program


@dataclass(frozen=True)
class NodeCost:
    """What a node costs in one evaluation of one sample.

    Attributes:
        name: Of the node, such as `dn1.l0.res`.
        kind: `conv_in`, `res`, `attn`, `down`, `cat`, `up` or `out`.
        block: The block that it belongs to.
        layer: The layer that it belongs to.
        parameters: Its parameters.
        macs: Its multiply-accumulates.
        identity_macs: MACs that still run when a unit's residual is inherited or removed (its 1x1 shortcut).
        share: Its MACs over those of the UNet.
        shape: (C, H, W) of its output and, for a unit, of its residual branch.
    """

    name: str
    kind: str
    block: str
    layer: str
    parameters: int
    macs: int
    identity_macs: int
    share: float
    shape: tuple[int, int, int]

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON."""
        return {**self.__dict__, "shape": list(self.shape)}


@dataclass(frozen=True)
class Anatomy:
    """What each node of a UNet costs at a latent size.

    Attributes:
        architecture: The UNet's structure.
        latent: (height, width).
        nodes: Every node with its cost, in running order.
        parameters: Parameters of the UNet.
        macs: Multiply-accumulates of one evaluation of one sample.
    """

    architecture: Architecture
    latent: tuple[int, int]
    nodes: tuple[NodeCost, ...]
    parameters: int
    macs: int

    @property
    def units(self) -> tuple[NodeCost, ...]:
        """The units alone, in running order."""
        return tuple(node for node in self.nodes if node.kind in ("res", "attn"))

    def feature_bytes(self, batch: int, itemsize: int) -> dict[str, int]:
        """Bytes of each node's feature.

        Args:
            batch: Samples of the UNet: with guidance, twice the pictures.
            itemsize: Bytes of a number.
        """
        return {node.name: batch * itemsize * math.prod(node.shape) for node in self.nodes}

    def step_macs(self, mask: Mask) -> int:
        """MACs of a step under `mask`, per sample: computed nodes, identity paths and the time embedding."""
        live = liveness(self.architecture, mask)
        costs = {node.name: node for node in self.nodes}
        total = self.macs - sum(node.macs for node in self.nodes)
        total += sum(costs[name].macs for name in live.run)
        return total + sum(costs[name].identity_macs for name in live.identities)

    def share(self, mask: Mask) -> float:
        """MACs of a step under `mask` over those of a full step."""
        return self.step_macs(mask) / self.macs

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON."""
        return {
            "architecture": self.architecture.to_json(),
            "latent": list(self.latent),
            "nodes": [node.to_json() for node in self.nodes],
            "parameters": self.parameters,
            "macs": self.macs,
        }

    @classmethod
    def from_json(cls, data: Any) -> Anatomy:
        """Read what `to_json` wrote, without loading torch.

        Raises:
            ModelError: For anything else.
        """
        try:
            architecture = Architecture.from_json(data["architecture"])
            nodes = tuple(NodeCost(**{**node, "shape": tuple(node["shape"])}) for node in data["nodes"])
            height, width = data["latent"]
            found = cls(architecture, (int(height), int(width)), nodes, int(data["parameters"]), int(data["macs"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"this anatomy cannot be read ({error}); measure it again.") from error
        if [node.name for node in nodes] != [node.name for node in architecture.nodes]:
            raise ModelError("this anatomy has other nodes than its architecture; measure it again.")
        return found


def anatomy(unet: Any, latent: int | tuple[int, int] | None = None) -> Anatomy:
    """Count the parameters and MACs of each node of a UNet. Its weights are not read.

    Args:
        unet: A `UNet2DConditionModel`.
        latent: Height and width of the latent, or one number for both. By default the UNet's own sample size.

    Raises:
        ModelError: When the UNet is not supported, naming what is not.
    """
    from explorer.unet.program import Program

    architecture = Architecture.of(unet)
    size = unet.config.sample_size if latent is None else latent
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise ModelError(f"a latent size must be positive, got {height}x{width}.")
    empty = empty_unet(unet.config)  # adapters and processors of a real one do not enter its anatomy
    program = Program(empty)
    macs, identity, shapes, prologue = _count_macs(empty, program, height, width)
    total = prologue + sum(macs.values())
    nodes = tuple(
        NodeCost(
            node.name,
            node.kind,
            node.block,
            node.layer,
            _parameters(empty, program, node),
            macs[node.name],
            identity.get(node.name, 0),
            macs[node.name] / total,
            shapes[node.name],
        )
        for node in architecture.nodes
    )
    return Anatomy(architecture, (height, width), nodes, sum(p.numel() for p in empty.parameters()), total)


def _parameters(unet: Any, program: Program, node: Node) -> int:
    count = sum(p.numel() for p in program.modules[node.name].parameters())
    if node.kind == "out" and unet.conv_norm_out is not None:
        count += sum(p.numel() for p in unet.conv_norm_out.parameters())
    return count


def _count_macs(
    unet: Any, program: Program, height: int, width: int
) -> tuple[Mapping[str, int], Mapping[str, int], Mapping[str, tuple[int, int, int]], int]:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from explorer.unet.program import Conditions

    sample, context, added = empty_inputs(unet, height, width)
    with torch.no_grad(), torch.device("meta"):
        with FlopCounterMode(display=False) as counter:
            emb = unet.time_embedding(unet.get_time_embed(sample=sample, timestep=torch.zeros(1)))
            aug = unet.get_aug_embed(emb=emb, encoder_hidden_states=context, added_cond_kwargs=added)
        prologue = counter.get_total_flops() // 2
        factor = 2**unet.num_upsamplers
        at = Conditions(
            emb if aug is None else emb + aug, context, (height, width), bool(height % factor or width % factor)
        )
        values = {"sample": sample}
        macs: dict[str, int] = {}
        identity: dict[str, int] = {}
        shapes: dict[str, tuple[int, int, int]] = {}
        for node in program.architecture.nodes:
            inputs = tuple(values[name] for name in node.inputs)
            with FlopCounterMode(display=False) as counter:
                value = program.branch(node, inputs[0], at) if node.is_unit else program.run(node, inputs, at)
            macs[node.name] = counter.get_total_flops() // 2
            if node.is_unit:
                with FlopCounterMode(display=False) as counter:
                    value = program.join(node, value, inputs[0])
                identity[node.name] = counter.get_total_flops() // 2
                macs[node.name] += identity[node.name]
            values[node.name] = value
            _, channels, rows, columns = value.shape
            shapes[node.name] = (channels, rows, columns)
    return macs, identity, shapes, prologue
