"""Commands that make, read and manage studies."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from studies.cli.options import Json, Storage, of_groups, with_options
from studies.config import OPTIONS, WORKER, SearchConfig
from studies.option import Group

commands = typer.Typer()


@commands.command()
@with_options(*OPTIONS)
def search(
    given: dict[str, Any],
    file: Annotated[Path | None, typer.Argument(help="TOML file with the names of the options below.")] = None,
    as_json: Json = False,
) -> None:
    """Search for plans: score the baselines, then proposed plans. Resumes; Ctrl-C loses only the plan in progress."""
    started = time.monotonic()
    from studies.searching.asking import config_asked

    config = config_asked(given, file)
    from studies.cli.commands.search import run_search

    run_search(config, as_json=as_json, started=started)


@commands.command()
@with_options("storage", *WORKER)
def worker(
    given: dict[str, Any],
    study: Annotated[str, typer.Option("--study", help="An existing study.")],
    quality_only: Annotated[
        bool, typer.Option("--quality-only", help="Score only quality, as a worker on another device does anyway.")
    ] = False,
) -> None:
    """Add a process to a study, from any machine that reaches the storage."""
    started = time.monotonic()
    from studies.cli.commands.search import run_one_worker

    run_one_worker(study, given, quality_only=quality_only, started=started)


@commands.command()
@with_options("study", "storage", *of_groups(Group.MEASURES, Group.SAMPLES))
def calibrate(
    given: dict[str, Any],
    pictures: Annotated[int | None, typer.Option(help="Number of the study's prompts to run [4].")] = None,
    points: Annotated[int | None, typer.Option(help="Evaluations of a run at which errors are measured [8].")] = None,
    again: Annotated[bool, typer.Option("--again", help="Drop the existing calibration first.")] = False,
    as_json: Json = False,
) -> None:
    """Measure the effect of inheriting at single steps, once per study, to predict plans. Resumes.

    Creates the study with the options given here if it is new; `explorer search --study NAME` then searches it. Only a
    study that is created with a calibration, here or by `search --calibrate`, has the rule fitted.
    """
    from studies.searching.asking import config_asked

    config = config_asked(given, new={"calibrate": True})
    from studies.cli.commands.calibrate import run_calibrate

    run_calibrate(config, pictures=pictures, points=points, again=again, as_json=as_json)


@commands.command("list")
def list_studies(storage: Storage = SearchConfig.storage, as_json: Json = False) -> None:
    """List the studies of a storage."""
    from studies.cli.commands.browse import list_command

    list_command(storage, as_json)


@commands.command()
def show(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    storage: Storage = SearchConfig.storage,
    html: Annotated[Path | None, typer.Option(help="Write the chart of the front as an HTML page.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write the chart as a picture (needs Chrome or Chromium).")] = None,
    max_clip_loss: Annotated[
        str | None,
        typer.Option(help="Show the fastest plan with at most this CLIP loss, as 1% or 0.01."),
    ] = None,
    max_drift: Annotated[
        float | None, typer.Option(help="The same with a maximum drift, 1 - SSIM to the un-accelerated picture.")
    ] = None,
    least: Annotated[
        list[str] | None,
        typer.Option("--min", metavar="METRIC=X", help="The same with a minimum, such as psnr=30. Repeatable."),
    ] = None,
    most: Annotated[
        list[str] | None,
        typer.Option("--max", metavar="METRIC=X", help="The same with a maximum, such as fd=20. Repeatable."),
    ] = None,
    in_full: Annotated[bool, typer.Option("--words", help="Show plans in full instead of by nickname.")] = False,
    as_json: Json = False,
) -> None:
    """Show a study's Pareto front: speed-up and scores with intervals, and which baselines each plan dominates."""
    from studies.budget import parse_share
    from studies.choosing.choice import AskedLimits, parse_bound
    from studies.choosing.judgement import check_drift
    from studies.cli.commands.browse import show_command

    check_drift(max_drift)
    asked = AskedLimits(
        None if max_clip_loss is None else parse_share("--max-clip-loss", max_clip_loss),
        max_drift,
        tuple(parse_bound("--min", each) for each in least or ()),
        tuple(parse_bound("--max", each) for each in most or ()),
    )
    show_command(study, storage, html, png, asked, as_json, in_full)


@commands.command()
def rename(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    new: Annotated[str, typer.Argument(help="Its new name.")],
    storage: Storage = SearchConfig.storage,
    as_json: Json = False,
) -> None:
    """Rename a study. Refused while a worker is searching it."""
    from studies.cli.commands.manage import rename_command

    rename_command(study, new, storage, as_json)


@commands.command()
def delete(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    storage: Storage = SearchConfig.storage,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without confirmation.")] = False,
    as_json: Json = False,
) -> None:
    """Delete a study with its plans, scores, calibration, pictures, saved files and certificates, after confirmation.

    Other studies and profiles are kept. Refused while a worker is searching the study.
    """
    from studies.cli.commands.manage import delete_command

    delete_command(study, storage, yes, as_json)
