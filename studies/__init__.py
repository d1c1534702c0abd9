"""Studies: the store, the queue, the driver and the command line.

Names are loaded when they are used: Optuna and SQLAlchemy would take most of the half second that `explorer --help`
has.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from studies.driver import Outcome, Progress, run_worker
    from studies.interrupts import interruptible
    from studies.queue.queue import Counts, counts, enqueue
    from studies.results.rows import TrialRow, front_rows, trials
    from studies.scored import Evaluator, Picture, Scored, Space
    from studies.settings import Objective, SamplerSettings, StudySettings
    from studies.storage.store import Store, StudyRecord
    from studies.workers import WorkerExit, run_workers

_HOMES = {
    "Counts": "queue.queue",
    "Evaluator": "scored",
    "Objective": "settings",
    "Outcome": "driver",
    "Picture": "scored",
    "Progress": "driver",
    "SamplerSettings": "settings",
    "Scored": "scored",
    "Space": "scored",
    "Store": "storage.store",
    "StudyRecord": "storage.store",
    "StudySettings": "settings",
    "TrialRow": "results.rows",
    "WorkerExit": "workers",
    "counts": "queue.queue",
    "enqueue": "queue.queue",
    "front_rows": "results.rows",
    "interruptible": "interrupts",
    "run_worker": "driver",
    "run_workers": "workers",
    "trials": "results.rows",
}

__all__ = [
    "Counts",
    "Evaluator",
    "Objective",
    "Outcome",
    "Picture",
    "Progress",
    "SamplerSettings",
    "Scored",
    "Space",
    "Store",
    "StudyRecord",
    "StudySettings",
    "TrialRow",
    "WorkerExit",
    "counts",
    "enqueue",
    "front_rows",
    "interruptible",
    "run_worker",
    "run_workers",
    "trials",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"studies.{_HOMES[name]}"), name)
