"""Which nodes of two UNets are the same ones, where one has fewer blocks or layers than the other.

A pruned UNet counts its layers anew. An up block's last layer reads the skip that the level above left at its end, and
its first one what comes from below, whatever lies between: BK-SDM's `up1.l1` is its teacher's `up1.l2`. A UNet with
fewer levels has its up blocks counted from another bottom: BK-SDM-Tiny's `up0` is its teacher's `up1`.
"""

from __future__ import annotations

from explorer.unet.architecture import Architecture, BlockSpec


def counterparts(ours: Architecture, theirs: Architecture) -> dict[str, str]:
    """Node of `ours` -> the node of `theirs` that does its work.

    Blocks are aligned by their level where the levels that both have are alike in channels and attention, and by name
    otherwise; layers by their ends. A node is left out where it has no counterpart, or where it cannot be known which
    of several it is (a middle layer of a block that has another number of layers there).
    """
    block_of = _blocks(ours, theirs)
    layer_of: dict[str, str] = {"conv_in": "conv_in", "out": "out", "mid": "mid"}
    for ours_specs, theirs_specs, prefix in ((ours.down, theirs.down, "dn"), (ours.up, theirs.up, "up")):
        for b, spec in enumerate(ours_specs):
            other = block_of.get(f"{prefix}{b}")
            if other is None:
                continue
            sampler = "down" if prefix == "dn" else "up"
            layer_of[f"{prefix}{b}.{sampler}"] = f"{other}.{sampler}"
            count = theirs_specs[int(other[2:])].layers
            pairs = {i: i for i in range(spec.layers)} if count == spec.layers else {0: 0}
            if prefix == "up" and count != spec.layers:
                pairs[spec.layers - 1] = count - 1
            layer_of |= {f"{prefix}{b}.l{i}": f"{other}.l{j}" for i, j in pairs.items()}
    found = {}
    for node in ours.nodes:
        layer = layer_of.get(node.layer)
        name = None if layer is None else layer + node.name.removeprefix(node.layer)
        if name in theirs.by_name and theirs.by_name[name].kind == node.kind:
            found[node.name] = name
    return found


def stand_in(ours: Architecture, pairs: dict[str, str], name: str) -> str | None:
    """The node of the other UNet whose output is what `name` gives, where the other is `ours` without some nodes: what
    a removed node gives is what it reads first."""
    while name not in pairs:
        if name == "sample":
            return None
        name = ours.by_name[name].inputs[0]
    return pairs[name]


def _blocks(ours: Architecture, theirs: Architecture) -> dict[str, str]:
    """Block of `ours` -> block of `theirs`."""
    both = min(len(ours.down), len(theirs.down))
    shift = len(theirs.up) - len(ours.up)
    alike = all(
        _alike(ours.down[level], theirs.down[level]) and _alike(ours.up[-1 - level], theirs.up[-1 - level])
        for level in range(both)
    )
    if not alike:
        shift = 0
    found = {f"dn{b}": f"dn{b}" for b in range(both)}
    ups = range(len(theirs.up))
    return found | {f"up{b}": f"up{b + shift}" for b in range(len(ours.up)) if b + shift in ups}


def _alike(ours: BlockSpec, theirs: BlockSpec) -> bool:
    return ours.channels == theirs.channels and bool(ours.transformers) == bool(theirs.transformers)
