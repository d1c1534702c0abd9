"""All the scores of a candidate from one pass over its pictures."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from explorer.bootstrap import mean_estimate
from explorer.errors import ScoreError
from explorer.estimate import Estimate
from explorer.models.prompts import Prompt, texts
from explorer.quality.clip_model import canonical_clip, load_clip
from explorer.quality.features import Features, canonical_extractor, check_pictures, load_extractor
from explorer.quality.metrics import default_clip, find_metric, resolve
from explorer.quality.reference import BASELINE, Keep, Reference
from explorer.quality.registry import METRICS, Pair

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from explorer.bootstrap import Groups

    Array = NDArray[np.float64]


class Scores(dict[str, Estimate]):
    """Estimates by the metrics' true names.

    Attributes:
        seconds: Seconds that each metric took; `features` is the shared pass over the pictures.
        each: Values of single pictures, for the metrics that have them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = {}
        self.each: dict[str, list[float]] = {}


@dataclass
class Raw:
    """What is measured of N pictures before any average.

    Attributes:
        count: N.
        each: Values (N,) of the metrics of single pictures.
        features: For the metrics that compare distributions.
        seconds: Seconds that each metric took; `features` is the pass of the extractor.
    """

    count: int
    each: dict[str, Array]
    features: Features | None = None
    seconds: dict[str, float] = field(default_factory=dict)


