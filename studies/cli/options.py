"""Options of the command line. Those of a search are made from their declaration (`studies.config.OPTIONS`)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

from studies.config import OPTIONS
from studies.option import Declared, Group

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Batch = Annotated[int, typer.Option("--batch", help="Pictures per call; with guidance the UNet's batch is twice this.")]


def _parameter(of: Declared, unset: str | None = None) -> typer.models.OptionInfo:
    """An option for Typer. unset: what its help says instead of the default."""
    flags = [of.flag]
    if of.type is bool:
        flags = [f"{of.flag}/--no-{of.flag.removeprefix('--')}"]
    elif of.option.short is not None:
        flags.append(of.option.short)
    text = of.help if unset is None else of.option.help.removesuffix(".") + f" [{unset}]."
    info: typer.models.OptionInfo = typer.Option(*flags, help=text, metavar=of.option.metavar, envvar=of.option.envvar)
    return info


def _typed(of: Declared) -> Any:
    """What Typer parses: a number or a flag where the type is one, and text that the option itself reads otherwise."""
    if of.option.repeated:
        return list[str]
    return of.type if of.type in (bool, float, int) and of.option.read is None else str


def plain(name: str) -> Any:
    """The annotation of an option with a default in a command's own signature."""
    of = OPTIONS[name]
    flags = [of.flag, *([of.option.short] if of.option.short else [])]
    shown = typer.Option(
        *flags, help=of.option.help, metavar=of.option.metavar, envvar=of.option.envvar,
        parser=of.option.read,
    )  # fmt: skip
    return Annotated[_typed(of) | None if of.default is None else _typed(of), shown]


def of_groups(*groups: Group) -> tuple[str, ...]:
    """The names of the options that are about `groups`."""
    return tuple(name for name, of in OPTIONS.items() if of.option.group in groups)


def with_options(*names: str, unset: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replaces a command's parameter `given` by the options `names`. It gets those that the user gave, each checked.

    Args:
        names: Options of a search, in the order of the help.
        unset: What the help says of an option that is not given, where that is not the declared default.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**values: Any) -> None:
            asked = {name: values.pop(name) for name in names}
            given = {name: OPTIONS[name].checked(value) for name, value in asked.items() if value not in (None, [])}
            command(given=given, **values)

        options = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[_typed(OPTIONS[name]) | None, _parameter(OPTIONS[name], unset)],
            )
            for name in names
        ]
        hints = get_type_hints(command, include_extras=True)
        parameters: list[inspect.Parameter] = []
        for name, each in inspect.signature(command).parameters.items():
            own = each.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name])
            parameters += options if name == "given" else [own]
        made: Any = run
        made.__signature__ = inspect.Signature(parameters)
        made.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


Device = plain("device")
Dtype = plain("dtype")
Model = plain("model")
Resolution = plain("resolution")
Steps = plain("steps")
Storage = plain("storage")
Compile = plain("compile")
Variant = plain("variant")
