"""The space `layer`: a mask over every layer, with a period."""

from __future__ import annotations

from search_spaces.single import SingleMaskSpace


class LayerSpace(SingleMaskSpace):
    name = level = "layer"
