"""Sample pictures as PNG files beside the database: `explorer-pictures/<study>/<key>/000.png` and `000.thumb.png`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image, UnidentifiedImageError

from explorer.errors import StudyError
from explorer.files import write_whole
from studies.scored import Picture

FOLDER = "explorer-pictures"
MAX_BYTES = 20_000_000


def write(folder: Path, study: str, key: str, pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    """Write the pictures under `folder` and return their rows (paths relative to it), the files first: a row never
    names a file that is not whole. study: the name of the study's folder (`StudyRecord.folder`).

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


def read_picture(folder: Path, path: Path) -> Image.Image:
    """The PNG at `path`, which must lie in the pictures' folder under `folder`, links resolved.

    Raises:
        StudyError: when it lies elsewhere, is missing, or is no PNG of a sensible size.
    """
    real = path.resolve()
    if not real.is_relative_to((folder / FOLDER).resolve()):
        raise StudyError("this picture's path leaves the pictures' folder, so it is not opened.")
    try:
        if real.stat().st_size > MAX_BYTES:
            raise StudyError(f"this picture's file is larger than {MAX_BYTES} bytes, so it is not opened.")
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(real, formats=["PNG"]) as image:
                return image.convert("RGB")
    except FileNotFoundError as error:
        raise StudyError("this picture's file is missing; it was made beside the storage.") from error
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError,
            Image.DecompressionBombWarning) as error:  # fmt: skip
        raise StudyError("this picture's file is not a complete PNG.") from error
