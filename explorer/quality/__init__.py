"""Quality of pictures: features, statistics, metrics, each a pure function of the one before."""

from __future__ import annotations

from explorer.quality.clip_model import load_clip
from explorer.quality.features import EXTRACTORS, Features, default_extractor, load_extractor
from explorer.quality.metrics import METRICS, Objective, resolve
from explorer.quality.reference import Reference, load_reference
from explorer.quality.scorer import Scorer, Scores

__all__ = [
    "EXTRACTORS",
    "METRICS",
    "Features",
    "Objective",
    "Reference",
    "Scorer",
    "Scores",
    "default_extractor",
    "load_clip",
    "load_extractor",
    "load_reference",
    "resolve",
]
