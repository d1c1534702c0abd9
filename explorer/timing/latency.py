"""The latency of a candidate against the baseline, measured side by side on a machine that may have other things to do.

Clocks, caches and neighbours drift while a study runs, so a candidate is never compared with a number taken earlier:
candidate and baseline alternate, the order swapped in every other pair (A B, B A, A B ...), and the ratio is taken
within each pair.

Other work on the machine can only make a call longer. A pair counts as stalled when one of its calls took more than
`STALLED` times as long as the quickest call of its own side, and stalled pairs are taken again, within a limit. The
estimate is the median over the quiet pairs, with a 95% interval of Student's t on the logarithms. Where the limit
leaves too few quiet pairs the result is unsteady: its samples are kept, and it is not to be quoted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.devices import clock_for, clock_resolution
from explorer.errors import ScoreError, brief
from explorer.estimate import Estimate

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

WARMUPS = 5
"""Calls of each side before the first timed pair, at least."""
PAIRS = 7
LEAST_PAIRS = 3
STALLED = 1.2
"""A call that takes more than this many times as long as the quickest of its side is stalled. Calls on a quiet machine
differ by a few percent."""
FURTHER = 2
"""At most this many times the pairs that were asked for are taken again."""
SLOWER = 4.0
"""No pair is taken again once the further pairs have taken this many times as long as quiet ones would have."""
LEVEL = 0.95
OF_MEDIAN = 1.25
"""Standard error of a median over that of a mean, of many normal values (the root of pi / 2)."""


@dataclass(frozen=True)
class Latency:
    """What was measured of one candidate.

    Attributes:
        seconds: Seconds a picture of the candidate, with its 95% interval.
        speedup: Median over the quiet pairs of baseline / candidate, with its 95% interval.
        samples: Every pair, (baseline, candidate) in seconds a call, in the order they were taken.
        images: Pictures a call.
        warmups: Calls of each side before the first pair.
        stalled: Numbers of the samples that count as stalled.
        unsteady: Why the result is not to be quoted; None for one that can be.
    """

    seconds: Estimate
    speedup: Estimate
    samples: tuple[tuple[float, float], ...]
    images: int
    warmups: int
    stalled: tuple[int, ...] = ()
    unsteady: str | None = None

    @property
    def rows(self) -> list[list[float]]:
        """The samples as JSON: a quiet pair has two numbers, a stalled one a 1 behind them."""
        return [[*pair, 1.0] if i in self.stalled else list(pair) for i, pair in enumerate(self.samples)]

    def to_json(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds.to_json(),
            "speedup": self.speedup.to_json(),
            "samples": [list(pair) for pair in self.samples],
            "images": self.images,
            "warmups": self.warmups,
            "stalled": list(self.stalled),
            "unsteady": self.unsteady,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Latency:
        """Inverse of `to_json`. Documents of earlier versions have no stalled pairs and are steady.

        Raises:
            ScoreError: For a document that is something else.
        """
        try:
            unsteady = document.get("unsteady")
            return cls(
                Estimate.from_json(document["seconds"]),
                Estimate.from_json(document["speedup"]),
                tuple((float(baseline), float(candidate)) for baseline, candidate in document["samples"]),
                int(document["images"]),
                int(document["warmups"]),
                tuple(int(number) for number in document.get("stalled", ())),
                None if unsteady is None else str(unsteady),
            )
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as problem:
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
    tolerance: float = STALLED,
    before_again: Callable[[], object] | None = None,
) -> Latency:
    """Time `candidate` against `baseline` in alternating pairs.

    Args:
        baseline: Makes `images` pictures on `device`.
        candidate: Makes `images` pictures on `device`.
        device: The device whose clock is read.
        images: Pictures per call.
        warmups: Calls of each side before the first pair.
        pairs: Number of quiet pairs to take. At most twice as many stalled pairs are taken again.
        baseline_warm: Skip the baseline's warm-ups, because it has already run in this process.
        tolerance: A call is stalled when it takes more than this many times as long as the quickest of its side.
        before_again: Called before each pair that is taken again, for example to wait for a quiet machine.

    Returns:
        The latency. It is unsteady when fewer than 3 pairs, or fewer than half of `pairs`, were quiet.

    Raises:
        ScoreError: For less than 1 picture, 5 warm-ups or 3 pairs.
    """
    for what, given, least in (("images", images, 1), ("warmups", warmups, WARMUPS), ("pairs", pairs, LEAST_PAIRS)):
        if given < least:
            raise ScoreError(f"A latency was asked for with {what}={given}; it needs at least {least}.")
    clock = clock_for(device)
    for _ in range(warmups):
        candidate()
    if not baseline_warm:
        for _ in range(warmups):
            baseline()
    samples: list[tuple[float, float]] = []

    def take() -> None:
        if len(samples) % 2 == 0:
            first = clock.time(baseline)
            samples.append((first, clock.time(candidate)))
        else:
            first = clock.time(candidate)
            samples.append((clock.time(baseline), first))

    for _ in range(pairs):
        take()
    while _wants_more(samples, pairs, tolerance):
        if before_again is not None:
            before_again()
        take()
    if not (np.array(samples) > 0).all():
        raise ScoreError("A call was too short for the clock of this device; time more pictures a call.")
    return _estimated(samples, pairs, tolerance, images, warmups, clock_resolution(device))


def stalled_pairs(samples: Sequence[tuple[float, float]], tolerance: float = STALLED) -> tuple[int, ...]:
    """Numbers of the pairs of which a call took more than `tolerance` times the quickest call of its side."""
    seconds = np.array(samples, dtype=np.float64)
    late = (seconds > tolerance * seconds.min(axis=0)).any(axis=1)
    return tuple(int(number) for number in np.flatnonzero(late))


def _wants_more(samples: Sequence[tuple[float, float]], pairs: int, tolerance: float) -> bool:
    """Whether too few pairs are quiet, and the limits of number and time allow a further one."""
    further = len(samples) - pairs
    if len(samples) - len(stalled_pairs(samples, tolerance)) >= pairs or further >= FURTHER * pairs:
        return False
    quiet = pairs * float(np.min(samples, axis=0).sum())
    return sum(map(sum, samples[pairs:])) < SLOWER * quiet


def _estimated(
    samples: Sequence[tuple[float, float]], pairs: int, tolerance: float, images: int, warmups: int, resolution: float
) -> Latency:
    stalled = stalled_pairs(samples, tolerance)
    quiet = [pair for number, pair in enumerate(samples) if number not in stalled]
    unsteady = None
    if len(quiet) < max(LEAST_PAIRS, math.ceil(pairs / 2)):
        unsteady = f"{len(stalled)} of {len(samples)} timed pairs were stalled"
    seconds = np.array(quiet if len(quiet) >= LEAST_PAIRS else samples, dtype=np.float64)
    least = resolution / seconds.min(axis=0)
    return Latency(
        seconds=ratio_estimate(seconds[:, 1] / images, float(least[1])),
        speedup=ratio_estimate(seconds[:, 0] / seconds[:, 1], float(least.sum())),
        samples=tuple(samples),
        images=images,
        warmups=warmups,
        stalled=stalled,
        unsteady=unsteady,
    )


def ratio_estimate(values: Array, least: float = 0.0) -> Estimate:
    """The median of values above zero, with a 95% interval that is honest when they are few.

    The half-width, in logarithms, is that of Student's t for the mean times `OF_MEDIAN`. A bootstrap of three values
    never reaches beyond the largest of them, which holds the truth in three of four cases only.

    Args:
        values: (n,), at least two.
        least: The least half-width as a share of the value: what the clock cannot tell.
    """
    from scipy.special import stdtrit  # Student's t alone; scipy.stats takes half a second to load

    logs = np.log(values)
    n = len(logs)
    reach = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * float(logs.std(ddof=1)) / math.sqrt(n)
    factor = math.exp(max(OF_MEDIAN * reach, least))
    value = float(np.median(values))
    return Estimate(value, value / factor, value * factor, n)
