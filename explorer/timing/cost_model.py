"""The cost model: the time of any step and of a plan's complete loop, from measured times of nodes and of a few steps.

A step's time is a sum: what every evaluation pays (conditions, the runtime), each node that runs, the identity path of
each unit that inherits its residual or lost its branch, and, for a rule that reads several features, their combination.
Times of nodes (`explorer.timing.step_times.time_nodes`) show how the parts compare, but miss what they cost together,
and identity paths run from warm caches in a complete step. So they are corrected by measured steps: first one factor
for each kind of part, then each part by a ridge regression around that, its weight chosen by leave-one-out. On the
embedded model on one CPU core (processor time, 37 designed steps) the median error over the 27 named strategies, which
were not fitted to, was 3.2% with node times, 1.5% with factors, 1.2 to 1.4% with both; the worst 23%, 10% and 8%.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.errors import ScoreError
from explorer.plans.cast import TEACHER
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask, liveness, without

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from explorer.plans.plan import InheritancePlan

    Vector = NDArray[np.float64]

FIXED, READ = "evaluation", "read"
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
EXTRACT_WEIGHT = 5.0
"""The weight of the extract step against a designed step: every prediction is relative to it."""
READ_SHARE = 0.05
"""What reading one inherited feature is first taken to cost, of an evaluation's fixed part."""


@dataclass(frozen=True)
class CostModel:
    """Seconds of every part of a step at one workload, and of a run around its steps.

    nodes: a node in full; identities: a unit's identity path when its residual is inherited or removed; fixed: of every
    evaluation; read: of every inherited feature. term, term_byte: of every feature that a rule with more than one term
    combines, a term, and of its bytes. evaluation, run: of the pipeline around the UNet, for every evaluation
    (scheduler, guidance) and once a run.
    """

    architecture: Architecture
    nodes: Mapping[str, float]
    identities: Mapping[str, float]
    fixed: float
    read: float
    term: float = 0.0
    term_byte: float = 0.0
    evaluation: float = 0.0
    run: float = 0.0
    feature_bytes: Mapping[str, int] | None = None

    def node_seconds(self, mask: Mask) -> float:
        """The sum of the nodes that a step under `mask` runs, with identity paths: what it computes."""
        return nodes_of(self.architecture, mask, self.nodes, self.identities)

    def step_seconds(self, mask: Mask, terms: int = 1) -> float:
        """One evaluation of the UNet under `mask` (the empty mask extracts), its rule reading `terms` features."""
        reads = liveness(self.architecture, mask).reads
        seconds = self.fixed + self.read * len(reads) + self.node_seconds(mask)
        if terms > 1 and reads:
            held = sum(self.feature_bytes[name] for name, _ in reads) if self.feature_bytes else 0
            seconds += terms * (self.term * len(reads) + self.term_byte * held)
        return seconds

    def loop_seconds(
        self, plan: InheritancePlan, evaluations: int, *, free_inheriting: bool = False,
        students: Mapping[str, Mask] | None = None,
    ) -> float:  # fmt: skip
        """The denoising loop of `plan` in a run of `evaluations`: what the objective `latency` measures, a call.

        Args:
            plan: The plan.
            evaluations: UNet evaluations of the run.
            free_inheriting: Count nothing for the UNet in the steps that inherit, which no plan can be faster than.
            students: What each student of the plan's cast lacks, by its name: its step is the teacher's without these
                nodes.

        Raises:
            PlanError: for a plan that the run does not fit, or that cannot be run.
        """
        from explorer.plans.plan import resolve_run

        lacks = {TEACHER: Mask(), **(students or {})}
        plan.check_runnable(lacks)
        run = resolve_run(plan, evaluations)
        seconds, extracts, before = self.run, 0, None
        for choice, network in zip(run.choices, run.networks, strict=True):
            extracts = (extracts if network == before else 0) + (choice == 0)
            terms, before = min(plan.rule.history, extracts), network
            seconds += self.evaluation
            if choice == 0 or not free_inheriting:
                seconds += self.step_seconds(without(plan.mask(choice), lacks[network]), terms)
        return seconds

    def to_json(self) -> dict[str, Any]:
        return {
            "nodes": dict(self.nodes),
            "identities": dict(self.identities),
            "fixed": self.fixed,
            "read": self.read,
            "term": self.term,
            "term_byte": self.term_byte,
            "evaluation": self.evaluation,
            "run": self.run,
        }


def nodes_of(
    architecture: Architecture, mask: Mask, nodes: Mapping[str, float], identities: Mapping[str, float]
) -> float:
    """The sum of the times of the nodes that a step under `mask` runs, and of the identity paths of its units."""
    live = liveness(architecture, mask)
    seconds = sum(nodes[name] for name in live.run)
    return seconds + sum(identities[name] for name in live.identities)


@dataclass(frozen=True)
class NodeTimes:
    """First guesses in seconds, from nodes timed in passing: see `CostModel`."""

    nodes: Mapping[str, float]
    identities: Mapping[str, float]
    fixed: float


def fit_steps(
    architecture: Architecture, first: NodeTimes, extract: float, masks: Sequence[Mask], seconds: Sequence[float]
) -> CostModel:
    """Correct node times by the measured `seconds` of steps under `masks` and of an extract step.

    Raises:
        ScoreError: when a time is not above zero.
    """
    times = np.asarray([extract, *seconds], dtype=np.float64)
    if not (times > 0).all() or not np.isfinite(times).all():
        raise ScoreError("A step was too short for the clock of this device; measure with a larger --batch.")
    parts = _Parts(architecture)
    rows = np.array([parts.row(mask) for mask in (Mask(), *masks)])
    guess = parts.guess(first)
    guess *= extract / (rows[0] @ guess)
    ridge = _best_ridge(rows, times, guess, parts.kinds)
    return parts.model(_fit(rows, times, guess, parts.kinds, ridge))


