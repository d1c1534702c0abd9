from __future__ import annotations

import optuna
import pytest

from explorer.errors import StudyError
from studies import SamplerSettings, Store, enqueue, run_worker
from studies.config import SAMPLERS
from studies.queue.samplers import make, stream
from tests.studies.toy_study import ToyEvaluator, ToyPlan, ToySpace, toy_settings


def first_proposals(settings: SamplerSettings, worker: int, standing: int) -> list[ToyPlan]:
    study = optuna.create_study(sampler=make(settings, worker, standing), directions=["minimize"] * 2)
    return [ToySpace(99, 99).suggest(study.ask()) for _ in range(5)]


@pytest.mark.parametrize("name", SAMPLERS)
def test_proposals_depend_on_seed_worker_and_standing_trials(name: str) -> None:
    settings = SamplerSettings(name, {}, 3)
    same = first_proposals(settings, 0, 0)
    assert first_proposals(settings, 0, 0) == same
    assert first_proposals(settings, 1, 0) != same
    assert first_proposals(settings, 0, 10) != same
    assert first_proposals(SamplerSettings(name, {}, 4), 0, 0) != same


def test_streams_for_other_purposes_differ() -> None:
    settings = SamplerSettings()
    assert stream(settings, 0, 0) != stream(settings, 0, 0, purpose=1)


def test_arguments_reach_the_sampler() -> None:
    assert make(SamplerSettings("nsgaii", {"population_size": 12})).population_size == 12  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (SamplerSettings("annealing"), "tpe, nsgaii, random"),
        (SamplerSettings("nsgaii", {"population_size": 1}), "population_size"),
        (SamplerSettings("random", {"colour": 3}), "colour"),
    ],
)
def test_bad_samplers_are_refused_in_a_sentence(settings: SamplerSettings, words: str) -> None:
    with pytest.raises(StudyError, match=words):
        make(settings)


def test_baselines_outside_of_a_conditional_space_do_not_blind_the_sampler(store: Store) -> None:
    """Optuna intersects the parameters of all trials: a trial without any, or with fewer, would leave nothing to learn
    from, and every proposal would be drawn blindly."""
    space, evaluator, sampler = ToySpace(), ToyEvaluator(), SamplerSettings("tpe", {"n_startup_trials": 4})
    study = store.create_study("s", toy_settings(sampler=sampler))
    outside = [ToyPlan(1, steps=steps, name=f"plain@{steps}") for steps in (20, 10)]
    inside = [ToyPlan(1, name="plain@50"), *(ToyPlan(period, 9, 1, name=f"DC0/P{period}") for period in (2, 3, 5))]
    enqueue(store, study, [*outside, *inside], space, evaluator.evaluations)
    run_worker(store, "s", space, evaluator, ToyPlan.from_json, total_trials=len(outside) + len(inside))

    maker = make(sampler)
    optuna_study = store.optuna_study(study, maker)
    trial = optuna_study.ask()
    frozen = optuna_study.trials[trial.number]
    known = maker.infer_relative_search_space(optuna_study, frozen)
    assert known.keys() == {"period", "width", "order"}
    learned = [maker.sample_relative(optuna_study, frozen, known) for _ in range(20)]
    assert {name for proposal in learned for name in proposal} == {"period", "width", "order"}


@pytest.mark.parametrize("name", ["tpe", "nsgaii"])
def test_a_search_with_each_sampler_reaches_its_total(store: Store, name: str) -> None:
    settings = SamplerSettings(name, {"population_size": 6} if name == "nsgaii" else {})
    store.create_study("s", toy_settings(sampler=settings))
    outcome = run_worker(store, "s", ToySpace(40, 40), ToyEvaluator(), ToyPlan.from_json, total_trials=20)
    assert outcome.scored == 20
