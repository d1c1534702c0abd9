"""Names of metrics: what users ask for, and the names under which scores are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from explorer.errors import ScoreError
from explorer.quality.clip_model import EMBEDDED, PAPER, PREFIX, canonical_clip, slug
from explorer.quality.features import CLASSIFIERS, canonical_extractor
from explorer.quality.registry import METRICS, Direction, Metric


@dataclass(frozen=True)
class Objective:
    """A metric and its direction.

    Attributes:
        name: The true name, which says the extractor or CLIP model, such as `fd_emojiclip`.
        direction: `minimize` or `maximize`.
    """

    name: str
    direction: Direction


def default_clip(extractor: str) -> str:
    """The CLIP model that goes with an extractor: itself where it is one, otherwise the paper's ViT-g-14."""
    return extractor if extractor == EMBEDDED or extractor.startswith(PREFIX) else PAPER


def _true_name(metric: Metric, extractor: str, clip_model: str) -> str:
    """A standard name means Inception or the paper's CLIP model; other names have their extractor or CLIP model."""
    if "features" in metric.inputs:
        return metric.standard if extractor == "inception" else f"{metric.family}_{slug(extractor)}"
    if "prompts" in metric.inputs and clip_model != PAPER:
        return f"{metric.family}_{slug(clip_model)}"
    return metric.standard


def find_metric(name: str, extractor: str, clip_model: str) -> Metric:
    """The metric of a name, requested or true."""
    metric = METRICS.get(name)
    if metric is None:
        matches = (each for each in METRICS.values() if _true_name(each, extractor, clip_model) == name)
        metric = next(matches, None)
    if metric is None:
        raise ScoreError(f"{name!r} is not a metric with the extractor {extractor}; use one of {', '.join(METRICS)}.")
    if "classes" in metric.inputs and extractor not in CLASSIFIERS:
        raise ScoreError(
            f"The {metric.label} needs a classifier, and {extractor} is not one; use the extractor "
            f"{' or '.join(CLASSIFIERS)}."
        )
    return metric


def _canonical(extractor: str, clip_model: str | None) -> tuple[str, str]:
    extractor = canonical_extractor(extractor)
    return extractor, canonical_clip(clip_model) if clip_model else default_clip(extractor)


def least_pictures(name: str, extractor: str, clip_model: str | None = None) -> int:
    """The number of pictures below which differences in a metric (requested or true name) are chance."""
    return find_metric(name, *_canonical(extractor, clip_model)).least


def resolve(names: Sequence[str], extractor: str, clip_model: str | None = None) -> list[Objective]:
    """Find the objectives of metric names, under their true names.

    Args:
        names: Names of `METRICS`, such as `fd`, or true names, such as `fd_emojiclip`.
        extractor: One of `EXTRACTORS`.
        clip_model: The CLIP model of the CLIP score. By default the extractor if it is one, else ViT-g-14.

    Returns:
        One objective for each name, in order.

    Raises:
        ScoreError: For an unknown metric, one that the extractor cannot give, and one that is named twice.
    """
    extractor, clip_model = _canonical(extractor, clip_model)
    objectives: list[Objective] = []
    for name in names:
        metric = find_metric(name, extractor, clip_model)
        objective = Objective(_true_name(metric, extractor, clip_model), metric.direction)
        if objective in objectives:
            raise ScoreError(f"The metric {objective.name} was asked for twice ({', '.join(names)}); name it once.")
        objectives.append(objective)
    return objectives
