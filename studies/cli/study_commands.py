"""Commands that make, read and manage studies."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from studies.cli.options import DEFAULT_STORAGE, Json, Storage, Variant
from studies.config import STORAGE_VARIABLE

commands = typer.Typer()


@commands.command()
def search(
    file: Annotated[Path | None, typer.Argument(help="TOML file with the names of the options below.")] = None,
    study: Annotated[str | None, typer.Option(help="Name; the same name resumes.")] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="As in `explorer models`, a folder, a .safetensors checkpoint or a hub id."),
    ] = None,
    space: Annotated[str | None, typer.Option(help="joint, named, block, layer, unit or schedule.")] = None,
    objectives: Annotated[
        str | None, typer.Option(help="Comma-separated: latency, speedup, fd, fid, kid, is, clip, psnr, ssim, lpips.")
    ] = None,
    prompts: Annotated[str | None, typer.Option(help="A shipped set, a .txt or a .jsonl file.")] = None,
    prompt_count: Annotated[int | None, typer.Option(help="Only the first so many prompts.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the un-accelerated pipeline [50].")] = None,
    trials: Annotated[int | None, typer.Option(help="The study's total of plans, not an addition [200].")] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Begin nothing further after so many seconds, loading included.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes on this machine [1].")] = None,
    storage: Annotated[
        str | None, typer.Option(envvar=STORAGE_VARIABLE, help="SQLite file or SQLAlchemy URL [explorer.db].")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the pictures and of the sampler [0].")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, float16 or bfloat16.")] = None,
    variant: Variant = None,
    compile: Annotated[
        str | None, typer.Option(metavar="MODE", help="off, default, cudagraphs or cudagraphs-eager [off].")
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="tpe, random, or nsgaii (Optuna's NSGA-II).")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; up to 1: none [the model's].")] = None,
    resolution: Annotated[int | None, typer.Option(help="Side of a picture in pixels [the model's].")] = None,
    batch: Annotated[
        str | None,
        typer.Option(metavar="N", help="Pictures a UNet call for quality, or auto: what fits and pays [auto]."),
    ] = None,
    latency_batch: Annotated[int | None, typer.Option(help="Pictures a call when latency is measured [1].")] = None,
    pairs: Annotated[int | None, typer.Option(help="Timed pairs of baseline and candidate, at least 3 [7].")] = None,
    extractor: Annotated[
        str | None, typer.Option(help="Features of FD and KID: emojiclip, efficientnet, inception ...")
    ] = None,
    clip_model: Annotated[str | None, typer.Option(help="open_clip model of the CLIP score [ViT-g-14].")] = None,
    reference: Annotated[
        str | None, typer.Option(help="embedded, baseline (the un-accelerated pictures), statistics file or folder.")
    ] = None,
    baselines: Annotated[str | None, typer.Option(help="all (69 rows and controls), short or none.")] = None,
    calibrate: Annotated[
        bool | None,
        typer.Option("--calibrate/--no-calibrate", help="Calibrate first; adds the rule fitted [where it pays]."),
    ] = None,
    proposals: Annotated[
        str | None,
        typer.Option(help="planned, for a calibrated study; seeds; or sampler [planned, without a calibration seeds]."),
    ] = None,
    max_cache_mib: Annotated[
        float | None, typer.Option(help="Propose no plan whose features take more MiB at once.")
    ] = None,
    max_variants: Annotated[
        int | None, typer.Option(help="Propose no plan of more different steps; each is compiled once.")
    ] = None,
    max_age: Annotated[
        int | None, typer.Option(help="Propose no plan that inherits features of more evaluations ago.")
    ] = None,
    schedulers: Annotated[
        str | None, typer.Option(help="Comma-separated: own, DPMSolverMultistepScheduler ... [own].")
    ] = None,
    racing: Annotated[
        str | None,
        typer.Option(help="drift: few prompts first, more for those that may be on the front; or off [drift]."),
    ] = None,
    replay: Annotated[
        int | None, typer.Option(help="MiB kept on disk of UNet outputs, for plans that begin alike; 0: none [1024].")
    ] = None,
    as_json: Json = False,
) -> None:
    """Search plans: the baselines first, then what is proposed. Resumes; Ctrl-C leaves the study whole."""
    given = {name: value for name, value in locals().items() if name not in ("file", "as_json")}
    started = time.monotonic()
    from studies.cli.commands.search import run_search

    run_search(given, file, as_json=as_json, started=started)


@commands.command()
def worker(
    study: Annotated[str, typer.Option("--study", help="A study that stands.")],
    storage: Storage = DEFAULT_STORAGE,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    trials: Annotated[int | None, typer.Option(help="The study's total of plans.")] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Begin nothing further after so many seconds, loading included.")
    ] = None,
    quality_only: Annotated[
        bool, typer.Option("--quality-only", help="Leave latency to others, as a worker of another device does anyway.")
    ] = False,
    proposals: Annotated[str, typer.Option(help="As of `explorer search`.")] = "auto",
    racing: Annotated[str, typer.Option(help="drift or off.")] = "drift",
    replay: Annotated[int, typer.Option(help="MiB kept of UNet outputs, as for `search`.")] = 1024,
) -> None:
    """One more process on a study, from any machine that reaches the storage."""
    started = time.monotonic()
    from studies.cli.commands.search import run_one_worker

    run_one_worker(study, storage, device, trials, timeout, quality_only, proposals, racing, replay, started)


@commands.command()
def calibrate(
    study: Annotated[str | None, typer.Option(help="Name; one that stands gives all other settings.")] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="As in `explorer models`, a folder, a .safetensors checkpoint or a hub id."),
    ] = None,
    space: Annotated[str | None, typer.Option(help="joint, named, block, layer, unit or schedule.")] = None,
    objectives: Annotated[str | None, typer.Option(help="Of the study, as for `search`.")] = None,
    prompts: Annotated[str | None, typer.Option(help="A shipped set, a .txt or a .jsonl file.")] = None,
    prompt_count: Annotated[int | None, typer.Option(help="Only the first so many prompts.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the un-accelerated pipeline [50].")] = None,
    storage: Annotated[
        str | None, typer.Option(envvar=STORAGE_VARIABLE, help="SQLite file or SQLAlchemy URL [explorer.db].")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the pictures and of the sampler [0].")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, float16 or bfloat16.")] = None,
    variant: Variant = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; up to 1: none [the model's].")] = None,
    resolution: Annotated[int | None, typer.Option(help="Side of a picture in pixels [the model's].")] = None,
    pictures: Annotated[int | None, typer.Option(help="How many of the study's prompts are run [4].")] = None,
    points: Annotated[int | None, typer.Option(help="Evaluations of a run at which errors are measured [8].")] = None,
    again: Annotated[bool, typer.Option("--again", help="Drop the calibration that stands first.")] = False,
    as_json: Json = False,
) -> None:
    """Measure what inheriting does to single steps, once a study; then plans are predicted. Resumes.

    A study that begins with it, here or by `search --calibrate`, has the rule fitted too; one that stands without does
    not get it.
    """
    own = ("pictures", "points", "again", "as_json")
    given = {name: value for name, value in locals().items() if name not in (*own, "own")}
    from studies.cli.commands.calibrate import run_calibrate

    run_calibrate(given, pictures=pictures, points=points, again=again, as_json=as_json)


@commands.command("list")
def list_studies(storage: Storage = DEFAULT_STORAGE, as_json: Json = False) -> None:
    """The studies of a storage."""
    from studies.cli.commands.browse import list_command

    list_command(storage, as_json)


@commands.command()
def show(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    storage: Storage = DEFAULT_STORAGE,
    html: Annotated[Path | None, typer.Option(help="Write the chart of the front as a page.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write the chart as a picture (needs Chrome or Chromium).")] = None,
    max_clip_loss: Annotated[
        str | None, typer.Option(help="Name the fastest plan that loses at most this of the CLIP score, as 1% or 0.01.")
    ] = None,
    max_drift: Annotated[
        float | None, typer.Option(help="The same for a drift of at most this, 1 - SSIM to the un-accelerated picture.")
    ] = None,
    least: Annotated[
        list[str] | None, typer.Option("--min", metavar="METRIC=X", help="At least this, such as psnr=30; repeatable.")
    ] = None,
    most: Annotated[
        list[str] | None, typer.Option("--max", metavar="METRIC=X", help="At most this, such as fd=20; repeatable.")
    ] = None,
    in_full: Annotated[bool, typer.Option("--words", help="Plans in full words instead of nicknames.")] = False,
    as_json: Json = False,
) -> None:
    """A study's Pareto front: plans by name, speed-up and scores with intervals, which baselines each dominates."""
    from studies.budget import parse_share
    from studies.choosing.choice import Asked, parse_bound
    from studies.choosing.judgement import check_drift
    from studies.cli.commands.browse import show_command

    check_drift(max_drift)
    asked = Asked(
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
    storage: Storage = DEFAULT_STORAGE,
    as_json: Json = False,
) -> None:
    """Give a study another name. Refused while a worker is searching it."""
    from studies.cli.commands.manage import rename_command

    rename_command(study, new, storage, as_json)


@commands.command()
def delete(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    storage: Storage = DEFAULT_STORAGE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without a question.")] = False,
    as_json: Json = False,
) -> None:
    """Delete a study with its plans, scores, calibration, pictures, saved files and certificates, after a question.

    Other studies and profiles stay. Refused while a worker is searching the study.
    """
    from studies.cli.commands.manage import delete_command

    delete_command(study, storage, yes, as_json)
