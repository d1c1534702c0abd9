"""The shape of every tensor in a UNet's node list, and what bypassed nodes change about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from explorer.unet.architecture import Architecture, Node


class Shape(NamedTuple):
    """level: how many times the sample was halved."""

    channels: int
    level: int

    def __str__(self) -> str:
        return f"{self.channels} channels at 1/{2**self.level} of the sample's size"


class Misfit(NamedTuple):
    """`node` would read a tensor of the shape `found` where its modules take `wanted`."""

    node: str
    found: Shape
    wanted: Shape


@lru_cache(maxsize=256)
def shapes(architecture: Architecture) -> Mapping[str, Shape]:
    """The shape of each node's output, and of `sample`, where nothing is removed."""
    channels = {f"dn{b}": spec.channels for b, spec in enumerate(architecture.down)}
    channels |= {f"up{b}": spec.channels for b, spec in enumerate(architecture.up)}
    channels |= {"conv_in": architecture.down[0].channels, "mid": architecture.down[-1].channels}
    found = {"sample": Shape(architecture.in_channels, 0)}
    for node in architecture.nodes:
        inputs = [found[name] for name in node.inputs]
        match node.kind:
            case "cat":
                shape = Shape(sum(each.channels for each in inputs), inputs[0].level)
            case "out":
                shape = Shape(architecture.out_channels, 0)
            case "down":
                shape = Shape(inputs[0].channels, inputs[0].level + 1)
            case "up":
                shape = Shape(inputs[0].channels, inputs[0].level - 1)
            case _:
                shape = Shape(channels[node.block], inputs[0].level)
        found[node.name] = shape
    return found


def first_misfit(
    architecture: Architecture, nodes: Iterable[Node], bypassed: frozenset[str], inherited: frozenset[str]
) -> Misfit | None:
    """The first of `nodes` that would read a tensor of another shape than its modules take; None if there is none.

    Args:
        architecture: Of the UNet.
        nodes: Those that a step goes through, in running order.
        bypassed: Names of those that give their first input.
        inherited: Names of those whose output is inherited, which read nothing.
    """
    usual = shapes(architecture)
    given = {"sample": usual["sample"]}
    for node in nodes:
        if node.name in bypassed:
            given[node.name] = given[node.inputs[0]]
            continue
        for name in () if node.name in inherited else node.inputs:
            if given[name] != usual[name]:
                return Misfit(node.name, given[name], usual[name])
        given[node.name] = usual[node.name]
    return None
