"""Commands that take a plan home and prove it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from studies.cli.options import DEFAULT_STORAGE, Json, Model, Steps, Storage, Variant

commands = typer.Typer()


@commands.command()
def export(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    trial: Annotated[int, typer.Option(help="The trial's number, as `explorer show` gives it.")],
    out: Annotated[Path, typer.Option(help="Folder: new, empty, or an earlier export.")],
    storage: Storage = DEFAULT_STORAGE,
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that holds other files.")] = False,
    as_json: Json = False,
) -> None:
    """Take a trial home: the plan, its numbers, a card, a script that measures it again, a pipeline for diffusers."""
    from studies.cli.commands.export import export_command

    export_command(study, trial, out, storage, force, as_json)


@commands.command()
def certify(
    target: Annotated[str, typer.Argument(help="A study's name (with --trial), or the folder of an export.")],
    trial: Annotated[int | None, typer.Option(help="The trial's number, as `explorer show` gives it.")] = None,
    storage: Storage = DEFAULT_STORAGE,
    out: Annotated[
        Path | None, typer.Option(help="Where the certificate goes [the export, or beside the storage].")
    ] = None,
    count: Annotated[int | None, typer.Option(help="Pictures of each run [as many as there are prompts].")] = None,
    max_clip_loss: Annotated[str, typer.Option(help="What is claimed: at most this CLIP loss, as 1% or 0.01.")] = "1%",
    max_drift: Annotated[
        float | None, typer.Option(help="What is claimed: at most this drift, 1 - SSIM to the un-accelerated picture.")
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(help="Held-out prompts: a shipped set, a .txt or a .jsonl file.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Another copy of the model, or a fine-tune.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    dtype: Annotated[str | None, typer.Option(help="float32, float16 or bfloat16 [the search's].")] = None,
    variant: Variant = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale [the search's].")] = None,
    resolution: Annotated[int | None, typer.Option(help="Side of a picture in pixels [the search's].")] = None,
    clip_model: Annotated[str | None, typer.Option(help="open_clip model of the CLIP score [the search's].")] = None,
    reference: Annotated[str | None, typer.Option(help="Of the Frechet distance [the search's].")] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures a UNet call [the search's].")] = None,
    pairs: Annotated[int | None, typer.Option(help="Timed pairs, at least 3 [the search's].")] = None,
    compile: Annotated[str | None, typer.Option(help="off, default, cudagraphs or cudagraphs-eager.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Drop what was measured for it before.")] = False,
    as_json: Json = False,
) -> None:
    """Re-score a plan on held-out prompts with fresh seeds, and say whether its claim holds. Resumes."""
    names = ("prompts", "model", "device", "dtype", "guidance", "resolution", "clip_model", "reference", "batch")
    given = {name: value for name, value in locals().items() if name in (*names, "variant", "pairs", "compile")}
    from studies.budget import parse_share
    from studies.choosing.judgement import Limits
    from studies.cli.commands.certify import certify_command

    limits = Limits(parse_share("--max-clip-loss", max_clip_loss), max_drift)
    certify_command(target, trial, storage, out, count, limits, again, given, as_json)


@commands.command()
def bench(
    folder: Annotated[Path, typer.Argument(help="The folder of an `explorer export`.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The model to run it on [the one it was made for].")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")] = "auto",
    variant: Variant = None,
    batch: Annotated[int, typer.Option(help="Pictures a call.")] = 1,
    pairs: Annotated[int, typer.Option(help="Timed pairs, at least 3.")] = 7,
    steps: Annotated[int | None, typer.Option(help="Steps of the stock pipeline [the search's].")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale [the search's, or the model's].")] = None,
    resolution: Annotated[int | None, typer.Option(help="Side of a picture in pixels [the model's].")] = None,
    compile: Annotated[str | None, typer.Option(help="off, default, cudagraphs or cudagraphs-eager.")] = None,
    as_json: Json = False,
) -> None:
    """Time an exported plan against the stock pipeline and DeepCache on this machine, in turn, in one process."""
    given = {name: value for name, value in locals().items() if name not in ("folder", "as_json", "batch")}
    from studies.cli.commands.bench import bench_command

    bench_command(folder, given | {"latency_batch": batch}, as_json)


@commands.command()
def autotune(
    model: Model = "emoji",
    max_clip_loss: Annotated[str, typer.Option(help="The CLIP score that may be lost, as 1% or 0.01.")] = "1%",
    max_drift: Annotated[
        float | None, typer.Option(help="The drift that is allowed, 1 - SSIM to the un-accelerated picture.")
    ] = None,
    budget: Annotated[str, typer.Option(help="Time for all of it: 30m, 2h, 90s.")] = "30m",
    out: Annotated[Path | None, typer.Option(help="Folder of the export [tuned-MODEL]; the same one resumes.")] = None,
    steps: Steps = 50,
    prompts: Annotated[str | None, typer.Option(help="Prompts of the search: a set or file.")] = None,
    certificate_prompts: Annotated[str | None, typer.Option(help="Held-out prompts of the certificate.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the pictures and of the sampler [0].")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, float16 or bfloat16.")] = None,
    variant: Variant = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; up to 1: none [the model's].")] = None,
    resolution: Annotated[int | None, typer.Option(help="Side of a picture in pixels [the model's].")] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures a UNet call for quality [what fits and pays].")] = None,
    clip_model: Annotated[str | None, typer.Option(help="open_clip model of the CLIP score [ViT-g-14].")] = None,
    compile: Annotated[str | None, typer.Option(help="off, default, cudagraphs or cudagraphs-eager.")] = None,
    schedulers: Annotated[
        str | None, typer.Option(help="Comma-separated: own, DPMSolverMultistepScheduler ... [own].")
    ] = None,
    as_json: Json = False,
) -> None:
    """The one command: search, choose, certify and export, within a limit on quality and a budget of time. Resumes."""
    began = time.monotonic()  # what is imported below takes seconds of the budget
    names = ("model", "steps", "prompts", "seed", "device", "dtype", "guidance", "resolution", "batch", "clip_model")
    given = {name: value for name, value in locals().items() if name in (*names, "variant", "compile", "schedulers")}
    from studies.budget import parse_share
    from studies.choosing.judgement import Limits
    from studies.cli.commands.autotune import autotune_command

    limits = Limits(parse_share("--max-clip-loss", max_clip_loss), max_drift)
    autotune_command(budget, limits, out, certificate_prompts, given, as_json, began)
