"""What goes wrong at one step when it inherits, and what that does to the final latents: measured on whole runs.

Every number here is of an un-accelerated run in which a single step inherits: the guided prediction's error by mask,
step, age (evaluations since the features were extracted) and rule; the same for each node alone, copied, and for each
unit alone, removed; and how far the final latents move when one step's prediction is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explorer.calibration.fitting import weights_of
from explorer.calibration.moments import Array, Moments
from explorer.calibration.probe import Probe, storing
from explorer.devices import clock_for
from explorer.models.pictures import run
from explorer.models.prompts import Prompt
from explorer.models.workload import is_guided
from explorer.networks.removals import removal_of, unit_removals
from explorer.plans.rules import rule_type, searched_rules
from explorer.plans.strategies import STRATEGIES
from explorer.runtime.combining import combine
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Feature, Mask, liveness
from explorer.unet.program import Conditions
from explorer.unet.variant import Variant

MASKS = ("DC0", "DC1", "DC2", "EP", "CO6", "CO3", "RI", "AI")
AGES = (1, 2, 4, 8)
NODE_AGE = 2
"""The age at which the nodes are measured one by one; other ages and rules follow from the features' moments."""


@dataclass(frozen=True)
class Design:
    """What is measured. steps: the evaluations at which a run inherits; masks by name; nodes: features one by one;
    removals: units one by one, with the form in which each is removed. Calibrations of older versions have none.
    """

    evaluations: int
    steps: tuple[int, ...]
    masks: Mapping[str, Mask]
    nodes: tuple[Feature, ...]
    ages: tuple[int, ...] = AGES
    rules: tuple[str, ...] = field(default_factory=searched_rules)
    removals: tuple[Feature, ...] = ()

    @classmethod
    def of(
        cls, architecture: Architecture, evaluations: int, *, count: int = 8, names: Sequence[str] = MASKS
    ) -> Design:
        """`count` evaluations, denser at the beginning, where most changes; the masks of the named strategies."""
        places = 1 + (evaluations - 2) * np.linspace(0.0, 1.0, count) ** 1.5
        steps = sorted({round(place) for place in places if evaluations > 1})
        masks: dict[str, Mask] = {}
        for name in names:
            mask = STRATEGIES[name].mask(architecture).effective(architecture)
            if mask not in masks.values():
                masks[name] = mask
        nodes: list[Feature] = [
            (node.name, "residual" if node.is_unit else "output") for node in architecture.nodes[:-1]
        ]
        usable = tuple(f for f in nodes if liveness(architecture, Mask((f,))).depends_on_sample)
        ages = tuple(a for a in AGES if a < evaluations)
        return cls(evaluations, tuple(steps), masks, usable, ages, removals=tuple(unit_removals(architecture)))

    @property
    def removal_steps(self) -> tuple[int, ...]:
        """Where units are removed: every second step and the last, as a removal acts at all of them."""
        return self.steps[::-2][::-1] if self.removals else ()

    def sources(self, step: int, age: int, rule: str) -> tuple[int, ...]:
        """The extract steps of a rule at this age, ascending; empty where the run has not so many behind it."""
        found = tuple(step - k * age for k in range(rule_type(rule).terms, 0, -1))
        return found if found[0] >= 0 else ()

    @property
    def work(self) -> int:
        """UNet evaluations of all kinds for one batch of prompts."""
        grid = sum(
            bool(self.sources(step, age, rule)) for step in self.steps for age in self.ages for rule in self.rules
        )
        effects = sum(self.evaluations - step - 1 for step in self.steps)
        single = len(self.steps) * len(self.nodes) + len(self.removal_steps) * len(self.removals)
        return self.evaluations + grid * len(self.masks) + single + effects


