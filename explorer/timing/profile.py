"""A profile: what the nodes, steps and loops of one model take at one workload on one device, with every sample."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from explorer.devices import DeviceInfo
from explorer.errors import ScoreError
from explorer.models.workload import Workload
from explorer.plans.plan import InheritancePlan
from explorer.plans.rules import Rule
from explorer.runtime.cache_size import peak_cache_bytes
from explorer.timing.cost_model import CostModel, NodeTimes, fit_loop, fit_rule, fit_steps, nodes_of
from explorer.timing.step_times import NodeLaps, StepSamples
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask

if TYPE_CHECKING:
    from explorer.estimate import Estimate

SCHEMA = 1
FITTED_LOOPS = 3
"""How many of a profile's loops the cost model is fitted to; the others tell its error."""


@dataclass(frozen=True)
class Effort:
    """How much is measured: rounds, warm-up rounds, evaluations a sample, and UNet steps of a timed loop."""

    rounds: int
    warmups: int
    calls: int
    loop_steps: int


@dataclass(frozen=True)
class TimedPrediction:
    """A prediction beside its measurement, in seconds. relative: the measurement over that of an extract step, or of
    the un-accelerated loop."""

    name: str
    measured: float
    predicted: float
    relative: float

    @property
    def error(self) -> float:
        """Signed, as a share of the measurement."""
        return self.predicted / self.measured - 1

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "measured": self.measured,
            "predicted": self.predicted,
            "error": self.error,
            "relative": self.relative,
        }


@dataclass(frozen=True)
class Errors:
    """The distances of predictions from their measurements, as shares: the median and the worst of `count`."""

    median: float
    worst: float
    count: int

    @classmethod
    def of(cls, timed: Iterable[TimedPrediction]) -> Errors:
        distances = [abs(each.error) for each in timed]
        return cls(statistics.median(distances), max(distances), len(distances)) if distances else cls(0.0, 0.0, 0)


