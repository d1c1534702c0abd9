"""What a race against DeepCache found: its samples and figures, why it is not fair, its chart. Written as it goes."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.shared.report import resumed, write_result
from explorer.timing.latency import ratio_estimate

NAME = "deepcache-race"
DEEPCACHE = "DeepCache"
ROUNDING = 0.02
"""Share of the largest latent by which half precision on a GPU may move one over a whole loop."""


@dataclass
class RaceSamples:
    """What was measured in each round. A round counts once all contenders had their turn in it.

    Attributes:
        seconds: Of each contender's call.
        reserved: Bytes that torch reserved at most in it, on a GPU.
        states: Clocks, temperature and throttling after the round, on a GPU.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    reserved: dict[str, list[int]] = field(default_factory=dict)
    states: list[dict[str, str]] = field(default_factory=list)

    @property
    def rounds(self) -> int:
        return min(map(len, self.seconds.values()), default=0)


def unfair(differences: dict[str, float], device: Any) -> list[str]:
    """Why a race is not fair, a sentence for each contender whose pictures are not DeepCache's: those of the eager mode
    must be equal to the bit, on a GPU, whose libraries choose kernels, to rounding; those of others to rounding."""
    found = []
    for name, difference in differences.items():
        exact = device.type == "cpu" and name in ("ours", f"{DEEPCACHE}, host timesteps")
        if difference and (exact or not difference < ROUNDING):
            allowed = "they must be equal" if exact else f"up to {ROUNDING} is rounding"
            found.append(
                f"the pictures of {name!r} and DeepCache's differ by {difference:.2g} of the largest latent, and "
                f"{allowed}, so they do not run the same mask; check the versions, or the dtype where they are no "
                "numbers."
            )
    return found


def figures_of(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Median seconds, and median ratios taken within each round, with 95% intervals from two rounds on."""
    rows: dict[str, Any] = {}
    for name, values in seconds.items():
        rows[name] = {"seconds": median(values), "rounds": len(values)}
        for other in ("stock", DEEPCACHE):
            ratios = [a / b for a, b in zip(seconds[other], values, strict=True)]
            rows[name][f"speedup over {other}"] = median(ratios)
            if len(ratios) > 1:
                estimate = ratio_estimate(np.array(ratios))
                rows[name][f"interval over {other}"] = [estimate.low, estimate.high]
    return rows


def chart(figures: dict[str, Any]) -> Any:
    """The speed-ups of every race over the stock pipeline, with their intervals."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for batch in (name for name in figures if name.startswith("batch ")):
        rows = figures[batch]
        values = [row["speedup over stock"] for row in rows.values()]
        ends = [row.get("interval over stock", [value] * 2) for row, value in zip(rows.values(), values, strict=True)]
        above = [high - value for (_, high), value in zip(ends, values, strict=True)]
        below = [value - low for (low, _), value in zip(ends, values, strict=True)]
        bars = {"type": "data", "array": above, "arrayminus": below}
        figure.add_bar(name=batch, x=list(rows), y=values, error_y=bars)
    title = "not fair: the pictures differ" if any(figures.get("unfair", {}).values()) else None
    return figure.update_layout(title=title, yaxis_title="speed-up over the stock pipeline", template="plotly_white")


class RaceResult:
    """The races so far, written whenever something was added: a race that is ended early is kept as far as it came."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.figures: dict[str, Any] = {"differences": {}, "unfair": {}}
        self.samples: dict[str, Any] = {}
        document = resumed(NAME, arguments)
        if document is not None:
            self.figures, self.samples = document["figures"], document["samples"]

    def so_far(self, batch: str, contenders: Collection[str]) -> RaceSamples | None:
        """The rounds of an earlier call, where just these contenders ran in them."""
        found = RaceSamples(**self.samples[batch]) if batch in self.samples else None
        return found if found is not None and set(found.seconds) == set(contenders) else None

    def check(self, batch: str, differences: dict[str, float], device: Any) -> None:
        self.figures["differences"][batch] = differences
        self.figures["unfair"][batch] = unfair(differences, device)
        self.write(say=False)

    def keep(self, batch: str, samples: RaceSamples) -> None:
        self.figures[batch] = figures_of(samples.seconds)
        self.samples[batch] = dict(vars(samples))
        self.write(say=False)

    def write(self, say: bool = True) -> Path:
        return write_result(NAME, self.figures, self.samples, self.arguments, say=say)
