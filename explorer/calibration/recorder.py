"""A pipeline that computes everything and says how much each unit's residual changed since the evaluation before."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explorer.calibration.probe import Probe, storing
from explorer.errors import ScoreError
from explorer.unet.mask import Feature
from explorer.unet.program import Conditions
from explorer.unet.variant import Features


class Recorder(Probe):
    """Watches the residuals of un-accelerated runs of `pipe`.

    The residuals of the last evaluation are held, and no longer; no value is read from the device during a run.
    """

    def __init__(self, pipe: Any) -> None:
        super().__init__(pipe, self._record)
        self.units = self.program.architecture.units
        self._features: list[Feature] = [(unit, "residual") for unit in self.units]
        self._everything = storing(self.program, tuple(self._features))
        self._before: Features = {}
        self._changes: list[Tensor] = []

    def changes(self) -> NDArray[np.float64]:
        """(units, evaluations) of the recorded run. Raises ScoreError when nothing ran."""
        if not self._changes:
            raise ScoreError("the run never evaluated the UNet, so no sensitivity was measured.")
        return torch.stack(self._changes, dim=1).double().cpu().numpy()

    @torch.no_grad()
    def _record(self, evaluation: int, sample: Tensor, at: Conditions) -> Tensor:
        noise, branches = self._everything(sample, at, {})
        self._changes.append(torch.stack([_change(branches[each], self._before.get(each)) for each in self._features]))
        self._before = branches
        return noise

    def remove(self) -> None:
        super().remove()
        self._before = {}


def _change(now: Tensor, before: Tensor | None) -> Tensor:
    """||now - before|| / ||now||, the mean over the batch, in single precision, as half precision would overflow; NaN
    with nothing before."""
    if before is None:
        return torch.full((), float("nan"), device=now.device)
    if before.shape != now.shape:
        raise ScoreError(f"the run changed its shape from {tuple(before.shape)} to {tuple(now.shape)} on the way.")
    difference = torch.linalg.vector_norm((now - before).flatten(1), dim=1, dtype=torch.float32)
    size = torch.linalg.vector_norm(now.flatten(1), dim=1, dtype=torch.float32)
    return (difference / size.clamp_min(1e-12)).mean()
