"""What stands in for a GPU and for the true networks where a GPU day is rehearsed on a CPU.

Command lines, options, files and order are the day's own. Tiny networks of SD1.5's and SDXL's topology take the
place of the true ones. A captured step runs over its static buffers without a capture, and nothing is compiled, which
takes minutes on a CPU. What a bare GPU machine lacks cannot be imported; as a program, this runs a module under that:

    python -m benchmarks.day.rehearsal pytest -m cuda tests/explorer/test_memory.py
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from typing import Any

LEVELS: dict[str, Any] = {"sample_size": 8, "layers_per_block": 2, "norm_num_groups": 8, "cross_attention_dim": 16}
SD15: dict[str, Any] = {**LEVELS, "block_out_channels": (8, 16, 16, 16), "attention_head_dim": 2}
SDXL: dict[str, Any] = {
    **LEVELS,
    "block_out_channels": (8, 16, 16),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 1, 2),
    "attention_head_dim": (2, 2, 2),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 16,
}
STEPS = 4
"""Of the loops that a profile times; 50 on a GPU."""
NOT_THERE = (
    "accelerate", "alembic", "kaleido", "open_clip", "optuna", "peft", "plotly", "sqlalchemy", "streamlit",
    "torchmetrics", "torchvision",
)  # fmt: skip
"""Packages that this project uses and that nobody carries to a GPU."""


def bare() -> None:
    """In this process an import of what is not there fails from here on, and none of it is found."""
    sys.modules |= dict.fromkeys(NOT_THERE)  # type: ignore[arg-type]


def stand_ins() -> None:
    """Exchange them in this process, before a benchmark is imported."""
    bare()
    import torch

    from explorer import compile_modes
    from explorer.models import loading, true_architectures
    from explorer.runtime import graphs, targets

    true_architectures.ARCHITECTURES |= {
        "arch:rehearsed-sd15": (SD15, "epsilon"), "arch:rehearsed-sdxl": (SDXL, "epsilon"),
    }  # fmt: skip
    true_architectures.true_vae = loading.true_vae = tiny_vae
    compile_modes.check_mode = lambda *_: None
    targets.why_not = lambda *_: None
    graphs.capture_graph = uncaptured  # type: ignore[assignment]
    torch.compile = lambda function, **_: function  # type: ignore[assignment]

    from benchmarks import node_times

    node_times.STEPS = STEPS


def uncaptured(step: Callable[[], Any], _: Any) -> Callable[[], Any]:
    """In place of a capture: the step itself, over the same buffers, after its first run."""
    step()
    return lambda: step().clone()


def tiny_vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8,) * 4, norm_num_groups=4, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip


if __name__ == "__main__":
    bare()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
