"""Sensitivity: how much each unit's residual branch changes from one evaluation to the next of an un-accelerated run.

A unit that hardly changes at a step gives up little when it inherits there. One run tells it for every unit and step at
once, which is what proposals start from; it is no error of a picture (DeepCache, arXiv 2312.00858, Fig. 2, draws the
same similarity of neighbouring steps).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explorer.errors import ScoreError


@dataclass(frozen=True)
class Sensitivity:
    """values: (units, evaluations), ||F_t - F_(t-1)|| / ||F_t|| of each unit's residual branch F, the mean over the
    batch; no unit. The first evaluation has none before it: NaN. units: in running order. pictures: drawn in the run.
    seconds: what the measurement took.
    """

    units: tuple[str, ...]
    values: NDArray[np.float64]
    pictures: int
    seconds: float

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[0] != len(self.units) or self.values.shape[1] < 1:
            raise ScoreError(
                f"a sensitivity of {len(self.units)} units needs a row for each, and its values have the shape "
                f"{self.values.shape}; measure it again."
            )

    @property
    def evaluations(self) -> int:
        return int(self.values.shape[1])

    def of_units(self) -> dict[str, float]:
        """Each unit's mean change over the run; 0 where a run has one evaluation."""
        changes = np.nan_to_num(self.values[:, 1:])
        means = changes.mean(axis=1) if changes.shape[1] else np.zeros(len(self.units))
        return dict(zip(self.units, means.tolist(), strict=True))

    def to_json(self) -> dict[str, Any]:
        rows = [[None if np.isnan(v) else round(v, 6) for v in row] for row in self.values.tolist()]
        return {"units": list(self.units), "values": rows, "pictures": self.pictures, "seconds": self.seconds}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Sensitivity:
        """Inverse of `to_json`. Raises ScoreError when `data` is something else."""
        try:
            rows = [[np.nan if value is None else float(value) for value in row] for row in data["values"]]
            values = np.array(rows, dtype=np.float64)
            return cls(tuple(map(str, data["units"])), values, int(data["pictures"]), float(data["seconds"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ScoreError(f"this sensitivity cannot be read ({error}); measure it again.") from error


def measure(pipe: Any, run: Callable[[], object], pictures: int) -> Sensitivity:
    """The sensitivity of the units of `pipe` over one un-accelerated run, which `run` makes with it.

    pipe: a diffusers pipeline without a plan, which is as before afterwards; pictures: how many `run` draws. Two
    evaluations' residuals are held at a time, and no value is read from the device before the run is over.

    Raises:
        ScoreError: when `run` evaluates the UNet never, or changes its batch or size on the way.
        PlanError, ModelError: when the pipeline's UNet cannot be driven (see `explorer.inherit`).
    """
    from explorer.calibration.recorder import Recorder

    start = time.perf_counter()
    recorder = Recorder(pipe)
    with recorder:
        run()
    values = recorder.changes()
    return Sensitivity(recorder.units, values, pictures, time.perf_counter() - start)
