"""Held-out prompts: which set a certificate uses, and the refusal of prompts that the search has seen."""

from __future__ import annotations

from dataclasses import replace

from explorer.errors import ExplorerError, StudyError
from explorer.models.prompts import HELD_OUT, load_prompts, search_prompts
from studies.config import SearchConfig
from studies.metrics import is_clip
from studies.searching.session import Session
from studies.settings import StudySettings

FRESH_SEED = 1_000_000_000
"""Far from the seeds that a study counts from 0."""


def held_out(config: SearchConfig, prompts: str | None = None) -> SearchConfig:
    """The options of a certificate for what a search with `config` found: `prompts`, or the held-out set that goes
    with the search's, fresh seeds, and a CLIP score in any case. Raises StudyError where the user must name prompts."""
    if not any(map(is_clip, config.objectives)):
        config = replace(config, objectives=(*config.objectives, "clip"))
    chosen = prompts or HELD_OUT.get(config.prompts or search_prompts(config.model))
    if chosen is None:
        raise StudyError(
            f"the plan was searched on prompts of your own ({config.prompts}), for which no held-out set is known; "
            "name others for the certificate with --prompts (of `explorer autotune`: --certificate-prompts)."
        )
    return replace(config, prompts=chosen, prompt_count=None, seed=(config.seed + FRESH_SEED) % 2**31)


def check_held_out(session: Session, searched: StudySettings | None) -> None:
    """Raises StudyError when prompts of the search are among those of the certificate."""
    if searched is None:
        return
    mine = [prompt.text for prompt in session.evaluator.prompts]
    try:
        theirs = set(load_prompts(searched.prompts, searched.extra.get("prompt count")).texts)
    except ExplorerError:  # a file that is not on this machine: its hash is all that is known of it
        theirs = set(mine) if searched.prompts_hash == session.settings.prompts_hash else set()
    both = [text for text in mine if text in theirs]
    if both:
        raise StudyError(
            f"{len(both)} of the {len(mine)} prompts of {session.settings.prompts} were searched on "
            f"({both[0][:60]!r} for one); give --prompts that the search has not seen."
        )
