"""How many pictures are made at once where nobody said: as many as fit and pay, found once when a study is made.

Pictures depend on their batch by rounding, so the number is the study's, and no run changes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from explorer.errors import DeviceError
from explorer.memory import free_memory

MOST = 32
MOST_CPU = 8
"""A core's time a picture and evaluation of the embedded model at 1, 2, 4, 8, 16, 32 pictures: 34, 21, 13, 9.3, 8.5,
7.6 ms. More than 8 gain little there, and a race looks at a plan after each batch."""
PAYS = 0.9
"""A batch twice as large is taken while a picture costs at most so much of what it did."""
MEMORY = 0.8
"""Share of the device's memory that the un-accelerated run may take: the rest is for the features that plans hold."""
_TENSORS = 6  # of the decoder's widest full-size layer, alive at once


def chosen_batch(
    run: Callable[[int], None], pipe: Any, size: tuple[int, int], device: Any, prompts: int, most: int = MOST
) -> int:
    """Pictures a batch for `pipe` on `device`, a power of two of at most `most`, and no more than hold all `prompts`.

    run: makes a number of pictures of `size` (height, width in pixels) in one batch, in few steps. It is tried on a GPU
    alone; on a CPU, whose timings other work disturbs, the batch is bounded by memory and by MOST_CPU.

    Raises:
        DeviceError: when a single picture does not fit.
    """
    if device.type == "cuda":
        return tried(run, min(most, 1 << (prompts - 1).bit_length()), lambda: _fits(device))
    fitting = free_memory(device) // 2 // picture_bytes(pipe, size) or 1
    return min(most, MOST_CPU, 1 << (fitting.bit_length() - 1))


def tried(run: Callable[[int], None], most: int, fits: Callable[[], bool] = lambda: True) -> int:
    """The largest power of two up to `most` that runs, fits and pays: doubled until one of them fails.

    fits: asked after each run, whether it left room.
    """
    import torch

    best, cost = 0, float("inf")
    batch = 1
    while batch <= most:
        try:
            run(batch)  # warms up, and finds whether it fits at all
            start = time.perf_counter()
            run(batch)
            seconds = (time.perf_counter() - start) / batch
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        if best and (seconds > PAYS * cost or not fits()):
            break
        best, cost, batch = batch, seconds, 2 * batch
    if not best:
        raise DeviceError(
            "a single picture does not fit into the GPU's memory; lower --resolution, or take --dtype float16."
        )
    return best


def picture_bytes(pipe: Any, size: tuple[int, int]) -> int:
    """About what decoding one picture takes at its peak: the decoder works at full size in its widest last channels."""
    channels = list(pipe.vae.config.block_out_channels)
    return int(_TENSORS * channels[min(1, len(channels) - 1)] * size[0] * size[1] * pipe.vae.dtype.itemsize)


def _fits(device: Any) -> bool:
    import torch

    peak, whole = torch.cuda.max_memory_reserved(device), torch.cuda.mem_get_info(device)[1]
    return peak <= MEMORY * whole
