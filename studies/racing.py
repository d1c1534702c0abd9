"""Racing: a proposed plan is measured on few prompts first, and gets more only while it may still be on the front.

What decides is paired drift: how far each picture is from the un-accelerated one of the same prompt and seed. The
prompts' own variance cancels, so that few pictures tell plans apart that need thousands by a Frechet distance. A plan
is dropped once some standing plan is at least as fast and drifts less on the same prompts, with a paired 95% bootstrap
interval that leaves zero out. The number of prompts doubles from look to look (as in successive halving, Jamieson and
Talwalkar 2016, arXiv 1502.07943; the stopping rule is that of Hoeffding races, Maron and Moore 1994, with a bootstrap).

With drift as the only objective of quality the race drops what would not have been on the front, but for the 2.5% of
each interval. With others (CLIP score, a Frechet distance) drift stands in for them: see docs/metrics.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa

from explorer.quality.bootstrap import LEVEL, RESAMPLES, resample
from explorer.quality.metrics import METRICS
from studies.config import LATENCY
from studies.store import Store, StudyRecord
from studies.tables import DONE, measurements, plans

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

FIRST = 8
"""Prompts of the first look; fewer say little of a bootstrap's tails."""
PAIRED = tuple(name for name, metric in METRICS.items() if metric.kind == "paired")
DEFAULT = "ssim"
"""What drift is where no paired metric is an objective: 1 - SSIM, as everywhere in the explorer."""
CHUNK = 500  # ids in one query


@dataclass(frozen=True)
class Rival:
    """A standing plan, all losses to be minimised. costs: by objective of latency. drift: (n,) by paired metric, one
    for each of the study's prompts, in their order."""

    words: str
    costs: Mapping[str, float]
    drift: Mapping[str, Array]


@dataclass(frozen=True)
class Beaten:
    """By whom a plan is beaten: on `n` prompts it drifts at least `low` and at most `high` more in `metric`."""

    rival: Rival
    metric: str
    low: float
    high: float
    n: int

    @property
    def words(self) -> str:
        return (
            f"screened out on {self.n} prompts: {self.rival.words} is at least as fast and its {_name(self.metric)} is "
            f"better by {self.low:.3g} to {self.high:.3g} (paired, 95%)"
        )


def _name(metric: str) -> str:
    return metric.upper()


def rungs(count: int, batch: int, first: int = FIRST) -> Iterator[int]:
    """The numbers of prompts at which a plan is looked at: `first` and its doublings, each at the end of a batch, so
    that no picture depends on where a race stopped. `count`, at which all is measured anyway, is not among them."""
    wanted, last = first, 0
    while True:
        look = -(-wanted // batch) * batch
        if look >= count:
            return
        if look > last:
            yield look
            last = look
        wanted *= 2


def beaten_by(rivals: Iterable[Rival], costs: Mapping[str, float], drift: Mapping[str, Array]) -> Beaten | None:
    """The standing plan that takes a candidate off the front: no slower by any of `costs`, and in every metric of
    `drift` ((n,), of the first n prompts) better by an interval that leaves zero out. Of several the clearest one.

    Differences are bootstrapped over prompts, the same resamples for all rivals.
    """
    count = min(len(values) for values in drift.values())
    able = [
        rival for rival in rivals
        if all(rival.costs[name] <= cost for name, cost in costs.items())
        and all(len(rival.drift[metric]) >= count for metric in drift)
        and all(rival.drift[metric][:count].mean() < values.mean() for metric, values in drift.items())
    ]  # fmt: skip
    if not able:
        return None
    weights = _weights(count)
    ends = {}
    for metric, values in drift.items():
        more = values - np.stack([rival.drift[metric][:count] for rival in able])
        ends[metric] = np.quantile(more @ weights.T, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1)
    clear = np.all([low > 0 for low, _ in ends.values()], axis=0)
    if not clear.any():
        return None
    metric, (low, high) = next(iter(ends.items()))
    best = int(np.argmax(np.where(clear, low, -np.inf)))
    return Beaten(able[best], metric, float(low[best]), float(high[best]), count)


def _weights(count: int) -> Array:
    """(RESAMPLES, count): what each prompt counts in each resample's mean."""
    rows = resample(count, RESAMPLES)
    return np.stack([np.bincount(row, minlength=count) for row in rows]) / count


def losses_of(metric: str, values: Sequence[float] | Array) -> Array:
    """Values of a paired metric as losses: 1 - SSIM, minus the decibels of PSNR, LPIPS as it is."""
    found = np.asarray(values, dtype=np.float64)
    return 1 - found if metric == "ssim" else -found if METRICS[metric].direction == "maximize" else found


class Race:
    """What stands in a study, as proposed plans meet it. Read anew at every look: other workers add to it."""

    def __init__(self, store: Store, study: StudyRecord) -> None:
        names = [objective.name for objective in study.settings.objectives]
        self.store, self.study = store, study
        self.speeds = tuple(name for name in names if name in LATENCY)
        self.metrics = tuple(name for name in names if name in PAIRED) or (DEFAULT,)
        self._rivals: dict[int, Rival | None] = {}

    def enters(self, key: str) -> bool:
        """Whether the plan is raced: not one of the baselines, which every chart shows whole."""
        query = sa.select(plans.c.origin).where(plans.c.study_id == self.study.id, plans.c.key == key)
        return [row.origin for row in self.store.read(query)] == ["search"]

    def costs(self, values: Mapping[str, float]) -> dict[str, float]:
        """The objectives of latency among `values`, as losses."""
        return {name: self._loss(name, values[name]) for name in self.speeds}

    def beaten(self, costs: Mapping[str, float], values: Mapping[str, Sequence[float] | Array]) -> Beaten | None:
        """`beaten_by` what stands now. values: of single pictures, by paired metric."""
        drift = {metric: losses_of(metric, values[metric]) for metric in self.metrics}
        return beaten_by(self.rivals(), costs, drift)

    def rivals(self) -> list[Rival]:
        """Every plan of the study that is scored whole."""
        mine = sa.select(plans.c.id, plans.c.words).where(plans.c.study_id == self.study.id, plans.c.state == DONE)
        words = {row.id: row.words for row in self.store.read(mine)}
        new = [number for number in words if number not in self._rivals]
        for start in range(0, len(new), CHUNK):
            self._read(words, new[start : start + CHUNK])
        return [rival for number in words if (rival := self._rivals[number]) is not None]

    def _read(self, words: Mapping[int, str], numbers: list[int]) -> None:
        query = sa.select(
            measurements.c.plan_id, measurements.c.metric, measurements.c.value, measurements.c.samples
        ).where(measurements.c.plan_id.in_(numbers), measurements.c.metric.in_([*self.speeds, *self.metrics]))
        speeds: dict[int, dict[str, float]] = {number: {} for number in numbers}
        drift: dict[int, dict[str, Array]] = {number: {} for number in numbers}
        for row in self.store.read(query):
            if row.metric in self.speeds:
                speeds[row.plan_id][row.metric] = self._loss(row.metric, row.value)
            elif row.samples:
                drift[row.plan_id][row.metric] = losses_of(row.metric, row.samples)
        for number in numbers:
            whole = len(speeds[number]) == len(self.speeds) and len(drift[number]) == len(self.metrics)
            self._rivals[number] = Rival(words[number], speeds[number], drift[number]) if whole else None

    @staticmethod
    def _loss(name: str, value: float) -> float:
        return -value if LATENCY[name] == "maximize" else value
