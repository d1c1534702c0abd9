"""The recipe's member of the one exception family."""

from __future__ import annotations

from explorer.errors import ExplorerError


class RecipeError(ExplorerError):
    """A stage that cannot run on the options that were given, or on what the work folder holds."""
