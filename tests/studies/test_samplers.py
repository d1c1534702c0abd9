from __future__ import annotations

import optuna
import pytest

from explorer.errors import StudyError
from studies import SamplerSettings, Store, enqueue, run_worker, trials
from studies.lineage import lineage
from studies.samplers import NAMES, make, stream
from tests.studies.toy_study import ToyEvaluator, ToyPlan, ToySpace, toy_settings


def first_proposals(settings: SamplerSettings, worker: int, standing: int) -> list[ToyPlan]:
    study = optuna.create_study(sampler=make(settings, worker, standing), directions=["minimize"] * 2)
    return [ToySpace(99, 99).suggest(study.ask()) for _ in range(5)]


@pytest.mark.parametrize("name", NAMES)
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
    assert make(SamplerSettings("nsga2", {"population_size": 12})).population_size == 12  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (SamplerSettings("annealing"), "tpe, nsga2, random"),
        (SamplerSettings("nsga2", {"population_size": 1}), "population_size"),
        (SamplerSettings("random", {"colour": 3}), "colour"),
    ],
)
def test_bad_samplers_are_refused_in_a_sentence(settings: SamplerSettings, words: str) -> None:
    with pytest.raises(StudyError, match=words):
        make(settings)


@pytest.mark.parametrize(
    "sampler", [SamplerSettings("tpe", {"n_startup_trials": 4}), SamplerSettings("nsga2", {"population_size": 4})]
)
def test_baselines_outside_of_a_conditional_space_do_not_blind_the_sampler(
    store: Store, sampler: SamplerSettings
) -> None:
    """Optuna intersects the parameters of all trials: a trial without any, or with fewer, would leave nothing to learn
    from, and every proposal would be drawn blindly."""
    space, evaluator = ToySpace(), ToyEvaluator()
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
    if sampler.name == "nsga2":  # the enqueued plans are the first generation: children take what these have
        for name, values in {"period": {1, 2, 3, 5}, "width": {9}, "order": {1}}.items():
            assert {proposal[name] for proposal in learned if name in proposal} <= values


@pytest.mark.parametrize("name", ["tpe", "nsga2"])
def test_a_search_with_each_sampler_reaches_its_total(store: Store, name: str) -> None:
    settings = SamplerSettings(name, {"population_size": 6} if name == "nsga2" else {})
    store.create_study("s", toy_settings(sampler=settings))
    outcome = run_worker(store, "s", ToySpace(40, 40), ToyEvaluator(), ToyPlan.from_json, total_trials=20)
    assert outcome.scored == 20


def test_a_genetic_sampler_notes_the_parents(store: Store) -> None:
    settings = SamplerSettings("nsga2", {"population_size": 6})
    study = store.create_study("s", toy_settings(sampler=settings))
    run_worker(store, "s", ToySpace(), ToyEvaluator(), ToyPlan.from_json, total_trials=20)
    rows = trials(store, study)
    found = {row.number: lineage(store, study, row).parents for row in rows}
    crossed = {number: parents for number, parents in found.items() if parents}
    assert len(crossed) > 3
    for number, parents in crossed.items():
        assert number is not None and len(parents) <= 2 and max(parents) < number
    assert "crossed from trial" in lineage(store, study, next(r for r in rows if r.number in crossed)).words()
