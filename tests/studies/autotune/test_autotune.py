"""`explorer autotune`: how a budget is split, what is picked and said, and one whole run on the embedded model."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from explorer import InheritancePlan, PlanError, StudyError
from explorer.estimate import Estimate
from explorer.plans.strategies import strategy
from studies import Store, trials
from studies.autotune import sharing
from studies.autotune.autotune import (  # fmt: skip
    OBJECTIVES,
    TRY_SEEDS,
    Result,
    Tuning,
    _certificate,
    first_plans,
    search,
)
from studies.autotune.sharing import LEAST_PLANS, Split, baseline_count, split_budget
from studies.autotune.words import outcome_words, pictures_needed
from studies.certificates.held_out import FRESH_SEED, held_out
from studies.choosing.choice import Asked, Bound, choose
from studies.choosing.judgement import FAILS, HOLDS, OPEN, PAIRS, PICTURES, Limits
from studies.choosing.pick import Candidate, bounds_within, candidates, eligible, fastest_plain, just_beyond
from studies.cli import run
from studies.config import SearchConfig
from studies.searching.pace import Speed
from studies.searching.preparation import WORTH
from studies.searching.session import Session, open_session
from studies.storage.facts import PlanFacts
from tests.studies.scored_study import emoji_architecture, fill

SPEED = Speed(loop=0.4, picture=0.5, scoring=0.02, calibration=60.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A file alone: what is read here does not differ between databases."""
    with Store.open(tmp_path / "explorer.db") as opened:
        yield opened


@pytest.mark.parametrize("budget", [300, 1800, 7200, 100_000])
@pytest.mark.parametrize("speed", [SPEED, Speed(0.05, 0.06, 0.01, 10.0), Speed(0.6, 0.7, 0.2, 0.0)])
def test_what_is_predicted_fits_the_budget(budget: float, speed: Speed) -> None:
    split = split_budget(budget, 5.0, speed, prompts=64)
    trial = speed.trial(split.prompts, split.pairs)
    search = speed.first(split.prompts, split.pairs) + split.plans * trial
    assert 5 + split.calibration + search + speed.certificate(split.pictures, split.pairs) <= budget * 1.02
    assert split.plans >= LEAST_PLANS and split.prompts <= 64 and split.pictures >= 8


def test_more_time_means_more_of_everything() -> None:
    splits = [split_budget(budget, 5.0, SPEED, 64) for budget in (300, 900, 3600, 14_400)]
    for name in ("prompts", "pictures", "plans"):
        values = [getattr(split, name) for split in splits]
        assert values[0] < values[-1], name
    assert [split.prompts for split in splits] == sorted(split.prompts for split in splits)
    grown = splits[0].grown(2.0)
    assert (grown.prompts, grown.pairs) == (splits[0].prompts, splits[0].pairs)
    assert grown.pictures == 2 * splits[0].pictures
    assert Split.from_json(json.loads(json.dumps(grown.to_json()))) == grown
    earlier = {name: value for name, value in grown.to_json().items() if name != "calibration"}
    assert Split.from_json(earlier) == replace(grown, calibration=0.0), "of a version that never calibrated"


@pytest.mark.parametrize("budget", [300, 450, 600, 3600, 14_400])
def test_a_calibration_needs_plans_that_follow_from_it(budget: float) -> None:
    split = split_budget(budget, 5.0, SPEED, 64)
    never = split_budget(budget, 5.0, replace(SPEED, calibration=0.0), 64)
    assert split.calibration in (0.0, 60.0) and never.calibration == 0
    if split.calibration:
        assert split.plans - baseline_count(split.plans) >= WORTH
        assert split.prompts <= never.prompts and split.plan_seconds * (split.plans - never.plans) < 60
    else:
        assert split == never
    assert bool(split.calibration) == (budget >= 600)
    assert split_budget(budget, 5.0, replace(SPEED, calibration=0.8 * budget), 64) == never


def test_too_small_a_budget_says_what_fits() -> None:
    with pytest.raises(StudyError, match=r"too small here.*give --budget (\d+)s or more") as caught:
        split_budget(30, 5.0, SPEED, 64)
    needed = float(str(caught.value).split("--budget ")[1].split("s")[0])
    assert split_budget(needed, 5.0, SPEED, 64).plans >= LEAST_PLANS


