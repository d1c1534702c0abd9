"""The space `block`: a mask over every block, with a period."""

from __future__ import annotations

from search_spaces.single import SingleMaskSpace


class BlockSpace(SingleMaskSpace):
    name = level = "block"
