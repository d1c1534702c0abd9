"""The state of a GPU beside its measurements: clocks, temperature, power, and why it is throttled."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

FACTS = ("clocks.sm", "clocks.mem", "temperature.gpu", "power.draw", "clocks_throttle_reasons.active")


def gpu_state(device: torch.device) -> dict[str, str]:
    """What nvidia-smi tells of the GPU now; empty for another device, or where it tells nothing."""
    if device.type != "cuda":
        return {}
    words = ["nvidia-smi", f"--id={device.index or 0}", f"--query-gpu={','.join(FACTS)}", "--format=csv,noheader"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return state_of(said)


def state_of(said: str) -> dict[str, str]:
    """A line of nvidia-smi's as facts by name; empty for anything else."""
    values = [value.strip() for value in said.strip().split(",")]
    return dict(zip(FACTS, values, strict=True)) if len(values) == len(FACTS) else {}
