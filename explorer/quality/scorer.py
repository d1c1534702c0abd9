"""All the scores of a candidate from one pass over its pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from explorer.errors import ScoreError
from explorer.estimate import Estimate
from explorer.prompts import Prompt, texts
from explorer.quality import clip_score, frechet, inception_score, kid, paired
from explorer.quality.bootstrap import mean_estimate
from explorer.quality.clip_model import canonical_clip, load_clip
from explorer.quality.features import Features, canonical_extractor, check_pictures, load_extractor
from explorer.quality.metrics import METRICS, default_clip, find_metric, resolve
from explorer.quality.reference import Reference

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


class Scores(dict[str, Estimate]):
    """Estimates by true name. `seconds` each took, the shared pass over the pictures under `features`; `each` holds
    the values of single pictures.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = {}
        self.each: dict[str, list[float]] = {}


class Scorer:
    """Scores candidates with the same metrics, extractor, reference and CLIP model.

    `reference` None compares with the un-accelerated pictures. Networks are loaded here, so that what cannot be had
    is said before pictures are made.
    """

    def __init__(
        self,
        metrics: Sequence[str],
        extractor: str,
        reference: Reference | None,
        clip_model: str | None,
        device: torch.device,
        allow_download: bool = False,
    ) -> None:
        self.extractor = canonical_extractor(extractor)
        self.clip_model = canonical_clip(clip_model) if clip_model else default_clip(self.extractor)
        self.objectives = resolve(metrics, self.extractor, self.clip_model)
        self.reference = reference
        self._metrics = {
            objective.name: find_metric(objective.name, self.extractor, self.clip_model)
            for objective in self.objectives
        }
        kinds = {METRICS[metric].kind for metric in self._metrics.values()}
        self._extract = load_extractor(self.extractor, device, allow_download) if "features" in kinds else None
        self._clip = load_clip(self.clip_model, device) if "clip" in kinds else None
        self._lpips = paired.load_lpips(device, allow_download) if "lpips" in self._metrics.values() else None
        self._device = device
        self._baseline: tuple[torch.Tensor, Reference] | None = None
        if reference is not None and self._extract is not None:
            reference.check(self._extract)

    def score(
        self,
        pictures: torch.Tensor,
        prompts: Sequence[str | Prompt] = (),
        baseline_pictures: torch.Tensor | None = None,
    ) -> Scores:
        """Every metric of pictures uint8 (N, 3, H, W), made of `prompts`, beside the un-accelerated ones of the same
        prompts and seeds.

        Raises ScoreError for fewer pictures than a metric needs, and for missing prompts or baseline where a metric
        needs them.
        """
        check_pictures(pictures)
        for name, metric in self._metrics.items():
            if len(pictures) < METRICS[metric].minimum:
                raise ScoreError(
                    f"{name} needs at least {METRICS[metric].minimum} pictures, and {len(pictures)} was given; "
                    "give more prompts."
                )
        scores = Scores()
        start = time.perf_counter()
        features = self._features(pictures, baseline_pictures)
        scores.seconds["features"] = time.perf_counter() - start
        for name, metric in self._metrics.items():
            start = time.perf_counter()
            if METRICS[metric].kind == "features":
                assert features is not None
                scores[name] = self._of_features(metric, features, baseline_pictures)
            else:
                values = (
                    self._of_prompts(pictures, prompts, features)
                    if metric == "clip"
                    else self._of_pairs(metric, pictures, baseline_pictures)
                )
                scores.each[name] = values.tolist()
                scores[name] = mean_estimate(values)
            scores.seconds[name] = time.perf_counter() - start
        return scores

    def floor(self, size: int, baseline_pictures: torch.Tensor | None = None) -> Estimate:
        """The Frechet distance between two real sets of `size` pictures: what stands beside every Frechet distance at
        that count.
        """
        return self._against(baseline_pictures).floor(size)

    def _features(self, pictures: torch.Tensor, baseline: torch.Tensor | None) -> Features | None:
        if self._extract is None:
            return None
        if any(metric in ("fd", "fid", "kid") for metric in self._metrics.values()):
            self._against(baseline)
        return self._extract(pictures)

    def _against(self, baseline: torch.Tensor | None) -> Reference:
        """The reference; of the un-accelerated pictures it is computed once and kept while they stay the same."""
        if self.reference is not None:
            return self.reference
        if self._extract is None:
            raise ScoreError("No metric of features was asked for, so there is no reference to compare with.")
        import torch

        if baseline is None:
            raise ScoreError(
                "The un-accelerated pictures are the reference, and none were given; make them first, or name a "
                "reference."
            )
        if self._baseline is None or not torch.equal(self._baseline[0], baseline):
            self._baseline = (baseline, Reference.from_pictures(baseline, self._extract))
        return self._baseline[1]

    def _of_features(self, metric: str, features: Features, baseline: torch.Tensor | None) -> Estimate:
        if metric == "is" and features.logits is not None:
            return inception_score.estimate(features.logits)
        reference = self._against(baseline)
        if metric == "kid":
            return kid.estimate(features.values, reference.features, paired=reference.paired)
        if reference.paired:
            return frechet.paired_estimate(features.values, reference.features)
        return frechet.estimate(features.values, reference.mean, reference.cov)

    def _of_prompts(self, pictures: torch.Tensor, prompts: Sequence[str | Prompt], features: Features | None) -> Array:
        assert self._clip is not None
        if len(prompts) != len(pictures):
            raise ScoreError(
                f"A CLIP score needs a prompt for every picture; {len(pictures)} pictures and {len(prompts)} "
                "prompts were given."
            )
        shared = features is not None and features.embeddings is not None and self.clip_model == self.extractor
        rows = features.embeddings if shared and features is not None else self._clip.encode_pictures(pictures)
        assert rows is not None
        return clip_score.cosines(rows, self._clip.encode_prompts(texts(prompts)))

    def _of_pairs(self, metric: str, pictures: torch.Tensor, baseline: torch.Tensor | None) -> Array:
        if baseline is None:
            raise ScoreError(
                f"{metric} compares with the un-accelerated pictures, and none were given; make them first."
            )
        if metric == "psnr":
            return paired.psnr(pictures, baseline)
        if metric == "ssim":
            return paired.ssim(pictures, baseline)
        return paired.lpips(pictures, baseline, self._lpips, self._device)