def test_the_first_plans_are_the_controls_and_what_is_worth_trying() -> None:
    names = [plan.name for plan in first_plans(emoji_architecture(), 20)]
    assert names[:4] == ["plain@20", "plain@10", "DC0/P3+f2", "plain@8"]
    assert len(names) == len(set(names)) and len(first_plans(emoji_architecture(), 1)) > LEAST_PLANS


def test_other_schedulers_have_their_controls_beside_those_of_the_own() -> None:
    plans = first_plans(emoji_architecture(), 20, ("DPMSolverMultistepScheduler",))
    names = [plan.name for plan in plans]
    assert names[:5] == ["plain@20", "plain@10", "plain@10/DPMSolverMultistep", "DC0/P3+f2", "plain@8"]
    alone = first_plans(emoji_architecture(), 20)
    assert [plan for plan in plans if plan.scheduler is None] == alone
    assert sum(plan.scheduler is not None for plan in plans) == sum(plan.steps < 20 for plan in alone)


# Picking -------------------------------------------------------------------------------------------------------------


def test_losses_are_paired_with_the_un_accelerated_pictures(store: Store) -> None:
    study = fill(store)
    plain, found = candidates(store, study, "clip_emojiclip")
    assert plain is not None and plain.name == "plain@4"
    assert [each.row.name for each in found] == ["CO6/P2", "DC0/P3+f2", "DC0/P2"]
    # Every picture lost 1, 2 or 3, so the paired interval has no width, however much the prompts differ.
    assert [each.loss for each in found] == [Estimate(float(loss), loss, loss, 3) for loss in (3, 2, 1)]


def candidate(name: str, speedup: float, loss: float, psnr: float, drift: float = 0.1) -> Candidate:
    from studies.results.rows import TrialRow

    values = {"speedup": speedup, "clip": 80.0 - loss, "ssim": 1 - drift, "psnr": psnr}
    scores = {metric: Estimate(value, value, value, 8) for metric, value in values.items()}
    facts = PlanFacts(mode="none" if name.startswith("plain@") else "P2", nickname=name)
    row = TrialRow(
        0, name, "done", "baseline", name, [], name, {}, None, None, None, None, scores, {}, {}, None, facts=facts
    )  # fmt: skip
    return Candidate(row, speedup, Estimate(loss, loss - 1, loss + 1, 8), drift, psnr)


FAST = candidate("DC0/P5", 3.0, 2.0, 25.0, 0.4)
GOOD = candidate("DC0/P3", 2.0, 0.5, 30.0, 0.2)
SAFE = candidate("DC0/P2", 1.5, 0.1, 40.0, 0.05)
PLAIN = candidate("plain@25", 1.9, 0.7, 22.0, 0.3)
SLOW = candidate("AI/P2", 0.9, 0.0, 50.0)
DPM = "DPMSolverMultistep"
FEWER_OF_DPM = PlanFacts("none", "none", "none", 25, DPM, nickname=f"plain@25/{DPM}")
OTHER = replace(PLAIN, row=replace(PLAIN.row, name=f"plain@25/{DPM}", facts=FEWER_OF_DPM))
FOUND = [FAST, GOOD, PLAIN, SAFE, SLOW]
CONTROL = candidate("plain@50", 1.0, 0.0, 100.0, 0.0).row


def bounds(limits: Limits) -> list[Bound]:
    return bounds_within(limits, "clip", CONTROL)


def test_the_fastest_within_the_limits_comes_first() -> None:
    limits = bounds(Limits(0.01))
    assert eligible(FOUND, limits, []) == [GOOD, PLAIN, SAFE]
    assert eligible(FOUND, bounds(Limits(0.01, 0.1)), []) == [SAFE]
    # Where one does not hold, only what is closer to the un-accelerated pictures is worth a certificate; controls stay.
    assert eligible(FOUND, limits, [GOOD]) == [PLAIN, SAFE]
    assert eligible(FOUND, limits, [GOOD, SAFE]) == [PLAIN]
    assert eligible(FOUND, limits, [GOOD, SAFE, PLAIN]) == []
    assert fastest_plain(FOUND, limits) == PLAIN
    assert just_beyond(FOUND, GOOD, limits) == FAST and just_beyond(FOUND, FAST, limits) is None


