"""Conditional convolutions of a student (A-SDM's ME-CondConv, arXiv 2406.00210, Sec. IV-B): where they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from explorer.errors import ModelError
from explorer.unet.architecture import Architecture
from explorer.unet.conditional_conv import ROUTED_BY_TIME, ConditionalConv, Routing
from explorer.unet.mask import Mask, liveness
from explorer.unet.shapes import shapes

MOST = 8
"""Experts of a convolution. The paper found that more than two do not help."""


@dataclass(frozen=True)
class Experts:
    """How the 3x3 convolutions of a student's trained ResUnits are mixed.

    Attributes:
        count: Experts of each convolution, 2 to 8.
        routing: What their shares are computed from: `input`, the convolution's own input, sample by sample; `time`,
            the time embedding alone, so that all samples of an evaluation share a kernel.

    Raises:
        ModelError: For another count or routing.
    """

    count: int = 2
    routing: Routing = "input"

    def __post_init__(self) -> None:
        if not isinstance(self.count, int) or isinstance(self.count, bool) or not 2 <= self.count <= MOST:
            raise ModelError(f"a convolution has 2 to {MOST} experts, got {self.count!r:.20}.")
        if self.routing not in get_args(Routing):
            raise ModelError(f"experts are routed by {' or '.join(get_args(Routing))}, got {self.routing!r:.20}.")


def conditional_convs(
    architecture: Architecture, config: Mapping[str, Any], removed: Mask, blocks: Collection[str]
) -> tuple[str, ...]:
    """Paths of the convolutions that are mixed: those of the ResUnits in `blocks` that the student computes, but for
    levels of 1x1, where mixing a kernel costs more than the convolution.

    Args:
        architecture: Of the teacher.
        config: Of the teacher's UNet. Without a sample size no level is left out.
        removed: What the student lacks.
        blocks: The trained ones.

    Raises:
        ModelError: For a sample size that is none.
    """
    run = set(liveness(architecture, removed).run)
    sides = _sides(config.get("sample_size"))
    found = []
    for node in architecture.nodes:
        if node.kind != "res" or node.block not in blocks or node.name not in run:
            continue
        level = shapes(architecture)[node.name].level
        if sides and all(-(-side // 2**level) == 1 for side in sides):
            continue
        found += [f"{_path(node.name)}.{conv}" for conv in ("conv1", "conv2")]
    return tuple(found)


def place_experts(unet: Any, convs: Collection[str], experts: Experts) -> None:
    """Put conditional convolutions in the place of a UNet's convolutions. What they have besides is not initialised.

    Args:
        unet: Is changed. Its tensors are used as they are.
        convs: Paths, see `conditional_convs`.
        experts: How many, and how they are routed.
    """
    width = unet.time_embedding.linear_2.out_features
    for path in convs:
        parent, _, name = path.rpartition(".")
        module = unet.get_submodule(parent)
        setattr(module, name, ConditionalConv(getattr(module, name), experts.count, experts.routing, width))
    if convs and experts.routing == "time":
        setattr(unet, ROUTED_BY_TIME, True)


def _sides(size: Any) -> tuple[int, ...]:
    """Height and width of a configured sample size; empty where there is none. Raises ModelError."""
    sides = [size, size] if isinstance(size, int) else [] if size is None else size
    if not isinstance(sides, list | tuple) or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ModelError(f"the UNet's sample size {size!r:.40} cannot be read; give a number or two.")
    return tuple(sides)


def _path(node: str) -> str:
    """The path of a ResUnit's module: `dn0.l1.res` is `down_blocks.0.resnets.1`, `mid.res1` `mid_block.resnets.1`."""
    block, _, rest = node.partition(".")
    if block == "mid":
        return f"mid_block.resnets.{rest.removeprefix('res')}"
    side = "down" if block.startswith("dn") else "up"
    return f"{side}_blocks.{block[2:]}.resnets.{rest.removeprefix('l').removesuffix('.res')}"
