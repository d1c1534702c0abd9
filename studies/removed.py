"""What earlier versions had: each is refused in one sentence that names its replacement."""

from __future__ import annotations

import os
from collections.abc import Sequence

from explorer.errors import StudyError

PROXY = "Optuna's gRPC proxy was removed, as PostgreSQL without it was faster at every measured number of workers"
PROXY_VARIABLE = "EXPLORER_OPTUNA_PROXY"

COMMANDS = {
    "tune": "`explorer tune` is now `explorer autotune`; the options are the same, and its folders resume.",
    "proxy": f"`explorer proxy`: {PROXY}; give every worker the PostgreSQL URL in EXPLORER_STORAGE.",
}
OPTIONS = {
    ("show", "--wish"): "`explorer show --wish`: wishes as text were removed; give --max-clip-loss 1%, --max-drift X, "
    "--min METRIC=X or --max METRIC=X.",
}
"""By command and option."""

SAMPLER = "nsga2"


def refusal(arguments: Sequence[str]) -> str | None:
    """Why a command line of an earlier version is refused; None where it names nothing that was removed."""
    if not arguments:
        return None
    command, *rest = arguments
    options = {argument.partition("=")[0] for argument in rest}
    asked = (words for (of, option), words in OPTIONS.items() if of == command and option in options)
    return COMMANDS.get(command) or next(asked, None)


def check_sampler(name: str) -> None:
    """Raises StudyError for the sampler that was removed; a study that has it opens all the same."""
    if name == SAMPLER:
        raise StudyError(
            f"the sampler {SAMPLER} (an NSGA-II for conditional spaces) was removed, as it found no more than random "
            "draws: a study that has it can be shown, exported and certified, not resumed; start a new one with "
            "--sampler tpe, or nsgaii for Optuna's own NSGA-II."
        )


def check_environment() -> None:
    """Raises StudyError where the environment names a proxy, which would go unused."""
    if PROXY_VARIABLE in os.environ:
        raise StudyError(f"{PROXY_VARIABLE} is set: {PROXY}; unset it.")