def fit_rule(
    model: CostModel, masks: Sequence[Mask], extra: Sequence[float], terms: int, feature_bytes: Mapping[str, int]
) -> tuple[float, float]:
    """Seconds a term and feature, and a term and byte, from what steps took more than with one term (`extra`)."""
    from scipy.optimize import nnls

    reads = [liveness(model.architecture, mask).reads for mask in masks]
    held = [sum(feature_bytes[name] for name, _ in each) for each in reads]
    rows = np.array([[terms * len(each), terms * size / 1e6] for each, size in zip(reads, held, strict=True)])
    term, term_megabyte = nnls(rows, np.maximum(extra, 0.0))[0]
    return float(term), float(term_megabyte) / 1e6


def fit_loop(unet_seconds: Sequence[float], evaluations: Sequence[int], loops: Sequence[float]) -> tuple[float, float]:
    """Seconds an evaluation and a run that loops take more than their UNet evaluations."""
    from scipy.optimize import nnls

    rows = np.array([[count, 1.0] for count in evaluations])
    rest = np.maximum(np.asarray(loops) - np.asarray(unet_seconds), 0.0)
    evaluation, run = nnls(rows / np.asarray(loops)[:, None], rest / np.asarray(loops))[0]
    return float(evaluation), float(run)


class _Parts:
    """The parts of a step in a fixed order, as the columns of a regression."""

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        nodes, units = [node.name for node in architecture.nodes], list(architecture.units)
        self.names = [(FIXED, FIXED), *(("node", n) for n in nodes), *(("identity", u) for u in units), (READ, READ)]
        self.column = {name: i for i, name in enumerate(self.names)}
        self.kinds = np.array([self._kind(*name) for name in self.names])

    def _kind(self, what: str, name: str) -> str:
        if what in (FIXED, READ):
            return FIXED
        node = self.architecture.by_name[name]
        return f"{what} {node.kind if node.is_unit else 'other'}"

    def row(self, mask: Mask) -> Vector:
        live = liveness(self.architecture, mask)
        row = np.zeros(len(self.names))
        row[self.column[FIXED, FIXED]] = 1
        row[self.column[READ, READ]] = len(live.reads)
        for name in live.run:
            row[self.column["node", name]] = 1
        for name in live.identities:
            row[self.column["identity", name]] = 1
        return row

    def guess(self, first: NodeTimes) -> Vector:
        known: dict[tuple[str, str], float] = {(FIXED, FIXED): first.fixed, (READ, READ): READ_SHARE * first.fixed}
        known |= {("node", name): seconds for name, seconds in first.nodes.items()}
        known |= {("identity", name): seconds for name, seconds in first.identities.items()}
        return np.array([known[name] for name in self.names])

    def model(self, seconds: Vector) -> CostModel:
        values = {name: float(value) for name, value in zip(self.names, seconds, strict=True)}
        return CostModel(
            self.architecture,
            {name: value for (what, name), value in values.items() if what == "node"},
            {name: value for (what, name), value in values.items() if what == "identity"},
            values[FIXED, FIXED],
            values[READ, READ],
        )


def _solve(rows: Vector, times: Vector, guess: Vector, ridge: float) -> Vector:
    """Factors of `guess`, none below zero: least squares of the relative errors, and ridge x their distances to 1."""
    from scipy.optimize import nnls

    weights = np.ones(len(times))
    weights[0] = EXTRACT_WEIGHT
    pulled = np.sqrt(ridge) * np.eye(len(guess))
    left = np.vstack([rows * guess / times[:, None] * weights[:, None], pulled])
    right = np.concatenate([weights, np.sqrt(ridge) * np.ones(len(guess))])
    factors: Vector = nnls(left, right)[0]
    return factors


def _fit(rows: Vector, times: Vector, guess: Vector, kinds: NDArray[np.str_], ridge: float | None) -> Vector:
    """Seconds of the parts: one factor for each kind, then (with a ridge) each part around that."""
    groups = sorted(set(kinds))
    sums = np.array([[(row * guess)[kinds == kind].sum() for kind in groups] for row in rows])
    factors = dict(zip(groups, _solve(sums, times, np.ones(len(groups)), 1e-3), strict=True))
    scaled = guess * np.array([max(factors[kind], 1e-3) for kind in kinds])
    return scaled if ridge is None else scaled * _solve(rows, times, scaled, ridge)


def _best_ridge(rows: Vector, times: Vector, guess: Vector, kinds: NDArray[np.str_]) -> float | None:
    """The ridge whose predictions of left-out steps err least in the mean; None: factors of kinds alone.

    With few steps each is left out alone, with more they go in ten parts.
    """
    steps = np.arange(1, len(times))
    if len(steps) < 4:
        return None
    parts = np.array_split(np.random.default_rng(0).permutation(steps), min(len(steps), 10))

    def error(ridge: float | None) -> float:
        errors: list[float] = []
        for part in parts:
            kept = np.setdiff1d(np.arange(len(times)), part)
            found = _fit(rows[kept], times[kept], guess, kinds, ridge)
            errors += list(np.abs(rows[part] @ found / times[part] - 1))
        return float(np.mean(errors))

    return min((None, *RIDGES), key=error)
