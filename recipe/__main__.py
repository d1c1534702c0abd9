"""`python -m recipe STAGE`: the stages of the recipe, in the order in which they made the weights."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from explorer import default_guidance
from explorer.devices import resolve_device
from explorer.explained import run_explained
from recipe.data.prepare import CONCEPTS
from recipe.networks.presets import PRESETS, Preset
from recipe.networks.unet import PREDICTIONS
from training.folders import alone
from training.loop import Budget

STAGES = {
    "fetch": "picture packages from npm, by name and version",
    "prepare": "pictures, captions and splits",
    "pack": "the prepared data as one file of about 10 MB, --parcel; unpack: the data from it",
    "unpack": "what pack made, or the parts of a parcel, into --work",
    "train-autoencoder": "pictures to latents and back",
    "train-unet": "the UNet and the text encoder",
    "train-clip": "the judge, an open_clip model",
    "export": "what was trained, to explorer/embedded; with the prompt sets",
    "statistics": "features of the real pictures",
    "train-students": "smaller networks from the exported UNet, by `explorer distill`",
    "export-students": "the students, to the exported model's folder",
    "evaluate": "measure what was exported",
    "card": "write the model card from the measurements",
}

STANDS = "What is made so far is kept; the same command goes on."


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m recipe", description=__doc__)
    made.add_argument("stage", choices=STAGES, help="; ".join(f"{name}: {what}" for name, what in STAGES.items()))
    made.add_argument("--work", type=Path, default=Path("build/emoji"), help="folder of data, checkpoints and logs")
    made.add_argument(
        "--preset", choices=PRESETS, default="cpu", help="sizes and steps; gpu: all concepts, placed, 16x16 latents"
    )
    made.add_argument("--concepts", choices=CONCEPTS, help="what the generator learns, rather than as the preset says")
    made.add_argument("--prediction", choices=PREDICTIONS, help="of the UNet, rather than as the preset says")
    made.add_argument("--parcel", type=Path, default=Path("build/parcels/data"), help="of pack and unpack, no suffix")
    made.add_argument("--device", default="cpu")
    made.add_argument(
        "--minutes", type=positive(float), help="end a training after so many minutes rather than its steps"
    )
    made.add_argument(
        "--workers", type=positive(int), default=1, help="processes that train the UNet on a CPU; 2 made the weights"
    )
    made.add_argument(
        "--guidance", type=float, default=default_guidance("emoji"), help="guidance scale of the evaluation"
    )
    made.add_argument("--machine-only", action="store_true", help="of the evaluation, only what depends on the machine")
    made.add_argument("--count", type=positive(int), default=1000, help="generated pictures of the evaluation")
    return made


def positive(kind: type) -> Callable[[str], Any]:
    """An option's type: a number above zero."""

    def read(text: str) -> Any:
        if not 0 < (value := kind(text)) < math.inf:
            raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
        return value

    read.__name__ = kind.__name__
    return read


def main(arguments: list[str] | None = None) -> None:
    """Run one stage; raises SystemExit with status 1 and a sentence for what a user can fix."""
    options = parser().parse_args(arguments)
    run_explained(lambda: run(options), "the recipe", stands=STANDS)


def run(options: argparse.Namespace) -> None:
    """One stage."""
    preset, work, stage = PRESETS[options.preset], options.work, options.stage
    device = str(resolve_device(options.device))
    if stage == "train-students":
        from recipe.networks.students import train_students

        with alone(work, stage):
            train_students(work, "emoji", preset.student_steps, preset.student_batch, device)
    elif stage == "export-students":
        from recipe.networks.students import export_students
        from recipe.packing.export import EMBEDDED

        export_students(work, EMBEDDED / "emoji", EMBEDDED / "card")
    elif stage.startswith("train-"):
        from recipe.data.prepare import check_prepared
        from recipe.evaluation.machine import note_device

        check_prepared(work)
        with alone(work, stage):
            note_device(work, device)
            train(options, preset, work, device)
    elif stage == "fetch":
        from recipe.data.fetch import fetch

        fetch(work)
    elif stage == "prepare":
        from recipe.data.prepare import prepare

        prepare(work, options.concepts or preset.learns)
    elif stage == "pack":
        from recipe.packing.parcels import pack_data

        pack_data(work, options.parcel)
    elif stage == "unpack":
        from recipe.packing.parcels import unpack_parcel

        unpack_parcel(options.parcel, work)
    elif stage == "export":
        from recipe.packing.export import EMBEDDED, export

        export(work, EMBEDDED, preset.channels)
    elif stage == "statistics":
        from recipe.evaluation.statistics import write_statistics
        from recipe.packing.export import EMBEDDED

        write_statistics(work, EMBEDDED / "statistics", placed=preset.placed, device=device)
    elif stage == "evaluate":
        from recipe.evaluation.evaluate import evaluate

        evaluate(
            work, guidance=options.guidance, count=options.count, machine_only=options.machine_only,
            placed=preset.placed, device=device,
        )  # fmt: skip
    else:
        from recipe.evaluation.card import write_card

        write_card(work)


def train(options: argparse.Namespace, preset: Preset, work: Path, device: str) -> None:
    """One of the trainings."""

    def budget(steps: int, share: float = 1.0) -> Budget:
        return Budget(minutes=options.minutes * share) if options.minutes else Budget(steps=steps)

    if options.stage == "train-autoencoder":
        from recipe.networks.autoencoder import LEGS, train_autoencoder

        start = None
        for leg, steps in zip(LEGS, preset.legs, strict=True):
            start = train_autoencoder(
                work, budget(steps, steps / sum(preset.legs)), device, preset.autoencoder, preset.latents,
                preset.autoencoder_batch, leg=leg, start=start, placings=preset.placings[0],
            )  # fmt: skip
    elif options.stage == "train-unet":
        import torch

        from recipe.networks.unet import Fast, train_unet

        if options.workers > 1:
            torch.set_num_threads(1)
        train_unet(
            work, budget(preset.unet_steps), device, preset.channels, preset.unet_batch, workers=options.workers,
            prediction=options.prediction or preset.prediction, placings=preset.placings[2], decay=preset.decay,
            fast=Fast(preset.half, preset.compile_seconds) if device != "cpu" else None,
        )  # fmt: skip
    else:
        from recipe.networks.clip import train_clip

        train_clip(work, budget(preset.clip_steps), device, batch=preset.clip_batch, placings=preset.placings[1])


if __name__ == "__main__":
    main()
