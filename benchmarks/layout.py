"""Data layout and attention of one UNet evaluation: what each choice saves, and the rounding that it causes.

Contenders take turns in one process; the first is the UNet as it was loaded (contiguous, SDPA, separate projections).

    python -m benchmarks.layout --model arch:sd15 --device cuda --batches 2,16
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks.report import options, write_figure, write_result
from explorer.devices import clock_for, resolve_device, resolve_dtype
from explorer.errors import ExplorerError
from explorer.models import load_pipeline, pixel_factor


def channels_last(unet: Any) -> None:
    import torch

    unet.to(memory_format=torch.channels_last)


def fused(unet: Any) -> None:
    unet.fuse_qkv_projections()


def both(unet: Any) -> None:
    channels_last(unet)
    fused(unet)


def plain_attention(unet: Any) -> None:
    from diffusers.models.attention_processor import AttnProcessor

    unet.set_attn_processor(AttnProcessor())


CHOICES: dict[str, Callable[[Any], None]] = {
    "as loaded": lambda _: None,
    "channels last": channels_last,
    "fused projections": fused,
    "channels last, fused": both,
    "attention without SDPA": plain_attention,
}


def arguments_of(unet: Any, batch: int, size: int, device: Any) -> dict[str, Any]:
    """One evaluation's arguments of the model's shapes, from a fixed seed; `batch` counts both halves of guidance."""
    import torch

    generator = torch.Generator("cpu").manual_seed(0)

    def draw(*shape: int) -> Any:
        return torch.randn(batch, *shape, generator=generator).to(device, unet.dtype)

    config = unet.config
    given = {
        "sample": draw(config.in_channels, size, size),
        "timestep": torch.tensor(500, device=device),
        "encoder_hidden_states": draw(77, config.cross_attention_dim),
        "return_dict": False,
    }
    if config.addition_embed_type == "text_time":
        width = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        given["added_cond_kwargs"] = {"text_embeds": draw(width), "time_ids": draw(6).abs()}
    return given


def measure(unets: dict[str, Any], given: dict[str, Any], device: Any, rounds: int) -> dict[str, Any]:
    """Every sample of each choice, and how far its noise is from that of the first."""
    import torch

    clock = clock_for(device)
    seconds: dict[str, list[float]] = {name: [] for name in unets}
    with torch.no_grad():
        noise = {name: unet(**given)[0].float() for name, unet in unets.items()}
        names = list(unets)
        for number in range(rounds):
            turn = number % len(names)
            for name in [*names[turn:], *names[:turn]]:
                seconds[name].append(clock.time(lambda unet=unets[name]: unet(**given)))  # type: ignore[misc]
    reference = noise[names[0]]
    scale = float(reference.abs().max())
    return {
        name: {
            "samples": seconds[name],
            "seconds": median(seconds[name]),
            "speedup": median(a / b for a, b in zip(seconds[names[0]], seconds[name], strict=True)),
            "rounding": float((noise[name] - reference).abs().max()) / scale,
        }
        for name in names
    }


def chart(figures: dict[str, Any]) -> Any:
    import plotly.graph_objects as go

    figure = go.Figure()
    for batch, rows in figures.items():
        figure.add_bar(name=batch, x=list(rows), y=[row["speedup"] for row in rows.values()])
    return figure.update_layout(yaxis_title="speed-up over the UNet as loaded", template="plotly_white")


def main() -> None:
    parser = options(str(__doc__).splitlines()[0])
    parser.add_argument("--batches", default="2,16,64", help="latents a UNet call (--batch is not read)")
    arguments = parser.parse_args()
    rounds = arguments.rounds or (5 if arguments.quick else 15)
    found: dict[str, Any] = {}
    try:
        device = resolve_device(arguments.device)
        arguments.dtype = str(resolve_dtype(arguments.dtype, device)).removeprefix("torch.")
        unet = load_pipeline(arguments.model, device=str(device), dtype=arguments.dtype).unet
        unets = {}
        for name, change in CHOICES.items():
            unets[name] = copy.deepcopy(unet)
            change(unets[name])
        size = (
            arguments.resolution // pixel_factor(arguments.model)
            if arguments.resolution
            else int(unet.config.sample_size)
        )
        for batch in map(int, arguments.batches.split(",")):
            found[f"batch {batch}"] = measure(unets, arguments_of(unet, batch, size, device), device, rounds)
            print(f"batch {batch} measured", file=sys.stderr)
        samples = {b: {name: row.pop("samples") for name, row in rows.items()} for b, rows in found.items()}
        write_figure(chart(found), write_result("layout", found, samples, arguments))
    except ExplorerError as error:
        sys.exit(f"error: {error}")
    for batch_name, rows in found.items():
        for name, row in rows.items():
            print(f"{batch_name:9s} {name:24s} {row['seconds'] * 1e3:8.1f} ms  {row['speedup']:.2f}x  "
                  f"rounding {row['rounding']:.1e}")  # fmt: skip


if __name__ == "__main__":
    main()
