"""In what hypervolumes are measured: the range of each objective over a study's baselines, the same wherever one is
shown or sought."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from studies.pareto.front import Array


@dataclass(frozen=True)
class Scale:
    """The range of each objective, (k,) each: what makes volumes of different studies comparable."""

    low: Array
    high: Array

    @classmethod
    def over(cls, losses: Array, baselines: npt.NDArray[np.bool_]) -> Scale | None:
        """The range over the baselines among plans of these losses (n, k), or over all plans where there are fewer than
        two; None of no plan. Whatever the search proposes leaves a scale of two baselines as it is: also fewer plain
        steps, of which a very fast and useless one would make every other gain look small."""
        if not len(losses):
            return None
        chosen = losses[baselines] if baselines.sum() > 1 else losses
        return cls(chosen.min(axis=0), chosen.max(axis=0))

    def apply(self, losses: Array) -> Array:
        return np.asarray((losses - self.low) / np.where(self.high > self.low, self.high - self.low, 1.0))

    @property
    def corner(self) -> list[float]:
        """The reference point: a tenth of the range beyond the worst of those that it is the range of."""
        return [1.1] * len(self.low)
