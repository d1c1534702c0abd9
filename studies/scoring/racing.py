"""Racing: a proposed plan is measured on few prompts first, and gets more only while it may still be on the front.

What decides is paired drift: how far each picture is from the un-accelerated one of the same prompt and seed. The
prompts' own variance cancels, so few pictures separate plans that a Frechet distance needs thousands for. A plan is
dropped when an existing plan is certainly no slower and drifts less on the same prompts, with a paired 95% bootstrap
interval that excludes zero. Certainly: the intervals of both latencies do not overlap, because a slightly faster plan
belongs to the front; or both plans have the same predicted cost, as plans that differ only in their rule, whose
measured latencies would always overlap. The number of prompts doubles from check to check (as in successive halving,
Jamieson and Talwalkar 2016, arXiv 1502.07943; the stopping rule is that of Hoeffding races, Maron and Moore 1994, with
a bootstrap).

With drift as the only objective of quality the race drops what would not have been on the front, but for the 2.5% of
each interval. With others (CLIP score, a Frechet distance) drift is a substitute: see docs/metrics.md.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa

from explorer.bootstrap import LEVEL, RESAMPLES, resample
from explorer.errors import PlanError
from explorer.plans.plan import InheritancePlan
from explorer.quality.registry import METRICS
from studies.metrics import SPEEDS, is_paired
from studies.queue.plan_feed import PlanFeed, pieces
from studies.storage.store import Store, StudyRecord
from studies.storage.tables import DONE, measurements, plans

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from explorer.estimate import Estimate

    Array = NDArray[np.float64]

FIRST = 8
"""Prompts of the first look; fewer say little of a bootstrap's tails."""
DEFAULT = "ssim"
"""What drift is where no paired metric is an objective: 1 - SSIM, as everywhere in the explorer."""
FEW = 5
"""Plans whose predicted cost was measured, before predictions are trusted within the worst of their errors."""


@dataclass(frozen=True)
class Rival:
    """An existing plan, all losses to be minimised. costs: by objective of latency, at the worst end of their
    intervals. drift: (n,) by paired metric, one for each of the study's prompts, in their order. predicted, share:
    predicted and measured time over the un-accelerated run's. seconds: latency; None where it was not measured."""

    words: str
    costs: Mapping[str, float]
    drift: Mapping[str, Array]
    predicted: float | None = None
    share: float | None = None
    seconds: float | None = None


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


def no_look(count: int, batch: int) -> str | None:
    """Why a race of `count` prompts never looks, in one sentence; None where it does."""
    if any(rungs(count, batch)):
        return None
    if count <= FIRST:
        return f"a race first checks after {FIRST} prompts, so with {count} every plan is scored completely"
    return (
        f"a race checks after complete batches, so with --batch {batch} and {count} prompts every plan is scored "
        f"completely; --batch {quarter(count)} would let it look"
    )


