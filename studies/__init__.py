"""Studies: the store, the queue, the driver and the command line.

Names are loaded when they are used: Optuna and SQLAlchemy would take most of the half second that `explorer --help`
has.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from studies.interrupts import interruptible
    from studies.queue.queue import Counts, counts, enqueue
    from studies.results.rows import TrialRow, front_rows, trials
    from studies.scored import Evaluator, Picture, Scored, Space
    from studies.searching.driver import Outcome, Progress, run_worker
    from studies.searching.processes import WorkerExit, run_workers
    from studies.settings import Objective, SamplerSettings, StudySettings
    from studies.storage.store import Store, StudyRecord

_HOMES = {
    "Counts": "queue.queue",
    "Evaluator": "scored",
    "Objective": "settings",
    "Outcome": "searching.driver",
    "Picture": "scored",
    "Progress": "searching.driver",
    "SamplerSettings": "settings",
    "Scored": "scored",
    "Space": "scored",
    "Store": "storage.store",
    "StudyRecord": "storage.store",
    "StudySettings": "settings",
    "TrialRow": "results.rows",
    "WorkerExit": "searching.processes",
    "counts": "queue.queue",
    "enqueue": "queue.queue",
    "front_rows": "results.rows",
    "interruptible": "interrupts",
    "run_worker": "searching.driver",
    "run_workers": "searching.processes",
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
