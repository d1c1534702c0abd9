"""What the shipped model costs on this machine: size, loading, memory, a UNet evaluation, the same picture twice."""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from explorer.pictures import generate

LOADING = """
import resource, time
import torch, diffusers, transformers
from diffusers import StableDiffusionPipeline, PNDMScheduler
from transformers import CLIPTextModel, CLIPTokenizer
from explorer import load_pipeline
torch.set_num_threads(2)
start = time.perf_counter()
load_pipeline("emoji")
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def folder_size(folder: Path) -> int:
    """Bytes of all files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def loading(repeats: int = 3) -> dict[str, float]:
    """Seconds to load the pipeline and peak MiB, in fresh processes with the libraries imported; the median."""
    runs = []
    for _ in range(repeats):
        made = subprocess.run([sys.executable, "-c", LOADING], check=True, capture_output=True, text=True)
        runs.append([float(word) for word in made.stdout.split()[-2:]])
    return {"seconds": statistics.median(r[0] for r in runs), "peak_mib": statistics.median(r[1] for r in runs)}


@torch.inference_mode()
def evaluation_ms(unet: Any, batches: tuple[int, ...] = (2, 8, 16), repeats: int = 30) -> dict[str, float]:
    """Median milliseconds per sample of one UNet evaluation, by batch, on two threads."""
    threads, found = torch.get_num_threads(), {}
    torch.set_num_threads(2)
    try:
        for batch in batches:
            side, channels = unet.config.sample_size, unet.config.in_channels
            sample = torch.randn(batch, channels, side, side, generator=torch.Generator().manual_seed(0))
            context = torch.zeros(batch, 16, unet.config.cross_attention_dim)
            times = []
            for _ in range(repeats + 5):
                start = time.perf_counter()
                unet(sample, 500, context)
                times.append(1000 * (time.perf_counter() - start) / batch)
            found[str(batch)] = statistics.median(times[5:])
    finally:
        torch.set_num_threads(threads)
    return found


def same_picture(pipe: Any, caption: str, guidance: float) -> bool:
    """Whether the same seed gives the same bytes twice."""
    twice = [generate(pipe, [caption], seed=7, steps=50, guidance=guidance, batch_size=1) for _ in range(2)]
    return bool(torch.equal(*twice))


def describe() -> dict[str, Any]:
    """The machine, in the words of the platform."""
    return {"processor": platform.processor() or platform.machine(), "threads": 2, "torch": torch.__version__}
