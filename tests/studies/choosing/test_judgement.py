"""What is claimed of a plan, whether its intervals show it, and how limits and budgets are written."""

from __future__ import annotations

import pytest

from explorer.errors import StudyError
from explorer.estimate import Estimate
from studies.budget import parse_budget, parse_share
from studies.choosing.judgement import FAILS, HOLDS, OPEN, PAIRS, PICTURES, PROMPTS, PlainRival, QualityLimits, judge
from studies.wording import figures, interval, percent, pictures, ratio, speed_words


def estimate(value: float, reach: float = 0.1) -> Estimate:
    return Estimate(value, value - reach, value + reach, 64)


ZERO = estimate(0.0)


@pytest.mark.parametrize(
    ("speedup", "change", "drift", "limits", "verdict", "words"),
    [
        (
            estimate(2.1),
            estimate(-0.2, 0.5),
            ZERO,
            QualityLimits(0.01),
            HOLDS,
            "no measurable CLIP loss (-0.20 [-0.70, 0.30])",
        ),
        (estimate(2.1), estimate(-0.5, 0.2), ZERO, QualityLimits(0.01), HOLDS, "at a CLIP loss of 0.50 [0.30, 0.70]"),
        (estimate(2.1), estimate(0.5, 0.2), ZERO, QualityLimits(0.0), HOLDS, "at a CLIP gain of 0.50"),
        (
            estimate(2.1),
            estimate(-0.5, 0.6),
            ZERO,
            QualityLimits(0.01),
            OPEN,
            "not shown by 64 pictures of 64 prompts (certify more pictures)",
        ),
        (estimate(2.1), estimate(-2.0, 0.6), ZERO, QualityLimits(0.01), FAILS, "The claim does not hold"),
        (estimate(1.05), ZERO, ZERO, QualityLimits(0.01), OPEN, "not shown"),
        (estimate(0.8), ZERO, ZERO, QualityLimits(0.01), FAILS, "slower than 50 plain steps (0.80x [0.70, 0.90])"),
        (estimate(2.1), ZERO, estimate(0.2, 0.05), QualityLimits(0.01, 0.3), HOLDS, "a drift of 0.20 [0.15, 0.25]"),
        (
            estimate(2.1),
            ZERO,
            estimate(0.3, 0.05),
            QualityLimits(0.01, 0.3),
            OPEN,
            "a drift (1 - SSIM) of 0.3 are allowed",
        ),
        (estimate(2.1), ZERO, estimate(0.4, 0.05), QualityLimits(0.01, 0.3), FAILS, "does not hold"),
    ],
)
def test_a_claim_is_judged_by_its_interval(
    speedup: Estimate, change: Estimate, drift: Estimate, limits: QualityLimits, verdict: str, words: str
) -> None:
    claim = judge(50, 80.0, speedup, change, drift, [], limits, 64)
    assert claim.verdict == verdict and words in claim.sentence and claim.sentence.count(". ") == 0
    assert claim.to_json()["holds"] == (verdict == HOLDS) and not claim.beats_fewer_steps


@pytest.mark.parametrize(
    ("clip", "psnr", "loss", "beaten", "words"),
    [
        (estimate(1.4), estimate(3.0), estimate(1.4), True, "22 plain steps of about the same cost lose 1.40"),
        (ZERO, estimate(3.0), ZERO, True, "lose nothing measurable"),
        (ZERO, ZERO, ZERO, False, "so fewer steps do as well"),
        (estimate(-1.0), estimate(3.0), estimate(-1.0), False, "gain 1.00 [0.90, 1.10], so fewer steps do as well"),
        (estimate(-1.0), estimate(-3.0), estimate(-1.0), False, "so fewer steps do better"),
    ],
)
def test_fewer_steps_are_told_of(clip: Estimate, psnr: Estimate, loss: Estimate, beaten: bool, words: str) -> None:
    rival = PlainRival("22 plain steps", clip, psnr, loss)
    claim = judge(50, 80.0, estimate(2.0), ZERO, ZERO, [rival], QualityLimits(), 64)
    assert claim.beats_fewer_steps == rival.beaten == beaten and words in claim.sentence


