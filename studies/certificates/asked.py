"""The trial that a user asks for: by its number, or `best`."""

from __future__ import annotations

import re

from explorer.errors import StudyError
from studies.certificates.export import find_trial
from studies.results.rows import TrialRow, trials
from studies.results.summary import without_loss
from studies.storage.store import Store, StudyRecord

BEST = "best"
"""The fastest plan without a measurable loss, as `explorer show` names it."""


def asked_trial(store: Store, study: StudyRecord, asked: str) -> TrialRow:
    """The scored trial of a study that an option names.

    Args:
        store: Where the study is.
        study: The study.
        asked: A trial's number, or `BEST`.

    Raises:
        StudyError: For another text, a trial that cannot be exported, and a study without such a plan.
    """
    if re.fullmatch(r"-?[0-9]{1,9}", asked):
        return find_trial(store, study, int(asked))
    if asked != BEST:
        raise StudyError(f"--trial must be a trial's number or {BEST}, got {asked!r:.40}; see `explorer show`.")
    kept = without_loss(trials(store, study), study.settings.objectives, study.settings.steps)
    if not kept:
        raise StudyError(
            f"the study {study.name!r} has no plan without a measurable loss yet; give a trial's number, as "
            "`explorer show` prints it, or continue the search."
        )
    return kept[0]