@given(
    some.lists(some.tuples(*[some.sampled_from([0.0, 0.1, 0.25, 0.4, 0.8, 1.2])] * 3), max_size=8),
    some.sampled_from([0.0, 0.005, 0.01]),
    some.sampled_from([0.1, 0.25, 0.4]),
)
def test_autotune_and_show_choose_the_same_plan(plans: list[tuple[float, ...]], loss: float, drift: float) -> None:
    """One definition of drift and one of what keeps a limit, also where LPIPS was measured, and at the very limit."""
    found = [
        candidate(f"DC0/P{i}", 1.1 + speed + i / 100, lost, 30.0, drifted)
        for i, (speed, lost, drifted) in enumerate(plans)
    ]
    for each in found:
        each.row.scores["lpips"] = Estimate(0.9, 0.9, 0.9, 8)
    found.sort(key=lambda each: -each.speedup)
    wish = Asked(loss, drift).wish([*CONTROL.scores, "lpips"])
    chosen = choose([CONTROL, *(each.row for each in found)], wish, CONTROL).plan
    first = eligible(found, bounds(Limits(loss, drift)), [])
    assert chosen is (first[0].row if first else CONTROL)


def certificate(verdict: str = HOLDS, beats: bool = True, undecided: str = PICTURES) -> dict[str, Any]:
    clip = {"value": 80.0, "low": 79.0, "high": 81.0, "n": 64}
    return {
        "claim": {
            "verdict": verdict,
            "sentence": "The sentence.",
            "beats_fewer_steps": beats,
            "undecided": [undecided] if verdict == OPEN else [],
        },
        "clip": "clip",
        "count": 64,
        "prompts": 300,
        "also_certified": [],
        "runs": {"full": {"scores": {"clip": clip}}, "plan": {"speedup": {"value": 1.95, "n": 7}}},
        "differences": {
            "plan": {
                "clip": {"value": -0.4, "low": -1.2, "high": 0.4, "n": 64},
                "drift": {"value": 0.1, "low": 0.08, "high": 0.14, "n": 64},
            }
        },
    }


RESULT = Result(GOOD, certificate(), FOUND, [], [], 60, 0, 80.0, bounds(Limits(0.01)))


@pytest.mark.parametrize(
    ("change", "expected", "absent"),
    [
        (
            {},
            ["Chosen: DC0/P3 (1.95x), the fastest of 60 plans", "The sentence.", "within the limit are plain@25"],
            "-",
        ),
        ({}, ["A larger limit would give more: DC0/P5 was 3.00x at a CLIP loss of 2.5%"], "Only"),
        ({"certificate": certificate(beats=False)}, ["Nothing beats fewer steps beyond doubt"], "-"),
        ({"chosen": PLAIN}, ["Nothing beats fewer steps here", "inherits nothing"], "within the limit are"),
        ({"chosen": OTHER}, ["Nothing beats another scheduler alone here"], "fewer steps"),
        ({"certificate": certificate(OPEN)}, ["does not show it yet", "certify about 256 pictures"], "-"),
        (
            {"certificate": certificate(OPEN, undecided=PAIRS)},
            ["undecided by 7 timed pairs", "--pairs 35 and --again"],
            "pictures",
        ),
        ({"certificate": certificate() | {"also_certified": ["X"]}}, ["X was certified in the same search"], "-"),
        ({"chosen": None, "certificate": None, "aside": Path("mine/earlier")}, ["was moved to mine/earlier"], "Chosen"),
        ({"chosen": None, "certificate": None}, ["Nothing was chosen: none of 60 plans"], "The sentence"),
        ({"chosen": None, "given_up": [GOOD], "untried": [SAFE]}, ["(DC0/P3)", "certify DC0/P2 (1.50x)"], "Chosen"),
        ({"plans": 12}, ["Only 12 plans were tried"], "-"),
    ],
)
def test_what_is_said(change: dict[str, Any], expected: list[str], absent: str) -> None:
    said = "\n".join(outcome_words(replace(RESULT, **change), Limits(0.01), 50))
    assert all(words in said for words in expected), said
    assert absent == "-" or absent not in said


def test_a_plan_without_a_name_goes_by_its_nickname() -> None:
    plan = replace(strategy("DC0/P3+f2", steps=50, unet=emoji_architecture()), name=None)
    unnamed = replace(
        GOOD.row, name=None, words=plan.describe(), facts=PlanFacts.of(plan.to_json(), None, plan.describe())
    )
    chosen = replace(GOOD, row=unnamed)
    said = outcome_words(replace(RESULT, chosen=chosen, untried=[chosen]), Limits(0.01), 50)
    assert said[0].startswith("Chosen: DC0/P3+f2@50 (1.95x), the fastest")
    assert any("No time was left to certify DC0/P3+f2@50" in words for words in said)
    assert not any(plan.describe() in words for words in said)