@pytest.mark.parametrize(
    ("speedup", "change", "prompts", "undecided", "words", "absent"),
    [
        (estimate(1.05), ZERO, 64, (PAIRS,), ["64 timed pairs", "--pairs, with --again"], "more pictures"),
        (None, ZERO, 64, (PAIRS,), ["work on the machine disturbed (run the same command", "unknown speed"], "as fast"),
        (estimate(2.0), estimate(-0.5, 0.6), 64, (PICTURES,), ["(certify more pictures)"], "--pairs"),
        (estimate(2.0), estimate(-0.5, 0.6), 16, (PICTURES,), ["64 pictures of 16 prompts", "more --prompts"], "pairs"),
        (estimate(2.0), estimate(-0.9, 0.6), 64, (PICTURES,), ["likelier to refute it"], "certify more"),
        (estimate(1.0), estimate(-0.5, 0.6), 64, (PICTURES, PAIRS), ["certify more pictures; ", "--again"], "slower"),
        (estimate(2.0), estimate(-9.0, 0.6), 3, (PROMPTS,), ["at least 8 --prompts"], "certify more"),
    ],
)
def test_an_open_claim_says_what_would_settle_it(
    speedup: Estimate | None, change: Estimate, prompts: int, undecided: tuple[str, ...], words: list[str], absent: str
) -> None:
    claim = judge(50, 80.0, speedup, change, ZERO, [], QualityLimits(0.01), prompts)
    assert claim.verdict == OPEN and claim.undecided == undecided == tuple(claim.to_json()["undecided"])
    assert all(each in claim.sentence for each in words) and absent not in claim.sentence, claim.sentence


@pytest.mark.parametrize(
    ("speed", "words"),
    [
        (Estimate(2.1, 2.0, 2.2, 7), "2.10x [2.00, 2.20] as fast as it"),
        (Estimate(0.98, 0.95, 1.02, 7), "about as fast as it (0.98x [0.95, 1.02])"),
        (Estimate(1.01, 1.0, 1.02, 7), "about as fast as it (1.01x [1.00, 1.02])"),
        (Estimate(0.98, 0.95, 0.99, 7), "slower than it (0.98x [0.95, 0.99])"),
    ],
)
def test_a_slower_run_is_never_called_faster(speed: Estimate, words: str) -> None:
    assert speed_words(speed, "it") == speed_words(speed.to_json(), "it") == words
    assert ratio(speed) in words


@pytest.mark.parametrize(
    ("share", "words"), [(0.01, "1%"), (0.00125, "0.125%"), (0.0125, "1.25%"), (0.1234567, "12.3%"), (0.0, "0%")]
)
def test_limits_are_written_with_three_digits(share: float, words: str) -> None:
    assert percent(share) == words and words in QualityLimits(share).words(80.0)
    assert f"({figures(share * 80)})" in QualityLimits(share).words(80.0)


def test_small_numbers_keep_two_digits() -> None:
    assert interval(estimate(30.123)) == "30.12 [30.02, 30.22]" and interval(ZERO, sign=True) == "+0.00 [-0.10, 0.10]"
    assert interval(estimate(0.0123, 0.001)) == "0.012 [0.011, 0.013]"
    assert interval(Estimate(0.0, 0.0, 0.0, 3)) == "0.00 [0.00, 0.00]"
    assert (pictures(1000, 256), pictures(8, 1)) == ("1,000 pictures of 256 prompts", "8 pictures of 1 prompt")


@pytest.mark.parametrize(
    ("text", "seconds"), [("30m", 1800), ("2h", 7200), ("90s", 90), ("1h30m", 5400), ("1.5m", 90), (" 2H ", 7200)]
)
def test_budgets(text: str, seconds: float) -> None:
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "-5m", "0s", "5 minutes", "1d", "nan", "9999h", "5m5"])
def test_bad_budgets(text: str) -> None:
    with pytest.raises(StudyError, match="--budget must be"):
        parse_budget(text)


@pytest.mark.parametrize(("text", "share"), [("1%", 0.01), ("0.01", 0.01), ("0", 0.0), ("2.5 %", 0.025)])
def test_shares(text: str, share: float) -> None:
    assert parse_share("--max-clip-loss", text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "-1%", "100%", "1", "much", "nan"])
def test_bad_shares(text: str) -> None:
    with pytest.raises(StudyError, match="--max-clip-loss must be a share"):
        parse_share("--max-clip-loss", text)