class Scorer:
    """Scores pictures with a fixed set of metrics. Networks are loaded when it is made.

    Args:
        metrics: Names of `METRICS`.
        extractor: One of `EXTRACTORS`.
        reference: What features are compared with; None is the un-accelerated pictures.
        clip_model: The CLIP model of the CLIP score. By default the extractor if it is one, else ViT-g-14.
        device: Where networks run.
        allow_download: Whether weights may be downloaded.

    Attributes:
        extractor: The extractor's name.
        clip_model: The CLIP model's name.
        objectives: The metrics under their true names.
        reference: As given.

    Raises:
        ScoreError: For an unknown metric, weights that are not available, or a reference of another extractor.
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
        inputs = frozenset[str]().union(*(metric.inputs for metric in self._metrics.values()))
        self._extract = load_extractor(self.extractor, device, allow_download) if "features" in inputs else None
        self._clip = load_clip(self.clip_model, device) if "prompts" in inputs else None
        self._networks = {
            metric.name: metric.load(device, allow_download) for metric in self._metrics.values() if metric.load
        }
        self._compares = "reference" in inputs
        self._device = device
        self._baseline: tuple[torch.Tensor, Reference] | None = None
        if reference is not None and self._extract is not None:
            reference.check(self._extract)

    def score(
        self,
        pictures: torch.Tensor,
        prompts: Sequence[str | Prompt] = (),
        baseline_pictures: torch.Tensor | None = None,
        keep: Keep | None = None,
    ) -> Scores:
        """Compute every metric.

        Args:
            pictures: uint8 (N, 3, H, W).
            prompts: The prompt of each picture.
            baseline_pictures: The un-accelerated pictures of the same prompts and seeds, of the same shape.
            keep: Keeps the features of the un-accelerated pictures for other processes.

        Raises:
            ScoreError: For fewer pictures than a metric needs, and for prompts or a baseline that are needed and
                missing.
        """
        check_pictures(pictures)
        self._check_count(len(pictures))
        start = time.perf_counter()
        reference = self._against(baseline_pictures, keep) if self._compares else None
        shared = time.perf_counter() - start
        raw = self.measure(pictures, prompts, baseline_pictures)
        raw.seconds["features"] += shared
        return self.estimates(raw, reference)

    def _check_count(self, count: int) -> None:
        for name, metric in self._metrics.items():
            if count < metric.minimum:
                raise ScoreError(
                    f"{name} needs at least {metric.minimum} pictures, and {count} was given; give more prompts."
                )

    def measure(
        self,
        pictures: torch.Tensor,
        prompts: Sequence[str | Prompt] = (),
        baseline_pictures: torch.Tensor | None = None,
    ) -> Raw:
        """Compute what `estimates` needs, batch by batch if there are many pictures.

        Args:
            pictures: uint8 (N, 3, H, W).
            prompts: The prompt of each picture.
            baseline_pictures: The un-accelerated pictures of the same prompts and seeds, of the same shape.

        Raises:
            ScoreError: For prompts or a baseline that are needed and missing.
        """
        check_pictures(pictures)
        raw = Raw(len(pictures), {})
        start = time.perf_counter()
        raw.features = None if self._extract is None else self._extract(pictures)
        raw.seconds["features"] = time.perf_counter() - start
        for name, metric in self._metrics.items():
            if metric.of_set is not None:
                continue
            start = time.perf_counter()
            raw.each[name] = (
                self.of_pairs(metric.name, pictures, baseline_pictures)
                if metric.of_prompts is None
                else metric.of_prompts(*self._embeddings(pictures, prompts, raw.features))
            )
            raw.seconds[name] = time.perf_counter() - start
        return raw

    def estimates(self, raw: Raw, reference: Reference | None, groups: Groups | None = None) -> Scores:
        """Compute every metric with its 95% interval.

        Args:
            raw: What `measure` gave.
            reference: What features are compared with.
            groups: (N,) the prompt of each picture, if some prompts have several pictures.

        Raises:
            ScoreError: For fewer pictures than a metric needs.
        """
        self._check_count(raw.count)
        scores = Scores()
        scores.seconds["features"] = raw.seconds.get("features", 0.0)
        for name, metric in self._metrics.items():
            start = time.perf_counter()
            if metric.of_set is not None:
                assert raw.features is not None
                scores[name] = metric.of_set(raw.features, reference, groups)
            else:
                scores.each[name] = raw.each[name].tolist()
                scores[name] = mean_estimate(raw.each[name], groups=groups)
            scores.seconds[name] = raw.seconds.get(name, 0.0) + time.perf_counter() - start
        return scores

    @property
    def frechet(self) -> list[str]:
        """The true names of its Frechet distances."""
        return [name for name, metric in self._metrics.items() if metric.family == "fd"]

    def few(self, count: int) -> str | None:
        """A warning when `count` pictures are fewer than the dimensions of a Frechet distance's features, else None."""
        names = self.frechet
        if not names or self._extract is None:
            return None
        import torch

        size = len(self.reference.mean) if self.reference is not None else 0
        size = size or self._extract(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).values.shape[1]
        if count >= size:
            return None
        return (
            f"{names[0]} of {count} pictures is almost all bias, because its features have {size} dimensions: it "
            "ranks the plans of this study, do not quote it; kid, clip, psnr and ssim have no such bias."
        )

    def reference_of(self, baseline: Features | None) -> Reference | None:
        """The reference, or one made of the features of the un-accelerated pictures.

        Raises:
            ScoreError: When these features are needed and missing.
        """
        if not self._compares or self.reference is not None:
            return self.reference
        if baseline is None or self._extract is None:
            raise ScoreError("The un-accelerated pictures are the reference, and their features are missing.")
        return Reference.from_features(BASELINE, self._extract, baseline.values, paired=True)

    def floor(self, size: int, baseline_pictures: torch.Tensor | None = None) -> Estimate:
        """The Frechet distance between two sets of `size` reference pictures (see `Reference.floor`)."""
        return self._against(baseline_pictures).floor(size)

    def _against(self, baseline: torch.Tensor | None, keep: Keep | None = None) -> Reference:
        """The reference; of the un-accelerated pictures it is computed once and kept while they stay the same."""
        if self.reference is not None:
            return self.reference
        if self._extract is None:
            raise ScoreError("No metric uses features, so there is no reference to compare with.")
        import torch

        if baseline is None:
            raise ScoreError(
                "The un-accelerated pictures are the reference, and none were given; make them first, or name a "
                "reference."
            )
        if self._baseline is None or not torch.equal(self._baseline[0], baseline):
            extract = self._extract
            pictures = hashlib.sha256(baseline.cpu().numpy().tobytes()).hexdigest()
            made = Reference.kept(
                lambda: Reference.from_pictures(baseline, extract), keep, pictures, BASELINE, extract, paired=True
            )
            self._baseline = (baseline, made)
        return self._baseline[1]

    def _embeddings(
        self, pictures: torch.Tensor, prompts: Sequence[str | Prompt], features: Features | None
    ) -> tuple[Array, Array]:
        """Of the pictures and of their prompts, (N, d) each."""
        assert self._clip is not None
        if len(prompts) != len(pictures):
            raise ScoreError(
                f"A CLIP score needs a prompt for every picture; {len(pictures)} pictures and {len(prompts)} "
                "prompts were given."
            )
        shared = features is not None and features.embeddings is not None and self.clip_model == self.extractor
        rows = features.embeddings if shared and features is not None else self._clip.encode_pictures(pictures)
        assert rows is not None
        return rows, self._clip.encode_prompts(texts(prompts))

    def of_pairs(self, metric: str, pictures: torch.Tensor, baseline: torch.Tensor | None) -> Array:
        """Compute one paired metric.

        Args:
            metric: Its name in `METRICS`.
            pictures: uint8 (N, 3, H, W).
            baseline: The un-accelerated pictures, of the same shape.

        Returns:
            Values (N,).

        Raises:
            ScoreError: When the un-accelerated pictures are missing.
        """
        if baseline is None:
            raise ScoreError(
                f"{metric} compares with the un-accelerated pictures, and none were given; make them first."
            )
        compute = METRICS[metric].of_pairs
        assert compute is not None
        return compute(Pair(pictures, baseline, self._networks.get(metric), self._device))
