"""Trials whose values hypothesis draws, so that a failing draw is shrunk to its plainest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st
from optuna.trial import FixedTrial

from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask


class DrawnTrial(FixedTrial):
    """`values` holds what was drawn; `FixedTrial(values)` repeats it, with Optuna's own checks of the ranges."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        super().__init__({})
        self.draw = draw
        self.values: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:  # type: ignore[override]
        return self.values.setdefault(name, self.draw(st.sampled_from(choices)))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return self.values.setdefault(name, low + step * self.draw(st.integers(0, (high - low) // step)))


def valid_masks(architecture: Architecture) -> st.SearchStrategy[Mask]:
    """Any mask over any nodes in any forms under which a step still sees its sample."""
    from explorer.unet.mask import liveness

    forms = {
        node.name: st.sampled_from(
            ["none", "none", "residual", "output"] if node.is_unit else ["none", "none", "output"]
        )
        for node in architecture.nodes
    }
    masks = st.fixed_dictionaries(forms).map(
        lambda chosen: Mask.of({name: form for name, form in chosen.items() if form != "none"})
    )

    # Half of all nodes by output leave no path: those nearest to the output are computed until there is one.
    def opened(mask: Mask) -> Mask:
        entries = list(mask.entries)
        for node in reversed(architecture.nodes):
            if liveness(architecture, Mask(tuple(entries))).depends_on_sample:
                break
            entries = [entry for entry in entries if entry[0] != node.name]
        return Mask(tuple(entries))

    return masks.map(opened)