def quarter(count: int) -> int:
    """The largest batch that leaves a race of `count` prompts two looks or more, where there are enough of them."""
    return max(FIRST, count // 4)


def beaten_by(
    rivals: Iterable[Rival], costs: Mapping[str, float], drift: Mapping[str, Array], predicted: float | None = None
) -> Beaten | None:
    """The existing plan that takes a candidate off the front: no slower by any of `costs` (at the best end of their
    intervals) or of the same predicted cost, and in every metric of `drift` ((n,), of the first n prompts) better by an
    interval that excludes zero. Of several the clearest one.

    Differences are bootstrapped over prompts, the same resamples for all rivals.
    """
    count = min(len(values) for values in drift.values())
    able = [
        rival for rival in rivals
        if (all(rival.costs[name] <= cost for name, cost in costs.items()) or _same(rival.predicted, predicted))
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


def _same(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and math.isclose(one, other)


def _weights(count: int) -> Array:
    """(RESAMPLES, count): what each prompt counts in each resample's mean."""
    rows = resample(count, RESAMPLES)
    return np.stack([np.bincount(row, minlength=count) for row in rows]) / count


def losses_of(metric: str, values: Sequence[float] | Array) -> Array:
    """Values of a paired metric as losses: 1 - SSIM, minus the decibels of PSNR, LPIPS as it is."""
    found = np.asarray(values, dtype=np.float64)
    return METRICS[metric].losses(found)


@dataclass(frozen=True)
class _Entrant:
    """A plan of the study. rival: None while it is not scored completely."""

    state: str
    rival: Rival | None = None


class Race:
    """The plans of a study that a proposed plan races against, read again at every check. predict:
    a plan's predicted time over the un-accelerated run's; None where nothing predicts it."""

    def __init__(
        self, store: Store, study: StudyRecord, predict: Callable[[InheritancePlan], float | None] = lambda plan: None
    ) -> None:
        names = [objective.name for objective in study.settings.objectives]
        self.store, self.study, self.predict = store, study, predict
        self.speeds = tuple(name for name in names if name in SPEEDS)
        self.metrics = tuple(name for name in names if is_paired(name)) or (DEFAULT,)
        self._feed = PlanFeed(study, self._read)
        self._shares: dict[int, float | None] = {}

    def enters(self, key: str) -> bool:
        """Whether the plan is raced. Baselines are not: charts need all of their scores."""
        query = sa.select(plans.c.origin).where(plans.c.study_id == self.study.id, plans.c.key == key)
        return [row.origin for row in self.store.read(query)] == ["search"]

    def costs(self, values: Mapping[str, float]) -> dict[str, float]:
        """The objectives of latency among `values`, as losses."""
        return {name: self._loss(name, values[name]) for name in self.speeds}

    def at_best(self, estimates: Mapping[str, Estimate]) -> dict[str, float]:
        """The objectives of latency as losses, at the best end of their intervals."""
        return self.costs({name: getattr(estimates[name], SPEEDS[name].better_end) for name in self.speeds})

    def costs_of(self, predicted: float) -> dict[str, float] | None:
        """What a plan that is predicted to take this share of the un-accelerated time could cost at best: as far below
        as the worst of the study's plans was off. None before `FEW` plans say how far that is."""
        ratios, wholes = [], []
        for each in self.rivals():
            if each.predicted and each.share and each.seconds:
                ratios.append(each.share / each.predicted)
                wholes.append(each.seconds / each.share)
        if len(ratios) < FEW:
            return None
        share = predicted / max(max(ratio, 1 / ratio) for ratio in ratios)
        return self.costs({"latency": share * statistics.median(wholes), "speedup": 1 / share})

    def beaten(
        self,
        costs: Mapping[str, float],
        values: Mapping[str, Sequence[float] | Array],
        predicted: float | None = None,
    ) -> Beaten | None:
        """`beaten_by` what exists now. values: of single pictures, by paired metric."""
        drift = {metric: losses_of(metric, values[metric]) for metric in self.metrics}
        return beaten_by(self.rivals(), costs, drift, predicted)

    def rivals(self) -> list[Rival]:
        """Every plan of the study that is scored completely."""
        self._feed.refresh(self.store)
        standing = {id: each.rival for id, each in self._feed.rows.items() if each.rival is not None}
        # Predictions take a while, and during a check no other process can write to SQLite, so they come after it.
        for some in pieces([id for id in standing if id not in self._shares]):
            for row in self.store.read(sa.select(plans.c.id, plans.c.plan).where(plans.c.id.in_(some))):
                self._shares[row.id] = self._predicted(row.plan)
        return [replace(rival, predicted=self._shares.get(id)) for id, rival in standing.items()]

    def _read(self, connection: sa.Connection, where: sa.ColumnElement[bool]) -> dict[int, _Entrant]:
        query = sa.select(plans.c.id, plans.c.state, plans.c.words).where(where).order_by(plans.c.id)
        rows: list[Any] = list(connection.execute(query).all())
        done = [row.id for row in rows if row.state == DONE]
        values: dict[int, dict[str, float]] = {id: {} for id in done}
        costs: dict[int, dict[str, float]] = {id: {} for id in done}
        drift: dict[int, dict[str, Array]] = {id: {} for id in done}
        for score in connection.execute(self._scores(done)) if done else ():
            if score.metric in SPEEDS:
                values[score.plan_id][score.metric] = score.value
                if score.metric in self.speeds:
                    worst = getattr(score, SPEEDS[score.metric].worse_end)
                    costs[score.plan_id][score.metric] = self._loss(score.metric, worst)
            elif score.samples:
                drift[score.plan_id][score.metric] = losses_of(score.metric, score.samples)
        found = {row.id: _Entrant(row.state) for row in rows}
        for row in rows:
            if row.state != DONE or len(costs[row.id]) < len(self.speeds) or len(drift[row.id]) < len(self.metrics):
                continue
            speedup, seconds = values[row.id].get("speedup"), values[row.id].get("latency")
            share = None if speedup is None else 1 / speedup
            rival = Rival(row.words, costs[row.id], drift[row.id], share=share, seconds=seconds)
            found[row.id] = _Entrant(row.state, rival)
        return found

    def _scores(self, ids: Sequence[int]) -> sa.Select[Any]:
        names = ("plan_id", "metric", "value", "low", "high", "samples")
        query = sa.select(*(measurements.c[name] for name in names)).where(measurements.c.plan_id.in_(ids))
        return query.where(measurements.c.metric.in_([*SPEEDS, *self.metrics]))

    def _predicted(self, document: Any) -> float | None:
        try:
            return self.predict(InheritancePlan.from_json(document))
        except PlanError:  # such as one of another kind than the engine's
            return None

    @staticmethod
    def _loss(name: str, value: float) -> float:
        return -value if SPEEDS[name].direction == "maximize" else value