@dataclass(frozen=True)
class StepErrors:
    """Mean squares over `pictures` pictures, in the order of the design; M masks, S steps, A ages, R rules, F nodes, Q
    removals, P of the steps.

    masks: (M, S, A, R), of the guided prediction's error; NaN where the run has too few steps behind it. nodes: (F, S),
    by copy at age 2 (1 at the first step). noise: (S,), of the guided prediction itself. wrong, moved: (S,), the error
    put into a step (the first mask, copied) and what it moved the final latents by. latents: of the final latents.
    seconds: (M + 1,), median time of a call of each mask's variant, and last of a full step. removals: (Q, P), of the
    guided prediction's error where one unit is removed.
    """

    masks: Array
    nodes: Array
    noise: Array
    wrong: Array
    moved: Array
    latents: Array
    seconds: Array
    pictures: int
    removals: Array = field(default_factory=lambda: np.zeros((0, 0)))

    def joined(self, other: StepErrors) -> StepErrors:
        """The same over both sets of pictures."""
        total = self.pictures + other.pictures
        means = {
            f.name: (getattr(self, f.name) * self.pictures + getattr(other, f.name) * other.pictures) / total
            for f in fields(self)
            if f.name != "pictures"
        }
        return replace(self, **means, pictures=total)


def measure_step_errors(
    pipe: Any,
    prompts: Sequence[str | Prompt],
    design: Design,
    moments: Moments,
    *,
    guidance: float,
    seed: int,
    size: tuple[int, int] | None = None,
    progress: Callable[[int], None] | None = None,
) -> StepErrors:
    """One batch of `prompts` through the design. progress(n): n further UNet evaluations of `design.work` are done."""
    watch = _Watch(design, moments, guidance, progress or (lambda _: None))
    how: dict[str, Any] = {
        "seed": seed, "steps": moments.steps, "guidance": guidance, "size": size, "output_type": "latent",
    }  # fmt: skip
    probe = Probe(pipe, watch)
    watch.probe = probe
    with probe, torch.no_grad():
        final = run(pipe, prompts, **how)
        moved = []
        for step in design.steps:
            watch.replay_until = step
            moved.append(_mean_square(run(pipe, prompts, **how) - final))
    return StepErrors(
        masks=watch.masks,
        nodes=watch.nodes,
        noise=watch.noise,
        wrong=watch.wrong,
        moved=np.array(moved),
        latents=np.array(_mean_square(final)),
        seconds=np.array([np.median(times) if times else np.nan for times in watch.times]),
        pictures=len(prompts),
        removals=watch.removals,
    )


