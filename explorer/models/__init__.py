"""Models, and the pictures they make."""

from __future__ import annotations

from explorer.models.loading import EMBEDDED, default_guidance, load_pipeline

__all__ = ["EMBEDDED", "default_guidance", "load_pipeline"]
