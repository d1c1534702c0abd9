"""Should a control network's residuals be inherited with the region that they enter, or be applied live?

`python -m benchmarks.controlnet_residuals --steps 20` tells the drift of both on the embedded model. No trained
control network fits it, so this one is the UNet's own encoder (`ControlNetModel.from_unet`), whose output convolutions
are the identity times a scale: its residuals follow the sample, the step and the control picture as real ones do.
Live: the network's residuals of each step, as the engine applies them. Inherited: those of the last extract step.
"""

from __future__ import annotations

import argparse
import sys
from statistics import mean
from typing import Any

import plotly.graph_objects as go
import torch
from diffusers import ControlNetModel, DDIMScheduler, StableDiffusionControlNetPipeline

from benchmarks.measure import load, run
from benchmarks.report import options, write_figure, write_result
from explorer import inherit, strategy
from explorer.errors import ScoreError
from explorer.models import default_guidance, has_weights

PROMPTS = (
    "a red car",
    "a green apple",
    "a smiling face",
    "a blue heart",
    "a dog",
    "a house",
    "the sun",
    "a cup of tea",
)
PLANS = (("EP", "P3"), ("CO6", "P3"), ("EX2", "P3"), ("DC2", "P3"), ("EP", "P5"))
SCALES = (0.1, 0.3)


class Held:
    """The control network, answering inherit steps with what it said at the last extract step."""

    def __init__(self, network: Any, choices: tuple[int, ...]) -> None:
        self.network, self.choices, self.calls = network, choices, 0
        self.said: Any = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        said = self.network(*args, **kwargs)
        if self.choices[self.calls] == 0:
            self.said = said
        self.calls += 1
        return self.said


def control_network(unet: Any, scale: float) -> Any:
    torch.manual_seed(0)
    network = ControlNetModel.from_unet(unet).eval()
    for conv in [*network.controlnet_down_blocks, network.controlnet_mid_block]:
        torch.nn.init.dirac_(conv.weight)
        conv.weight.data.mul_(scale)
    torch.nn.init.normal_(network.controlnet_cond_embedding.conv_out.weight, std=0.1)
    return network


def psnr(pictures: torch.Tensor, plain: torch.Tensor) -> list[float]:
    """In dB of each picture (N, 3, H, W) in 0..1; 100 where nothing differs."""
    error = (pictures - plain).square().mean(dim=(1, 2, 3))
    return [float(value) for value in (-10 * error.clamp(min=1e-10).log10())]


def measure(scale: float, base: Any, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Each plan's drift with residuals of `scale`, live and inherited."""
    control = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)), 64)
    network = control_network(base.unet, scale).to(base.unet.device, base.unet.dtype)
    pipe: Any = StableDiffusionControlNetPipeline(
        **{**base.components, "scheduler": DDIMScheduler.from_config(base.scheduler.config)},
        controlnet=network, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)

    def pictures() -> torch.Tensor:
        return torch.from_numpy(
            pipe(list(PROMPTS[: arguments.prompts]), image=control, num_inference_steps=arguments.steps,
                 guidance_scale=default_guidance(arguments.model), generator=torch.Generator().manual_seed(0),
                 output_type="np").images
        ).permute(0, 3, 1, 2)  # fmt: skip

    plain, rows = pictures(), []
    for name, mode in PLANS[:2] if arguments.quick else PLANS:
        plan = strategy(name, mode=mode, steps=arguments.steps, unet=base.unet)
        with inherit(pipe, plan):
            live = psnr(pictures(), plain)
            forward = network.forward
            network.forward = Held(forward, plan.resolve(arguments.steps)).forward
            try:
                inherited = psnr(pictures(), plain)
            finally:
                network.forward = forward
        rows.append({"scale": scale, "plan": plan.describe(), "live": live, "inherited": inherited})
        print(f"scale {scale}, {plan.describe()}", file=sys.stderr)
    return rows


def figures_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean PSNR in dB of each row, and how much better live residuals are."""
    return [
        {
            "scale": row["scale"],
            "plan": row["plan"],
            "live": mean(row["live"]),
            "inherited": mean(row["inherited"]),
            "difference": mean(row["live"]) - mean(row["inherited"]),
        }
        for row in rows
    ]


def chart(figures: list[dict[str, Any]]) -> go.Figure:
    made = go.Figure()
    names = [f"{row['plan']}, scale {row['scale']}" for row in figures]
    for kind in ("live", "inherited"):
        made.add_bar(name=f"residuals {kind}", x=names, y=[row[kind] for row in figures])
    return made.update_layout(yaxis_title="mean PSNR, dB", template="simple_white")


def main() -> None:
    parser = options(str(__doc__).splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--prompts", type=int, default=len(PROMPTS), help=f"pictures, up to {len(PROMPTS)}")
    arguments = parser.parse_args()
    if not has_weights(arguments.model):
        raise ScoreError(f"{arguments.model} has random weights, so a drift would mean nothing; use a trained model.")
    if arguments.quick:
        arguments.steps, arguments.prompts = 4, 2
    base = load(arguments)
    rows = [row for scale in SCALES for row in measure(scale, base, arguments)]
    figures = figures_of(rows)
    path = write_result("controlnet-residuals", {"rows": figures}, rows, arguments)
    write_figure(chart(figures), path)
    print("| scale | plan | residuals live | residuals inherited | difference |\n|---|---|---|---|---|")
    for row in figures:
        print(f"| {row['scale']} | {row['plan']} | {row['live']:.2f} dB | {row['inherited']:.2f} dB | "
              f"{row['difference']:+.2f} |")  # fmt: skip


if __name__ == "__main__":
    run(main)
