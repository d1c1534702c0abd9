"""Quality of pictures: feature extractors, references and metrics."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from explorer.quality.clip_model import load_clip
    from explorer.quality.features import EXTRACTORS, Features, default_extractor, load_extractor
    from explorer.quality.metrics import Objective, resolve
    from explorer.quality.reference import Reference, load_reference
    from explorer.quality.registry import METRICS, Metric
    from explorer.quality.scorer import Scorer, Scores

# Help lists the metrics, and needs none of what computes them: a name is imported when it is first used.
_LAZY = {
    "EXTRACTORS": "features",
    "METRICS": "registry",
    "Features": "features",
    "Metric": "registry",
    "Objective": "metrics",
    "Reference": "reference",
    "Scorer": "scorer",
    "Scores": "scorer",
    "default_extractor": "features",
    "load_clip": "clip_model",
    "load_extractor": "features",
    "load_reference": "reference",
    "resolve": "metrics",
}

__all__ = [
    "EXTRACTORS",
    "METRICS",
    "Features",
    "Metric",
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


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"explorer.quality.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
