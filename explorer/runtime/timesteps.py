"""Where in a run a UNet call is.

A pipeline walks over its scheduler's `timesteps`, so the timestep that it gives the UNet is a view of one element. The
offset of the view is the number of the evaluation: no value is read (PNDM repeats one, and reading one from a GPU
stalls its queue), no pipeline or scheduler is patched, and every pipeline that shares the UNet and the scheduler is
followed, whichever part of the timesteps it runs.

A caller that copies the timestep (`t.repeat(n)`, `t.item()`, `torch.tensor([t])`) leaves only its value, which is
looked up in the schedules that are followed. A copy that is on a GPU is read from there at every call.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from explorer.errors import PlanError


class Walk:
    """The timesteps that the calls of one run are views of. They are not kept alive.

    Args:
        walked: Timesteps, shape (n,).
        count: UNet evaluations of the complete schedule.
        owner: Number of the followed scheduler or pipeline that the schedule is of.
        first: Index of `walked[0]` in the complete schedule.
    """

    __slots__ = ("_offset", "_storage", "_stride", "count", "first", "owner")

    def __init__(self, walked: Tensor, count: int, owner: int, first: int = 0) -> None:
        # The weak reference keeps the storage's identity from being used again.
        self._storage = StorageWeakRef(walked.untyped_storage())
        self._offset, self._stride = walked.storage_offset(), walked.stride(0) or 1
        self.count, self.owner, self.first = count, owner, first

    def index(self, timestep: Tensor) -> int | None:
        """Index of the call in the complete schedule; None where `timestep` is no view of these timesteps."""
        if timestep.untyped_storage()._cdata != self._storage.cdata:
            return None
        return int(timestep.storage_offset() - self._offset) // int(self._stride) + self.first

    def is_on(self, other: Walk) -> bool:
        """Whether both are over the same timesteps."""
        return bool(self._storage.cdata == other._storage.cdata and self._offset == other._offset)

    def is_over(self) -> bool:
        """Whether these timesteps were deleted, so that no further call can come from them."""
        return bool(self._storage.expired())


class Schedule:
    """The current timesteps of one followed scheduler. begun: whether a run has started on them."""

    def __init__(self, timesteps: Tensor, owner: int) -> None:
        self.timesteps = timesteps
        self.begun = False
        self.walk = Walk(timesteps, len(timesteps), owner)
        self._values: dict[torch.dtype, list[float]] = {}

    def values(self, dtype: torch.dtype) -> list[float]:
        """The timesteps as they read in the dtype of a copy."""
        if dtype not in self._values:
            self._values[dtype] = self.timesteps.detach().to(dtype).tolist()
        return self._values[dtype]

    def covers(self, timestep: Tensor) -> Walk | None:
        """The walk over a copied schedule (`timesteps.to("cuda")`, `timesteps[5:].float()`) that `timestep` is a view
        of; None where what it is a view of is no part of this schedule."""
        size = timestep.untyped_storage().nbytes() // timestep.element_size()
        values = self.values(timestep.dtype)
        if size > len(values):
            return None
        copied = timestep.detach().as_strided((size,), (1,), 0)
        wanted = copied.tolist()
        for first in range(len(values) - size + 1):
            if values[first : first + size] == wanted:
                return Walk(copied, len(values), self.walk.owner, first)
        return None


class Timesteps:
    """The schedulers that are followed: each given, or that of a pipeline, also when it is exchanged there."""

    def __init__(self) -> None:
        self._owners: list[Any] = []
        self._stale: list[Any] = []
        self._schedules: dict[int, Schedule] = {}

    def follow(self, owner: Any) -> None:
        """Follow a scheduler, or the one that a pipeline has at each call."""
        self._owners.append(owner)
        self._stale.append(getattr(_scheduler(owner), "timesteps", None))

    def scheduler(self, owner: int) -> Any:
        """The scheduler that the followed `owner` has now."""
        return _scheduler(self._owners[owner])

    def find(self, timestep: Tensor) -> tuple[Walk, int] | None:
        """The walk and the index of a call whose timestep is a view of followed timesteps, or of a copy of them; None
        for a timestep that was copied alone.

        Raises:
            PlanError: The timestep is a view of a schedule that is not followed.
        """
        schedules = self._present()
        for schedule in schedules:
            index = schedule.walk.index(timestep)
            if index is not None:
                schedule.begun = True
                return schedule.walk, index
        if not schedules or not _is_part(timestep) or _is_repeated(timestep):
            return None
        for schedule in schedules:
            walk = schedule.covers(timestep) if self._is_set(schedule) else None
            index = walk.index(timestep) if walk is not None else None
            if walk is not None and index is not None:
                schedule.begun = True
                return walk, index
        raise PlanError(
            "the UNet was called at a timestep of a schedule that the plan does not follow; for another pipeline or "
            "scheduler of the same UNet call handle.follow(it) first, set the timesteps after the plan was applied, "
            "and remove the plan for a pipeline that swaps them in a run."
        )

    def since(self, seen: tuple[Any, ...]) -> list[Schedule]:
        """The schedules that were set since the plan was applied and are none of those `seen`."""
        return [s for s in self._present() if self._is_set(s) and not any(s.timesteps is each for each in seen)]

    def seen(self) -> tuple[Any, ...]:
        """The present timesteps, for `since`."""
        return tuple(schedule.timesteps for schedule in self._present())

    def of(self, walk: Walk) -> Schedule | None:
        """The schedule that `walk` is on; None when other timesteps were set there since, or the walk is on a copy."""
        return next((schedule for schedule in self._present() if schedule.walk.is_on(walk)), None)

    def _present(self) -> list[Schedule]:
        found = []
        for number, owner in enumerate(self._owners):
            timesteps = getattr(_scheduler(owner), "timesteps", None)
            if not isinstance(timesteps, Tensor) or timesteps.dim() != 1 or not len(timesteps):
                continue
            schedule = self._schedules.get(number)
            if schedule is None or schedule.timesteps is not timesteps:
                schedule = self._schedules[number] = Schedule(timesteps, number)
            found.append(schedule)
        return found

    def _is_set(self, schedule: Schedule) -> bool:
        """Whether these timesteps were set after the plan was applied."""
        return schedule.timesteps is not self._stale[schedule.walk.owner]


def value_of(timestep: Any) -> tuple[float, torch.dtype]:
    """The value of a copied timestep and the dtype that it was copied to. A batch of them is read at its first."""
    if not isinstance(timestep, Tensor):
        return float(timestep), torch.int64 if isinstance(timestep, Integral) else torch.float64
    return timestep.detach().reshape(-1)[0].item(), timestep.dtype


def next_index(values: list[float], value: float, expected: int) -> int:
    """Index of a copied timestep in a schedule that has it: the one expected, else the next later one, else the one
    just before, else the first (where a run begins)."""
    later = next((i for i in range(expected, len(values)) if values[i] == value), None)
    if later is not None:
        return later
    return expected - 1 if expected and values[expected - 1] == value else values.index(value)


def _scheduler(owner: Any) -> Any:
    return getattr(owner, "scheduler", owner)


def _is_part(timestep: Tensor) -> bool:
    """Whether more values lie behind `timestep` than it has: it was taken out of a schedule. An expanded value counts
    once."""
    own = 1
    for size, stride in zip(timestep.shape, timestep.stride(), strict=True):
        own *= size if stride else 1
    return timestep.untyped_storage().nbytes() > own * timestep.element_size()


def _is_repeated(timestep: Tensor) -> bool:
    """Whether all that lies behind `timestep` is one value: a part of a copy (`t.repeat(2)[:1]`), not of a schedule."""
    size = timestep.untyped_storage().nbytes() // timestep.element_size()
    behind = timestep.detach().as_strided((size,), (1,), 0)
    return bool((behind == behind[0]).all())
