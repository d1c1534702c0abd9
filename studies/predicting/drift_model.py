"""Predicts a plan's drift and cost from the study's calibration, without running it.

The model is additive. A step's error is that of its features, which the moments give for any extract steps and any
weights, times what each node's error does to the guided prediction, as measured node by node; a factor for each
measured mask makes up for what that sum leaves out, and other masks take the factors of those that are most like them.
An error does not grow beyond the prediction itself. A step's error times the step's effect is what it adds to the final
latents; steps, and what fewer plain steps change, are added in squares. (20 steps of PNDM, 28 plans of all kinds on
other prompts: Spearman 0.92; without the limit 0.90, steps added as they are 0.82, without the effects 0.66.)

Under another scheduler or spacing, what plain steps change is measured under it, and features move as in runs under the
scheduler; what an error does is taken to be what it does at the same fraction of the study's own run. A student adds
its own error at the steps that it runs, scaled so that a run by it alone ends as far away as was measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from explorer.calibration.fitting import weights_of
from explorer.calibration.moments import Moments
from explorer.calibration.step_errors import NODE_AGE
from explorer.errors import PlanError
from explorer.plans.cast import TEACHER, cast_students
from explorer.plans.plan import InheritancePlan, resolve_run
from explorer.unet.mask import Feature, Mask, liveness, without
from studies.predicting.calibration import Calibration
from studies.scored import Prediction

Array = NDArray[np.float64]
_LEAST = 1e-12
_LIKENESS = 4
"""Power of the share of nodes that two masks have in common, as the weight of one's factor for the other."""


