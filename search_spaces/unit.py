"""The space `unit`: a mask over every unit, with a period."""

from __future__ import annotations

from search_spaces.single import SingleMaskSpace


class UnitSpace(SingleMaskSpace):
    name = level = "unit"
