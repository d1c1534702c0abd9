"""Commands that export a plan, certify it and time it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from studies.cli.options import Json, Storage, with_options
from studies.config import BENCHED, CERTIFIED, SearchConfig

commands = typer.Typer()
TRIAL = "A trial's number, as `explorer show` gives it, or best: the fastest without a measurable loss."


@commands.command()
@with_options("students", unset="where the study has them from")
def export(
    given: dict[str, Any],
    study: Annotated[str, typer.Argument(help="The study's name.")],
    trial: Annotated[str, typer.Option(help=TRIAL)],
    out: Annotated[Path, typer.Option(help="Folder: new, empty or an earlier export.")],
    storage: Storage = SearchConfig.storage,
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that holds other files.")] = False,
    as_json: Json = False,
) -> None:
    """Export a trial: the plan, its scores, a card, a script that measures it again and a pipeline for diffusers."""
    from studies.cli.commands.export import export_command

    export_command(study, trial, out, storage, force, given.get("students", ()), as_json)


@commands.command()
@with_options(*CERTIFIED, unset="the search's")
def certify(
    given: dict[str, Any],
    target: Annotated[str, typer.Argument(help="A study's name (with --trial), an export's folder, or a plan's file.")],
    trial: Annotated[str | None, typer.Option(help=TRIAL)] = None,
    storage: Storage = SearchConfig.storage,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the certificate [the export, or beside the storage].")
    ] = None,
    count: Annotated[int | None, typer.Option(help="Pictures of each run [one for each prompt].")] = None,
    max_clip_loss: Annotated[str, typer.Option(help="Maximum CLIP loss that is claimed, as 1% or 0.01.")] = "1%",
    max_drift: Annotated[
        float | None, typer.Option(help="Maximum drift that is claimed, 1 - SSIM to the un-accelerated picture.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Drop earlier measurements of it.")] = False,
    as_json: Json = False,
) -> None:
    """Score a plan again on held-out prompts with fresh seeds, and say whether its claim holds. Resumes."""
    from studies.budget import parse_share
    from studies.choosing.judgement import QualityLimits
    from studies.cli.commands.certify import certify_command

    limits = QualityLimits(parse_share("--max-clip-loss", max_clip_loss), max_drift)
    certify_command(target, trial, storage, out, count, limits, again, given, as_json)


@commands.command()
@with_options(*BENCHED, unset="the search's, or the default")
def bench(
    given: dict[str, Any],
    folder: Annotated[Path, typer.Argument(help="The folder of an `explorer export`, or a plan's file.")],
    batch: Annotated[int, typer.Option(help="Pictures per call.")] = SearchConfig.latency_batch,
    as_json: Json = False,
) -> None:
    """Time an exported plan against the stock pipeline and DeepCache on this machine."""
    from studies.cli.commands.bench import bench_command

    bench_command(folder, given | {"latency_batch": batch}, as_json)


@commands.command()
@with_options(
    "model", "lora", "steps", "prompts", "negative_prompt", "seed", "device", "dtype", "variant", "guidance",
    "resolution", "batch", "clip_model", "compile", "schedulers",
)  # fmt: skip
def autotune(
    given: dict[str, Any],
    max_clip_loss: Annotated[str, typer.Option(help="Maximum CLIP loss, as 1% or 0.01.")] = "1%",
    max_drift: Annotated[
        float | None, typer.Option(help="Maximum drift, 1 - SSIM to the un-accelerated picture.")
    ] = None,
    budget: Annotated[str, typer.Option(help="Total time, such as 30m, 2h or 90s.")] = "30m",
    out: Annotated[Path | None, typer.Option(help="Folder of the export; the same one resumes [tuned-MODEL].")] = None,
    certificate_prompts: Annotated[str | None, typer.Option(help="Held-out prompts of the certificate.")] = None,
    as_json: Json = False,
) -> None:
    """Search, choose, certify and export a plan, within a quality limit and a time budget. Resumes."""
    began = time.monotonic()  # what is imported below takes seconds of the budget
    from studies.budget import parse_share
    from studies.choosing.judgement import QualityLimits
    from studies.cli.commands.autotune import autotune_command

    limits = QualityLimits(parse_share("--max-clip-loss", max_clip_loss), max_drift)
    autotune_command(budget, limits, out, certificate_prompts, given, as_json, began)
