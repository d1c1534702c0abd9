"""The command line: `explorer`. Commands load what they need when they run, so that help is quick."""

from __future__ import annotations

import io
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from explorer.errors import ExplorerError
from explorer.memory import is_out_of_memory, out_of_memory
from explorer.models.library_messages import quiet_process
from studies.config import STORAGE_VARIABLE
from studies.removed import refusal

INTERRUPTED = 130

app = typer.Typer(
    name="explorer",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Make Stable Diffusion faster without retraining: search which parts of the UNet may inherit features at "
    "which denoising steps, by measured latency against picture quality.",
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="emoji, arch:sd15, arch:sd21, arch:sdxl, a diffusers folder, a checkpoint or a hub id."
    ),
]
Steps = Annotated[int, typer.Option("--steps", help="num_inference_steps of the un-accelerated pipeline.")]
Storage = Annotated[str, typer.Option("--storage", envvar=STORAGE_VARIABLE, help="SQLite file or SQLAlchemy URL.")]
Resolution = Annotated[int | None, typer.Option("--resolution", help="Side of a picture in pixels [the model's].")]
Batch = Annotated[int, typer.Option("--batch", help="Pictures at once; with guidance the UNet sees twice as many.")]
Dtype = Annotated[str, typer.Option("--dtype", help="auto, float32, float16 or bfloat16.")]
Variant = Annotated[
    str | None, typer.Option("--variant", help="Weight files to read, such as fp16 or non_ema [those of the dtype].")
]
DEFAULT_STORAGE = "sqlite:///explorer.db"


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"inheritance-explorer {version('inheritance-explorer')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
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
    from studies.cli.search import run_search

    run_search(given, file, as_json=as_json, started=started)


@app.command()
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
    from studies.cli.search import run_one_worker

    run_one_worker(study, storage, device, trials, timeout, quality_only, proposals, racing, replay, started)


@app.command()
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
    from studies.cli.calibrate import run_calibrate

    run_calibrate(given, pictures=pictures, points=points, again=again, as_json=as_json)


@app.command("list")
def list_studies(storage: Storage = DEFAULT_STORAGE, as_json: Json = False) -> None:
    """The studies of a storage."""
    from studies.cli.browse import list_command

    list_command(storage, as_json)


@app.command()
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
    from studies.cli.browse import show_command

    check_drift(max_drift)
    asked = Asked(
        None if max_clip_loss is None else parse_share("--max-clip-loss", max_clip_loss),
        max_drift,
        tuple(parse_bound("--min", each) for each in least or ()),
        tuple(parse_bound("--max", each) for each in most or ()),
    )
    show_command(study, storage, html, png, asked, as_json, in_full)


@app.command()
def rename(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    new: Annotated[str, typer.Argument(help="Its new name.")],
    storage: Storage = DEFAULT_STORAGE,
    as_json: Json = False,
) -> None:
    """Give a study another name. Refused while a worker is searching it."""
    from studies.cli.manage import rename_command

    rename_command(study, new, storage, as_json)


@app.command()
def delete(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    storage: Storage = DEFAULT_STORAGE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without a question.")] = False,
    as_json: Json = False,
) -> None:
    """Delete a study with its plans, scores, calibration, pictures, saved files and certificates, after a question.

    Other studies and profiles stay. Refused while a worker is searching the study.
    """
    from studies.cli.manage import delete_command

    delete_command(study, storage, yes, as_json)


@app.command()
def export(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    trial: Annotated[int, typer.Option(help="The trial's number, as `explorer show` gives it.")],
    out: Annotated[Path, typer.Option(help="Folder: new, empty, or an earlier export.")],
    storage: Storage = DEFAULT_STORAGE,
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that holds other files.")] = False,
    as_json: Json = False,
) -> None:
    """Take a trial home: the plan, its numbers, a card, a script that measures it again, a pipeline for diffusers."""
    from studies.cli.export import export_command

    export_command(study, trial, out, storage, force, as_json)


@app.command()
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
    from studies.cli.certify import certify_command

    limits = Limits(parse_share("--max-clip-loss", max_clip_loss), max_drift)
    certify_command(target, trial, storage, out, count, limits, again, given, as_json)


