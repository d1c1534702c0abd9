"""Folders that are replaced whole, named by what they hold, and trained in by one process at a time."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from explorer.errors import TrainingError
from explorer.files import locked


def digest(folder: Path, without: str | None = None) -> str:
    """Return a short name for all that a folder holds: weights, configurations, a tokenizer's numbers.

    Args:
        folder: What is named.
        without: A folder in it that does not count.
    """
    parts = sorted(path for path in folder.rglob("*") if path.is_file())
    if without is not None:
        parts = [path for path in parts if path.relative_to(folder).parts[0] != without]
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in parts)).hexdigest()[:12]


def replace_folder(target: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a new folder and put it in the place of `target`, which is whole at every moment but one."""
    made, old = (target.with_name(target.name + suffix) for suffix in (".new", ".old"))
    for left in (made, old):  # by a killed process
        shutil.rmtree(left, ignore_errors=True)
    made.mkdir(parents=True)
    write(made)
    if target.exists():
        target.rename(old)
    made.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return target


@contextlib.contextmanager
def alone(work: Path, stage: str) -> Iterator[None]:
    """Hold a training's stage in a work folder: two processes would write one log and one checkpoint.

    Raises:
        TrainingError: when another process has it.
    """
    work.mkdir(parents=True, exist_ok=True)
    with locked(work / f".{stage}.lock", wait=False) as held:
        if not held:
            raise TrainingError(f"another process runs {stage} in {work}; wait for it or give another --work.")
        yield
