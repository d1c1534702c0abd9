"""The command line: `explorer`. Commands load what they need when they run, so that help is quick."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from explorer.errors import ExplorerError
from studies.config import STORAGE_VARIABLE

INTERRUPTED = 130

app = typer.Typer(
    name="explorer",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Make Stable Diffusion faster without retraining: search which parts of the UNet may inherit features at "
    "which denoising steps, by measured latency against picture quality.",
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Model = Annotated[
    str, typer.Option("--model", "-m", help="emoji, arch:sd15, arch:sd21, arch:sdxl, a diffusers folder or a hub id.")
]
Steps = Annotated[int, typer.Option("--steps", help="num_inference_steps of the un-accelerated pipeline.")]
Storage = Annotated[str, typer.Option("--storage", envvar=STORAGE_VARIABLE, help="SQLite file or SQLAlchemy URL.")]
DEFAULT_STORAGE = "sqlite:///explorer.db"


@app.command()
def search(
    file: Annotated[Path | None, typer.Argument(help="TOML file with the names of the options below.")] = None,
    study: Annotated[str | None, typer.Option(help="Name; the same name resumes.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="As in `explorer models`, a folder or a hub id.")
    ] = None,
    space: Annotated[str | None, typer.Option(help="joint, named, block, layer, unit or schedule.")] = None,
    objectives: Annotated[
        str | None, typer.Option(help="Comma-separated: latency, speedup, fd, fid, kid, is, clip, psnr, ssim, lpips.")
    ] = None,
    prompts: Annotated[str | None, typer.Option(help="A shipped set, a .txt or a .jsonl file.")] = None,
    prompt_count: Annotated[int | None, typer.Option(help="Only the first so many prompts.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the un-accelerated pipeline [50].")] = None,
    trials: Annotated[int | None, typer.Option(help="The study's total of plans, not an addition [200].")] = None,
    timeout: Annotated[float | None, typer.Option(help="Begin no further plan after so many seconds.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes on this machine [1].")] = None,
    storage: Annotated[
        str | None, typer.Option(envvar=STORAGE_VARIABLE, help="SQLite file or SQLAlchemy URL [explorer.db].")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the pictures and of the sampler [0].")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, float16 or bfloat16.")] = None,
    compile: Annotated[bool | None, typer.Option("--compile/--no-compile", help="Compile each variant.")] = None,
    sampler: Annotated[str | None, typer.Option(help="tpe, nsga2 or random.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale [the model's].")] = None,
    resolution: Annotated[int | None, typer.Option(help="Side of a picture in pixels [the model's].")] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures a UNet call when quality is measured [32].")] = None,
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
    as_json: Json = False,
) -> None:
    """Search plans: the baselines first, then what the sampler proposes. Resumes; Ctrl-C leaves the study whole."""
    given = {name: value for name, value in locals().items() if name not in ("file", "as_json")}
    from studies.commands.search import run_search

    run_search(given, file, as_json=as_json)


@app.command()
def worker(
    study: Annotated[str, typer.Option("--study", help="A study that stands.")],
    storage: Storage = DEFAULT_STORAGE,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    trials: Annotated[int | None, typer.Option(help="The study's total of plans.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Begin no further plan after so many seconds.")] = None,
    quality_only: Annotated[
        bool, typer.Option("--quality-only", help="Leave latency to others, as a worker of another device does anyway.")
    ] = False,
) -> None:
    """One more process on a study, from any machine that reaches the storage."""
    from studies.commands.search import run_one_worker

    run_one_worker(study, storage, device, trials, timeout, quality_only)


@app.command()
def proxy(
    storage: Storage = DEFAULT_STORAGE,
    host: Annotated[str, typer.Option(help="Address to listen on; the network must be trusted.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 13000,
) -> None:
    """Optuna's gRPC proxy in front of a storage, for hundreds of workers: they name it in EXPLORER_OPTUNA_PROXY."""
    from studies.commands.proxy import run_proxy

    run_proxy(storage, host, port)


@app.command("list")
def list_studies(storage: Storage = DEFAULT_STORAGE, as_json: Json = False) -> None:
    """The studies of a storage."""
    from studies.commands.browse import list_command

    list_command(storage, as_json)


@app.command()
def show(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    storage: Storage = DEFAULT_STORAGE,
    html: Annotated[Path | None, typer.Option(help="Write the chart of the front as a page.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write the chart as a picture (needs Chrome or Chromium).")] = None,
    as_json: Json = False,
) -> None:
    """A study's Pareto front: plans in words, speed-up and scores with intervals, which baselines each dominates."""
    from studies.commands.browse import show_command

    show_command(study, storage, html, png, as_json)


@app.command()
def models(as_json: Json = False) -> None:
    """The models that can be named without a path."""
    from studies.commands.engine import models_command

    models_command(as_json)


@app.command()
def anatomy(
    model: Model = "emoji",
    resolution: Annotated[int | None, typer.Option(help="Side of a picture in pixels [the model's].")] = None,
    as_json: Json = False,
) -> None:
    """What each unit of a model costs: parameters and MACs."""
    from studies.commands.engine import anatomy_command

    anatomy_command(model, resolution, as_json)


@app.command()
def strategies(model: Model = "emoji", steps: Steps = 50, as_json: Json = False) -> None:
    """The named strategies on a model: units inherited, MACs of an inherit step, speed-up that the MACs predict."""
    from studies.commands.engine import strategies_command

    strategies_command(model, steps, as_json)


@app.command()
def dashboard(
    storage: Storage = DEFAULT_STORAGE,
    port: Annotated[int, typer.Option(help="Port on the loopback address.")] = 8501,
    study: Annotated[str | None, typer.Option(help="The study whose front the address opens.")] = None,
) -> None:
    """Look at the studies of a storage in the browser: fronts, pictures, plans, progress. Prints the address."""
    from studies.commands.dashboard import dashboard_command

    dashboard_command(storage, port, study)


def main() -> None:
    """The entry point: every error that a user can mend is one sentence and status 1."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit status: 0 done, 1 an explained error, 2 wrong usage, 130 interrupted."""
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
        # Typer carries a copy of click of its own: wrong usage is known by what such an error can do.
        if not hasattr(error, "show") or not hasattr(error, "exit_code"):
            raise
        error.show()
        return 2


if __name__ == "__main__":
    main()
