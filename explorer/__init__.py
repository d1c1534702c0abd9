"""The engine: reads a UNet, makes and runs plans, and measures time and quality. It does not know searches."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from explorer.errors import (
    CompileError,
    DeviceError,
    ExplorerError,
    ModelError,
    PlanError,
    PromptError,
    ScoreError,
    StudyError,
    TrainingError,
)

if TYPE_CHECKING:
    from explorer.models.loading import default_guidance, load_pipeline
    from explorer.networks.student import Student
    from explorer.plans.plan import InheritancePlan
    from explorer.plans.strategies import strategy
    from explorer.runtime.inherit import Inheritance, inherit
    from explorer.runtime.speed_up import speed_up
    from explorer.timing.anatomy import Anatomy, anatomy
    from explorer.timing.latency import WARMUPS, compare
    from explorer.unet.architecture import Architecture

# Torch and diffusers take seconds to import: a name is imported when it is first used.
_LAZY = {
    "Anatomy": "explorer.timing.anatomy",
    "Architecture": "explorer.unet.architecture",
    "Inheritance": "explorer.runtime.inherit",
    "InheritancePlan": "explorer.plans.plan",
    "WARMUPS": "explorer.timing.latency",
    "anatomy": "explorer.timing.anatomy",
    "compare": "explorer.timing.latency",
    "default_guidance": "explorer.models.loading",
    "inherit": "explorer.runtime.inherit",
    "load_pipeline": "explorer.models.loading",
    "Student": "explorer.networks.student",
    "speed_up": "explorer.runtime.speed_up",
    "strategy": "explorer.plans.strategies",
}

__all__ = [
    "WARMUPS",
    "Anatomy",
    "Architecture",
    "CompileError",
    "DeviceError",
    "ExplorerError",
    "Inheritance",
    "InheritancePlan",
    "ModelError",
    "PlanError",
    "PromptError",
    "ScoreError",
    "Student",
    "StudyError",
    "TrainingError",
    "anatomy",
    "compare",
    "default_guidance",
    "inherit",
    "load_pipeline",
    "speed_up",
    "strategy",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
