"""The prepared pictures: what each shows, and how they are split."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Item:
    """One picture: its full caption is `concept, style`, see `recipe.data.captions` for the others. `split`: train |
    held | extra (for judge and autoencoder only)."""

    concept: str
    subcategory: str
    category: str
    style: str
    key: str
    split: str
    judge: str  # train | held-style | held: what the CLIP model may see

    @property
    def caption(self) -> str:
        return f"{self.concept}, {self.style}"


@dataclass(frozen=True)
class Dataset:
    """`pictures`: uint8 [N, 3, 64, 64]; `items` of the same order."""

    pictures: torch.Tensor
    items: list[Item]

    @property
    def digest(self) -> str:
        """A short name for the captions, the splits and the order of the pictures."""
        words = json.dumps([vars(item) for item in self.items]).encode()
        return hashlib.sha256(words).hexdigest()[:12]

    def where(self, **wanted: str) -> list[int]:
        """Indices of the items whose fields have the wanted values."""
        return [i for i, item in enumerate(self.items) if all(getattr(item, k) == v for k, v in wanted.items())]
