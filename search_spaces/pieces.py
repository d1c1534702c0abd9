"""A run cut into pieces, each of which extracts periodically and inherits one mask in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

NEVER = 0
PIECE_PERIODS = range(1, 13)

Piece = tuple[int, int, int]


def piece(length: int, period: int, mask: int) -> list[int]:
    """Choices of a piece: extracts at 0, period, 2 period ... and inherits `mask` else; NEVER inherits throughout."""
    return [0 if period != NEVER and i % period == 0 else mask for i in range(length)]


def parse_pieces(choices: Sequence[int]) -> list[Piece] | None:
    """The fewest pieces (length, period, mask) that give `choices`; None when the first step does not extract."""
    if not choices or choices[0] != 0:
        return None
    best: list[list[Piece]] = [[] for _ in range(len(choices) + 1)]
    for start in reversed(range(len(choices))):
        options = [
            [(length, period, mask), *best[start + length]]
            for period, mask, reach in _reaches(choices, start)
            for length in range(1, reach + 1)
        ]
        best[start] = min(options, key=len)
    return best[0]


def _reaches(choices: Sequence[int], start: int) -> Iterator[tuple[int, int, int]]:
    """Each period that fits at `start`, the mask it inherits (1 where it inherits none) and how far it fits."""
    for period in (*PIECE_PERIODS, NEVER):
        mask = 0
        reach = 0
        for i, choice in enumerate(choices[start:]):
            extracts = period != NEVER and i % period == 0
            mask = mask or (0 if extracts else choice)
            if choice != (0 if extracts else mask) or (not extracts and choice == 0):
                break
            reach = i + 1
        if reach:
            yield period, mask or 1, reach
