"""Names that tell the truth, and all the scores of a candidate at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from explorer.errors import ScoreError
from explorer.models.prompts import Prompt
from explorer.quality import METRICS, Reference, Scorer, clip_score, frechet, kid, load_extractor, paired, resolve
from tests.explorer.scores_fixtures import random_pictures, write_clip

CPU = torch.device("cpu")
COUNT = 24


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"openclip:{write_clip(tmp_path_factory.mktemp('clip') / 'tiny')}"


@pytest.fixture(scope="module")
def baseline() -> torch.Tensor:
    return random_pictures(COUNT)


@pytest.fixture(scope="module")
def candidate(baseline: torch.Tensor) -> torch.Tensor:
    noise = 12 * torch.randn(baseline.shape, generator=torch.Generator().manual_seed(1))
    return (baseline + noise).clamp(0, 255).to(torch.uint8)


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return [Prompt(f"picture number {number}") for number in range(COUNT)]


TRUE_NAMES = {
    "emojiclip": ["fd_emojiclip", "kid_emojiclip", "clip_emojiclip"],
    "inception": ["fid", "kid", "clip"],
    "efficientnet": ["fd_efficientnet", "kid_efficientnet", "clip"],
    "openclip:ViT-B-32/openai": ["fd_vit_b_32_openai", "kid_vit_b_32_openai", "clip_vit_b_32_openai"],
    "openclip:ViT-g-14": ["fd_vit_g_14_laion2b_s34b_b88k", "kid_vit_g_14_laion2b_s34b_b88k", "clip"],
}


@pytest.mark.parametrize("extractor", TRUE_NAMES)
@pytest.mark.parametrize("asked", ["fd", "fid"])
def test_only_inception_gives_an_fid(extractor: str, asked: str) -> None:
    objectives = resolve([asked, "kid", "clip", "psnr", "ssim", "lpips"], extractor)
    assert [each.name for each in objectives] == [*TRUE_NAMES[extractor], "psnr", "ssim", "lpips"]
    directions = ["minimize", "minimize", "maximize", "maximize", "maximize", "minimize"]
    assert [each.direction for each in objectives] == directions
    assert resolve([each.name for each in objectives], extractor) == objectives


def test_the_clip_model_can_be_another_than_the_extractors() -> None:
    assert [each.name for each in resolve(["fd", "clip"], "inception", "emojiclip")] == ["fid", "clip_emojiclip"]
    assert [each.name for each in resolve(["fd", "clip"], "emojiclip", "ViT-g-14")] == ["fd_emojiclip", "clip"]


def test_the_inception_score_needs_a_classifier() -> None:
    assert resolve(["is"], "inception")[0].name == "is"
    assert resolve(["is"], "efficientnet")[0].name == "is_efficientnet"
    with pytest.raises(ScoreError, match="needs a classifier, and emojiclip is not one"):
        resolve(["is"], "emojiclip")


@pytest.mark.parametrize("name", ["latency", "FID", "", "fd_inception", "fd_efficientnet", "fid_emojiclip", "clip_x"])
def test_unknown_metrics_are_refused(name: str) -> None:
    with pytest.raises(ScoreError, match=f"'{name}' is not a metric.*use one of fd, fid, kid"):
        resolve([name], "emojiclip")


@pytest.mark.parametrize("names", [["psnr", "psnr"], ["fd", "fid"], ["fd", "fd_emojiclip"]])
def test_a_metric_named_twice_is_refused(names: list[str]) -> None:
    with pytest.raises(ScoreError, match="asked for twice"):
        resolve(names, "emojiclip")


def test_every_score_is_what_its_own_function_gives(
    clip: str, baseline: torch.Tensor, candidate: torch.Tensor, prompts: list[Prompt]
) -> None:
    scorer = Scorer(["fd", "kid", "clip", "psnr", "ssim"], clip, None, None, CPU)
    scores = scorer.score(candidate, prompts, baseline)
    assert (
        list(scores)
        == ["fd_tiny", "kid_tiny", "clip_tiny", "psnr", "ssim"]
        == [each.name for each in scorer.objectives]
    )
    extract = load_extractor(clip, CPU)
    ours, theirs = extract(candidate), extract(baseline)
    assert scores["fd_tiny"] == frechet.paired_estimate(ours.values, theirs.values)
    assert scores["kid_tiny"] == kid.estimate(ours.values, theirs.values, paired=True)
    assert scores["psnr"].value == pytest.approx(paired.psnr(candidate, baseline).mean())
    assert scores.each["ssim"] == pytest.approx(paired.ssim(candidate, baseline))
    assert scores["clip_tiny"].value == pytest.approx(np.mean(scores.each["clip_tiny"]))
    assert all(estimate.n == COUNT for estimate in scores.values())
    assert set(scores.seconds) == {"features", *scores}
    assert all(seconds > 0 for seconds in scores.seconds.values())
    assert clip_score.SCALE == 100


def test_the_baseline_scored_against_itself(clip: str, baseline: torch.Tensor) -> None:
    scores = Scorer(["fd", "kid", "psnr", "ssim"], clip, None, None, CPU).score(baseline, (), baseline)
    assert [scores[name].value for name in scores] == pytest.approx([0, 0, paired.PSNR_LIMIT, 1], abs=1e-6)
    assert [scores[name].high - scores[name].low for name in scores] == pytest.approx([0, 0, 0, 0], abs=1e-6)


@pytest.mark.parametrize("of_baseline", [True, False])
def test_what_is_the_references_alone_is_computed_once(
    clip: str, baseline: torch.Tensor, candidate: torch.Tensor, monkeypatch: pytest.MonkeyPatch, of_baseline: bool
) -> None:
    extract = load_extractor(clip, CPU)
    reference = None if of_baseline else Reference.from_pictures(random_pictures(60, seed=5), extract)
    terms, features = [], []
    own_term, from_pictures = kid.own_term, Reference.from_pictures
    monkeypatch.setattr(kid, "own_term", lambda *a, **k: terms.append(1) or own_term(*a, **k))
    monkeypatch.setattr(Reference, "from_pictures", lambda *a: features.append(1) or from_pictures(*a))
    if reference is not None:
        reference = Reference.from_features("real", extract, reference.features)
    scorer = Scorer(["kid"], clip, reference, None, CPU)
    for pictures in (candidate, baseline, candidate):
        found = scorer.score(pictures, (), baseline)["kid_tiny"]
        other = reference.features if reference is not None else extract(baseline).values
        count = len(terms)
        assert found == kid.estimate(extract(pictures).values, other, paired=of_baseline)
        del terms[count:]
    assert len(terms) == 1 and len(features) == (1 if of_baseline else 0)


def test_a_reference_of_real_pictures(clip: str, candidate: torch.Tensor) -> None:
    extract = load_extractor(clip, CPU)
    real = extract(random_pictures(60, seed=5)).values
    reference = Reference.from_features("real", extract, real)
    scorer = Scorer(["fd", "kid"], clip, reference, None, CPU)
    scores = scorer.score(candidate)
    ours = extract(candidate).values
    assert scores["fd_tiny"] == frechet.estimate(ours, reference.mean, reference.cov)
    assert scores["kid_tiny"] == kid.estimate(ours, real)
    assert scorer.floor(COUNT) == reference.floor(COUNT)
    assert scorer.floor(COUNT).value > 0


def test_a_new_baseline_is_a_new_reference(clip: str, baseline: torch.Tensor, candidate: torch.Tensor) -> None:
    scorer = Scorer(["fd"], clip, None, None, CPU)
    assert scorer.score(candidate, (), baseline)["fd_tiny"].value > 1e-3
    assert scorer.score(candidate, (), candidate)["fd_tiny"].value == pytest.approx(0, abs=1e-6)


def test_pairs_alone_load_no_network(baseline: torch.Tensor, candidate: torch.Tensor) -> None:
    """The extractor's weights are not on this machine and are not asked for."""
    scores = Scorer(["psnr", "ssim"], "openclip:ViT-B-32/openai", None, None, CPU).score(candidate, (), baseline)
    assert 15 < scores["psnr"].value < 40


