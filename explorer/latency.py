"""The latency of a candidate against the baseline, measured side by side.

Clocks, caches and neighbours drift while a study runs, so a candidate is never compared with a number taken earlier:
candidate and baseline alternate, the order swapped in every other pair (A B, B A, A B ...), and the ratio is taken
within each pair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.devices import clock_for
from explorer.errors import ScoreError, brief
from explorer.estimate import Estimate
from explorer.quality.bootstrap import median_estimate

if TYPE_CHECKING:
    import torch

WARMUPS = 5
PAIRS = 7


@dataclass(frozen=True)
class Latency:
    """`seconds` a picture of the candidate, `speedup` = median over pairs of baseline / candidate, both with 95%
    intervals.

    `samples` keeps every pair, (baseline, candidate) in seconds a call, in the order they were taken.
    """

    seconds: Estimate
    speedup: Estimate
    samples: tuple[tuple[float, float], ...]
    images: int
    warmups: int

    def to_json(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds.to_json(),
            "speedup": self.speedup.to_json(),
            "samples": [list(pair) for pair in self.samples],
            "images": self.images,
            "warmups": self.warmups,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Latency:
        try:
            return cls(
                Estimate.from_json(document["seconds"]),
                Estimate.from_json(document["speedup"]),
                tuple((float(baseline), float(candidate)) for baseline, candidate in document["samples"]),
                int(document["images"]),
                int(document["warmups"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as problem:
            raise ScoreError(
                f"{brief(repr(document), 100)} is not a latency: it needs seconds, speedup, samples, images and "
                "warmups."
            ) from problem


def compare(
    baseline: Callable[[], object],
    candidate: Callable[[], object],
    *,
    device: torch.device,
    images: int,
    warmups: int = WARMUPS,
    pairs: int = PAIRS,
    baseline_warm: bool = False,
) -> Latency:
    """Time `candidate` against `baseline`; a call of either makes `images` pictures on `device`.

    `baseline_warm` skips the baseline's warm-ups when it has run in this process already. Raises ScoreError when a
    number is below what a measurement needs: one picture, 5 warm-ups, 3 pairs.
    """
    for what, given, least in (("images", images, 1), ("warmups", warmups, WARMUPS), ("pairs", pairs, 3)):
        if given < least:
            raise ScoreError(f"A latency was asked for with {what}={given}; it needs at least {least}.")
    clock = clock_for(device)
    for _ in range(warmups):
        candidate()
    if not baseline_warm:
        for _ in range(warmups):
            baseline()
    samples: list[tuple[float, float]] = []
    for number in range(pairs):
        if number % 2 == 0:
            first = clock.time(baseline)
            samples.append((first, clock.time(candidate)))
        else:
            first = clock.time(candidate)
            samples.append((clock.time(baseline), first))
    seconds = np.array(samples, dtype=np.float64)
    if not (seconds > 0).all():
        raise ScoreError("A call was too short for the clock of this device; time more pictures a call.")
    return Latency(
        seconds=median_estimate(seconds[:, 1] / images),
        speedup=median_estimate(seconds[:, 0] / seconds[:, 1]),
        samples=tuple(samples),
        images=images,
        warmups=warmups,
    )
