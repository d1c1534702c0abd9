"""Whether a machine can measure at all: every benchmark of a GPU day is imported, a capture and the compiler are tried
at a tiny size, and the versions are written.

What is missing ends it with status 1 and a sentence for each, so that no minute of a GPU is spent on the rest.

    python -m benchmarks.day.preflight --device cuda --out build/preflight.json
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.day.tasks import TASKS
from benchmarks.shared.measure import run
from benchmarks.shared.report import options, write_result
from explorer.devices import resolve_device
from explorer.errors import DeviceError, ExplorerError, brief

TINY: dict[str, Any] = {
    "sample_size": 8, "block_out_channels": (16, 16), "layers_per_block": 1, "norm_num_groups": 8,
    "attention_head_dim": 2, "cross_attention_dim": 16,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip


def imports() -> None:
    """Every benchmark of the day, and DeepCache, which races import when they begin."""
    for task in TASKS:
        module = task.words.split()[0]
        importlib.import_module(module)
        if module.endswith("deepcache_race"):
            importlib.import_module("DeepCache")


def one_run(device: Any, mode: str) -> None:
    """A plan of two evaluations on a tiny UNet: an extract step and an inherit step."""
    import torch
    from diffusers import UNet2DConditionModel

    from explorer.plans.strategies import strategy
    from explorer.runtime.inherit import inherit

    unet: Any = UNet2DConditionModel(**TINY)
    unet = unet.eval().to(device)
    sample, context = torch.zeros(2, 4, 8, 8, device=device), torch.zeros(2, 7, 16, device=device)
    with inherit(unet, strategy("DC0/P2", steps=2, unet=unet), compile=mode) as handle, torch.no_grad():
        handle.begin(2)
        for timestep in (500, 400):
            noise = unet(sample, torch.tensor(timestep, device=device), context).sample
    if not noise.isfinite().all():
        raise DeviceError(f"a step in the mode {mode} gave values that are no numbers.")


def one_compile(device: Any) -> None:
    """A few operations of a UNet through the compiler: what it calls is there."""
    import torch

    from explorer.compile_modes import check_compiler
    from explorer.runtime.compiling import compiled_function

    check_compiler(device)
    given = torch.linspace(-1, 1, 64, device=device).reshape(1, 4, 4, 4)
    with torch.no_grad():
        found = compiled_function(_few_operations, "preflight")(given)
    if not torch.allclose(found, _few_operations(given), atol=1e-4):
        raise DeviceError("what the compiler made gives other values than torch without it.")


def _few_operations(x: Any) -> Any:
    import torch

    return torch.nn.functional.silu(torch.nn.functional.group_norm(x, 2)) + x


def checks(device: Any) -> dict[str, Callable[[], None]]:
    """What is tried, by name. A capture needs a CUDA GPU."""
    made: dict[str, Callable[[], None]] = {"imports": imports, "eager": lambda: one_run(device, "off")}
    if device.type == "cuda":
        made["capture"] = lambda: one_run(device, "cudagraphs-eager")
    return made | {"compiler": lambda: one_compile(device)}


def tried(wanted: dict[str, Callable[[], None]]) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds of each check, and why those that failed did."""
    seconds: dict[str, float] = {}
    failed: dict[str, str] = {}
    for name, check in wanted.items():
        began = time.monotonic()
        try:
            check()
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {brief(error, 300)}"
        seconds[name] = time.monotonic() - began
        print(f"{name}: {failed.get(name, f'{seconds[name]:.1f} s')}", file=sys.stderr, flush=True)
    return seconds, failed


def main() -> None:
    parser = options(str(__doc__).splitlines()[0])
    parser.add_argument("--skip", default="", help="checks to leave out, comma-separated")
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    left_out = arguments.skip.split(",")
    seconds, failed = tried({name: check for name, check in checks(device).items() if name not in left_out})
    write_result("gpu-preflight", {"seconds": seconds, "failed": failed}, {}, arguments)
    if failed:
        raise ExplorerError("; ".join(f"{name} failed ({reason})" for name, reason in failed.items()) + ".")


if __name__ == "__main__":
    run(main)