def test_inception_score_of_a_classifier(candidate: torch.Tensor) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    scores = Scorer(["is"], "efficientnet", None, None, CPU).score(candidate)
    assert 1 <= scores["is_efficientnet"].low <= scores["is_efficientnet"].value < COUNT


def test_what_a_metric_lacks_is_said(clip: str, baseline: torch.Tensor, candidate: torch.Tensor) -> None:
    with pytest.raises(ScoreError, match="fd_tiny needs at least 2 pictures, and 1 was given"):
        Scorer(["fd"], clip, None, None, CPU).score(candidate[:1], (), baseline[:1])
    with pytest.raises(ScoreError, match="24 pictures and 1 prompts"):
        Scorer(["clip"], clip, None, None, CPU).score(candidate, ["a"])
    with pytest.raises(ScoreError, match="un-accelerated pictures are the reference, and none were given"):
        Scorer(["kid"], clip, None, None, CPU).score(candidate)
    with pytest.raises(ScoreError, match="psnr compares with the un-accelerated pictures"):
        Scorer(["psnr"], clip, None, None, CPU).score(candidate)
    with pytest.raises(ScoreError, match="as many pictures on both sides"):
        Scorer(["fd"], clip, None, None, CPU).score(candidate[:5], (), baseline)
    with pytest.raises(ScoreError, match="bytes of shape"):
        Scorer(["psnr"], clip, None, None, CPU).score(candidate.float(), (), baseline.float())


def test_a_reference_of_another_extractor_is_refused_at_once(clip: str, tmp_path: Path) -> None:
    extract = load_extractor(clip, CPU)
    reference = Reference.from_features("real", extract, extract(random_pictures(6)).values)
    other = f"openclip:{write_clip(tmp_path / 'other')}"
    with pytest.raises(ScoreError, match="was made with"):
        Scorer(["fd"], other, reference, None, CPU)


def test_every_metric_is_described() -> None:
    assert set(METRICS) == {"fd", "fid", "kid", "is", "clip", "psnr", "ssim", "lpips"}
    assert all(metric.label and metric.direction in ("minimize", "maximize") for metric in METRICS.values())
