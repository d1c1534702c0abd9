"""Chooses which units a student lacks: the least predicted error at a given time.

Errors are taken to add up (`explorer.calibration.removal_errors`; LAPTOP-Diff, ACM MM 2024, reports it), and under
the cost model times do: every node lies on the main path, so no removal changes what another one saves. So the choice
is a 0/1 knapsack with at most one form for each unit, and is solved exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from explorer.errors import ModelError
from explorer.networks.removals import removal_of
from explorer.timing.cost_model import CostModel
from explorer.unet.mask import Feature, Form, Mask

SLACK = 1e-9
"""Of a share of the time: rounding."""


@dataclass(frozen=True)
class Removal:
    """A set of removed units.

    Attributes:
        mask: What is removed.
        share: The predicted time of a UNet evaluation over the teacher's.
        error: The predicted distance of the final latents from the teacher's, over their size; None where the mask
            removes what was not measured, such as a sampler.
    """

    mask: Mask
    share: float
    error: float | None


class RemovalChoice:
    """Which units to remove from a UNet.

    Args:
        cost: Of the UNet, from its profile.
        squares: The error of each removal, see `removal_squares`. One that is not finite (half precision overflows) is
            never chosen.
    """

    def __init__(self, cost: CostModel, squares: Mapping[Feature, float]) -> None:
        self.cost = cost
        self.squares = {removal: square for removal, square in squares.items() if math.isfinite(square)}
        self._full = cost.step_seconds(Mask())
        self._masks = {removal: removal_of(cost.architecture, *removal) for removal in self.squares}
        self._saved = {removal: 1 - self.share(mask) for removal, mask in self._masks.items()}

    def share(self, mask: Mask) -> float:
        """The predicted time of a UNet evaluation under `mask` over the teacher's."""
        return self.cost.step_seconds(mask) / self._full

    def rated(self, mask: Mask) -> Removal:
        """Any removal, such as a named student's, with its prediction."""
        left = dict(mask.entries)
        square = 0.0
        for removal, own in self._masks.items():
            if left.get(removal[0]) == removal[1]:
                square += self.squares[removal]
                left = {name: form for name, form in left.items() if name not in own.forms}
        return Removal(mask, self.share(mask), None if left else math.sqrt(square))

    @cached_property
    def least(self) -> float:
        """The smallest share of the teacher's time that removing units can reach."""
        best: dict[str, float] = {}
        for (unit, _), saved in self._saved.items():
            best[unit] = max(best.get(unit, 0.0), saved)
        return 1 - sum(best.values())

    def within(self, share: float) -> Removal:
        """The removal of least predicted error that takes at most `share` of the teacher's time.

        Raises:
            ModelError: For a share outside of (0, 1], and for one that removing units cannot reach.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp

        if not 0 < share <= 1:
            raise ModelError(f"the share of the teacher's time must be above 0 and at most 1, got {share:g}.")
        if share < self.least - SLACK:
            raise ModelError(
                f"a share of {share:g} cannot be reached: removing every unit leaves {self.least:.4f} of the teacher's "
                f"time; give a share of {math.ceil(self.least * 1000) / 1000:g} or more."
            )
        usable = [removal for removal, saved in self._saved.items() if saved > 0]
        if not usable or share >= 1:
            return self.rated(Mask())
        errors = np.array([self.squares[removal] for removal in usable])
        saved = np.array([self._saved[removal] for removal in usable])
        units = sorted({unit for unit, _ in usable})
        one_form = np.array([[float(unit == own) for own, _ in usable] for unit in units])
        found = milp(
            errors / max(float(np.median(errors)), 1e-300),  # the solver's tolerances are absolute
            integrality=np.ones(len(usable)),
            bounds=Bounds(0, 1),
            constraints=[
                LinearConstraint(one_form, ub=1),
                LinearConstraint(saved[None], lb=min(1 - share, 1 - self.least) - SLACK),
            ],
            options={"mip_rel_gap": 0.0},
        )
        if found.x is None:
            raise ModelError(f"no removal for a share of {share:g} was found ({found.message}); give a larger share.")
        entries: dict[str, Form] = {}
        for removal, taken in zip(usable, found.x, strict=True):
            if taken > 0.5:
                entries |= self._masks[removal].forms
        mask = Mask.of(entries)
        mask.check(self.cost.architecture)
        return self.rated(mask)
