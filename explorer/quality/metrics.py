"""The metrics by name, and what each is called in truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from explorer.errors import ScoreError
from explorer.quality import clip_score, frechet, inception_score, kid
from explorer.quality.clip_model import EMBEDDED, PAPER, PREFIX, canonical_clip, slug
from explorer.quality.features import CLASSIFIERS, canonical_extractor

Direction = Literal["minimize", "maximize"]


LEAST = 8
"""Pictures below which nothing is decided: fewer make a comparison of distributions that is bias and noise."""


@dataclass(frozen=True)
class Metric:
    """A metric that can be asked for: `minimum` pictures that it can be computed from, and whether it is of extracted
    features, of CLIP, or of pairs of pictures.
    """

    direction: Direction
    minimum: int
    kind: Literal["features", "clip", "paired"]
    words: str

    @property
    def telling(self) -> int:
        """Pictures below which it tells plans apart by chance alone, and no study is made with it."""
        return max(LEAST, self.minimum) if self.kind == "features" else self.minimum


METRICS = {
    "fd": Metric("minimize", frechet.MINIMUM, "features", "Frechet distance to the reference"),
    "fid": Metric("minimize", frechet.MINIMUM, "features", "Frechet distance with the standard Inception weights"),
    "kid": Metric("minimize", kid.MINIMUM, "features", "kernel distance to the reference, unbiased"),
    "is": Metric("maximize", inception_score.MINIMUM, "features", "inception score"),
    "clip": Metric("maximize", clip_score.MINIMUM, "clip", "100 x cosine of picture and prompt"),
    "psnr": Metric("maximize", 1, "paired", "dB to the un-accelerated picture of the same seed"),
    "ssim": Metric("maximize", 1, "paired", "structural similarity to the un-accelerated picture"),
    "lpips": Metric("minimize", 1, "paired", "perceptual distance to the un-accelerated picture"),
}


@dataclass(frozen=True)
class Objective:
    """A metric under its true name, with Optuna's word for its direction."""

    name: str
    direction: Direction


def default_clip(extractor: str) -> str:
    """The CLIP model that goes with an extractor: itself where it is one, otherwise the paper's ViT-g-14."""
    return extractor if extractor == EMBEDDED or extractor.startswith(PREFIX) else PAPER


def _true_name(metric: str, extractor: str, clip_model: str) -> str:
    """`fid`, `kid` and `is` alone mean Inception, `clip` alone the paper's model; every other carries what it was
    computed with.
    """
    kind = METRICS[metric].kind
    if kind == "features":
        family = "fd" if metric == "fid" else metric
        if extractor == "inception":
            return "fid" if family == "fd" else family
        return f"{family}_{slug(extractor)}"
    if kind == "clip" and clip_model != PAPER:
        return f"clip_{slug(clip_model)}"
    return metric


def find_metric(name: str, extractor: str, clip_model: str) -> str:
    """The metric that `name`, requested or true, stands for."""
    if name in METRICS:
        metric = name
    else:
        matches = [each for each in METRICS if each != "fid" and _true_name(each, extractor, clip_model) == name]
        if not matches:
            raise ScoreError(
                f"{name!r} is not a metric with the extractor {extractor}; use one of {', '.join(METRICS)}."
            )
        metric = matches[0]
    if metric == "is" and extractor not in CLASSIFIERS:
        raise ScoreError(
            f"The inception score needs a classifier, and {extractor} is none; use the extractor "
            f"{' or '.join(CLASSIFIERS)}."
        )
    return metric


def _canonical(extractor: str, clip_model: str | None) -> tuple[str, str]:
    extractor = canonical_extractor(extractor)
    return extractor, canonical_clip(clip_model) if clip_model else default_clip(extractor)


def least_pictures(name: str, extractor: str, clip_model: str | None = None) -> int:
    """Pictures below which the metric that `name`, requested or true, stands for tells plans apart by chance alone."""
    return METRICS[find_metric(name, *_canonical(extractor, clip_model))].telling


def resolve(names: Sequence[str], extractor: str, clip_model: str | None = None) -> list[Objective]:
    """The objectives that `names` stand for, under the names that tell the truth, in order. True names resolve to
    themselves.

    Raises ScoreError for an unknown metric, one that the extractor cannot give, and one that is named twice.
    """
    extractor, clip_model = _canonical(extractor, clip_model)
    objectives: list[Objective] = []
    for name in names:
        metric = find_metric(name, extractor, clip_model)
        objective = Objective(_true_name(metric, extractor, clip_model), METRICS[metric].direction)
        if objective in objectives:
            raise ScoreError(f"The metric {objective.name} was asked for twice ({', '.join(names)}); name it once.")
        objectives.append(objective)
    return objectives
