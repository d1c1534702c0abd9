from __future__ import annotations

import optuna
import pytest

from explorer.errors import StudyError
from studies import SamplerSettings, Store, enqueue, run_worker, trials
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


@pytest.mark.parametrize(("name", "arguments"), [("tpe", {}), ("nsga2", {"population_size": 20})])
def test_a_baseline_outside_of_the_space_does_not_blind_the_sampler(
    store: Store, name: str, arguments: dict[str, int]
) -> None:
    """Optuna intersects the parameters of all trials: one without any would leave nothing to learn from."""
    space, evaluator = ToySpace(40, 9), ToyEvaluator()
    latencies = {}
    for sampler in (SamplerSettings(name, arguments, 1), SamplerSettings("random", {}, 1)):
        study = store.create_study(sampler.name, toy_settings(sampler=sampler))
        outside = ToyPlan(50, 3, steps=20, name="plain@20")
        enqueue(store, study, [outside, ToyPlan(5, 9, 1, name="DC0/P5")], space, evaluator.evaluations)
        run_worker(store, study.name, space, evaluator, ToyPlan.from_json, total_trials=90)
        rows = [row for row in trials(store, study) if row.origin == "search"]
        latencies[sampler.name] = sorted(row.scores["latency"].value for row in rows[40:])
    learned, blind = latencies[name], latencies["random"]
    # The toy's front is long and its fast end is rare in random draws.
    assert sum(learned[:20]) < sum(blind[:20])
