"""Times a candidate beside the un-accelerated pipeline, alone on its device, and says when that cannot be trusted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from explorer.timing.latency import PAIRS, Latency, compare
from explorer.timing.speed_limit import MARGIN
from studies.device_lock import on_device
from studies.queue.quiet_machine import Quiet, stall_ratio

if TYPE_CHECKING:
    import torch

    from explorer.devices import DeviceInfo


@dataclass
class _History:
    """What a meter's measurements so far say of the next one.

    Attributes:
        warm: The baseline has run.
        suspicious: A stall is to be expected: at first, and after a measurement that stalled.
    """

    warm: bool = False
    suspicious: bool = True


@dataclass(frozen=True, eq=False)
class LatencyMeter:
    """Measures latencies of one workload on one device, in this process.

    Attributes:
        device: Whose clock is read.
        info: Its facts, by which it is locked.
        quiet: Waits for a quiet machine.
        images: Pictures a call.
        pairs: Quiet pairs of a measurement.
        tolerance: How many times as long as its quickest a timed call may take before it counts as stalled.
    """

    device: torch.device
    info: DeviceInfo
    quiet: Quiet
    images: int = 1
    pairs: int = PAIRS
    tolerance: float = field(default_factory=stall_ratio)
    _history: _History = field(default_factory=_History, repr=False)

    def with_quiet(self, quiet: Quiet) -> LatencyMeter:
        """The same, which waits otherwise. The two share what their measurements say of the next one."""
        return replace(self, quiet=quiet)

    def measure(self, baseline: Callable[[], Any], candidate: Callable[[], Any], limit: float | None = None) -> Latency:
        """The latency of `candidate` beside `baseline`, which is the same at each call. The device is held for this
        process alone.

        Args:
            baseline: The un-accelerated loop.
            candidate: The other one.
            limit: The largest speed-up that can be true (`explorer.timing.speed_limit`); a result beyond it is
            unsteady.
        """
        if self._history.suspicious:
            self.quiet.wait()
        with on_device(self.info):
            latency = compare(
                baseline,
                candidate,
                device=self.device,
                images=self.images,
                pairs=self.pairs,
                baseline_warm=self._history.warm,
                tolerance=self.tolerance,
                before_again=self.quiet.wait,
            )
            self._history.warm = True
        if latency.stalled:
            self.quiet.stalled(f"{len(latency.stalled)} of {len(latency.samples)} timed pairs stalled")
        latency = latency if limit is None else within(latency, limit)
        self._history.suspicious = bool(latency.stalled) or latency.unsteady is not None
        return latency


def within(latency: Latency, limit: float) -> Latency:
    """The latency, unsteady where its speed-up is beyond what can be true."""
    if latency.speedup.value <= limit or latency.unsteady is not None:
        return latency
    return replace(
        latency,
        unsteady=f"{latency.speedup.value:.2f}x was measured, and even inherit steps at no cost would give at most "
        f"{limit / (1 + MARGIN):.2f}x",
    )
