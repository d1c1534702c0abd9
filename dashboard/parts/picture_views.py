"""Two pictures of one prompt and seed as one picture: side by side, with their difference, or in turn."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

SIDE, DIFFERENCE, FLICKER = "Side by side", "With difference", "Flicker"
VIEWS = (DIFFERENCE, SIDE, FLICKER)
SMALL, LARGE = 160, 384  # pixels of a picture's longer side as shown
GAP = 6
FLICKER_MS = 900


def difference(ours: Image.Image, theirs: Image.Image, gain: float) -> Image.Image:
    """The absolute difference of two RGB pictures of one size, each channel times `gain`, black where they agree."""
    a, b = (np.asarray(each, dtype=np.float64) for each in (ours, theirs))
    return Image.fromarray(np.clip(np.abs(a - b) * gain, 0, 255).astype(np.uint8))


def strip(pictures: list[Image.Image], side: int) -> Image.Image:
    """Pictures in a row with a transparent gap, each `side` pixels on its longer side."""
    tiles = [fitted(picture, side) for picture in pictures]
    width = sum(tile.width for tile in tiles) + GAP * (len(tiles) - 1)
    row = Image.new("RGBA", (width, max(tile.height for tile in tiles)), (0, 0, 0, 0))
    left = 0
    for tile in tiles:
        row.paste(tile, (left, 0))
        left += tile.width + GAP
    return row


def in_turn(ours: Image.Image, theirs: Image.Image, side: int) -> bytes:
    """Both pictures in turn, slowly, as an animated PNG: what moves has changed."""
    stream = io.BytesIO()
    frames = [fitted(each, side) for each in (ours, theirs)]
    frames[0].save(stream, "PNG", save_all=True, append_images=frames[1:], duration=FLICKER_MS, loop=0)
    return stream.getvalue()


def fitted(picture: Image.Image, side: int) -> Image.Image:
    """Scaled to `side` pixels on the longer side; a small picture is enlarged by whole pixels, so that none is made
    up."""
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    way = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS
    return picture.convert("RGB").resize(size, way)