class _Watch:
    """Watches a probe. First run: measures. Later ones: repeats the first one's predictions up to `replay_until`,
    gives the wrong one there, and computes what follows."""

    def __init__(self, design: Design, moments: Moments, guidance: float, done: Callable[[int], None]) -> None:
        self.design, self.moments, self.guidance, self.done = design, moments, guidance, done
        self.probe: Any = None
        self.replay_until: int | None = None
        shape = (len(design.masks), len(design.steps), len(design.ages), len(design.rules))
        self.masks = np.full(shape, np.nan)
        self.nodes = np.full((len(design.nodes), len(design.steps)), np.nan)
        self.removals = np.full((len(design.removals), len(design.removal_steps)), np.nan)
        self.noise, self.wrong = np.zeros(len(design.steps)), np.zeros(len(design.steps))
        self.times: list[list[float]] = [[] for _ in range(len(design.masks) + 1)]
        self.predictions: list[Tensor] = []
        self.mistaken: dict[int, Tensor] = {}
        self.held: dict[int, dict[Feature, Tensor]] = {}
        self.needs = _needs(design)
        self.variants: dict[Any, Variant] = {}

    def __call__(self, evaluation: int, sample: Tensor, at: Conditions) -> Tensor:
        if self.replay_until is not None:
            if evaluation < self.replay_until:
                return self.predictions[evaluation]
            if evaluation == self.replay_until:
                return self.mistaken[evaluation]
            self.done(1)
            return self._variant(Mask())(sample, at, {})[0]
        full = storing(self.probe.program, tuple(sorted(self.needs.get(evaluation, {}))))
        noise, stored = self._timed(-1, full, sample, at, {})
        self.done(1)
        self.predictions.append(noise)
        self.held[evaluation] = stored
        if evaluation in self.design.steps:
            self._measure(self.design.steps.index(evaluation), evaluation, noise, sample, at)
        for source, features in self.held.items():
            for feature in [f for f in features if self.needs[source][f] <= evaluation]:
                del features[feature]
        return noise

    def _variant(self, mask: Mask) -> Variant:
        if mask not in self.variants:
            self.variants[mask] = Variant(self.probe.program, mask)
        return self.variants[mask]

    def _timed(self, place: int, variant: Variant, sample: Tensor, at: Conditions, inherited: Any) -> Any:
        made: list[Any] = []
        seconds = clock_for(sample.device).time(lambda: made.append(variant(sample, at, inherited)))
        self.times[place].append(seconds)
        return made[0]

    def _measure(self, s: int, step: int, noise: Tensor, sample: Tensor, at: Conditions) -> None:
        design = self.design
        target = self._guided(noise)
        self.noise[s] = _mean_square(target)
        age = min(NODE_AGE, step)
        for k, feature in enumerate(design.nodes):
            inherited = {feature: self.held[step - age][feature]}
            self.nodes[k, s] = self._error(self._variant(Mask((feature,)))(sample, at, inherited)[0], target)
            self.done(1)
        if step in design.removal_steps:
            for q, removal in enumerate(design.removals):
                variant = self._variant(removal_of(self.probe.program.architecture, *removal))
                error = self._error(variant(sample, at, {})[0], target)
                self.removals[q, design.removal_steps.index(step)] = error
                self.done(1)
        for m, mask in enumerate(design.masks.values()):
            variant = self._variant(mask)
            for a, age in enumerate(design.ages):
                for r, rule in enumerate(design.rules):
                    sources = design.sources(step, age, rule)
                    if sources:
                        inherited = {f: self._combined(f, step, sources, rule) for f in variant.reads}
                        wrong = self._timed(m, variant, sample, at, inherited)[0]
                        self.masks[m, s, a, r] = self._error(wrong, target)
                        self.done(1)
        first = next(iter(design.masks.values()))
        variant = self._variant(first)
        inherited = {f: self.held[step - min(NODE_AGE, step)][f] for f in variant.reads}
        self.mistaken[step] = variant(sample, at, inherited)[0]
        self.wrong[s] = self._error(self.mistaken[step], target)

    def _combined(self, feature: Feature, step: int, sources: tuple[int, ...], rule: str) -> Tensor:
        weights = weights_of(rule, self.moments.gram[feature], sources, step)
        return combine([self.held[source][feature] for source in sources], weights)

    def _guided(self, noise: Tensor) -> Tensor:
        if not is_guided(self.guidance) or noise.shape[0] % 2:
            return noise.float()
        without, with_text = noise.float().chunk(2)
        return without + self.guidance * (with_text - without)

    def _error(self, noise: Tensor, target: Tensor) -> float:
        return _mean_square(self._guided(noise) - target)


def _needs(design: Design) -> dict[int, dict[Feature, int]]:
    """For each evaluation the features that later steps of the design read, with the last step that does."""
    needs: dict[int, dict[Feature, int]] = {i: {} for i in range(design.evaluations)}
    read = {feature for mask in design.masks.values() for feature in mask.entries}
    for step in design.steps:
        for feature in (*read, *design.nodes):
            needs[step - min(NODE_AGE, step)][feature] = step
        for source in {s for a in design.ages for r in design.rules for s in design.sources(step, a, r)}:
            needs[source] |= {feature: max(step, needs[source].get(feature, 0)) for feature in read}
    return needs


def _mean_square(values: Tensor) -> float:
    return float((values.float() ** 2).mean())