@app.command()
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
    from studies.cli.bench import bench_command

    bench_command(folder, given | {"latency_batch": batch}, as_json)


@app.command()
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
    from studies.cli.autotune import autotune_command

    limits = Limits(parse_share("--max-clip-loss", max_clip_loss), max_drift)
    autotune_command(budget, limits, out, certificate_prompts, given, as_json, began)


@app.command()
def models(as_json: Json = False) -> None:
    """The models that can be named without a path."""
    from studies.cli.engine import models_command

    models_command(as_json)


@app.command()
def anatomy(
    model: Model = "emoji",
    resolution: Resolution = None,
    storage: Storage = DEFAULT_STORAGE,
    as_json: Json = False,
) -> None:
    """What each unit of a model costs: parameters and MACs, and its time where a profile stands."""
    from studies.cli.engine import anatomy_command

    anatomy_command(model, resolution, storage, as_json)


@app.command()
def strategies(
    model: Model = "emoji",
    steps: Steps = 50,
    resolution: Resolution = None,
    batch: Batch = 1,
    dtype: Dtype = "auto",
    storage: Storage = DEFAULT_STORAGE,
    as_json: Json = False,
) -> None:
    """The named strategies on a model: units inherited, MACs of an inherit step, the speed-up that MACs and a profile
    predict, and the memory of their features."""
    from studies.cli.engine import strategies_command

    strategies_command(model, steps, resolution, batch, dtype, storage, as_json)


@app.command()
def profile(
    model: Model = "emoji",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    dtype: Dtype = "auto",
    variant: Variant = None,
    batch: Batch = 1,
    resolution: Resolution = None,
    steps: Steps = 50,
    compile: Annotated[str, typer.Option(help="off, default, cudagraphs or cudagraphs-eager.")] = "off",
    rounds: Annotated[int | None, typer.Option(help="Rounds of every measurement [3 to 9, by speed].")] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure anew, also where a profile stands.")] = False,
    storage: Storage = DEFAULT_STORAGE,
    as_json: Json = False,
) -> None:
    """Measure every node and every strategy's step on this device, and how well a plan's time is predicted."""
    from studies.cli.profile import profile_command

    profile_command(
        model, device=device, dtype=dtype, variant=variant, batch=batch, resolution=resolution, steps=steps,
        compile=compile, rounds=rounds, storage=storage, again=again, as_json=as_json,
    )  # fmt: skip


@app.command()
def dashboard(
    storage: Storage = DEFAULT_STORAGE,
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8501,
    study: Annotated[str | None, typer.Option(help="The study whose front the address opens.")] = None,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; 0.0.0.0 in a container. Any other than the default opens every study to "
            "whoever reaches the port: there is no authentication."
        ),
    ] = "127.0.0.1",
) -> None:
    """Look at the studies of a storage in the browser: fronts, pictures, plans, progress. Prints the address."""
    from studies.cli.dashboard import dashboard_command

    dashboard_command(storage, port, study, host)


def main() -> None:
    """The entry point: every error that a user can mend is one sentence and status 1."""
    quiet_process()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may lack signs, such as the paper's dagger
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit status: 0 done, 1 an explained error, 2 wrong usage, 130 interrupted."""
    if (gone := refusal(arguments)) is not None:
        typer.echo(f"error: {gone}", err=True)
        return 2
    try:
        status = app(args=arguments, prog_name="explorer", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except typer.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the reader has gone; what is left is not wanted
        return 0
    except ExplorerError as error:
        typer.echo(f"error: {error}", err=True)
        return 1
    except OSError as error:
        typer.echo(f"error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}.", err=True)
        return 1
    except Exception as error:
        if is_out_of_memory(error):
            typer.echo(f"error: {out_of_memory(error, 'the command')}", err=True)
            return 1
        # Typer carries a copy of click of its own: wrong usage is known by what such an error can do.
        if not hasattr(error, "show") or not hasattr(error, "exit_code"):
            raise
        error.show()
        return 2


if __name__ == "__main__":
    main()
