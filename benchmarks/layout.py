"""Data layout and attention of one UNet evaluation: what each choice saves, and the rounding that it causes.

Contenders take turns in one process; the first is the UNet as it was loaded: contiguous, separate projections, and
scaled dot-product attention (SDPA) with the backend that torch picks. The others change one thing each, or force one
SDPA backend; what the device or the model's shapes do not allow is named and left out.

On a CUDA GPU every choice is captured as a CUDA graph and its replays are timed, so that the time is the GPU's: called
eagerly, a small batch would show Python's pace, whatever the layout. The eager time stands beside it.

With --compiled the compiler's turns are taken too: `compiled`, and with convolution weights that are laid out as its
code reads them, so that it copies none at every call.

Rounding is the difference of the output from the first one's: the largest over the largest output, and the root mean
square over that of the output.

    python -m benchmarks.layout --model arch:sd15 --device cuda --batches 2,16
"""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.shared.measure import load, run
from benchmarks.shared.report import options, write_figure, write_result
from explorer.devices import clock_for, resolve_device, resolve_dtype
from explorer.memory import is_out_of_memory
from explorer.models.workload import latent_size, text_tokens, vae_factor
from explorer.plans.plan import InheritancePlan
from explorer.runtime.inherit import Inheritance
from explorer.unet.architecture import Architecture


def channels_last(unet: Any) -> None:
    unet.to(memory_format=torch.channels_last)


def fused(unet: Any) -> None:
    unet.fuse_qkv_projections()


def both(unet: Any) -> None:
    channels_last(unet)
    fused(unet)


def plain_attention(unet: Any) -> None:
    from diffusers.models.attention_processor import AttnProcessor

    unet.set_attn_processor(AttnProcessor())


CHANGES: dict[str, Callable[[Any], None]] = {
    "channels last": channels_last,
    "fused projections": fused,
    "channels last, fused": both,
    "attention without SDPA": plain_attention,
}
BACKENDS = {
    "SDPA, math": SDPBackend.MATH,
    "SDPA, flash": SDPBackend.FLASH_ATTENTION,
    "SDPA, memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "SDPA, cuDNN": SDPBackend.CUDNN_ATTENTION,
}
LOADED = "as loaded"
COMPILED = {"compiled": False, "compiled, channels last": True}
"""Choices of the compiler: whether the weights are laid out for it."""


@dataclass(frozen=True)
class LayoutChoice:
    """A UNet and the SDPA backend that it is to use; None: torch picks. compiled: its plan, where it is compiled."""

    unet: Any
    backend: SDPBackend | None = None
    compiled: Inheritance | None = None

    def noise(self, given: dict[str, Any]) -> torch.Tensor:
        if self.compiled is not None:
            self.compiled.begin(1)
        with sdpa_kernel(self.backend) if self.backend else contextlib.nullcontext():
            result: torch.Tensor = self.unet(**given)[0]
        return result


def choices_of(unet: Any, compiled: bool = False) -> dict[str, LayoutChoice]:
    """Every choice on a copy of the UNet of its own; backends share the one that is as it was loaded. compiled: those
    of the compiler too."""
    made = {LOADED: LayoutChoice(unet)}
    for name, change in CHANGES.items():
        other = copy.deepcopy(unet)
        change(other)
        made[name] = LayoutChoice(other)
    for name, channels_last in COMPILED.items() if compiled else ():
        other = copy.deepcopy(unet)
        plan = InheritancePlan(Architecture.of(other), 1)
        handle = Inheritance(
            other, plan, scheduler=None, compile="default", fallback=False, channels_last=channels_last
        )  # fmt: skip
        made[name] = LayoutChoice(other, compiled=handle)
    return made | {name: LayoutChoice(unet, backend) for name, backend in BACKENDS.items()}


def arguments_of(unet: Any, batch: int, size: tuple[int, int], tokens: int, device: Any) -> dict[str, Any]:
    """One evaluation's arguments of the model's shapes, from a fixed seed; `batch` counts both halves of guidance.
    size: of the latents; tokens: of a prompt."""
    generator = torch.Generator("cpu").manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(batch, *shape, generator=generator).to(device, unet.dtype)

    config = unet.config
    given = {
        "sample": draw(config.in_channels, *size),
        "timestep": torch.tensor(500, device=device),
        "encoder_hidden_states": draw(tokens, config.cross_attention_dim),
        "return_dict": False,
    }
    if config.addition_embed_type == "text_time":
        width = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        given["added_cond_kwargs"] = {"text_embeds": draw(width), "time_ids": draw(6).abs()}
    return given