@dataclass
class Profile:
    """Samples, and what follows from them. Made by `explorer.timing.profiling`; times in seconds.

    model, fingerprint: the model's name and its weights'. tested: strategies, that the error is told of; designed:
    masks that the cost model is fitted to; ruled: those of `tested` that are timed with `rule` too. loops: plans whose
    whole loop is timed: the un-accelerated one, two that inherit by the mask of `inside_loops` throughout, to which
    the cost around the UNet is fitted, then those that it is tested on. Samples of `ruled` and `loops` are in the
    order of those. feature_bytes: of each node, for the workload's batch. held_bytes: the most bytes of features that
    an extract step and an inherit step of each tested strategy were seen to hold, eager; loop_bytes: that each loop was
    (its static buffers, where steps are captured). Profiles of older versions have neither.
    """

    model: str
    fingerprint: str
    workload: Workload
    device: DeviceInfo
    architecture: Architecture
    effort: Effort
    tested: dict[str, Mask]
    designed: list[Mask]
    ruled: tuple[str, ...]
    rule: Rule
    inside_loops: str
    loops: list[InheritancePlan]
    evaluations: list[int]
    feature_bytes: dict[str, int]
    nodes: NodeLaps = field(default_factory=NodeLaps)
    step_samples: StepSamples = field(default_factory=StepSamples)
    rule_samples: StepSamples = field(default_factory=StepSamples)
    loop_samples: StepSamples = field(default_factory=StepSamples)
    held_bytes: dict[str, int] = field(default_factory=dict)
    loop_bytes: list[int] = field(default_factory=list)

    @property
    def masks(self) -> list[Mask]:
        """What `step_samples` are of: the tested masks, then the designed ones."""
        return [*self.tested.values(), *self.designed]

    @property
    def complete(self) -> bool:
        return all(
            samples.rounds >= self.effort.rounds
            for samples in (self.step_samples, self.rule_samples, self.loop_samples)
        )

    @cached_property
    def cost_model(self) -> CostModel:
        """Fitted to the designed masks, the rule's and the un-accelerated loops. Raises ScoreError while samples are
        missing."""
        if not self.complete:
            raise ScoreError("This profile is not complete; run `explorer profile` again, which resumes it.")
        first = NodeTimes(self.sampled_nodes, self.sampled_identities, self.fixed_seconds)
        steps = self.step_samples
        times = [steps.seconds(k, self.extract_seconds) for k in range(len(self.masks))]
        known = len(self.tested)
        model = fit_steps(self.architecture, first, self.extract_seconds, self.designed, times[known:])
        extra = [self._rule_extra(k, times) for k in range(len(self.ruled))]
        masks = [self.tested[name] for name in self.ruled]
        term, term_byte = fit_rule(model, masks, extra, self.rule.history, self.feature_bytes)
        model = _with(model, term=term, term_byte=term_byte, feature_bytes=self.feature_bytes)
        loops = [self.loop_samples.seconds(k, self.extract_seconds) for k in range(FITTED_LOOPS)]
        inside = [self._unet_seconds(k, times) for k in range(FITTED_LOOPS)]
        evaluation, run = fit_loop(inside, self.evaluations[:FITTED_LOOPS], loops)
        return _with(model, evaluation=evaluation, run=run)

    def _unet_seconds(self, k: int, times: list[float]) -> float:
        """The measured steps of a fitted loop: it extracts, or inherits by the mask of `inside_loops`."""
        choices = self.loops[k].resolve(self.evaluations[k])
        inherit = times[list(self.tested).index(self.inside_loops)]
        return sum(inherit if choice else self.extract_seconds for choice in choices)

    def _rule_extra(self, k: int, times: list[float]) -> float:
        """Seconds that a step takes more with the rule than by copying, at the speed of the copying steps."""
        ruled = self.rule_samples.seconds(k, self.extract_seconds)
        return ruled - times[list(self.tested).index(self.ruled[k])]

    @property
    def fixed_seconds(self) -> float:
        return statistics.median(self.nodes.conditions)

    @property
    def extract_seconds(self) -> float:
        """The median over the time that steps were timed; what was timed at other times is brought to its speed."""
        return self.step_samples.extract_seconds

    @cached_property
    def strategies(self) -> list[TimedPrediction]:
        """An inherit step of each named strategy, none of which the cost model was fitted to."""
        steps = self.step_samples
        return [
            TimedPrediction(
                name, steps.seconds(k, self.extract_seconds), self.cost_model.step_seconds(mask), steps.relative(k)
            )
            for k, (name, mask) in enumerate(self.tested.items())
        ]

    @cached_property
    def timed_loops(self) -> list[TimedPrediction]:
        """The whole loop of a few plans that the cost model was not fitted to. relative: to the un-accelerated one."""
        plain = self.loop_samples.seconds(0, self.extract_seconds)
        found = []
        for k, (plan, count) in list(enumerate(zip(self.loops, self.evaluations, strict=True)))[FITTED_LOOPS:]:
            seconds = self.loop_samples.seconds(k, self.extract_seconds)
            predicted = self.cost_model.loop_seconds(plan, count)
            found.append(TimedPrediction(plan.describe(), seconds, predicted, seconds / plain))
        return found

    @property
    def step_errors(self) -> Errors:
        """Over the inherit steps of the named strategies that inherit anything."""
        return Errors.of(timed for timed in self.strategies if len(self.tested[timed.name]))

    @property
    def loop_errors(self) -> Errors:
        return Errors.of(self.timed_loops)

    @property
    def noise(self) -> float:
        """The median standard error of the strategies' measured steps, as a share of them."""
        return statistics.median(self.step_samples.noise(k) for k in range(len(self.tested)))

    def over_nodes(self, name: str) -> float:
        """The measured time of a tested strategy's inherit step over that of the nodes it runs, by the cost model: the
        goal is at most 1.05."""
        return self._inherit_seconds(name) / self.cost_model.node_seconds(self.tested[name])

    def over_sampled_nodes(self, name: str) -> float:
        """The same over the nodes' samples in passing, which no step's time was fitted to."""
        sampled = nodes_of(self.architecture, self.tested[name], self.sampled_nodes, self.sampled_identities)
        return self._inherit_seconds(name) / sampled

    def _inherit_seconds(self, name: str) -> float:
        return next(timed.measured for timed in self.strategies if timed.name == name)

    @property
    def sampled_nodes(self) -> dict[str, float]:
        """The median of each node's samples in passing."""
        return _medians(self.nodes.whole)

    @property
    def sampled_identities(self) -> dict[str, float]:
        return _medians(self.nodes.identity)

    def cache_bytes(self, plan: InheritancePlan, evaluations: int) -> int:
        """The most bytes of features that a run of the plan holds at this workload, in its compile mode."""
        return peak_cache_bytes(plan, evaluations, self.feature_bytes, compile=self.workload.compile)

    @property
    def loop_caches(self) -> list[tuple[int, int | None]]:
        """Bytes of features of each of `timed_loops`, at their peak: predicted and measured (None: never was)."""
        measured: list[int | None] = [*self.loop_bytes] or [None] * len(self.loops)
        predicted = [self.cache_bytes(plan, n) for plan, n in zip(self.loops, self.evaluations, strict=True)]
        return list(zip(predicted, measured, strict=True))[FITTED_LOOPS:]

    def predicted_latency(
        self, plan: InheritancePlan, evaluations: int, students: Mapping[str, Mask] | None = None
    ) -> Estimate:
        """Seconds a picture of the plan's loop, within the worst error that this profile has seen. students: as for
        `CostModel.loop_seconds`."""
        from explorer.estimate import Estimate

        loop = self.cost_model.loop_seconds(plan, evaluations, students=students)
        seconds, worst = loop / self.workload.batch, self.worst_error
        return Estimate(seconds, seconds / (1 + worst), seconds / max(1 - worst, 0.1), len(self.tested))

    @property
    def worst_error(self) -> float:
        """The largest error of a predicted step or loop that this profile has seen, as a share."""
        return max(self.step_errors.worst, self.loop_errors.worst)

    # JSON ------------------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "workload": self.workload.to_json(),
            "device": self.device.to_json(),
            "architecture": self.architecture.to_json(),
            "effort": dict(self.effort.__dict__),
            "tested": {name: list(mask.entries) for name, mask in self.tested.items()},
            "designed": [list(mask.entries) for mask in self.designed],
            "ruled": list(self.ruled),
            "rule": self.rule.to_json(),
            "inside_loops": self.inside_loops,
            "loops": [plan.to_json() for plan in self.loops],
            "evaluations": self.evaluations,
            "feature_bytes": self.feature_bytes,
            "nodes": self.nodes.to_json(),
            "steps": self.step_samples.to_json(),
            "rules": self.rule_samples.to_json(),
            "loop_samples": self.loop_samples.to_json(),
            "held_bytes": self.held_bytes,
            "loop_bytes": self.loop_bytes,
        }

    @classmethod
    def from_json(cls, data: Any) -> Profile:
        """Inverse of `to_json`. Raises ScoreError for a document that is no profile of this version."""
        try:
            if data["schema"] != SCHEMA:
                raise ValueError(f"schema {data['schema']}")
            return cls(
                model=data["model"],
                fingerprint=data["fingerprint"],
                workload=Workload.from_json(data["workload"]),
                device=DeviceInfo(**data["device"]),
                architecture=Architecture.from_json(data["architecture"]),
                effort=Effort(**data["effort"]),
                tested={name: _mask(entries) for name, entries in data["tested"].items()},
                designed=[_mask(entries) for entries in data["designed"]],
                ruled=tuple(data["ruled"]),
                rule=Rule.from_json(data["rule"]),
                inside_loops=data["inside_loops"],
                loops=[InheritancePlan.from_json(plan) for plan in data["loops"]],
                evaluations=list(data["evaluations"]),
                feature_bytes=dict(data["feature_bytes"]),
                nodes=NodeLaps.from_json(data["nodes"]),
                step_samples=StepSamples.from_json(data["steps"]),
                rule_samples=StepSamples.from_json(data["rules"]),
                loop_samples=StepSamples.from_json(data["loop_samples"]),
                held_bytes=dict(data.get("held_bytes", {})),
                loop_bytes=list(data.get("loop_bytes", [])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ScoreError(
                f"This profile cannot be read ({error}); measure it with `explorer profile --again`."
            ) from error


def _mask(entries: Any) -> Mask:
    return Mask(tuple((name, form) for name, form in entries))


def _medians(samples: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in samples.items()}


def _with(model: CostModel, **change: Any) -> CostModel:
    from dataclasses import replace

    return replace(model, **change)
