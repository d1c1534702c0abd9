"""Sentences to wishes, and wishes to plans."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from explorer.errors import StudyError
from explorer.estimate import Estimate
from studies.choice import Limit, Wish, choose, direction_of, parse_wish
from studies.rows import TrialRow
from tests.studies.test_summary import CLOSE, FASTEST, FEWER, PLAIN, ROWS, WORSE, row

METRICS = ["latency", "speedup", "fd_x", "clip", "psnr"]


@pytest.mark.parametrize(
    ("sentence", "wish"),
    [
        ("at most 1% CLIP loss", Wish((Limit("clip", 0.01, True),))),
        ("As fast as possible with at most 2.5 % clip loss", Wish((Limit("clip", 0.025, True),))),
        ("clip loss <= 0.01", Wish((Limit("clip", 0.01, True),))),
        ("a clip loss of at most 3%", Wish((Limit("clip", 0.03, True),))),
        ("as fast as possible at psnr >= 30", Wish((Limit("psnr", 30),))),
        ("psnr at least 30 dB and fd <= 20", Wish((Limit("psnr", 30), Limit("fd_x", 20)))),
        ("at least 2x, best fd", Wish((Limit("speedup", 2),), "fd_x")),
        ("at least 1.5 times as fast; the best clip", Wish((Limit("speedup", 1.5),), "clip")),
        ("latency below 0.5", Wish((Limit("latency", 0.5),))),
        ("fastest", Wish(())),
    ],
)
def test_sentences(sentence: str, wish: Wish) -> None:
    assert parse_wish(sentence, METRICS) == wish


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("make it nice", "cannot be read"),
        ("", "cannot be read"),
        ("at most 1% lpips loss", "measures no lpips"),
        ("as fast as possible at drift <= 0.1", "say psnr >= 30"),
        ("psnr <= 20", "more is better"),
        ("fd at least 20", "less is better"),
    ],
)
def test_what_is_no_wish_is_one_sentence(sentence: str, words: str) -> None:
    with pytest.raises(StudyError, match=words):
        parse_wish(sentence, METRICS)


@given(some.text(max_size=40))
def test_any_text_is_a_wish_or_refused(text: str) -> None:
    try:
        parse_wish(text, METRICS)
    except StudyError as error:
        assert str(error)


def test_drift_is_of_ssim_and_lpips_only_by_name() -> None:
    both = [*METRICS, "ssim", "lpips"]
    assert parse_wish("drift <= 0.1", both) == parse_wish("drift <= 0.1", [*METRICS, "ssim"])
    assert parse_wish("drift <= 0.1", both) == Wish((Limit("ssim", 0.9),)) == Wish((Limit.of_drift(0.1),))
    assert parse_wish("lpips <= 0.1", both) == Wish((Limit("lpips", 0.1),))
    drifted = row(9, None, 0.1, 1, 99)
    drifted.scores["ssim"] = Estimate(0.95, 0.94, 0.96, 4)
    assert "keep drift (1 - SSIM) ≤ 0.1" in choose([drifted], parse_wish("drift <= 0.1", both), PLAIN).words
    with pytest.raises(StudyError, match="of drift less is better"):
        parse_wish("drift at least 0.1", both)
    assert parse_wish("as fast as possible at drift <= 0.25", [*METRICS, "ssim"]) == Wish((Limit("ssim", 0.75),))


def test_the_fastest_that_keeps_the_limit() -> None:
    loss = parse_wish("at most 2% clip loss", METRICS)
    found = choose(ROWS, loss, PLAIN)
    assert (found.plan, found.kept, found.sure) == (CLOSE, 2, False)
    assert "certify it" in found.words
    assert choose(ROWS, loss, PLAIN, sure=True).plan is None or choose(ROWS, loss, PLAIN, sure=True).sure
    assert choose(ROWS, parse_wish("clip loss <= 0.5", METRICS), PLAIN).plan is FASTEST
    assert choose(ROWS, parse_wish("fastest", METRICS), None).plan is FASTEST


def test_sure_holds_the_worse_end() -> None:
    wish = parse_wish("fd <= 24", METRICS)
    assert choose(ROWS, wish, PLAIN).plan is CLOSE
    assert choose([PLAIN, FEWER, WORSE], wish, PLAIN).plan is FEWER
    certain = choose([PLAIN, FEWER, WORSE], wish, PLAIN, sure=True)
    assert certain.plan is PLAIN and certain.sure


def test_the_best_at_a_speed() -> None:
    assert choose(ROWS, parse_wish("at least 2x, best fd", METRICS), PLAIN).plan is CLOSE


def test_sure_of_a_loss_is_sure_of_the_paired_difference() -> None:
    """The plans' own intervals reach far beyond the limit; what the prompts share cancels in the difference."""
    wish = parse_wish("at most 2% clip loss", METRICS)

    def paired(row: TrialRow, metric: str) -> Estimate:
        value = row.scores[metric].value - PLAIN.scores[metric].value
        return Estimate(value, value - 0.01, value + 0.01, 64)

    assert choose([PLAIN, CLOSE], wish, PLAIN, sure=True).plan is not CLOSE
    found = choose([PLAIN, CLOSE], wish, PLAIN, sure=True, paired=paired)
    assert found.plan is CLOSE and found.sure and choose([PLAIN, CLOSE], wish, PLAIN, paired=paired).sure


def test_what_none_keeps_names_the_nearest() -> None:
    found = choose(ROWS, parse_wish("at least 9x", METRICS), PLAIN)
    assert found.plan is None and found.nearest is FASTEST
    assert found.words.startswith("None of 5 plans keeps speedup ≥ 9")


def test_rows_without_the_score_are_left_out() -> None:
    bare = row(9, None, 0.1, 1, 99)
    del bare.scores["clip"]
    assert choose([*ROWS, bare], parse_wish("at most 2% clip loss", METRICS), PLAIN).plan is CLOSE
    assert choose([bare], parse_wish("clip >= 1", METRICS), PLAIN).words.startswith("No plan has the scores")


def test_a_loss_needs_a_control() -> None:
    with pytest.raises(StudyError, match="not scored yet"):
        choose(ROWS, parse_wish("at most 1% clip loss", METRICS), None)


def test_a_negative_control_loses_downwards() -> None:
    below = row(0, "plain@50", 10, 20, 30)
    below.scores["clip"] = Estimate(-4.0, -5.0, -3.0, 4)
    assert Limit("clip", 0.5, True).bound(below, "maximize").value == pytest.approx(-6.0)
    assert Limit("fd_x", 0.5, True).bound(below, "minimize").value == pytest.approx(30.0)


def test_directions() -> None:
    assert direction_of("clip_emojiclip") == "maximize"
    assert direction_of("kid_inception") == "minimize"