class DriftModel:
    """`predictor(plan)` predicts; it runs nothing.

    evaluations: UNet evaluations of a run of a plan. share: MACs of a step under a mask over those of a full step.
    time_share: time of a run of a plan over the un-accelerated one's as a profile predicts it, at the very workload of
    the study's latencies; None where there is none, and the calibration's own times are used. students: what each
    student of the study lacks, by its name. schedulers: the study's, beside the pipeline's own; None in a study that
    has no scheduler, spacing or student beside the pipeline's own.
    """

    def __init__(
        self,
        calibration: Calibration,
        evaluations: Callable[[InheritancePlan], int],
        share: Callable[[Mask], float],
        time_share: Callable[[InheritancePlan], float | None] = lambda plan: None,
        students: Mapping[str, Mask] | None = None,
        schedulers: Sequence[str] | None = None,
    ) -> None:
        self._time_share, self.students = time_share, dict(students or {})
        self._schedulers = None if schedulers is None else tuple(schedulers)
        self.extra = 0 if schedulers is None else len(schedulers) + 1
        """How many numbers `kinds` gives."""
        self.calibration, self.evaluations, self.share = calibration, evaluations, share
        design, errors = calibration.design, calibration.errors
        self.grid = np.array(design.steps, dtype=np.float64)
        self.moments = next(m for m in calibration.moments.values() if m.evaluations == design.evaluations)
        self._feature_errors: dict[tuple[str, int, Feature, int, tuple[int, ...], tuple[float, ...]], float] = {}
        self._gains = {name: np.log(row) for (name, _), row in zip(design.nodes, self._node_gains(), strict=True)}
        self._least_gain = np.min(np.stack(list(self._gains.values())), axis=0)
        self._effects = np.log(np.sqrt(np.maximum(errors.moved, _LEAST) / np.maximum(errors.wrong, _LEAST)))
        self._noise = 0.5 * np.log(np.maximum(errors.noise, _LEAST))
        self._factors = {mask: self._factor(m, mask) for m, mask in enumerate(design.masks.values())}
        self._networks: dict[str, Array] = {}
        full = errors.seconds[-1]
        self._times = {mask: float(errors.seconds[m] / full) for m, mask in enumerate(design.masks.values())}
        shares = np.array([1.0, *(share(mask) for mask in self._times)])
        self._line = np.polyfit(shares, np.array([1.0, *self._times.values()]), 1)

    def __call__(self, plan: InheritancePlan) -> Prediction:
        return Prediction(self.drift(plan), self.cost(plan))

    def unmeasured(self, plan: InheritancePlan) -> str:
        """Which scheduler, spacing or student of the plan the calibration left out, as a sentence without its end;
        empty where it has all of them."""
        further, family = self.calibration.further, (plan.scheduler, plan.spacing)
        if family != (None, None) and family not in further.plain:
            named = " with ".join(
                ([plan.scheduler] if plan.scheduler else []) + ([f"{plan.spacing} timesteps"] if plan.spacing else [])
            )
            return f"runs of {named} were not calibrated"
        for name in cast_students(plan.cast):
            if name not in further.networks:
                return f"runs of the student {name} were not calibrated"
        return ""

    def kinds(self, plan: InheritancePlan) -> list[float]:
        """In a study of several schedulers, spacings or students: 1 for the scheduler that the plan names and 0 for
        each other, and last 1 for a plan of which something is `unmeasured`. Empty in others."""
        if self._schedulers is None:
            return []
        return [*(float(plan.scheduler == name) for name in self._schedulers), float(bool(self.unmeasured(plan)))]

    def drift(self, plan: InheritancePlan) -> float:
        """See `Prediction`. 0 for the un-accelerated run. Raises PlanError for what was not calibrated: what is
        `unmeasured`, a number of steps, and removed nodes; and for a plan that cannot be run."""
        plan.check_runnable(self.students)
        if reason := self.unmeasured(plan):
            raise PlanError(f"{reason}, so their drift is not predicted.")
        count, own = self.evaluations(plan), (plan.scheduler, plan.spacing) == (None, None)
        if own and count != self.moments.evaluations and plan.steps not in self.calibration.plain:
            raise PlanError(f"a run of {plan.steps} steps was not calibrated, so its drift is not predicted.")
        run = resolve_run(plan, count)
        if any(liveness(plan.architecture, plan.mask(choice)).removed for choice in {*run.choices}):
            raise PlanError("removed nodes were not calibrated, so the drift of a plan that has them is not predicted.")
        scale = (self.moments.evaluations - 1) / max(1, count - 1)
        moments, stretch = self._moments_of(plan, count)
        squares, extracts = self._plain(plan), list[int]()
        for i, choice in enumerate(run.choices):
            name = run.networks[i]
            if i and name != run.networks[i - 1]:
                extracts.clear()
            if name != TEACHER:
                squares += scale**2 * self._network_square(name, i * scale)
            if not choice:
                extracts.append(i)
                continue
            mask = plan.mask(choice).effective(plan.architecture)
            sources = tuple(extracts[-plan.rule.history :])
            weights = {f: plan.rule.coefficients(i, sources, f) for f in mask.entries}
            error = self._step_error(moments, stretch, mask, i, sources, weights, scale)
            squares += (error * scale * self._at(self._effects, i * scale)) ** 2
        return math.sqrt(squares / float(self.calibration.errors.latents[0]))

    def cost(self, plan: InheritancePlan) -> float:
        """See `Prediction`. A mask that was not timed lies on the line of time over MACs through those that were; a
        student's, as far below its full step as the line is."""
        predicted = self._time_share(plan)
        if predicted is not None:
            return predicted
        run = resolve_run(plan, self.evaluations(plan))
        masks = {choice: plan.mask(choice).effective(plan.architecture) for choice in {*run.choices}}
        times = {key: self.time(masks[key[0]], key[1]) for key in {*zip(run.choices, run.networks, strict=True)}}
        return sum(times[key] for key in zip(run.choices, run.networks, strict=True)) / self.moments.evaluations

    def time(self, mask: Mask, network: str = TEACHER) -> float:
        """Of a step under the effective mask, over that of the teacher's full step."""
        if network != TEACHER:
            removed = self.students.get(network, Mask())
            known = self.calibration.further.networks.get(network)
            full = self._on_line(removed)
            own = full if known is None else known.share
            return own * self._on_line(without(mask, removed)) / full if mask else own
        if not mask:
            return 1.0
        return self._times.get(mask, float(np.polyval(self._line, self.share(mask))))

    def _on_line(self, mask: Mask) -> float:
        return max(float(np.polyval(self._line, self.share(mask))), _LEAST)

    # Schedulers, spacings and networks -------------------------------------------------------------------------------

    def _plain(self, plan: InheritancePlan) -> float:
        """Mean square by which as many plain steps under the plan's scheduler and spacing move the final latents."""
        found = self.calibration.further.distance((plan.scheduler, plan.spacing), plan.steps)
        return self.calibration.plain.get(plan.steps, 0.0) if found is None else found

    def _moments_of(self, plan: InheritancePlan, count: int) -> tuple[Moments, float]:
        """Of the features of such runs, with how many of their evaluations one of the plan's `count` is."""
        own = self.calibration.moments.get(plan.steps)
        if plan.scheduler is None and own is not None and own.evaluations == count:
            return own, 1.0
        found = self.calibration.further.moments.get(plan.scheduler or "", self.moments)
        return found, (found.evaluations - 1) / max(1, count - 1)

    def _network_square(self, name: str, place: float) -> float:
        """Mean square by which a student's own error at a place of the study's run moves the final latents."""
        if name not in self._networks:
            known, places = self.calibration.further.networks[name], range(self.moments.evaluations)
            squares = np.array([known.errors[at] * self._at(self._effects, at) ** 2 for at in places])
            self._networks[name] = squares * known.alone / max(float(squares.sum()), _LEAST)
        return float(np.interp(place, np.arange(self.moments.evaluations), self._networks[name]))

    # A step's error --------------------------------------------------------------------------------------------------

    def _step_error(
        self, moments: Moments, stretch: float, mask: Mask, step: int, sources: tuple[int, ...],
        weights: dict[Feature, tuple[float, ...]], scale: float,
    ) -> float:  # fmt: skip
        squares = 0.0
        for feature in mask.entries:
            error = self._feature_error(moments, feature, step, sources, weights[feature], stretch)
            squares += (error * self._at(self._gain(feature), step * scale)) ** 2
        error = math.sqrt(squares) * self._at(self._factor_of(mask), step * scale)
        return error / math.hypot(1.0, error / self._at(self._noise, step * scale))

    def _feature_error(
        self, moments: Moments, feature: Feature, step: int, sources: tuple[int, ...], weights: tuple[float, ...],
        stretch: float,
    ) -> float:  # fmt: skip
        """Of a run of another step count: at the study's evaluations that lie at the same fractions of the run."""
        at, *points = (round(point * stretch) for point in (step, *sources))
        key = (moments.scheduler, moments.steps, feature, at, tuple(points), weights)
        if key not in self._feature_errors:
            self._feature_errors[key] = moments.error(feature, at, points, weights)
        return self._feature_errors[key]

    def _gain(self, feature: Feature) -> Array:
        """A node is measured in one form; nodes that could not be measured alone move least."""
        return self._gains.get(feature[0], self._least_gain)

    def _node_gains(self) -> Array:
        """(nodes, steps): error of the guided prediction for a unit of error in a node's feature."""
        design = self.calibration.design
        gains = np.sqrt(np.maximum(self.calibration.errors.nodes, _LEAST))
        for k, feature in enumerate(design.nodes):
            for s, step in enumerate(design.steps):
                source = step - min(NODE_AGE, step)
                gains[k, s] /= max(self.moments.error(feature, step, (source,), (1.0,)), math.sqrt(_LEAST))
        return gains

    def _factor(self, m: int, mask: Mask) -> Array:
        """(steps,) log of measured over composed error of a measured mask, mean over ages and rules."""
        design = self.calibration.design
        found = np.zeros(len(design.steps))
        for s, step in enumerate(design.steps):
            logs = []
            for a, age in enumerate(design.ages):
                for r, rule in enumerate(design.rules):
                    sources, square = design.sources(step, age, rule), self.calibration.errors.masks[m, s, a, r]
                    if not sources or not square > 0:
                        continue
                    total = 0.0
                    for feature in mask.entries:
                        weights = weights_of(rule, self.moments.gram[feature], sources, step)
                        error = self.moments.error(feature, step, sources, weights)
                        total += (error * math.exp(self._gain(feature)[s])) ** 2
                    if total > 0:
                        logs.append(0.5 * math.log(square / total))
            found[s] = np.mean(logs) if logs else 0.0
        return found

    def _factor_of(self, mask: Mask) -> Array:
        if mask not in self._factors:
            mine = {name for name, _ in mask.entries}
            likeness = []
            for other in self.calibration.design.masks.values():
                theirs = {name for name, _ in other.entries}
                likeness.append((1e-3 + len(mine & theirs) / len(mine | theirs)) ** _LIKENESS)
            known = [self._factors[other] for other in self.calibration.design.masks.values()]
            self._factors[mask] = np.average(known, axis=0, weights=likeness)
        return self._factors[mask]

    def _at(self, logs: Array, place: float) -> float:
        """The value at a place between the measured steps, of logs at them."""
        return math.exp(float(np.interp(place, self.grid, logs)))
