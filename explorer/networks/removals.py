"""What a student may lack: single units, and the removals that have names, BK-SDM's (arXiv 2305.15798) and A-SDM's
(arXiv 2406.00210, Sec. IV-A)."""

from __future__ import annotations

from explorer.errors import ModelError
from explorer.unet.architecture import Architecture
from explorer.unet.mask import REMOVALS, Feature, Form, Mask

NAMED = ("Base", "Small", "Tiny", "M1", "M2", "M3")
"""Names of students. The last ones also tell how many levels are thinned."""


def named_removal(name: str, architecture: Architecture) -> Mask:
    """What a named student lacks, by bypasses.

    Base: the second layer of every down and up block. Small: that and the mid block. Tiny: that and the deepest level.
    M1, M2, M3: the second layer of the down and up blocks of the first one, two or three levels.

    Args:
        name: One of `NAMED`; case does not matter.
        architecture: The teacher's.

    Raises:
        ModelError: For another name, and for a teacher whose blocks have other layers than 2 and 3, which names no
            second layer, or too few levels.
    """
    found = {each.lower(): each for each in NAMED}.get(name.lower())
    if found is None:
        raise ModelError(f"no student is called {name!r:.80}; the named ones are {', '.join(NAMED)}.")
    levels = len(architecture.down)
    shapes = [(down.layers, up.layers) for down, up in zip(architecture.down, reversed(architecture.up), strict=True)]
    thinned = range(int(found[1]) if found.startswith("M") else levels)
    most = levels - 1 if found.startswith("M") else levels
    if len(thinned) > most or any(shapes[level] != (2, 3) for level in thinned):
        raise ModelError(
            f"the student {found} thins {len(thinned)} levels of 2 and 3 layers, and this UNet has "
            f"{', '.join(f'{down} and {up}' for down, up in shapes)}; name the nodes to remove instead."
        )
    layers = {f"dn{level}.l1" for level in thinned} | {f"up{levels - 1 - level}.l1" for level in thinned}
    gone = {node.name for node in architecture.nodes if node.layer in layers}
    if found in ("Small", "Tiny"):
        gone |= {node.name for node in architecture.nodes if node.block == "mid"}
    if found == "Tiny":
        if levels < 2:
            raise ModelError("the student Tiny lacks the deepest level, and this UNet has one; choose another student.")
        deepest = {f"dn{levels - 1}", "up0"}
        gone |= {node.name for node in architecture.nodes if node.block in deepest} | {f"dn{levels - 2}.down"}
    return Mask.of(gone, "bypass")


def removal_of(architecture: Architecture, unit: str, form: Form) -> Mask:
    """The mask that removes one unit. A bypassed ResUnit of an up block takes its `cat` with it, as it would read more
    channels otherwise."""
    inputs = architecture.by_name[unit].inputs if form == "bypass" else ()
    cats = [name for name in inputs if name in architecture.by_name and architecture.by_name[name].kind == "cat"]
    return Mask.of((unit, *cats), form)


def unit_removals(architecture: Architecture) -> dict[Feature, Mask]:
    """Every valid removal of one unit, by the unit and the form: `zero` everywhere, `bypass` where the unit's input and
    output have one shape."""
    found = {(unit, form): removal_of(architecture, unit, form) for unit in architecture.units for form in REMOVALS}
    return {removal: mask for removal, mask in found.items() if mask.misfit(architecture) is None}
