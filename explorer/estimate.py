"""A measured number with its interval and its count: what every score and every latency is kept as."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from explorer.errors import ScoreError, brief


@dataclass(frozen=True, slots=True)
class Estimate:
    """`value` with a 95% interval from `low` to `high`, found from `n` samples (pictures, or pairs of timings).

    Raises ScoreError when a number is not finite or the interval does not hold the value, so that no such number
    reaches a study.
    """

    value: float
    low: float
    high: float
    n: int

    def __post_init__(self) -> None:
        if self.low <= self.value <= self.high and self.n >= 1 and self.high - self.low < math.inf:
            return  # the usual case, checked quickly: reading a study makes hundreds of thousands of estimates
        if not all(math.isfinite(number) for number in (self.value, self.low, self.high)):
            raise ScoreError(
                f"The estimate {self.value} ({self.low} to {self.high}) is not finite; check the pictures it came from."
            )
        if not self.low <= self.value <= self.high:
            raise ScoreError(f"The estimate {self.value} lies outside its interval, {self.low} to {self.high}.")
        if self.n < 1:
            raise ScoreError(f"An estimate needs at least one sample, and this one counts {self.n}.")

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Estimate:
        """Read what `to_json` wrote; ScoreError names the document when it is something else."""
        try:
            return cls(float(document["value"]), float(document["low"]), float(document["high"]), int(document["n"]))
        except (KeyError, TypeError, ValueError, OverflowError) as problem:
            raise ScoreError(
                f"{brief(repr(document), 100)} is not an estimate: it needs the numbers value, low, high and n."
            ) from problem
