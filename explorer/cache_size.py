"""How much memory a plan's features take: told from shapes alone, as the runtime stores and drops them."""

from __future__ import annotations

from collections.abc import Mapping

from explorer.plan import InheritancePlan, resolve_run


def peak_cache_bytes(plan: InheritancePlan, evaluations: int, feature_bytes: Mapping[str, int], start: int = 0) -> int:
    """The most bytes of features that a run of `evaluations` (without the first `start`) holds at once.

    feature_bytes: of each node's feature (`Anatomy.feature_bytes`). A feature is held from the extract step that
    stores it to the last step that reads it; with a rule that reads several, those of earlier extract steps stand
    beside it.

    Raises:
        PlanError: when the plan's schedule does not fit the run.
    """
    change = [0] * (evaluations + 1)
    for (source, (name, _)), last in resolve_run(plan, evaluations, start).last_read.items():
        change[source] += feature_bytes[name]
        change[last + 1] -= feature_bytes[name]
    held = peak = 0
    for each in change:
        held += each
        peak = max(peak, held)
    return peak
