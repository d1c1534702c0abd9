"""Silence messages of the libraries below; this package reports what matters itself."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator

LOUD_LIBRARIES = ("DIFFUSERS_VERBOSITY", "TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY")
"""Variables that set how much a library prints. They are read when the library is imported."""


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """No progress bars, remarks and warnings of diffusers and transformers within the block."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    levels = [(module, module.get_verbosity()) for module in (diffusers_logging, transformers_logging)]
    for module, _ in levels:
        module.set_verbosity_error()
        module.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        for module, level in levels:
            module.set_verbosity(level)
            module.enable_progress_bar()


def quiet_process() -> None:
    """The same for all of this process and those that it starts, unless its user asked for more (`python -W`, or the
    variables of LOUD_LIBRARIES). Imports none of them."""
    for variable in LOUD_LIBRARIES:
        os.environ.setdefault(variable, "error")
    if not sys.warnoptions:
        for category in (FutureWarning, DeprecationWarning, UserWarning):
            warnings.filterwarnings("ignore", category=category, module=r"(diffusers|transformers|huggingface_hub)\b")
            warnings.filterwarnings("ignore", category=category, module=r"(torch|torchvision|torchmetrics|open_clip)\b")
        # diffusers and transformers name the caller's line in their deprecations
        warnings.filterwarnings("ignore", category=FutureWarning)
