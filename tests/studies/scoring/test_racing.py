"""Racing: when a plan is dropped, what stands of it, and that what is scored whole is scored as without a race."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState

from explorer import InheritancePlan, strategy
from explorer.estimate import Estimate
from studies import Scored, Store, counts, enqueue, front_rows, run_worker, trials
from studies.cli.commands.search import _tell_no_look
from studies.config import SearchConfig
from studies.queue import queue
from studies.results.history import history
from studies.results.rows import samples
from studies.results.summary import gain, scale_of
from studies.scored import Part
from studies.scoring.latency_meter import LatencyMeter
from studies.scoring.picture_maker import PictureMaker
from studies.scoring.racing import FEW, Race, Rival, losses_of, rungs
from studies.searching.session import Session, open_session
from studies.settings import Objective
from studies.storage import tables
from tests.studies.toy_study import ToyEvaluator, ToyPlan, ToySpace, toy_settings

# In a study ----------------------------------------------------------------------------------------------------------

OBJECTIVES = (Objective("latency", "minimize"), Objective("ssim", "maximize"))


@dataclass
class Racing(ToyEvaluator):
    """The toy problem with a drift of its own for each of 32 prompts, raced as `CandidateEvaluator` does."""

    race: Race | None = None

    def score(self, plan: ToyPlan, part: Part | None = None) -> Scored:
        whole = super().score(plan, part)
        similar = 1 - whole.estimates["fd_toy"].value / 20 - np.random.default_rng(0).uniform(0, 0.2, 32)
        latency = whole.estimates["latency"]
        if self.race is not None and self.race.enters(plan.key(self.evaluations(plan))):
            for count in rungs(32, 4):
                found = self.race.beaten(self.race.at_best({"latency": latency}), {"ssim": similar[:count]})
                if found is not None:
                    few = similar[:count]
                    estimates = {"latency": latency, "ssim": Estimate(few.mean(), few.min(), few.max(), count)}
                    return Scored(estimates, {"ssim": 0.1}, {}, {"ssim": few.tolist()}, screened=found.words)
        estimates = {name: whole.estimates[name] for name in ("latency", "speedup")}
        estimates["ssim"] = Estimate(similar.mean(), similar.min(), similar.max(), 32)
        return replace(whole, estimates=estimates, samples={"ssim": similar.tolist()}, extractors={}, seconds={})


BASELINES = [ToyPlan(1, name="plain@50"), ToyPlan(8, 9, 2, name="slow and bad"), ToyPlan(3, 4, 1, name="CO6/P3")]


def race_in(store: Store, total: int, racing: bool = True, space: ToySpace = ToySpace()) -> Any:
    study = store.create_study("s", toy_settings(objectives=OBJECTIVES))
    enqueue(store, study, BASELINES, space, ToyEvaluator().evaluations)
    evaluator = Racing(race=Race(store, study) if racing else None)
    outcome = run_worker(store, "s", space, evaluator, ToyPlan.from_json, total_trials=total)
    return study, outcome


def test_what_is_dropped_stays_in_the_study_and_off_the_front(store: Store) -> None:
    study, outcome = race_in(store, 40)
    rows = trials(store, study)
    dropped = [row for row in rows if row.state == tables.SCREENED]
    assert len(dropped) == outcome.screened > 5 and outcome.scored + outcome.screened == 40 == len(rows)
    assert counts(store, study) == queue.Counts(done=outcome.scored, screened=outcome.screened)
    assert all(row.state == tables.DONE for row in rows if row.origin == "baseline")
    for row in dropped:
        assert row.reason is not None and row.reason.startswith("screened out on 8 prompts")
        assert row.scores["ssim"].n == 8 and len(samples(store, study, row.key, "ssim")) == 8
    told = store.optuna_study(study).trials
    for row in dropped:
        assert row.number is not None
        assert told[row.number].state == TrialState.PRUNED and told[row.number].user_attrs["reason"] == row.reason
    assert not {row.key for row in front_rows(rows, OBJECTIVES)} & {row.key for row in dropped}
    scale = scale_of(rows, OBJECTIVES)
    assert scale is not None
    volumes = gain(rows, OBJECTIVES), gain([row for row in rows if row not in dropped], OBJECTIVES)
    assert volumes[0] == volumes[1]
    assert history(rows, OBJECTIVES, scale).volume[-1] == pytest.approx(volumes[0].all if volumes[0] else 0)
    assert race_in(store, 40)[1].scored == 0  # a resumed study does not measure them again


def test_rivals_count_at_the_worst_end_of_their_latency_and_candidates_at_the_best(store: Store) -> None:
    study, _ = race_in(store, 3, racing=False)
    race = Race(store, study, lambda plan: None)
    rows = {row.words: row.scores["latency"] for row in trials(store, study)}
    assert len(race.rivals()) == 3
    for each in race.rivals():
        latency = rows[each.words]
        assert each.costs == {"latency": latency.high} and latency.low < latency.value < latency.high
        assert each.seconds == latency.value and each.share == pytest.approx(latency.value)
        assert race.at_best({"latency": latency}) == {"latency": latency.low}


def test_predicted_costs_are_trusted_within_their_worst_error(store: Store) -> None:
    study, _ = race_in(store, 3, racing=False)
    race = Race(store, study)
    standing = [
        Rival("it", {}, {}, predicted=0.5, share=0.5 * ratio, seconds=0.5 * ratio * 4) for ratio in (1, 0.9, 1, 1)
    ]
    race.rivals = lambda: standing  # type: ignore[method-assign]
    assert race.costs_of(0.3) is None  # four say too little
    standing.append(Rival("it", {}, {}, predicted=0.5, share=0.75, seconds=3.0))
    found = race.costs_of(0.3)
    assert found is not None and found["latency"] == pytest.approx(0.3 / 1.5 * 4)


def test_a_race_leaves_the_front_as_it_is(store: Store, tmp_path: Path) -> None:
    """The toy's drift is exact, so that the race drops just what does not belong to the front."""
    small = ToySpace(3, 2)
    total = 1 + 2 * 2 * 3 + 2  # every plan of the space, and two baselines outside of it
    study, raced = race_in(store, total, space=small)
    with Store.open(f"sqlite:///{tmp_path / 'whole.db'}") as other:
        whole, outcome = race_in(other, total, racing=False, space=small)
        assert outcome.screened == 0 < raced.screened and outcome.scored == raced.scored + raced.screened == total
        assert {row.key for row in trials(store, study)} == {row.key for row in trials(other, whole)}
        fronts = [front_rows(trials(each, of), OBJECTIVES) for each, of in ((store, study), (other, whole))]
    assert {row.key for row in fronts[0]} == {row.key for row in fronts[1]}
    told = store.optuna_study(study).trials
    again = [trial for trial in told if "duplicate_of" in trial.user_attrs]
    assert again and all(trial.state == told[trial.user_attrs["duplicate_of"]].state for trial in again)


