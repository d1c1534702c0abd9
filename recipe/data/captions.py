"""Captions of several levels: the more of a picture a caption leaves open, the more pictures it has.

A picture of a lion in the 3d style is `lion face, 3d style`, but also `animal mammal, 3d style` and just `lion face`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from recipe.data.items import Item


@dataclass(frozen=True)
class Level:
    """One way to describe a picture.

    Attributes:
        name: Of the level.
        share: How often training uses it; the shares of all levels sum to 1.
        words: The caption of a picture at this level.
    """

    name: str
    share: float
    words: Callable[[Item], str]


LEVELS = (
    Level("full", 0.35, lambda item: item.caption),
    Level("subcategory and style", 0.30, lambda item: f"{item.subcategory}, {item.style}"),
    Level("category and style", 0.15, lambda item: f"{item.category}, {item.style}"),
    Level("name", 0.10, lambda item: item.concept),
    Level("subcategory", 0.10, lambda item: item.subcategory),
)
"""The first is the full caption; the others are open."""


def captions_of(item: Item) -> list[str]:
    """The captions of a picture, one per level."""
    return [level.words(item) for level in LEVELS]


def draw_levels(count: int, generator: torch.Generator) -> torch.Tensor:
    """int64 [count]: a level for each sample of a batch, by the levels' shares."""
    shares = torch.tensor([level.share for level in LEVELS])
    return torch.multinomial(shares, count, replacement=True, generator=generator)


def numbered(items: list[Item]) -> tuple[list[str], torch.Tensor]:
    """All distinct captions of the items, and which of them each item has at each level.

    Returns:
        The captions, and int64 [items, levels]: indices into them.
    """
    rows = [captions_of(item) for item in items]
    texts = sorted({text for row in rows for text in row})
    index = {text: i for i, text in enumerate(texts)}
    return texts, torch.tensor([[index[text] for text in row] for row in rows])


def fits(described: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """bool [pictures, captions]: whether a caption is one of a picture's.

    Args:
        described: int64 [pictures, levels]: each picture's captions, as `numbered` gives them.
        drawn: int64 [captions].
    """
    return (described[:, None, :] == drawn[None, :, None]).any(-1)
