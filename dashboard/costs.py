"""What a study's UNet costs, for every page: as the search kept it, otherwise counted here from the model's name."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard.step_costs import Timing
from explorer.errors import ExplorerError, ModelError, ScoreError
from explorer.timing.anatomy import Anatomy
from studies.searching import findings
from studies.searching.profiles import newest_profile
from studies.settings import StudySettings
from studies.storage.store import Store, StudyRecord

PROFILE_SECONDS = 120.0  # after which a newer profile is looked for
PIXELS = 8  # a side of a picture for one of its latents, in every model that is known by name


def anatomy_of(store: Store, study: StudyRecord) -> Anatomy:
    """Raises ModelError, in one sentence, where it was not kept and the model is not to be had here."""
    kept = findings.anatomy_of(store, study)
    return kept if kept is not None else _counted(study.settings)


@st.cache_resource(max_entries=4, show_spinner="Counting what each unit costs ...", hash_funcs={StudySettings: repr})
def _counted(settings: StudySettings) -> Anatomy:
    """For older studies: the model's configuration is read, and none of its weights."""
    from explorer.models.loading import load_empty_unet
    from explorer.timing.anatomy import anatomy

    model = settings.model
    try:
        if model != "emoji" and not model.startswith("arch:") and not Path(model).is_dir():
            raise ModelError(f"{model} is no folder of this machine")  # a page fetches nothing from a hub
        height, width = settings.resolution
        found = anatomy(load_empty_unet(model), (height // PIXELS, width // PIXELS))
    except (ExplorerError, OSError) as error:
        raise ModelError(
            f"the costs of the units of {model} are not stored in this study and cannot be computed here "
            f"({str(error).rstrip('.')}); continue the search once, which stores them."
        ) from error
    if found.architecture.signature != settings.architecture:
        raise ModelError(f"the model {model} on this machine has another architecture than the study's.")
    return found


def timing_of(store: Store, study: StudyRecord) -> Timing | None:
    """The newest profile of the study's model at its resolution, on its device, in its dtype and compile mode; None
    where there is no such profile."""
    return _timing(store, str(store.url), study.settings)


@st.cache_resource(
    max_entries=4, ttl=PROFILE_SECONDS, show_spinner="Reading the profile ...", hash_funcs={StudySettings: repr}
)
def _timing(_store: Store, url: str, settings: StudySettings) -> Timing | None:
    """Kept for a while: a cost model is fitted in seconds."""
    try:
        found = newest_profile(
            _store, settings.model, settings.architecture, settings.resolution,
            device=settings.device, dtype=settings.dtype, compile=settings.compile,
        )  # fmt: skip
        if found is None:
            return None
        return Timing(found.cost_model, f"{found.device.name}, {found.workload.dtype}, batch {found.workload.batch}")
    except ScoreError:  # of an older version, or interrupted: `explorer profile` makes a new one
        return None
