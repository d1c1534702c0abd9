"""Sizes of pictures as people write them: one side of a square, or HEIGHTxWIDTH."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from explorer.errors import ModelError, brief

LARGEST = 65536
"""Pixels of a side: attention maps of more have no size that a tensor can have."""


def parse_resolution(value: Any) -> tuple[int, int]:
    """Height and width in pixels.

    Args:
        value: A number for both sides, a text such as `512` or `512x768` (height first), or a pair.

    Raises:
        ModelError: For anything else, and for a side below 1.
    """
    sides: Any = value
    if isinstance(value, str):
        written = re.fullmatch(r"\s*(-?\d{1,9})(?:\s*[xX×]\s*(-?\d{1,9}))?\s*", value)
        sides = tuple(int(side) for side in written.groups() if side is not None) if written else None
    elif isinstance(value, int):
        sides = (value,)
    if (
        not isinstance(sides, list | tuple)
        or len(sides) not in (1, 2)
        or any(isinstance(side, bool) or not isinstance(side, int) for side in sides)
    ):
        raise ModelError(
            f"--resolution must be a number of pixels or HEIGHTxWIDTH, such as 512x768, got {brief(repr(value), 60)}."
        )
    if any(side <= 0 for side in sides):
        raise ModelError(f"--resolution must be more than zero, got {brief(value, 40)}.")
    return int(sides[0]), int(sides[-1])


def resolution_text(size: Sequence[int]) -> str:
    """`512x768`; one number for a square."""
    height, width = size
    return str(height) if height == width else f"{height}x{width}"
