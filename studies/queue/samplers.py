"""Samplers by name, made from what the study stores.

Spaces are conditional (a schedule's parameters depend on its kind), and baselines outside of a space are trials
without parameters. Optuna's samplers model the parameters that all trials share, which leaves them nothing here, so
`tpe` models groups of parameters. `nsgaii` has no such option: it draws at random where trials share no parameter.
"""

from __future__ import annotations

import warnings

import numpy as np
import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler

from explorer.errors import StudyError
from studies import removed
from studies.config import SAMPLERS
from studies.settings import SamplerSettings


def make(settings: SamplerSettings, worker: int = 0, standing: int = 0) -> BaseSampler:
    """The sampler of a study for one worker's run.

    worker: the worker's number in the study. standing: trials that exist when the run begins. With the seed they give
    each worker and each run its own stream, so that none repeats another's proposals.

    Raises:
        StudyError: for a name that is unknown or was removed, or an argument that the sampler does not take.
    """
    removed.check_sampler(settings.name)
    seed = stream(settings, worker, standing)
    arguments = dict(settings.arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `group`
            if settings.name == "tpe":
                return TPESampler(**({"multivariate": True, "group": True} | arguments), seed=seed)
            if settings.name == "nsgaii":
                return NSGAIISampler(**arguments, seed=seed)
            if settings.name == "random":
                return RandomSampler(**arguments, seed=seed)
    except (TypeError, ValueError) as error:
        raise StudyError(
            f"the sampler {settings.name} does not take {arguments!r} ({error}); see Optuna's page of it."
        ) from error
    raise StudyError(f"there is no sampler {settings.name!r}; use one of {', '.join(SAMPLERS)}.")


def stream(settings: SamplerSettings, worker: int, standing: int, purpose: int = 0) -> int:
    """A 32-bit seed from the study's seed, the worker's number and the number of existing trials."""
    return int(np.random.SeedSequence([abs(settings.seed), worker, standing, purpose]).generate_state(1)[0])
