"""Where in a run a UNet call stands, read off the memory that its timestep lies in.

A pipeline walks over its scheduler's `timesteps`, so the timestep that it gives the UNet is a view of one element of
them. The view's offset is the number of the evaluation: no value is looked at (PNDM repeats one, and reading one from a
GPU stalls its queue), no pipeline or scheduler is patched, and every pipeline that shares the UNet and the scheduler is
followed, whichever part of the timesteps it runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from explorer.errors import PlanError


@dataclass(frozen=True)
class Place:
    """timesteps: of the run, shape (evaluations,). index: of this call in them; None where the caller copied the
    timestep, which leaves counting."""

    timesteps: Tensor
    index: int | None


class Timesteps:
    """The schedulers that are followed: each given, or that of a pipeline, also when it is exchanged there."""

    def __init__(self) -> None:
        self._owners: list[Any] = []
        self._stale: list[Any] = []

    def follow(self, owner: Any) -> None:
        """Follow a scheduler, or the one that a pipeline has at each call."""
        self._owners.append(owner)
        self._stale.append(getattr(_scheduler(owner), "timesteps", None))

    def locate(self, timestep: Any) -> Place | None:
        """The place of a UNet call; None when no followed scheduler has set timesteps that it could belong to.

        Raises:
            PlanError: when the timestep is one of a schedule that is not followed.
        """
        schedules = [getattr(_scheduler(owner), "timesteps", None) for owner in self._owners]
        for timesteps in schedules:
            if isinstance(timesteps, Tensor) and isinstance(timestep, Tensor) and _shares(timestep, timesteps):
                offset = timestep.storage_offset() - timesteps.storage_offset()
                return Place(timesteps, int(offset) // int(timesteps.stride(0) or 1))
        if schedules and isinstance(timestep, Tensor) and _is_part(timestep):
            raise PlanError(
                "the UNet was called at a timestep of a schedule that the plan does not follow; for another pipeline "
                "of the same UNet call handle.follow(pipe) first; remove the plan for one that swaps them in a run."
            )
        for timesteps, stale in zip(schedules, self._stale, strict=True):
            if isinstance(timesteps, Tensor) and timesteps is not stale:
                return Place(timesteps, None)
        return None


def _scheduler(owner: Any) -> Any:
    return getattr(owner, "scheduler", owner)


def _shares(timestep: Tensor, timesteps: Tensor) -> bool:
    return (
        timestep.device == timesteps.device
        and timestep.untyped_storage().data_ptr() == timesteps.untyped_storage().data_ptr()
        and timesteps.dim() == 1
    )


def _is_part(timestep: Tensor) -> bool:
    """Whether more values lie behind `timestep` than it has: it was taken out of a schedule. An expanded value counts
    once."""
    own = 1
    for size, stride in zip(timestep.shape, timestep.stride(), strict=True):
        own *= size if stride else 1
    return timestep.untyped_storage().nbytes() > own * timestep.element_size()
