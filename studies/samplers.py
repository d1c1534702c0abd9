"""Samplers by name, made anew from what the study stores.

Spaces are conditional (a schedule's parameters depend on its kind), and baselines outside of a space are trials
without parameters. Both would leave Optuna's samplers with an empty intersection of parameters, that is with blind
draws, so `tpe` works on groups of parameters and `nsga2` crosses whatever two parents have.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseGASampler, BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from explorer.errors import StudyError
from studies.front import dominates, losses
from studies.settings import SamplerSettings
from studies.tables import PARENTS

NAMES = ("tpe", "nsga2", "random")


def make(settings: SamplerSettings, worker: int = 0, standing: int = 0) -> BaseSampler:
    """The sampler of a study for one worker's run.

    worker: the worker's number in the study. standing: trials that stand when the run begins; together with the seed
    they make a stream of its own, so that neither a second worker nor a resumed run repeats the first one's proposals.

    Raises:
        StudyError: for an unknown name or an argument that the sampler does not take.
    """
    seed = stream(settings, worker, standing)
    arguments = dict(settings.arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `group`
            if settings.name == "tpe":
                return TPESampler(**({"multivariate": True, "group": True} | arguments), seed=seed)
            if settings.name == "nsga2":
                return ConditionalNSGAII(**arguments, seed=seed)
            if settings.name == "random":
                return RandomSampler(**arguments, seed=seed)
    except (TypeError, ValueError) as error:
        raise StudyError(
            f"the sampler {settings.name} does not take {arguments!r} ({error}); see Optuna's page of it."
        ) from error
    raise StudyError(f"there is no sampler {settings.name!r}; use one of {', '.join(NAMES)}.")


def stream(settings: SamplerSettings, worker: int, standing: int, purpose: int = 0) -> int:
    """A 32-bit seed from the study's seed, the worker's number and the number of trials standing."""
    return int(np.random.SeedSequence([abs(settings.seed), worker, standing, purpose]).generate_state(1)[0])


def seed_attributes(sampler: BaseSampler) -> dict[str, Any]:
    """System attributes that make a trial out of the queue one of a genetic sampler's first generation: Optuna itself
    leaves enqueued trials out of the population."""
    return {sampler._get_generation_key(): 0} if isinstance(sampler, BaseGASampler) else {}


class ConditionalNSGAII(NSGAIISampler):
    """NSGA-II (Deb et al. 2002) for conditional spaces.

    Selection, elitism and generations are Optuna's. A child takes each parameter that either parent has, from one of
    the two at random (uniform crossover); a mutated parameter is drawn anew. What a child lacks is drawn as well.
    """

    def __init__(self, *, mutation_prob: float | None = None, crossover_prob: float = 0.9, **arguments: Any) -> None:
        super().__init__(mutation_prob=mutation_prob, crossover_prob=crossover_prob, **arguments)
        self._mutation_probability, self._crossover_probability = mutation_prob, crossover_prob
        self._generator = np.random.default_rng(arguments.get("seed"))

    def reseed_rng(self) -> None:
        super().reseed_rng()
        self._generator = np.random.default_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        space: dict[str, BaseDistribution] = {}
        for standing in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            space.update({name: known for name, known in standing.distributions.items() if not known.single()})
        return space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        generation = self.get_trial_generation(study, trial)
        parents = self.get_parent_population(study, generation)
        if not parents:
            return {}
        first, second = self._select(study, parents), self._select(study, parents)
        if self._generator.random() >= self._crossover_probability:
            second = first
        crossed = sorted({first.number, second.number})
        study._storage.set_trial_user_attr(trial._trial_id, PARENTS, crossed)
        return self._cross(first.params, second.params, search_space)

    def _select(self, study: optuna.Study, parents: list[FrozenTrial]) -> FrozenTrial:
        one, other = (parents[int(self._generator.integers(len(parents)))] for _ in range(2))
        directions = ["maximize" if d == StudyDirection.MAXIMIZE else "minimize" for d in study.directions]
        return other if dominates(*losses([other.values, one.values], directions)) else one

    def _cross(
        self, first: Mapping[str, Any], second: Mapping[str, Any], search_space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        names = sorted(name for name in {**first, **second} if name in search_space)
        mutation = 1.0 / max(1, len(names)) if self._mutation_probability is None else self._mutation_probability
        child: dict[str, Any] = {}
        for name in names:
            sources = [parent[name] for parent in (first, second) if name in parent]
            value = sources[int(self._generator.integers(len(sources)))]
            if self._generator.random() >= mutation:
                child[name] = value
        return child
