"""Whether a module's call runs diffusers' own code: tools patch an instance, its class, or put a subclass there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
from torch import nn

_FOLDER = str(Path(diffusers.__file__).parent)


def is_own(kind: type[nn.Module]) -> bool:
    """Whether a class's forward is code of diffusers: its own, or inherited from a class that it extends. Where it lies
    is looked at, as a patch may bear the name and the module of what it replaces."""
    code = getattr(kind.forward, "__code__", None)
    return code is not None and code.co_filename.startswith(_FOLDER)


def is_replaced(module: nn.Module) -> bool:
    """Whether another tool has replaced the module's forward. Accelerate's hooks, which load its weights and call it,
    do not count."""
    own = module.__dict__.get("forward")
    # accelerate leaves a module's own bound forward behind when its hooks are removed.
    if own is None or getattr(own, "__func__", None) is type(module).forward:
        return False
    return not _is_accelerates(module.__dict__.get("_hf_hook"))


def _is_accelerates(hook: Any) -> bool:
    parts = getattr(hook, "hooks", (hook,))
    return all(type(part).__module__.startswith("accelerate.") for part in parts)