def test_a_trial_left_running_by_a_dead_worker_is_pruned(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from studies.queue.optuna_mirror import Mirror

    with monkeypatch.context() as patched, pytest.raises(KeyError):
        patched.setattr(Mirror, "prune", lambda *_: (_ for _ in ()).throw(KeyError("killed here")))
        race_in(store, 40)
    study, _ = race_in(store, 5)
    states = {trial.state for trial in store.optuna_study(study).trials}
    assert TrialState.RUNNING not in states
    (dropped,) = [row for row in trials(store, study) if row.state == tables.SCREENED]
    assert dropped.number is not None and store.optuna_study(study).trials[dropped.number].state == TrialState.PRUNED


# On the embedded model -----------------------------------------------------------------------------------------------

CONFIG = SearchConfig(
    steps=3, prompt_count=10, objectives=("latency", "ssim"), baselines="none", batch=4, pairs=3, space="named"
)  # fmt: skip


@pytest.fixture(scope="module")
def session() -> Session:
    return open_session(CONFIG)


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"sqlite:///{tmp_path / 'own.db'}") as opened:
        yield opened


def plan_of(session: Session, name: str, mode: str) -> InheritancePlan:
    return strategy(name, mode=mode, steps=3, unet=session.architecture)


def same_but_time(one: Scored, other: Scored) -> bool:
    return all(one.samples[name] == other.samples[name] for name in {*one.samples, *other.samples} - {"latency"})


