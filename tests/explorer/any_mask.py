"""Masks of all four forms, as hypothesis draws them, and those that remove layers."""

from __future__ import annotations

from hypothesis import strategies as st

from explorer.plans.plan_text import mask_from_text
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Form, Mask, liveness

REGIONS = ("dn2.down-- dn3-- mid-- up0-- up0.up--", "dn1.down-- dn2-- mid-- up0-- up0.up--")
"""A sampler with all that lies inside it, for UNets of four levels and of three."""


def is_valid(architecture: Architecture, mask: Mask) -> bool:
    from explorer.errors import PlanError

    try:
        mask.check(architecture)
    except PlanError:
        return False
    return True


def removed(architecture: Architecture, *parts: str, ending: str = "--") -> Mask:
    """The mask that removes these layers and blocks."""
    return mask_from_text(architecture, " ".join(part + ending for part in parts))


def bypasses(architecture: Architecture) -> list[Mask]:
    """What may be bypassed alone: layers, and regions with their samplers."""
    texts = [*(f"{layer}--" for layer in architecture.layers), *REGIONS]
    return [mask for text in texts if is_valid(architecture, mask := mask_from_text(architecture, text))]


def any_masks(architecture: Architecture) -> st.SearchStrategy[Mask]:
    """Any nodes in any of the four forms, bypasses of layers and regions among them, under which a step still sees its
    sample."""
    forms = st.fixed_dictionaries(
        {
            node.name: st.sampled_from(
                ["none", "none", "residual", "output", "zero"] if node.is_unit else ["none", "none", "none", "output"]
            )
            for node in architecture.nodes
        }
    )

    def joined(drawn: tuple[dict[str, str], list[Mask]]) -> Mask:
        chosen: dict[str, Form] = {name: form for name, form in drawn[0].items() if form != "none"}  # type: ignore[misc]
        for mask in drawn[1]:
            chosen |= mask.forms
        for node in reversed(architecture.nodes):
            if liveness(architecture, Mask.of(chosen)).depends_on_sample:
                break
            if chosen.get(node.name) == "output":
                del chosen[node.name]
        return Mask.of(chosen)

    parts = st.lists(st.sampled_from(bypasses(architecture)), max_size=3)
    return st.tuples(forms, parts).map(joined)