def test_how_many_pictures_would_settle_it() -> None:
    # Half the room is taken by the loss of 0.4 of 0.8; the interval reaches 0.8 where 0.4 is left: 4 times as many.
    assert pictures_needed(certificate(OPEN), Limits(0.01)) == 64 * 4
    assert pictures_needed(certificate(OPEN), Limits(0.004)) is None
    # Of a drift of 0.1 the interval reaches 0.04 further: at a limit of 0.11 a sixteenth of its square.
    assert pictures_needed(certificate(OPEN), Limits(0.1, 0.11)) == 64 * 16
    assert pictures_needed(certificate(OPEN), Limits(0.1, 0.1)) is None
    assert pictures_needed(certificate(OPEN, undecided=PAIRS), Limits(0.01)) is None


def test_the_command_line_chooses_as_autotune_does(
    store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    study = fill(store)
    plain, found = candidates(store, study, "clip_emojiclip")
    assert plain is not None
    storage = ["--storage", f"sqlite:///{tmp_path / 'explorer.db'}"]
    for loss, drift in ((5, 0.3), (4, 0.3), (5, 0.15), (0.1, 0.05)):
        limits = bounds_within(Limits(loss / 100, drift), "clip_emojiclip", plain)
        chosen = [each.row.number for each in eligible(found, limits, [])][:1] or [plain.number]
        asked = ["--max-clip-loss", f"{loss}%", "--max-drift", str(drift)]
        assert run(["show", "small", *storage, *asked, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["choice"]["trial"] == chosen[0], asked
    assert run(["show", "small", *storage, "--max-clip-loss", "4%"]) == 0
    assert "explorer export small --trial 2 --out DIR" in capsys.readouterr().out
    assert run(["show", "small", *storage, "--min", "speedup=1.2", "--max", "latency=0.6", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["choice"]["kept"] == 2
    refused = {"--max-clip-loss": "must be a share", "--min": "must be METRIC=X", "--max-drift": "at most 1, got 7"}
    for wrong, words in refused.items():
        assert run(["show", "small", *storage, wrong, "7"]) == 1
        assert words in capsys.readouterr().err


# The whole -----------------------------------------------------------------------------------------------------------


def test_a_calibrated_search_proposes_races_and_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted on its way and begun again, as `explorer search` would do with the same study."""
    from studies.searching import calibrate

    monkeypatch.setattr(sharing, "LEAST_PLANS", 1)
    monkeypatch.setattr(calibrate, "PICTURES", 1)
    monkeypatch.setattr(calibrate, "POINTS", 2)
    said: list[str] = []

    def say(last: str, text: str) -> None:
        said.append(text)
        if text.startswith(last):
            raise KeyboardInterrupt

    config = SearchConfig(
        objectives=OBJECTIVES, reference="baseline", steps=3, pairs=3, prompt_count=2, calibrate=True, study="tune"
    )
    session = open_session(config)
    with Store.open(tmp_path / "explorer.db") as store:
        for last in ("search, plan 3:", "search, plan 4:"):
            tuning = Tuning(config, Limits(), 10_000.0, tmp_path / "out", partial(say, last), held_out(config))
            tuning.split = Split(2, 3, 2, 1.0, 10.0, 8, 1.0, calibration=1.0)
            session = replace(session, evaluator=session.evaluator.reseeded(config.seed))
            with pytest.raises(KeyboardInterrupt):
                search(tuning, session, store)
            assert session.evaluator.race is not None and session.evaluator.saved is not None
            assert list(session.evaluator.saved.folder.glob("*.safetensors"))
        found = trials(store, store.study("tune"))
        assert store.study("tune").settings.extra["calibrated"]
    finished = [row for row in found if row.state in ("done", "screened")]
    assert len(finished) == 4 and finished[0].name == "plain@3"
    assert all(row.proposed_by and "predicted_drift" in row.scores for row in finished if row.origin == "search")
    assert sum(row.origin == "search" for row in finished) == 3
    kinds = [words.split(",")[0] for words in said]
    assert kinds[0] == "calibration" and "calibration" not in kinds[kinds.index("search") :], "what stands is kept"


def test_a_calibration_leaves_time_for_plans_or_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And where the command is given again with more time, it goes on with the parts that stand."""
    from studies.autotune import autotune
    from studies.predicting import calibration
    from studies.searching import calibrate

    monkeypatch.setattr(sharing, "LEAST_PLANS", 1)
    monkeypatch.setattr(calibrate, "PICTURES", 1)
    monkeypatch.setattr(calibrate, "POINTS", 2)
    said: list[str] = []
    config = SearchConfig(
        objectives=OBJECTIVES, reference="baseline", steps=3, pairs=3, prompt_count=2, calibrate=True, study="tune"
    )
    session = open_session(config)
    with Store.open(tmp_path / "explorer.db") as store:
        for budget in (11.5, 10_000.0):
            tuning = Tuning(config, Limits(), budget, tmp_path / "out", said.append, held_out(config))
            tuning.split = Split(2, 3, 2, 1.0, 10.0, 8, 1.0, calibration=1.0)
            session = replace(session, evaluator=session.evaluator.reseeded(config.seed))
            if budget > 100:
                monkeypatch.setattr(autotune, "run_worker", lambda *given, **named: None)
            study = search(tuning, session, store)
            whole = calibration.load(store, study)
            assert (whole is not None) == (budget > 100) == (session.evaluator.predictor is not None)
            if whole is None:
                parts = len(calibration.parts(store, study))
                assert any(f"not whole: {parts} of" in words for words in said)
                assert [row.state for row in trials(store, study) if row.finished] == ["done"]


def test_an_autotune_from_beginning_to_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generous limit, so that something is chosen from few pictures; then the same command again."""

    monkeypatch.setattr(sharing, "LEAST_PLANS", 2)
    out = tmp_path / "mine"
    command = ["autotune", "--steps", "4", "--max-clip-loss", "95%", "--out", str(out), "--json"]
    command += ["--schedulers", "own,DPMSolverMultistep", "--budget"]
    assert run([*command, "1s"]) == 1 and not out.exists()
    budget = float(capsys.readouterr().err.split("give --budget ")[1].split("s")[0]) * 1.2  # what fits on this machine
    command.append(f"{budget:.0f}s")
    said, first = "", {"plain@2", f"plain@2/{DPM}", "DC0/P3+f2"}
    for _ in range(5):  # on a machine that got busier meanwhile the same command goes on with a larger budget
        started = time.monotonic()
        status = run(command)
        took = time.monotonic() - started
        captured = capsys.readouterr()
        if status == 1 and "give --budget" in captured.err:
            budget *= 2
            command[-1] = f"{budget:.0f}s"
            continue
        assert status == 0
        document, said = json.loads(captured.out), said + captured.err
        # What is begun is ended, so a machine that stalls in between makes it longer; for ever is caught.
        assert took < 5 * budget + 60
        with Store.open(out / ".tune" / "explorer.db", read_only=True) as work:
            study = work.study("tune")
            names = {row.name for row in trials(work, study)}
        if document["plans"] >= 2 and first <= names:  # there may be room for fewer
            break
        budget *= 2
        command[-1] = f"{budget:.0f}s"
    assert document["plans"] >= 2 and first <= names
    assert document["words"][0].startswith(("Chosen", "Nothing was chosen"))
    assert "left] certificate of" in said and "left] search, plan 1: plain@4" in said
    assert study.settings.extra["schedulers"] == ["own", "DPMSolverMultistepScheduler"]
    if document["chosen"] is None:
        assert not (out / "inheritance.json").exists()
        return
    plan = InheritancePlan.from_pretrained(out)
    assert plan.made_for is not None and plan.made_for.model == "emoji"
    assert "## Certificate" in (out / "README.md").read_text() and (out / "certificate.html").is_file()
    assert run(command) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["chosen"] == document["chosen"] and again["plans"] == document["plans"]
    tries = [json.loads(path.read_text()) for path in out.glob(".tune/explorer-certificates/*/*/certificate.json")]
    assert {each["settings"]["seed"] for each in tries} == {FRESH_SEED + i * TRY_SEEDS for i in range(len(tries))}
    # A limit that nothing keeps: the export that stands must not pass for one that does.
    strict = [word for word in command if word not in ("--max-clip-loss", "95%")]
    assert run([*strict, "--max-clip-loss", "0%", "--max-drift", "1e-9"]) == 0
    captured = capsys.readouterr()
    none = json.loads(captured.out)
    assert none["chosen"] is None and none["moved_aside"] == str(out / "earlier")
    assert "holds the export of an earlier run, until this one has chosen" in captured.err
    assert any(f"it was moved to {out / 'earlier'}" in words for words in none["words"])
    assert sorted(path.name for path in out.iterdir()) == [".tune", "earlier"]
    assert InheritancePlan.from_pretrained(out / "earlier") == plan
    with pytest.raises(PlanError):
        InheritancePlan.from_pretrained(out)


def test_every_try_has_seeds_of_its_own_and_keeps_them(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Certificates that shared their pictures would be judged by what chose them. Measuring them is another test."""
    study = fill(store)
    _, found = candidates(store, study, "clip_emojiclip")
    small = SearchConfig(objectives=("latency", "clip"), reference="baseline", steps=4, pairs=3, seed=5)
    certifying = held_out(small)
    session = open_session(certifying)
    made: list[tuple[int, int, list[str]]] = []

    def certify(session: Session, plan: Any, words: str, folder: Path, **named: Any) -> dict[str, Any]:
        made.append((session.settings.seed, session.evaluator.seed, named["also_certified"]))
        return {"claim": {"verdict": FAILS}}

    monkeypatch.setattr("studies.autotune.autotune.certify", certify)
    split = Split(8, 3, 6, 1.0, 10.0, 8, 1.0)

    def go_on(*chosen: int) -> None:
        tuning = Tuning(small, Limits(), 1000.0, tmp_path / "out", lambda _: None, certifying)
        tuning.load()
        tuning.split = split
        for number in chosen:
            _certificate(tuning, session, store, study, found[number], found)

    first = FRESH_SEED + 5
    go_on(0, 1)
    go_on(2, 1)  # a later run: what was tried keeps its seeds, and what is new gets others
    names = [each.row.words for each in found]
    assert [(seed, others) for seed, _, others in made] == [
        (first, []),
        (first + TRY_SEEDS, names[:1]),
        (first + 2 * TRY_SEEDS, names[:2]),
        (first + TRY_SEEDS, [names[0], names[2]]),
    ]
    assert all(seed == drawn for seed, drawn, _ in made) and session.evaluator.seed == first


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{}", '{"spent": 1, "budget": 9}', '{"spent": "x", "budget": 9, "split": {}}',
        '{"spent": 1, "budget": 0, "split": {}}', '{"spent": 1, "budget": 9, "split": {"prompts": 8}}',
        json.dumps({"spent": 1, "budget": 9, "split": Split(8, 3, 6, 1.0, 1.0, 8, 1.0).to_json() | {"prompts": None}}),
        json.dumps({"spent": 1, "budget": 9, "split": Split(8, 3, 6, 1.0, 1.0, 8, 1.0).to_json() | {"pairs": -1}}),
    ],
)  # fmt: skip
def test_a_spoilt_state_is_one_sentence(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".tune").mkdir()
    (tmp_path / ".tune" / "tune.json").write_text(content)
    assert run(["autotune", "--steps", "4", "--out", str(tmp_path), "--budget", "1h"]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1 and "tune.json cannot be read" in errors[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--budget", "soon"], "--budget must be a time"),
        (["--budget", "3s"], "too small"),
        (["--model", "arch:sd15"], "random weights"),
        (["--model", "nothing"], "no such model 'nothing'"),
        (["--max-clip-loss", "200%"], "--max-clip-loss must be a share"),
        (["--max-drift", "0"], "more than 0 and at most 1, got 0"),
        (["--prompts", "mine.txt"], "no held-out set is known"),
        (["--out", "full"], "not empty and not of an earlier"),
        (["--out", "file"], "is a file"),
        (["--steps", "0"], "--steps must be more than zero"),
        (["--schedulers", "own,os.system"], "--schedulers: a plan may not name the scheduler 'os.system'"),
        (["--schedulers", "DDIM"], "--schedulers must have own among its names"),
    ],
)
def test_bad_autotunes_are_one_sentence_and_leave_nothing(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    (tmp_path / "file").write_text("")
    (tmp_path / "mine.txt").write_text("a\nb\n")
    before = {path: path.stat().st_size for path in tmp_path.rglob("*")}
    assert run(["autotune", "--steps", "4", *arguments]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1 and words in errors[0]
    assert {path: path.stat().st_size for path in tmp_path.rglob("*")} == before
