"""Every score of a study by its name: those of pictures (`explorer.quality.registry`), of timings, and what is kept
beside them. Whoever shows, ranks or limits a score reads here what it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from explorer.quality.registry import METRICS, Metric, of_family

if TYPE_CHECKING:
    from studies.settings import Objective

PREDICTED = "predicted_drift"
"""A plan's predicted drift, kept beside what was measured."""
PREDICTED_COST = "predicted_cost"
"""The same of its predicted cost (`studies.scored.Prediction.cost`): a share of the un-accelerated run's time."""
PREDICTED_LATENCY = "predicted_latency"
UNSTEADY_LATENCY = "unsteady_latency"
"""Seconds that other work on the machine has disturbed, with all timed pairs. It is no score: nothing reads it as a
latency."""
CACHE = "cache_mib"

SPEEDS = {
    metric.name: metric
    for metric in (
        Metric("latency", "seconds a picture of the denoising loop", "minimize", frozenset({"timings"}),
               unit="s per picture"),
        Metric("speedup", "how many times as fast as the un-accelerated loop", "maximize", frozenset({"timings"}),
               unit="x", axis="measured speed-up"),
    )
}  # fmt: skip
"""What is timed, on the study's device alone."""
AUXILIARY = {
    metric.name: metric
    for metric in (
        Metric(CACHE, "memory of the cached features and of the students' own weights", "minimize",
               frozenset({"plan"}), unit="MiB", title="features kept"),
        Metric(PREDICTED_LATENCY, "latency by the profile", "minimize", frozenset({"plan"}),
               unit="s per picture", title="predicted latency"),
        Metric(PREDICTED, "drift of the latents by the calibration", "minimize", frozenset({"plan"}),
               unit="share of the latents", title="predicted drift"),
        Metric(PREDICTED_COST, "time by the calibration", "minimize", frozenset({"plan"}),
               unit="share of the un-accelerated time", title="predicted cost"),
        Metric(UNSTEADY_LATENCY, "seconds a picture of disturbed timings", "minimize", frozenset({"timings"})),
    )
}  # fmt: skip
"""Kept with a trial and no score of it: what its features take, what was predicted of it, and disturbed timings."""


def metric_of(name: str) -> Metric | None:
    """What is known of a score by its true name; None for one that no metric of this version has."""
    return SPEEDS.get(name) or AUXILIARY.get(name) or of_family(name)


def of_pictures(names: Iterable[str]) -> list[str]:
    """Those of `names` that are scores of pictures, in order."""
    return [name for name in names if name not in SPEEDS and name not in AUXILIARY]


def is_paired(name: str) -> bool:
    """Whether a score compares each picture with the un-accelerated one of the same prompt and seed."""
    metric = metric_of(name)
    return metric is not None and metric.paired


def is_clip(name: str) -> bool:
    """Whether a score is a CLIP score, of whichever model."""
    return of_family(name) is METRICS["clip"]


def direction_of(name: str, objectives: Iterable[Objective] = ()) -> str:
    """`minimize` or `maximize`: the study's own word for its objectives, otherwise what the metric means. Less is
    better of a score that is not known."""
    for objective in objectives:
        if objective.name == name:
            return objective.direction
    metric = metric_of(name)
    return "minimize" if metric is None else metric.direction
