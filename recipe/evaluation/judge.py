"""What the CLIP model says of pictures: ranks of the right caption among a hundred, retrieval on what it never saw."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from recipe.data.captions import captions_of
from recipe.data.items import Dataset, Item
from recipe.data.placing import real_pictures
from recipe.data.prompts import OPEN

AMONG = 100


def ranks(pictures: np.ndarray, captions: np.ndarray) -> np.ndarray:
    """int [N]: how many captions are nearer to picture i than caption i is; rows of unit length, [N, d] each."""
    similarity = pictures @ captions.T
    return (similarity > np.diag(similarity)[:, None]).sum(1)


def top(pictures: np.ndarray, captions: np.ndarray, first: int, among: int = AMONG) -> dict[str, Any]:
    """The share of pictures whose caption is among the `first` of `among`, over consecutive blocks of `among`; those
    that are over are ranked in a block with their neighbours."""
    count, among = len(pictures), min(among, len(pictures))
    starts = [*range(0, count - among, among), count - among]
    hits = np.zeros(count, dtype=bool)
    for start in reversed(starts):  # the last block gives way to the one before it
        block = slice(start, start + among)
        hits[block] = ranks(pictures[block], captions[block]) < first
    spread = 1.96 * (hits.mean() * (1 - hits.mean()) / len(hits)) ** 0.5
    return {"value": float(hits.mean()), "half_interval": float(spread), "n": len(hits), "among": among, "first": first}


def retrieval(data: Dataset, clip: Any, seed: int = 5, placed: bool = False) -> dict[str, Any]:
    """Top 1 and 5 among a hundred on real pictures: a held-out style of known concepts, and held-out concepts.

    placed: the pictures at random sizes and places, see `recipe.data.placing`.
    """
    found: dict[str, Any] = {}
    for name in ("held-style", "held"):
        rows = data.where(judge=name)
        random.Random(seed).shuffle(rows)
        seen = clip.encode_pictures(real_pictures(data, rows, placed))
        read = clip.encode_prompts([data.items[i].caption for i in rows])
        found[name] = {f"top{first}": top(seen, read, first) for first in (1, 5)}
    return found


def alignment(
    data: Dataset, clip: Any, items: list[Item], generated: torch.Tensor, placed: bool = False
) -> dict[str, Any]:
    """Top 5 among a hundred captions: real pictures, generated ones, and those generated for another caption.

    `items` are the captions that `generated` was made for, in blocks of a hundred that hold no caption twice.
    placed: the real pictures at random sizes and places.
    """
    where = {item.caption: i for i, item in enumerate(data.items)}
    captions = [item.caption for item in items]
    read = clip.encode_prompts(captions)
    real = clip.encode_pictures(real_pictures(data, [where[c] for c in captions], placed))
    made = clip.encode_pictures(generated)
    wrong = made.copy()
    for start in range(0, len(made), AMONG):
        wrong[start : start + AMONG] = np.roll(made[start : start + AMONG], 1, axis=0)
    rows = {"real": real, "generated": made, "wrong caption": wrong}
    return {name: {f"top{first}": top(values, read, first) for first in (1, 5)} for name, values in rows.items()}


def open_alignment(
    data: Dataset, clip: Any, captions: list[str], kinds: list[str], generated: torch.Tensor
) -> dict[str, Any]:
    """How often what was drawn for an open caption is of its kind: the nearest of all full training captions fits it.

    Args:
        data: Of `prepare`.
        clip: The CLIP model.
        captions: What each picture was drawn for.
        kinds: Of each caption; those that are not open are left out.
        generated: uint8 [N, 3, H, W].
    """
    rows = [i for i, kind in enumerate(kinds) if kind == OPEN]
    known = [item for item in data.items if item.split == "train"]
    nearest = (clip.encode_pictures(generated[rows]) @ clip.encode_prompts([i.caption for i in known]).T).argmax(1)
    hits = np.array([captions[row] in captions_of(known[int(n)]) for row, n in zip(rows, nearest, strict=True)])
    spread = 1.96 * (hits.mean() * (1 - hits.mean()) / len(hits)) ** 0.5
    return {"value": float(hits.mean()), "half_interval": float(spread), "n": len(hits), "among": len(known)}
