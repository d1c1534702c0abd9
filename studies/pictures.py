"""Sample pictures as PNG files beside the database: `explorer-pictures/<study>/<key>/000.png` and `000.thumb.png`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from explorer.errors import StudyError
from studies.scored import Picture

FOLDER = "explorer-pictures"


def write(folder: Path, study: str, key: str, pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    """Write the pictures under `folder` and return their rows (paths relative to it), the files first: a row never
    names a file that is not whole.

    Raises:
        StudyError: when the files cannot be written.
    """
    place = PurePosixPath(FOLDER) / study / key
    rows: list[dict[str, Any]] = []
    try:
        if pictures:
            (folder / place).mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            path = place / f"{picture.number:03d}.png"
            thumbnail = place / f"{picture.number:03d}.thumb.png"
            write_whole(folder / path, picture.png)
            write_whole(folder / thumbnail, picture.thumbnail)
            rows.append(
                {
                    "number": picture.number,
                    "path": str(path),
                    "thumbnail": str(thumbnail),
                    "prompt": picture.prompt,
                    "seed": picture.seed,
                }
            )
    except OSError as error:
        raise StudyError(
            f"cannot write the pictures to {folder / place} ({error.strerror or error}); "
            "make room or choose another --storage, then run the same command to resume."
        ) from error
    return rows


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that nobody ever reads half of it. Raises OSError."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
