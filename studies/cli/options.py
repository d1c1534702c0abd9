"""Options that several commands have, each declared once."""

from __future__ import annotations

from typing import Annotated

import typer

from studies.config import STORAGE_VARIABLE

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="emoji, arch:sd15, arch:sd21, arch:sdxl, a diffusers folder, a checkpoint or a hub id."
    ),
]
Steps = Annotated[int, typer.Option("--steps", help="num_inference_steps of the un-accelerated pipeline.")]
Storage = Annotated[str, typer.Option("--storage", envvar=STORAGE_VARIABLE, help="SQLite file or SQLAlchemy URL.")]
Resolution = Annotated[int | None, typer.Option("--resolution", help="Side of a picture in pixels [the model's].")]
Batch = Annotated[int, typer.Option("--batch", help="Pictures at once; with guidance the UNet sees twice as many.")]
Dtype = Annotated[str, typer.Option("--dtype", help="auto, float32, float16 or bfloat16.")]
Variant = Annotated[
    str | None, typer.Option("--variant", help="Weight files to read, such as fp16 or non_ema [those of the dtype].")
]
DEFAULT_STORAGE = "sqlite:///explorer.db"
