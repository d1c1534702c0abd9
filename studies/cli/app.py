"""The command line `explorer`. Commands import what they need when they run, so that help is quick."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from explorer.errors import ExplorerError
from explorer.memory import is_out_of_memory, out_of_memory
from explorer.models.library_messages import quiet_process
from studies.cli import model_commands, plan_commands, study_commands
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


for part in (study_commands, plan_commands, model_commands):
    app.add_typer(part.commands)


def main() -> None:
    """The entry point: every error that a user can fix is one sentence and status 1."""
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
