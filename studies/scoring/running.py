"""What runs of a plan need and raise: embeddings of prompts, and errors in one sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from explorer.errors import ExplorerError, ScoreError
from explorer.memory import asked_for


@contextlib.contextmanager
def plan_explained() -> Iterator[None]:
    """Turn what diffusers and the compiler raise for a run that cannot be, of many types, into one sentence."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        # Smaller batches would fit, but pictures would differ from those of the other plans, by rounding.
        raise ScoreError(
            "the GPU's memory does not hold the plan's pictures and features at the study's batch"
            f"{_amounts(error)}; start a new study with a smaller --batch, or stop the other programs on the "
            "GPU and search again."
        ) from error
    except (ExplorerError, RuntimeError):
        raise
    except Exception as error:
        first = (str(error).strip() or "no message").splitlines()[0]
        raise ScoreError(f"the plan cannot run ({type(error).__name__}: {first})") from error


def _amounts(error: BaseException) -> str:
    asked = asked_for(error)
    return f" ({asked / 2**30:.2g} GiB more were wanted)" if asked else ""


@torch.no_grad()
def encode(
    pipe: Any, words: list[str], device: torch.device, guided: bool = True, negative: str = ""
) -> dict[str, Any]:
    """Prompt embeddings, with guidance negative ones as well, as the pipeline itself makes them, SD and SDXL."""
    unwanted = {"negative_prompt": [negative] * len(words)} if negative and guided else {}
    made = pipe.encode_prompt(
        words, device=device, num_images_per_prompt=1, do_classifier_free_guidance=guided, **unwanted
    )
    names = ["prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds"]
    return {name: value for name, value in zip(names, made, strict=False) if value is not None}
