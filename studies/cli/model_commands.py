"""Commands that know a model without a study, and the dashboard."""

from __future__ import annotations

from typing import Annotated

import typer

from studies.cli.options import Batch, Compile, Device, Dtype, Json, Model, Resolution, Steps, Storage, Variant
from studies.config import SearchConfig

commands = typer.Typer()


@commands.command()
def models(as_json: Json = False) -> None:
    """The models that can be named without a path."""
    from studies.cli.commands.engine import models_command

    models_command(as_json)


@commands.command()
def anatomy(
    model: Model = SearchConfig.model,
    resolution: Resolution = None,
    storage: Storage = SearchConfig.storage,
    as_json: Json = False,
) -> None:
    """What each unit of a model costs: parameters and MACs, and its time where a profile stands."""
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
    """The named strategies on a model: units inherited, MACs of an inherit step, the speed-up that MACs and a profile
    predict, and the memory of their features."""
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
    rounds: Annotated[int | None, typer.Option(help="Rounds of every measurement [3 to 9, by speed].")] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure anew, also where a profile stands.")] = False,
    storage: Storage = SearchConfig.storage,
    as_json: Json = False,
) -> None:
    """Measure every node and every strategy's step on this device, and how well a plan's time is predicted."""
    from studies.cli.commands.profile import profile_command

    profile_command(
        model, device=device, dtype=dtype, variant=variant, batch=batch, resolution=resolution, steps=steps,
        compile=compile, rounds=rounds, storage=storage, again=again, as_json=as_json,
    )  # fmt: skip


@commands.command()
def dashboard(
    storage: Storage = SearchConfig.storage,
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
    from studies.cli.commands.dashboard import dashboard_command

    dashboard_command(storage, port, study, host)