def test_pictures_of_a_race_are_those_of_the_whole_run(
    session: Session, own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beaten on 8 prompts, or raced to the end: the pictures and drifts are equal to the bit to those without a race,
    and each is made once."""
    evaluator = session.evaluator
    candidate = plan_of(session, "CO6", "P2")
    whole = evaluator.score(candidate)
    study = own_store.create_study("s", session.settings)

    class Meets(Race):
        def enters(self, key: str) -> bool:
            return True

        def rivals(self) -> list[Rival]:
            return standing

    drift = losses_of("ssim", whole.samples["ssim"])
    made: list[int] = []
    draw = PictureMaker.planned

    def counted(maker: PictureMaker, handle: Any, steps: int, prompts: Sequence[Any], first: int) -> Any:
        made.append(len(prompts))
        return draw(maker, handle, steps, prompts, first)

    monkeypatch.setattr(PictureMaker, "planned", counted)
    racing = evaluator.with_race(partial(Meets, own_store, study))
    standing: list[Rival] = [Rival("far ahead", {"latency": 0.0}, {"ssim": drift - 0.05})]
    dropped = racing.score(candidate)
    assert made == [8] and dropped.screened is not None and "far ahead" in dropped.screened
    assert set(dropped.estimates) >= {"latency", "ssim", "psnr"} and dropped.estimates["ssim"].n == 8
    assert dropped.samples["psnr"] == whole.samples["psnr"][:8] and len(dropped.pictures) == 8
    assert [a.png for a in dropped.pictures] == [b.png for b in whole.pictures[:8]]
    standing, made[:] = [Rival("slower", {"latency": 1e9}, {"ssim": drift - 0.05})], []
    raced = racing.score(candidate)
    assert made == [8, 2] and raced.screened is None
    assert [a.png for a in raced.pictures] == [b.png for b in whole.pictures]
    assert same_but_time(raced, whole) and raced.seconds.keys() == whole.seconds.keys()


def timings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each latency that is measured."""
    timed: list[int] = []
    measure = LatencyMeter.measure
    monkeypatch.setattr(LatencyMeter, "measure", lambda *given: timed.append(1) or measure(*given))
    return timed


def test_with_a_profile_drift_decides_before_anything_is_timed(
    session: Session, own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = session.evaluator
    study = own_store.create_study("s", session.settings)
    candidate = plan_of(session, "CO6", "P2")

    class Profile:
        """Predicts 1 s within 10% for whatever is asked; what a race and a measurement read of a profile."""

        worst_error = 1e9  # no speed-up is too much to be true
        cost_model = SimpleNamespace(
            run=0.0, evaluation=0.0, step_seconds=lambda mask: 1.0, loop_seconds=lambda *_, **__: 1.0
        )

        def predicted_latency(self, plan: InheritancePlan, evaluations: int, students: object = None) -> Estimate:
            return Estimate(1.0, 0.9, 1.1, 1)

    class Meets(Race):
        def enters(self, key: str) -> bool:
            return True

        def rivals(self) -> list[Rival]:
            return [standing]

    timed = timings(monkeypatch)
    evaluator = evaluator.with_race(partial(Meets, own_store, study)).with_profile(Profile())  # type: ignore[arg-type]
    standing = Rival("as fast at best", {"latency": 0.9}, {"ssim": np.full(10, -1.0)})
    assert evaluator.score(candidate).screened is not None and not timed
    standing = Rival("slower than its best", {"latency": 0.95}, {"ssim": np.full(10, -1.0)})
    assert evaluator.score(candidate).screened is None and len(timed) == 1


def test_without_a_profile_the_calibration_decides_before_anything_is_timed(
    session: Session, own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = session.evaluator
    study = own_store.create_study("s", session.settings)
    candidate = plan_of(session, "CO6", "P2")

    class Predictor:
        """Half the un-accelerated time for every plan; what a race reads of a calibration."""

        calibration = SimpleNamespace(errors=SimpleNamespace(pictures=1))

        def cost(self, plan: InheritancePlan) -> float:
            return 0.5

        def drift(self, plan: InheritancePlan) -> float:
            return 0.1

    class Meets(Race):
        def enters(self, key: str) -> bool:
            return True

        def rivals(self) -> list[Rival]:
            fast, drift = {"latency": 0.0}, {"ssim": np.full(10, -1.0)}
            return [Rival("far ahead", fast, drift, 0.3, 0.3, 1.0) for _ in range(standing)]

    timed = timings(monkeypatch)
    predictor: Any = Predictor()
    evaluator = evaluator.with_race(partial(Meets, own_store, study)).with_drift_model(lambda share: predictor)
    standing = FEW
    dropped = evaluator.score(candidate)
    assert dropped.screened is not None and not timed and "latency" not in dropped.estimates
    standing = FEW - 1  # too few to say how far predictions are off: timed first
    assert evaluator.score(candidate).screened is not None and len(timed) == 1


def test_a_search_says_where_its_batch_leaves_no_look(
    session: Session, own_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    study = own_store.create_study("s", session.settings)
    evaluator = session.evaluator.with_race(partial(Race, own_store, study))
    _tell_no_look(replace(session, evaluator=evaluator))
    assert not capsys.readouterr().err
    evaluator = replace(evaluator, maker=replace(evaluator.maker, batch=10))
    _tell_no_look(replace(session, evaluator=evaluator))
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("note: a race checks after complete batches, so with --batch 10 and 10 prompts every plan")


@pytest.mark.parametrize(("racing", "prompts", "most"), [("drift", 64, 16), ("drift", 16, 8), ("off", 64, 32)])
def test_a_batch_of_auto_leaves_a_race_its_looks(
    session: Session, racing: str, prompts: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr("studies.searching.opening.chosen_batch", lambda *args: given.append(args[-1]) or 1)
    config = replace(session.config, batch=None, racing=racing, prompt_count=prompts)
    open_session(config, session.evaluator.pipe)
    assert given == [most]
