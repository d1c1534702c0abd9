"""The whole recipe on a GPU that is there for minutes at a time, on a machine without a network.

Each call ends by itself within `--minutes` and leaves in `--out` what the next needs: first `train`, as often as there
is time, then `finish`, which trains on, exports and measures. What lies in `--work` is gone on with; where that is
gone, what an earlier call left, put into `--carried`, is.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from explorer.devices import resolve_device
from explorer.explained import run_explained
from recipe.evaluation.evaluate import evaluate
from recipe.evaluation.machine import note_device
from recipe.evaluation.statistics import write_statistics
from recipe.networks.autoencoder import LEGS, train_autoencoder
from recipe.networks.clip import train_clip
from recipe.networks.presets import PRESETS, Preset
from recipe.networks.unet import PREDICTIONS, Fast, train_unet
from recipe.packing.export import EMBEDDED, export
from recipe.packing.parcels import folder_files, trained_files, unpack_parcel, write_parcel
from training.loop import Budget
from training.tensors import metadata_of

TRAINED, EXPORTED = "trained", "embedded"
STANDS = "What is trained so far is kept; the same call goes on."


@dataclass(frozen=True)
class Day:
    """What one call has: folders, the moment of `time.monotonic` at which it must have ended, and minutes a stage."""

    work: Path
    out: Path
    carried: Path
    device: str
    preset: Preset
    ends: float
    autoencoder_minutes: float = 1.8
    clip_minutes: float = 1.4
    unet_minutes: float = 10.5
    reserve: float = 15.0
    """Seconds kept for what comes after the UNet."""
    embedded: Path = EMBEDDED
    count: int = 1000
    steps: int = 50


def begin(day: Day) -> None:
    """Data and what earlier calls trained, into the work folder."""
    day.out.mkdir(parents=True, exist_ok=True)
    if not (day.work / "data" / "pictures.safetensors").exists():
        unpack_parcel(day.carried / "data", day.work)
    if not (day.work / LEGS[-1] / "model").exists() and (day.carried / f"{TRAINED}.json").exists():
        unpack_parcel(day.carried / TRAINED, day.work)
    note_device(day.work, day.device)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True


def train_parts(day: Day) -> None:
    """The autoencoder and the CLIP model, where they are not there yet."""
    preset, start = day.preset, None
    if not (day.work / LEGS[-1] / "model").exists():
        for leg, steps in zip(LEGS, preset.legs, strict=True):
            started, share = time.monotonic(), steps / sum(preset.legs)
            start = train_autoencoder(
                day.work, Budget(steps, day.autoencoder_minutes * share), day.device, preset.autoencoder,
                preset.latents, preset.autoencoder_batch, leg=leg, start=start, placings=preset.placings[0],
            )  # fmt: skip
            say(day, f"{leg}: {time.monotonic() - started:.0f} s")
        keep(day)
    if not (day.work / "clip" / "model").exists():
        started = time.monotonic()
        train_clip(
            day.work, Budget(preset.clip_steps, day.clip_minutes), day.device, batch=preset.clip_batch,
            placings=preset.placings[1],
        )  # fmt: skip
        say(day, f"clip: {time.monotonic() - started:.0f} s")
    keep(day)


def train_generator(day: Day, finish: bool) -> None:
    """The UNet, for as long as this call lasts; with `finish` to the end of its learning rate."""
    stop_at = day.ends - day.reserve
    left = (stop_at - time.monotonic()) / 60
    before = seconds_so_far(day.work) / 60
    minutes = before + max(left, 0.02) if finish else day.unet_minutes
    training = train_unet(
        day.work, Budget(minutes=minutes), day.device, day.preset.channels, day.preset.unet_batch,
        prediction=day.preset.prediction, placings=day.preset.placings[2], decay=day.preset.decay,
        fast=Fast(day.preset.half, day.preset.compile_seconds), stop_at=stop_at, on_save=lambda: keep(day),
    )  # fmt: skip
    samples = training.step * day.preset.unet_batch
    say(day, f"unet: step {training.step}, {training.seconds / 60:.1f} of {minutes:.1f} min, {samples} samples")


def measure(day: Day) -> None:
    """Export, statistics by the CLIP model, and an evaluation whose every part is kept as soon as it is there."""
    export(day.work, day.embedded, day.preset.channels)
    write_statistics(day.work, day.embedded / "statistics", ("emojiclip",), day.preset.placed, day.device)
    write_parcel(folder_files(day.embedded, EXPORTED), day.out / EXPORTED)
    for path in day.out.glob(f"{TRAINED}.*"):
        path.unlink()  # the export holds the same averages
    say(day, "exported")
    evaluate(
        day.work, embedded=day.embedded, results=day.out / "evaluation.json", model=str(day.embedded / "emoji"),
        count=day.count, paired_count=min(256, day.count), extractors=("emojiclip",), placed=day.preset.placed,
        device=day.device, batch=64, machine_too=False, steps=day.steps,
    )  # fmt: skip
    write_parcel(folder_files(day.embedded, EXPORTED), day.out / EXPORTED)
    say(day, "measured")


def keep(day: Day) -> None:
    """What is trained so far, into the folder that comes back."""
    write_parcel(trained_files(day.work), day.out / TRAINED)


def seconds_so_far(work: Path) -> float:
    """Of the UNet's training."""
    path = work / "unet" / "checkpoint.safetensors"
    if not path.exists():
        return 0.0
    return float(metadata_of(path)["seconds"])


