"""Should a control network's residuals be inherited with the region that they enter, or be applied live?

`python benchmarks/controlnet_residuals.py [steps] [prompts]` prints the drift of both on the embedded model. No trained
control network fits it, so this one is the UNet's own encoder (`ControlNetModel.from_unet`), whose output convolutions
are the identity times a scale: its residuals follow the sample, the step and the control picture as real ones do.
Live: the network's residuals of each step, as the engine applies them. Inherited: those of the last extract step.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from diffusers import ControlNetModel, DDIMScheduler, StableDiffusionControlNetPipeline

from explorer import inherit, load_pipeline, strategy

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


def psnr(pictures: torch.Tensor, plain: torch.Tensor) -> float:
    error = (pictures - plain).square().mean(dim=(1, 2, 3))
    return float((-10 * error.log10()).mean())


def main() -> None:
    steps, count = (int(text) for text in (*sys.argv[1:], "20", "8")[:2])
    base = load_pipeline("emoji")
    control = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)), 64)
    print("| scale | plan | residuals live | residuals inherited | difference |\n|---|---|---|---|---|")
    for scale in SCALES:
        pipe: Any = StableDiffusionControlNetPipeline(
            **{**base.components, "scheduler": DDIMScheduler.from_config(base.scheduler.config)},
            controlnet=control_network(base.unet, scale), requires_safety_checker=False,
        )  # fmt: skip
        pipe.set_progress_bar_config(disable=True)

        def pictures(pipe: Any = pipe) -> torch.Tensor:
            return torch.from_numpy(
                pipe(list(PROMPTS[:count]), image=control, num_inference_steps=steps, guidance_scale=3.0,
                     generator=torch.Generator().manual_seed(0), output_type="np").images
            )  # fmt: skip

        plain, network = pictures(), pipe.controlnet
        for name, mode in PLANS:
            plan = strategy(name, mode=mode, steps=steps, unet=base.unet)
            with inherit(pipe, plan):
                live = psnr(pictures(), plain)
                network_forward, held = network.forward, Held(network.forward, plan.resolve(steps))
                network.forward = held.forward
                inherited = psnr(pictures(), plain)
                network.forward = network_forward
            print(
                f"| {scale} | {plan.describe()} | {live:.2f} dB | {inherited:.2f} dB | {live - inherited:+.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
