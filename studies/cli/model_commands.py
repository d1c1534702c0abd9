"""Commands about models, and the dashboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from studies.cli.options import Batch, Compile, Device, Dtype, Json, Model, Resolution, Steps, Storage, Variant
from studies.config import SearchConfig

commands = typer.Typer()


@commands.command()
def models(as_json: Json = False) -> None:
    """List the models that can be given by name."""
    from studies.cli.commands.engine import models_command

    models_command(as_json)


@commands.command()
def anatomy(
    model: Model = SearchConfig.model,
    resolution: Resolution = None,
    storage: Storage = SearchConfig.storage,
    as_json: Json = False,
) -> None:
    """Show what each unit of a model costs: parameters, MACs and, with a profile, time."""
    from studies.cli.commands.engine import anatomy_command

    anatomy_command(model, resolution, storage, as_json)


@commands.command()
def strategies(
    model: Model = SearchConfig.model,
    steps: Steps = SearchConfig.steps,
    resolution: Resolution = None,
    batch: Batch = 1,
    dtype: Dtype = SearchConfig.dtype,
    storage: Storage = SearchConfig.storage,
    as_json: Json = False,
) -> None:
    """Show the named strategies on a model: inherited units, MACs of an inherit step, the speed-up predicted from MACs
    and from a profile, and the memory of their features."""
    from studies.cli.commands.engine import strategies_command

    strategies_command(model, steps, resolution, batch, dtype, storage, as_json)


@commands.command()
def profile(
    model: Model = SearchConfig.model,
    device: Device = SearchConfig.device,
    dtype: Dtype = SearchConfig.dtype,
    variant: Variant = None,
    batch: Batch = 1,
    resolution: Resolution = None,
    steps: Steps = SearchConfig.steps,
    compile: Compile = SearchConfig.compile,
    rounds: Annotated[int | None, typer.Option(help="Rounds of each measurement [3 to 9, by speed].")] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure again, also if there is a profile.")] = False,
    storage: Storage = SearchConfig.storage,
    as_json: Json = False,
) -> None:
    """Time every node and every strategy's step on this device, and check how well plans are predicted."""
    from studies.cli.commands.profile import profile_command

    profile_command(
        model, device=device, dtype=dtype, variant=variant, batch=batch, resolution=resolution, steps=steps,
        compile=compile, rounds=rounds, storage=storage, again=again, as_json=as_json,
    )  # fmt: skip


@commands.command()
def students(
    folders: Annotated[list[Path] | None, typer.Argument(help="Folders of distilled students.")] = None,
    model: Model = SearchConfig.model,
    share: Annotated[
        float | None,
        typer.Option(
            "--choose",
            metavar="SHARE",
            help="Choose the units to remove by least predicted error at this share of the UNet's measured time.",
        ),
    ] = None,
    folder: Annotated[Path | None, typer.Option("--out", help="Folder for the chosen student, not distilled.")] = None,
    device: Device = SearchConfig.device,
    storage: Storage = SearchConfig.storage,
    as_json: Json = False,
) -> None:
    """Smaller networks that a model's UNet can become: what each lacks, its parameters and MACs. With --choose also
    one whose parts are chosen by measurement."""
    if share is None and folder is None:
        from studies.cli.commands.distill import students_command

        students_command(model, folders or [], as_json)
        return
    from studies.cli.commands.choose import choose_command

    choose_command(model, share, folders=folders or [], folder=folder, device=device, storage=storage, as_json=as_json)


