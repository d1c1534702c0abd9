"""Too little memory, said before it is met where that can be predicted, and alike where it is met: how much is
needed, how much is free, and what to lower.

Weights are needed whatever is made with them, so no batch lowers them; features and what an evaluation works in grow
with the pictures at once and their size.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from explorer.errors import DeviceError

if TYPE_CHECKING:
    import torch

    from explorer.compile_modes import CompileMode

HEADROOM = 1.25
"""Memory wanted over the sum of what is known to be held: the allocator's and the kernels' own."""
WORKING = 6
"""An evaluation's live tensors, in sizes of the largest feature: the skips and a few of the largest."""
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


@dataclass(frozen=True)
class Needed:
    """Bytes by cause. weights: of each part of the model that is yet to be loaded; features: that plans hold at once;
    working: what an evaluation needs beside."""

    weights: Mapping[str, int] = field(default_factory=dict)
    features: int = 0
    working: int = 0

    @property
    def total(self) -> int:
        """With headroom."""
        return int(HEADROOM * (sum(self.weights.values()) + self.features + self.working))

    @property
    def weights_total(self) -> int:
        return int(HEADROOM * sum(self.weights.values()))

    def describe(self) -> str:
        """`4.0 GiB (unet 3.2, vae 0.3)`."""
        parts = {**self.weights, "features": self.features, "working set": self.working}
        told = ", ".join(f"{name} {size / 2**30:.2g}" for name, size in parts.items() if size)
        return f"{self.total / 2**30:.1f} GiB ({told} and headroom)"


def needed_for(feature_bytes: Mapping[str, int], mode: CompileMode, copies: int = 1) -> Needed:
    """What runs of plans need beside the weights. feature_bytes: of every node at the batch (`Anatomy.feature_bytes`).
    copies: extract steps and plans whose features are held side by side. Where steps are captured a form's buffers stay
    from run to run, so those of one more stand beside."""
    from explorer.compile_modes import uses_graphs

    whole = sum(feature_bytes.values())
    return Needed({}, (copies + uses_graphs(mode)) * whole, WORKING * max(feature_bytes.values()))


def check_memory(needed: Needed, free: int, what: str, *, device: str, dtype: str, batch: str = "--batch") -> None:
    """Raise DeviceError unless what is needed, with some headroom, fits into `free` bytes (0: not known). batch: the
    option that says how many pictures are made at once."""
    if not free or needed.total <= free:
        return
    weights = needed.weights_total > free
    raise DeviceError(
        f"{what} needs about {needed.describe()} and {free / 2**30:.1f} GiB are free on {device}; "
        f"{advice(device, dtype, weights=weights, batch=batch)}."
    )


def advice(device: str, dtype: str, *, weights: bool = False, batch: str = "--batch") -> str:
    """What to lower. weights: whether they alone are too large, so that fewer or smaller pictures do not help."""
    half = ["take --dtype float16"] if dtype == "float32" and not device.startswith("cpu") else []
    if weights:
        return ", or ".join([*half, "take a smaller model", f"end what else holds memory on {device}"])
    return ", or ".join([f"lower {batch} or --resolution", *half, f"end what else holds memory on {device}"])


def free_memory(device: torch.device) -> int:
    """Bytes that can be had on `device` now, with what torch holds and does not use; 0 where it is not known."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) + _unused(device)
    import psutil

    return int(psutil.virtual_memory().available)


def _unused(device: torch.device) -> int:
    """Bytes that torch holds on a GPU and may give to anyone. What lies unused in the private pool of a captured graph
    is the graph's: its next replay writes there."""
    import torch

    number = torch.cuda.current_device() if device.index is None else device.index
    return sum(
        int(segment["total_size"]) - int(segment["allocated_size"])
        for segment in torch.cuda.memory_snapshot()
        if segment["device"] == number and tuple(segment["segment_pool_id"]) == (0, 0)
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a machine or its GPU had too little memory; torch is not imported for the question."""
    said = isinstance(error, RuntimeError) and (
        "not enough memory" in str(error) or "DefaultCPUAllocator" in str(error)
    )
    return said or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def lack_of_memory(error: BaseException, handled: BaseException | None = None) -> BaseException | None:
    """The lack of memory that `error` comes from, itself included; None where there is none. A compiler wraps it, and
    ending a capture that it broke raises another error in its place. handled: an error from before, where to stop."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or each is handled or id(each) in seen:
            continue
        if is_out_of_memory(each):
            return each
        seen.add(id(each))
        waiting += [each.__context__, each.__cause__, getattr(each, "inner_exception", None)]
    return None


def out_of_memory(error: BaseException, what: str, *, device: str = "", dtype: str = "", weights: bool = False) -> str:
    """The sentence for memory that ran out: what was asked for last, what was free, what to lower. device: by default
    the one that the error tells of; dtype: where it is known, as only float32 can be lowered."""
    import torch

    where = torch.device(device or ("cuda" if "CUDA" in str(error) or "GPU" in str(error) else "cpu"))
    asked = asked_for(error)
    free = 0 if where.type == "cuda" and not torch.cuda.is_available() else free_memory(where)
    told = [
        f"{asked / 2**30:.2g} GiB more were wanted" if asked else "",
        f"{free / 2**30:.1f} GiB are free" * bool(free),
    ]
    amounts = " and ".join(filter(None, told))
    advised = advice(str(where), dtype or ("float32" if where.type != "cpu" else ""), weights=weights)
    return f"{what} ran out of memory on {where}{f': {amounts}' if amounts else ''}; {advised}."


def asked_for(error: BaseException) -> int | None:
    """The bytes that an allocator says it was asked for: `Tried to allocate 2.00 GiB`, `you tried to allocate N
    bytes`."""
    match = re.search(r"ried to allocate ([\d.]+) ?(bytes|[KMGT]iB)", str(error))
    return int(float(match[1]) * _UNITS[match[2]]) if match else None


@contextlib.contextmanager
def memory_explained(what: str, *, device: str, dtype: str, weights: bool = False) -> Iterator[None]:
    """Turn memory that runs out in the block into a DeviceError of one sentence."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(out_of_memory(error, what, device=device, dtype=dtype, weights=weights)) from error
