"""What the shipped model costs on this machine: size, loading, memory, a UNet evaluation, the same picture twice."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from explorer.devices import describe
from explorer.files import write_whole
from explorer.models.pictures import generate

THREADS = 2

LOADING = """
import re, time
from pathlib import Path
import torch
torch.set_num_threads(2)
start = time.perf_counter()
from diffusers import StableDiffusionPipeline
imported = time.perf_counter() - start
from explorer import load_pipeline
start = time.perf_counter()
load_pipeline("emoji")
loaded = time.perf_counter() - start
# not getrusage: its peak is handed down from the process that started this one
status = Path("/proc/self/status").read_text()
peak, files = (int(re.search(name + r":\\s+(\\d+)", status)[1]) / 1024 for name in ("VmHWM", "RssFile"))
print(imported, loaded, peak, files)
"""


def note_device(work: Path, device: str) -> None:
    """Keep what a training runs on in `work/device.json`, for the card. device: as torch names it."""
    work.mkdir(parents=True, exist_ok=True)
    write_whole(work / "device.json", (json.dumps(describe(torch.device(device)).to_json()) + "\n").encode())


def folder_size(folder: Path) -> int:
    """Bytes of all files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def loading(repeats: int = 3) -> dict[str, float]:
    """Medians over fresh processes: seconds to import diffusers' pipeline, then to load the model, which nothing loaded
    before; the peak MiB of such a process, and how many of them are pages of the libraries' files."""
    runs = []
    for _ in range(repeats):
        made = subprocess.run([sys.executable, "-c", LOADING], check=True, capture_output=True, text=True)
        runs.append([float(word) for word in made.stdout.split()[-4:]])
    imported, loaded, peak, files = (statistics.median(column) for column in zip(*runs, strict=True))
    return {"seconds_of_imports": imported, "seconds": loaded, "peak_mib": peak, "library_mib": files}


@torch.inference_mode()
def evaluation_ms(unet: Any, batches: tuple[int, ...] = (2, 8, 16), repeats: int = 30) -> dict[str, float]:
    """Median milliseconds per sample of one UNet evaluation, by batch, on two threads."""
    threads, found = torch.get_num_threads(), {}
    torch.set_num_threads(THREADS)
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


def measure(pipe: Any, caption: str, guidance: float, repeats: int) -> dict[str, Any]:
    """Everything in this module, by name; of a pipeline on the CPU."""
    parts = ("unet", "text_encoder", "vae")
    facts = describe(torch.device("cpu"))
    return {
        "processor": facts.name,
        "threads": THREADS,
        "torch": facts.torch,
        "parameters": {part: sum(p.numel() for p in getattr(pipe, part).parameters()) for part in parts},
        "loading": loading(repeats),
        "unet_ms_per_sample": evaluation_ms(pipe.unet),
        "same_picture_twice": same_picture(pipe, caption, guidance),
    }
