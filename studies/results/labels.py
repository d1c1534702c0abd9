"""Names beside a chart's points that do not lie on each other, on a screen of any width.

Plotly places no labels. These are laid out once, on the smallest chart that is expected, in such a way that what is
apart there is apart on every larger one: there the points lie further apart, and the labels keep their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Range = tuple[float, float]

SMALLEST = (270, 240)
"""Pixels of the smallest chart inside its axes: on a phone that is 390 wide."""
FONT, LETTER, HEIGHT = 11, 6.6, 17  # pixels: the font's size, what a letter takes at most on average, a label's height
MARKER, GAP = 12, 2  # pixels: a point's side, and between two labels
LONGEST = 22  # letters
MOST = 16  # labels of one chart
_NEAR = 7  # pixels between a point and its label, where there is room
_RINGS = (0, 12, 26, 42, 60)  # pixels further away where there is none
_WAYS = [(0, -1), (1, -1), (1, 0), (-1, -1), (-1, 0), (0, 1), (1, 1), (-1, 1)]  # y grows downwards, as on a screen


@dataclass(frozen=True)
class Label:
    """Of the point (x, y), in the axes' units. colour: of the line between them."""

    x: float
    y: float
    text: str
    colour: str


def padded(values: Array, share: float = 0.07) -> Range:
    """The range of an axis that holds all of `values`, with a margin on both sides."""
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    margin = (high - low) * share or abs(high) * share or 1.0
    return low - margin, high + margin


def placed_labels(
    labels: Sequence[Label],
    points: Array,
    ranges: tuple[Range, Range],
    ink: tuple[str, str],
    axes: tuple[str, str] = ("x", "y"),
) -> list[dict[str, Any]]:
    """Plotly's annotations, one for each label that has a place; what has none is read by pointing at its point.

    Args:
        labels: The most important first, which choose their places first.
        points: (n, 2) all that is drawn, which labels cover only where there is no other place.
        ranges: Of both axes.
        ink: Colours of the text and of the page behind it.
        axes: Plotly's names of the axes.
    """
    offsets = _offsets([(label.x, label.y) for label in labels], [_width(each.text) for each in labels], points, ranges)
    return [
        {
            "x": label.x, "y": label.y, "xref": axes[0], "yref": axes[1], "ax": offset[0], "ay": offset[1],
            "text": escape(shown(label.text)), "font": {"size": FONT, "color": ink[0]}, "showarrow": True,
            "arrowhead": 0, "arrowwidth": 0.8, "arrowcolor": label.colour, "standoff": 5, "bgcolor": ink[1],
            "opacity": 0.9, "borderpad": 0, "xanchor": "center", "yanchor": "middle", "captureevents": False,
        }
        for label, offset in zip(labels, offsets, strict=True) if offset is not None
    ]  # fmt: skip


def shown(text: str) -> str:
    """A name as a label shows it: a control by its number of steps alone, a long one shortened."""
    text = text.removeprefix("plain@")
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _width(text: str) -> float:
    return LETTER * len(shown(text)) + 4


def _offsets(
    anchors: Sequence[tuple[float, float]], widths: Sequence[float], points: Array, ranges: tuple[Range, Range]
) -> list[tuple[float, float] | None]:
    """Pixels from each anchor to the middle of its label; None where there is no room."""
    anchored, drawn = _pixels(np.array(anchors, dtype=float), ranges), _pixels(points, ranges)
    # What is written down, a row each: the anchor, the middle's offset from it, half the width, half the height.
    taken = np.array([[x, y, 0, 0, MARKER / 2, MARKER / 2] for x, y in anchored], dtype=float).reshape(-1, 6)
    others = np.column_stack([drawn, np.tile([0, 0, 3, 3], (len(drawn), 1))])
    found: list[tuple[float, float] | None] = []
    for (x, y), width in zip(anchored, widths, strict=True):
        best: tuple[float, Array] | None = None
        for place, (ox, oy) in enumerate(_places(width)):
            box = np.array([x, y, ox, oy, width / 2, HEIGHT / 2])
            if not _inside(box) or not _apart(box, taken).all():
                continue
            cost = place + 2.0 * float((~_apart(box, others)).sum())
            if best is None or cost < best[0]:
                best = cost, box
        if best is None or len(taken) - len(anchored) >= MOST:
            found.append(None)
            continue
        taken = np.vstack([taken, best[1]])
        found.append((float(best[1][2]), float(best[1][3])))
    return found


def _places(width: float) -> list[tuple[float, float]]:
    """Offsets to try, the nearest first."""
    return [
        (dx * (width / 2 + (_NEAR + ring) * (0.4 if dy else 1)), dy * (HEIGHT / 2 + _NEAR + ring))
        for ring in _RINGS
        for dx, dy in _WAYS
    ]


def _pixels(points: Array, ranges: tuple[Range, Range]) -> Array:
    """(n, 2) on the smallest chart, y downwards."""
    (left, right), (bottom, top) = ranges
    if not len(points):
        return np.empty((0, 2))
    x = (points[:, 0] - left) / (right - left) * SMALLEST[0]
    y = (top - points[:, 1]) / (top - bottom) * SMALLEST[1]
    return np.column_stack([x, y])


def _inside(box: Array) -> bool:
    x, y, ox, oy, half, tall = box
    return bool(half <= x + ox <= SMALLEST[0] - half and tall <= y + oy <= SMALLEST[1] - tall)


def _apart(box: Array, others: Array) -> npt.NDArray[np.bool_]:
    """(n,) which of the others the box does not touch on the smallest chart nor on a larger one: along one axis they
    are apart, and their anchors lie in that order too, so that growing moves them further apart."""
    found = np.zeros(len(others), dtype=bool)
    for axis in (0, 1):
        anchors = others[:, axis] - box[axis]
        middles = anchors + others[:, 2 + axis] - box[2 + axis]
        room = np.abs(middles) >= others[:, 4 + axis] + box[4 + axis] + GAP
        found |= room & (anchors * np.sign(middles) >= 0)
    return found
