"""Captions of several levels: what they say, how often, and which pictures fit them."""

from __future__ import annotations

import itertools

import torch

from recipe.data.captions import LEVELS, captions_of, draw_levels, fits, numbered
from recipe.data.items import Item


def item(concept: str, subcategory: str, style: str) -> Item:
    return Item(concept, subcategory, "animals nature", style, concept, "train", "train")


LION = item("lion face", "animal mammal", "flat style")
ITEMS = [LION, item("bear face", "animal mammal", "flat style"), item("owl", "animal bird", "3d style")]


def test_a_picture_has_a_caption_of_each_level() -> None:
    assert captions_of(LION) == [
        "lion face, flat style",
        "animal mammal, flat style",
        "animals nature, flat style",
        "lion face",
        "animal mammal",
    ]


def test_levels_are_drawn_by_their_shares() -> None:
    drawn = draw_levels(20_000, torch.Generator().manual_seed(0))
    found = torch.bincount(drawn, minlength=len(LEVELS)) / len(drawn)
    assert torch.allclose(found, torch.tensor([level.share for level in LEVELS]), atol=0.02)
    assert abs(sum(level.share for level in LEVELS) - 1) < 1e-9


def test_a_caption_fits_every_picture_that_it_describes_and_no_other() -> None:
    texts, captions = numbered(ITEMS)
    right = fits(captions, torch.arange(len(texts)))
    for (i, one), (j, text) in itertools.product(enumerate(ITEMS), enumerate(texts)):
        assert bool(right[i, j]) == (text in captions_of(one))
    assert right[:, texts.index("animal mammal, flat style")].tolist() == [True, True, False]
