"""`explorer autotune`: how a budget is split, what is picked and said, and one whole run on the embedded model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from explorer import StudyError
from explorer.estimate import Estimate
from explorer.plans.strategies import strategy
from studies import Store
from studies.autotune.autotune import (  # fmt: skip
    AutotuneResult,
    first_plans,
)
from studies.autotune.sharing import LEAST_PLANS, Split, baseline_count, split_budget
from studies.autotune.words import outcome_words, pictures_needed
from studies.choosing.choice import AskedLimits, Bound, choose
from studies.choosing.judgement import HOLDS, OPEN, PAIRS, PICTURES, QualityLimits
from studies.choosing.pick import ScoredPlan, bounds_within, candidates, eligible, fastest_plain, just_beyond
from studies.cli import run
from studies.searching.pace import Speed
from studies.searching.preparation import WORTH
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
    plans = first_plans(emoji_architecture(), 20, {"scheduler": ("DPMSolverMultistepScheduler",)})
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


def candidate(name: str, speedup: float, loss: float, psnr: float, drift: float = 0.1) -> ScoredPlan:
    from studies.results.rows import TrialRow

    values = {"speedup": speedup, "clip": 80.0 - loss, "ssim": 1 - drift, "psnr": psnr}
    scores = {metric: Estimate(value, value, value, 8) for metric, value in values.items()}
    facts = PlanFacts(mode="none" if name.startswith("plain@") else "P2", nickname=name)
    row = TrialRow(
        0, name, "done", "baseline", name, [], name, {}, None, None, None, None, scores, {}, {}, None, facts=facts
    )  # fmt: skip
    return ScoredPlan(row, speedup, Estimate(loss, loss - 1, loss + 1, 8), drift, psnr)


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


def bounds(limits: QualityLimits) -> list[Bound]:
    return bounds_within(limits, "clip", CONTROL)


def test_the_fastest_within_the_limits_comes_first() -> None:
    limits = bounds(QualityLimits(0.01))
    assert eligible(FOUND, limits, []) == [GOOD, PLAIN, SAFE]
    assert eligible(FOUND, bounds(QualityLimits(0.01, 0.1)), []) == [SAFE]
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
    wish = AskedLimits(loss, drift).wish([*CONTROL.scores, "lpips"])
    chosen = choose([CONTROL, *(each.row for each in found)], wish, CONTROL).plan
    first = eligible(found, bounds(QualityLimits(loss, drift)), [])
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


RESULT = AutotuneResult(GOOD, certificate(), FOUND, [], [], 60, 0, 80.0, bounds(QualityLimits(0.01)))


@pytest.mark.parametrize(
    ("change", "expected", "absent"),
    [
        (
            {},
            ["Chosen: DC0/P3 (1.95x), the fastest of 60 plans", "The sentence.", "within the limit are plain@25"],
            "-",
        ),
        ({}, ["A larger limit would give more: DC0/P5 was 3.00x at a CLIP loss of 2.5%"], "Only"),
        ({"certificate": certificate(beats=False)}, ["Nothing certainly beats fewer steps"], "-"),
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
        ({"plans": 12}, ["Only 12 plans were scored"], "-"),
    ],
)
def test_what_is_said(change: dict[str, Any], expected: list[str], absent: str) -> None:
    said = "\n".join(outcome_words(replace(RESULT, **change), QualityLimits(0.01), 50))
    assert all(words in said for words in expected), said
    assert absent == "-" or absent not in said


def test_a_plan_without_a_name_goes_by_its_nickname() -> None:
    plan = replace(strategy("DC0/P3+f2", steps=50, unet=emoji_architecture()), name=None)
    unnamed = replace(
        GOOD.row, name=None, words=plan.describe(), facts=PlanFacts.of(plan.to_json(), None, plan.describe())
    )
    chosen = replace(GOOD, row=unnamed)
    said = outcome_words(replace(RESULT, chosen=chosen, untried=[chosen]), QualityLimits(0.01), 50)
    assert said[0].startswith("Chosen: DC0/P3+f2@50 (1.95x), the fastest")
    assert any("No time was left to certify DC0/P3+f2@50" in words for words in said)
    assert not any(plan.describe() in words for words in said)


def test_how_many_pictures_would_settle_it() -> None:
    # Half the room is taken by the loss of 0.4 of 0.8; the interval reaches 0.8 where 0.4 is left: 4 times as many.
    assert pictures_needed(certificate(OPEN), QualityLimits(0.01)) == 64 * 4
    assert pictures_needed(certificate(OPEN), QualityLimits(0.004)) is None
    # Of a drift of 0.1 the interval reaches 0.04 further: at a limit of 0.11 a sixteenth of its square.
    assert pictures_needed(certificate(OPEN), QualityLimits(0.1, 0.11)) == 64 * 16
    assert pictures_needed(certificate(OPEN), QualityLimits(0.1, 0.1)) is None
    assert pictures_needed(certificate(OPEN, undecided=PAIRS), QualityLimits(0.01)) is None


def test_the_command_line_chooses_as_autotune_does(
    store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    study = fill(store)
    plain, found = candidates(store, study, "clip_emojiclip")
    assert plain is not None
    storage = ["--storage", f"sqlite:///{tmp_path / 'explorer.db'}"]
    for loss, drift in ((5, 0.3), (4, 0.3), (5, 0.15), (0.1, 0.05)):
        limits = bounds_within(QualityLimits(loss / 100, drift), "clip_emojiclip", plain)
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
