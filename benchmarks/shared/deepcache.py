"""What DeepCache does at each UNet evaluation, and the timesteps that it looks a call up in."""

from __future__ import annotations

from typing import Any


def deepcache_choices(scheduler: Any, steps: int, period: int) -> list[int]:
    """What DeepCache does at each UNet evaluation: 0 extracts, 1 inherits. It goes by the place at which a search by
    value finds the timestep in the scheduler's list (`DeepCacheSDHelper.wrap_unet_forward`, `is_skip_step`)."""
    fresh = type(scheduler).from_config(scheduler.config)
    fresh.set_timesteps(steps)
    values = fresh.timesteps.tolist()
    return [int(values.index(value) % period != 0) for value in values]


class HostSchedule:
    """A scheduler's timesteps as numbers on the host, read once after they were set."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._read: Any = None
        self._values: list[float] = []

    @property
    def timesteps(self) -> list[float]:
        if self._scheduler.timesteps is not self._read:
            self._read = self._scheduler.timesteps
            self._values = self._read.tolist()
        return self._values
