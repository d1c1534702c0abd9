"""The command lines that the recipe's messages name."""

from __future__ import annotations

import shlex
from pathlib import Path


def stage_command(stage: str, work: Path) -> str:
    """The command line of a stage on a work folder, quoted for a shell."""
    return shlex.join(["python", "-m", "recipe", stage, "--work", str(work)])
