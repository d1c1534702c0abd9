"""Options to wishes, and wishes to plans."""

from __future__ import annotations

import pytest

from explorer.errors import StudyError
from explorer.estimate import Estimate
from studies.choosing.choice import AskedLimits, Limit, Wish, choose, parse_bound
from studies.metrics import direction_of
from studies.results.rows import TrialRow
from tests.studies.results.test_summary import CLOSE, FASTEST, FEWER, PLAIN, ROWS, WORSE, row

METRICS = ["latency", "speedup", "fd_x", "clip", "psnr"]


@pytest.mark.parametrize(
    ("asked", "limits"),
    [
        (AskedLimits(clip_loss=0.01), (Limit("clip", 0.01, True),)),
        (AskedLimits(least=(("psnr", 30),)), (Limit("psnr", 30),)),
        (AskedLimits(least=(("psnr", 30),), most=(("fd", 20),)), (Limit("psnr", 30), Limit("fd_x", 20))),
        (AskedLimits(least=(("speedup", 1.5),)), (Limit("speedup", 1.5),)),
        (AskedLimits(most=(("latency", 0.5),)), (Limit("latency", 0.5),)),
    ],
)
def test_options_bound_the_metrics_of_the_study(asked: AskedLimits, limits: tuple[Limit, ...]) -> None:
    assert asked and asked.wish(METRICS) == Wish(limits)


def test_no_option_asks_for_no_plan() -> None:
    assert not AskedLimits()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (AskedLimits(least=(("lpips", 1),)), "measures no lpips; it has latency, speedup, fd_x"),
        (AskedLimits(least=(("drift", 0.1),)), "use --max-drift"),
        (AskedLimits(drift=0.1), "measures no ssim"),
        (AskedLimits(most=(("psnr", 20),)), "of psnr more is better.* use --min psnr=20"),
        (AskedLimits(least=(("fd", 20),)), "of fd less is better.* use --max fd=20"),
    ],
)
def test_a_limit_that_the_study_cannot_tell_is_one_sentence(asked: AskedLimits, words: str) -> None:
    with pytest.raises(StudyError, match=words):
        asked.wish(METRICS)


@pytest.mark.parametrize("text", ["psnr", "psnr=", "=30", "psnr=much", "psnr=nan", "psnr=inf", "psnr>=30", ""])
def test_a_bound_is_a_metric_and_a_number(text: str) -> None:
    with pytest.raises(StudyError, match="--min must be METRIC=X, such as psnr=30"):
        parse_bound("--min", text)
    assert parse_bound("--min", " PSNR = 3e1") == ("psnr", 30.0)


def test_drift_is_of_ssim_and_lpips_only_by_name() -> None:
    both = [*METRICS, "ssim", "lpips"]
    assert AskedLimits(drift=0.1).wish(both) == Wish((Limit("ssim", 0.9),)) == Wish((Limit.of_drift(0.1),))
    assert AskedLimits(most=(("lpips", 0.1),)).wish(both) == Wish((Limit("lpips", 0.1),))
    drifted = row(9, None, 0.1, 1, 99)
    drifted.scores["ssim"] = Estimate(0.95, 0.94, 0.96, 4)
    assert "keep drift (1 - SSIM) ≤ 0.1" in choose([drifted], AskedLimits(drift=0.1).wish(both), PLAIN).words


def test_the_fastest_that_keeps_the_limit() -> None:
    loss = AskedLimits(clip_loss=0.02).wish(METRICS)
    found = choose(ROWS, loss, PLAIN)
    assert (found.plan, found.kept, found.sure) == (CLOSE, 2, False)
    assert "certify it" in found.words
    assert choose(ROWS, loss, PLAIN, sure=True).plan is None or choose(ROWS, loss, PLAIN, sure=True).sure
    assert choose(ROWS, AskedLimits(clip_loss=0.5).wish(METRICS), PLAIN).plan is FASTEST
    assert choose(ROWS, Wish(()), None).plan is FASTEST


def test_sure_holds_the_worse_end() -> None:
    wish = AskedLimits(most=(("fd", 24),)).wish(METRICS)
    assert choose(ROWS, wish, PLAIN).plan is CLOSE
    assert choose([PLAIN, FEWER, WORSE], wish, PLAIN).plan is FEWER
    certain = choose([PLAIN, FEWER, WORSE], wish, PLAIN, sure=True)
    assert certain.plan is PLAIN and certain.sure


def test_the_best_at_a_speed() -> None:
    assert choose(ROWS, Wish((Limit("speedup", 2),), "fd_x"), PLAIN).plan is CLOSE


def test_sure_of_a_loss_is_sure_of_the_paired_difference() -> None:
    """The plans' own intervals reach far beyond the limit; what the prompts share cancels in the difference."""
    wish = AskedLimits(clip_loss=0.02).wish(METRICS)

    def paired(row: TrialRow, metric: str) -> Estimate:
        value = row.scores[metric].value - PLAIN.scores[metric].value
        return Estimate(value, value - 0.01, value + 0.01, 64)

    assert choose([PLAIN, CLOSE], wish, PLAIN, sure=True).plan is not CLOSE
    found = choose([PLAIN, CLOSE], wish, PLAIN, sure=True, paired=paired)
    assert found.plan is CLOSE and found.sure and choose([PLAIN, CLOSE], wish, PLAIN, paired=paired).sure


def test_what_none_keeps_names_the_nearest() -> None:
    found = choose(ROWS, AskedLimits(least=(("speedup", 9),)).wish(METRICS), PLAIN)
    assert found.plan is None and found.nearest is FASTEST
    assert found.words.startswith("None of 5 plans keeps speedup ≥ 9")


def test_rows_without_the_score_are_left_out() -> None:
    bare = row(9, None, 0.1, 1, 99)
    del bare.scores["clip"]
    assert choose([*ROWS, bare], AskedLimits(clip_loss=0.02).wish(METRICS), PLAIN).plan is CLOSE
    assert choose([bare], AskedLimits(least=(("clip", 1),)).wish(METRICS), PLAIN).words.startswith(
        "No plan has the scores"
    )


def test_a_loss_needs_a_control() -> None:
    with pytest.raises(StudyError, match="not scored yet"):
        choose(ROWS, AskedLimits(clip_loss=0.01).wish(METRICS), None)


def test_a_negative_control_loses_downwards() -> None:
    below = row(0, "plain@50", 10, 20, 30)
    below.scores["clip"] = Estimate(-4.0, -5.0, -3.0, 4)
    assert Limit("clip", 0.5, True).bound(below, "maximize").value == pytest.approx(-6.0)
    assert Limit("fd_x", 0.5, True).bound(below, "minimize").value == pytest.approx(30.0)


def test_directions() -> None:
    assert direction_of("clip_emojiclip") == "maximize"
    assert direction_of("kid_inception") == "minimize"