def rounding(noise: torch.Tensor, reference: torch.Tensor) -> dict[str, float]:
    """How far `noise` is from `reference`, both of one shape, as shares of the reference's largest and of its RMS."""
    difference = (noise.double() - reference.double()).abs()
    scale = reference.double()
    return {
        "max_difference": float(difference.max() / scale.abs().max()),
        "rms_difference": float(difference.square().mean().sqrt() / scale.square().mean().sqrt()),
    }


@torch.no_grad()
def measure(
    choices: dict[str, LayoutChoice], given: dict[str, Any], device: torch.device, rounds: int
) -> dict[str, Any]:
    """Every sample of each choice, how far its noise is from that of the first, and why what is left out was."""
    from explorer.runtime.graphs import capture_graph

    clock, graphs = clock_for(device), device.type == "cuda"
    noise: dict[str, torch.Tensor] = {}
    calls: dict[str, dict[str, Callable[[], Any]]] = {}
    left_out: dict[str, str] = {}
    for name, choice in choices.items():

        def eager(choice: LayoutChoice = choice) -> torch.Tensor:
            return choice.noise(given)

        try:
            noise[name] = eager()
            calls[name] = {"eager": eager}
            if graphs:
                calls[name]["graph"] = capture_graph(eager, torch.cuda.graph_pool_handle)
        except RuntimeError as error:
            if name == LOADED or is_out_of_memory(error):
                raise
            for kept in (noise, calls):
                kept.pop(name, None)
            left_out[name] = str(error).strip().splitlines()[0][:200]
    names = list(calls)
    samples: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in calls[name]} for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in [*names[turn:], *names[:turn]]:
            for kind, call in calls[name].items():
                samples[name][kind].append(clock.time(call))
    return {"rows": rows_of(samples, noise, "graph" if graphs else "eager"), "samples": samples, "left out": left_out}


def rows_of(
    samples: dict[str, dict[str, list[float]]], noise: dict[str, torch.Tensor], kind: str
) -> dict[str, dict[str, float]]:
    """Of each choice its median seconds by `kind`, how much faster it is than the first, and its rounding."""
    first = samples[LOADED][kind]
    return {
        name: {
            "seconds": median(taken[kind]),
            "eager_seconds": median(taken["eager"]),
            "speedup": median(a / b for a, b in zip(first, taken[kind], strict=True)),
            **rounding(noise[name], noise[LOADED]),
        }
        for name, taken in samples.items()
    }


def chart(figures: dict[str, Any]) -> Any:
    import plotly.graph_objects as go

    figure = go.Figure()
    for batch, found in figures.items():
        rows = found["rows"]
        figure.add_bar(name=batch, x=list(rows), y=[row["speedup"] for row in rows.values()])
    return figure.update_layout(yaxis_title="speed-up over the UNet as loaded", template="plotly_white")


def main() -> None:
    parser = options(str(__doc__).splitlines()[0])
    parser.add_argument("--batches", default="2,16,64", help="latents a UNet call (--batch is not read)")
    parser.add_argument("--compiled", action="store_true", help="the compiler too, with weights as it reads them")
    arguments = parser.parse_args()
    rounds = arguments.rounds or (5 if arguments.quick else 15)
    device = resolve_device(arguments.device)
    arguments.dtype = str(resolve_dtype(arguments.dtype, device)).removeprefix("torch.")
    pipe = load(arguments)
    factor, own = vae_factor(pipe), int(pipe.unet.config.sample_size)
    size = latent_size((arguments.resolution,) * 2, factor) if arguments.resolution else (own, own)
    choices = choices_of(pipe.unet, arguments.compiled)
    figures: dict[str, Any] = {}
    samples: dict[str, Any] = {}
    for batch in map(int, arguments.batches.split(",")):
        given = arguments_of(pipe.unet, batch, size, text_tokens(pipe), device)
        found = measure(choices, given, device, rounds)
        samples[f"batch {batch}"] = found.pop("samples")
        figures[f"batch {batch}"] = found
        # after every batch: what was measured is kept where the next does not come to its end
        path = write_result("layout", figures, samples, arguments, say=False)
        print(f"batch {batch} measured", file=sys.stderr)
    write_figure(lambda: chart(figures), path)
    print(f"wrote {path}", file=sys.stderr)
    for batch_name, found in figures.items():
        for name, row in found["rows"].items():
            print(f"{batch_name:9s} {name:24s} {row['seconds'] * 1e3:8.2f} ms  {row['speedup']:.2f}x  rounding: "
                  f"largest {row['max_difference']:.1e}, RMS {row['rms_difference']:.1e}")  # fmt: skip
        for name, reason in found["left out"].items():
            print(f"{batch_name:9s} {name:24s} left out: {reason}")


if __name__ == "__main__":
    run(main)