def say(day: Day, words: str) -> None:
    print(f"[{day.ends - time.monotonic():.0f} s left] {words}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    started = time.monotonic()
    parser = argparse.ArgumentParser(prog="python -m recipe.gpu_day", description=__doc__)
    parser.add_argument("stage", choices=("train", "finish"))
    parser.add_argument("--work", type=Path, default=Path("build/emoji"))
    parser.add_argument("--out", type=Path, required=True, help="folder whose files come back")
    parser.add_argument(
        "--carried", type=Path, default=Path("build/carried"), help="folder of parcels that were brought"
    )
    parser.add_argument("--minutes", type=float, default=8.8, help="of this call")
    parser.add_argument("--autoencoder-minutes", type=float, default=1.8)
    parser.add_argument("--clip-minutes", type=float, default=1.4)
    parser.add_argument("--unet-minutes", type=float, default=10.5, help="of all calls together, as planned")
    parser.add_argument("--reserve", type=float, help="seconds for what comes after the UNet: 15, of finish 150")
    parser.add_argument("--no-compile", action="store_true", help="do without torch.compile")
    parser.add_argument("--prediction", choices=PREDICTIONS, help="rather than as the preset says")
    parser.add_argument("--preset", choices=PRESETS, default="gpu")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--embedded", type=Path, default=EMBEDDED, help="where finish exports to")
    parser.add_argument("--count", type=int, default=1000, help="generated pictures of the evaluation")
    parser.add_argument("--steps", type=int, default=50, help="of the evaluation's pictures")
    options = parser.parse_args(arguments)
    run_explained(lambda: run(day_of(options, started), options.stage == "finish"), "the recipe", stands=STANDS)


def day_of(options: argparse.Namespace, started: float) -> Day:
    """What the options ask for. Raises DeviceError for a device that this machine does not have."""
    finish = options.stage == "finish"
    preset = PRESETS[options.preset]
    if options.no_compile:
        preset = replace(preset, compile_seconds=0.0)
    if options.prediction:
        preset = replace(preset, prediction=options.prediction)
    return Day(
        options.work, options.out, options.carried, str(resolve_device(options.device)), preset,
        started + 60 * options.minutes, options.autoencoder_minutes, options.clip_minutes, options.unet_minutes,
        options.reserve if options.reserve is not None else 150.0 if finish else 15.0, options.embedded, options.count,
        options.steps,
    )  # fmt: skip


def run(day: Day, finish: bool) -> None:
    """One call."""
    begin(day)
    train_parts(day)
    train_generator(day, finish)
    if finish:
        measure(day)
    else:
        keep(day)


if __name__ == "__main__":
    main()