@commands.command()
def distill(
    folder: Annotated[
        Path, typer.Option("--out", help="Folder for the student or the adapter. The same command resumes there.")
    ],
    student: Annotated[
        str | None,
        typer.Argument(
            help="Base, Small, Tiny, M1, M2, M3, removed parts ('dn0.l1-- up3.l1--'), or a student's folder."
        ),
    ] = None,
    speedup: Annotated[
        bool,
        typer.Option("--speedup", help="Train an adapter instead: guidance in one evaluation a step, and few steps."),
    ] = False,
    anchors: Annotated[int | None, typer.Option(help="Steps of the runs that a speed-up adapter is for [4].")] = None,
    guidance: Annotated[
        str | None,
        typer.Option(
            metavar="1..G", help="Guidance scales that a speed-up adapter learns [1 to 1.5 times the model's own]."
        ),
    ] = None,
    model: Model = SearchConfig.model,
    freeze: Annotated[
        str | None,
        typer.Option(help="deep (blocks without removed parts), none, or names of blocks [deep where there are such]."),
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="A distilled student whose weights this one begins with.")
    ] = None,
    data: Annotated[
        str, typer.Option(help="teacher (its own runs), or a folder of pictures with a .txt caption each.")
    ] = "teacher",
    prompts: Annotated[
        str | None, typer.Option(help="Prompts of the teacher's runs: a set, a .txt or a .jsonl file [the model's].")
    ] = None,
    runs: Annotated[int, typer.Option(help="Runs of the teacher.")] = 512,
    timesteps: Annotated[
        str, typer.Option(help="The part of the run that the student is for; 0 is the run's beginning.")
    ] = "0..1",
    steps: Annotated[int | None, typer.Option(help="Training steps [1000, unless --minutes].")] = None,
    minutes: Annotated[float | None, typer.Option(help="Minutes of training, instead of steps.")] = None,
    batch: Annotated[
        str, typer.Option(help="Samples of a training step, or auto: as many as the memory holds, up to 256.")
    ] = "64",
    rate: Annotated[
        float | None, typer.Option("--lr", help="Learning rate [0.001; 0.002 of a speed-up adapter].")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the training.")] = 0,
    device: Device = SearchConfig.device,
    half: Annotated[
        bool, typer.Option("--half", help="Compute in bfloat16 where it is safe. For GPUs; most CPUs are slower by it.")
    ] = False,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Compute the student's units twice a step, for less memory.")
    ] = False,
    experts: Annotated[
        int | None,
        typer.Option(help="Mix the 3x3 convolutions of the trained ResUnits from this many kernels (ME-CondConv: 2)."),
    ] = None,
    routing: Annotated[
        str, typer.Option(help="What mixes the kernels: each sample's input, or the time alone (input, time).")
    ] = "input",
    first_expert: Annotated[
        str,
        typer.Option(help="Whose kernels the first expert begins with: the student's (of --from) or the teacher's."),
    ] = "student",
) -> None:
    """Train a student of a model's UNet to do what the UNet does, or a speed-up adapter for it. Interrupted, the same
    command resumes."""
    from studies.cli.commands.distill_speedup import check_kind, distill_speed_up_command

    check_kind(
        speedup, student,
        {
            "--freeze": freeze is not None, "--from": source is not None, "--data": data != "teacher",
            "--timesteps": timesteps != "0..1", "--checkpointing": checkpointing, "--experts": experts is not None,
            "--routing": routing != "input", "--first-expert": first_expert != "student",
        },
        {"--anchors": anchors is not None, "--guidance": guidance is not None},
    )  # fmt: skip
    if student is None:
        distill_speed_up_command(
            model=model, folder=folder, anchors=anchors, guidance=guidance, prompts=prompts, steps=steps,
            minutes=minutes, batch=batch, rate=rate, seed=seed, runs=runs, device=device, half=half,
        )  # fmt: skip
        return
    from studies.cli.commands.distill import distill_command

    distill_command(
        student, model=model, folder=folder, freeze=freeze, source=source, data=data, prompts=prompts,
        timesteps=timesteps, steps=steps, minutes=minutes, batch=batch, rate=1e-3 if rate is None else rate,
        seed=seed, runs=runs, device=device, half=half, experts=experts, routing=routing, first_expert=first_expert,
        checkpointing=checkpointing,
    )  # fmt: skip


@commands.command()
def dashboard(
    storage: Storage = SearchConfig.storage,
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8501,
    study: Annotated[str | None, typer.Option(help="Study to open.")] = None,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; 0.0.0.0 in a container. There is no authentication: with another address than "
            "the default, whoever reaches the port sees every study."
        ),
    ] = "127.0.0.1",
) -> None:
    """Show the studies of a storage in the browser: fronts, pictures, plans, progress. Prints the address."""
    from studies.cli.commands.dashboard import dashboard_command

    dashboard_command(storage, port, study, host)
