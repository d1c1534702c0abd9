"""Studies: the store, the queue, the driver and the command line. Search spaces: `search_spaces.make_space`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Optuna and SQLAlchemy take most of half a second to import: a name is imported when it is first used.
if TYPE_CHECKING:
    from studies.interrupts import interruptible
    from studies.queue.queue import Counts, counts, enqueue
    from studies.results.rows import TrialRow, front_rows, trials
    from studies.scored import Evaluator, Picture, Scored
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
