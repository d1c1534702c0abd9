"""Options that are declared once: a field of a dataclass with its type, default, bounds, help text and group. The
command line, a TOML file, a worker's arguments and a study's stored settings derive from the declaration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import cache, cached_property
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_type_hints

from explorer.errors import StudyError, brief, is_text

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

T = TypeVar("T")
LARGEST = 2**53
"""No number of an option may be larger, so that all of them can be counted with and stored."""
POSITIVE = {"gt": 0, "lt": LARGEST}
_KEY = "option"


class Group(Enum):
    """What an option is about."""

    MEASURES = "what identifies a measurement"
    SAMPLES = "how a study samples its plans"
    RUNS = "how a search runs"


@dataclass(frozen=True)
class Option:
    """What is declared of an option besides its name, type and default.

    Attributes:
        group: What it is about. Options that measure or sample are part of what a study is.
        help: A sentence or two for `--help` and the reference.
        unset: What happens without it, shown where the default says nothing.
        bounds: Limits of a number, by the names of `pydantic.Field`.
        expected: The allowed values, for the message "must be ...".
        choices: The values that it can have, where they are few.
        read: From what a user or a file gives to a value of the type.
        check: Raises an ExplorerError for a value that cannot be, and returns it in its final form.
        write: The value as it is given on the command line.
        kept: Its name in a study's stored settings, where those have no field for it.
        worker: Whether each process of a search gets it, because it is not stored in the study.
        repeated: Whether the flag is repeated for several values.
        short: A flag of one letter.
        metavar: What `--help` shows for the value.
        envvar: The environment variable that gives it as well.
    """

    group: Group
    help: str
    unset: str = ""
    bounds: Mapping[str, Any] = field(default_factory=dict)
    expected: str = "more than zero, and a number"
    choices: tuple[str, ...] = ()
    read: Callable[[Any], Any] | None = None
    check: Callable[[Any], Any] | None = None
    write: Callable[[Any], str] = str
    kept: str | None = None
    worker: bool = False
    repeated: bool = False
    short: str | None = None
    metavar: str | None = None
    envvar: str | None = None


def option(default: T, group: Group, help: str, **declared: Any) -> T:
    """A dataclass field that is an option; `declared`: further attributes of `Option`."""
    made: Any = field(default=default, metadata={_KEY: Option(group, help, **declared)})
    return made


@dataclass(frozen=True)
class Declared:
    """An option with its name, type (without None) and default."""

    name: str
    type: Any
    default: Any
    option: Option

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def help(self) -> str:
        """The help text with what holds where the option is not given."""
        unset = self.option.unset or ("" if self.default in (None, ()) else self.option.write(self.default))
        return f"{self.option.help.removesuffix('.')} [{unset}]." if unset else self.option.help

    @cached_property
    def _validator(self) -> TypeAdapter[Any]:
        """Of the type, with the bounds or the choices."""
        from pydantic import Field, TypeAdapter

        kind: Any = Literal[self.option.choices] if self.option.choices else self.type
        return TypeAdapter(Annotated[kind, Field(**self.option.bounds)] if self.option.bounds else kind)

    def checked(self, value: Any) -> Any:
        """`value` as one of the option's type. None stays where that is the default.

        Raises:
            StudyError: For a value of another type, beyond the bounds or none of the choices.
        """
        if value is None and self.default is None:
            return None
        if self.option.read is not None:
            value = self.option.read(value)
        if value is None and self.default is None:
            return None
        from pydantic import ValidationError  # late: help needs no validation

        try:
            value = self._validator.validate_python(value, strict=True)
        except ValidationError as error:
            raise StudyError(self._problem(error.errors(include_url=False)[0])) from error
        if isinstance(value, str) and not is_text(value):
            given = brief(ascii(value), 60)
            raise StudyError(f"{self.name} holds a null character or half of a surrogate pair, got {given}.")
        return value if self.option.check is None else self.option.check(value)

    def _problem(self, error: ErrorDetails) -> str:
        given = error["input"]
        if error["type"] == "literal_error":
            return f"unknown {self.flag} {brief(repr(given), 60)}; use one of {', '.join(self.option.choices)}."
        if isinstance(given, int | float) and not isinstance(given, bool) and error["type"] in _BEYOND:
            return f"{self.flag} must be {self.option.expected}, got {brief(given, 40)}."
        wanted = getattr(self.type, "__name__", str(self.type))
        return f"{self.name} must be a {wanted}, got {brief(repr(given), 60)}."


_BEYOND = (
    "greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of", "finite_number",
)  # fmt: skip


@cache
def declared(owner: type) -> dict[str, Declared]:
    """The options of a dataclass by name, in order."""
    hints = get_type_hints(owner)
    return {
        each.name: Declared(each.name, _without_none(hints[each.name]), each.default, each.metadata[_KEY])
        for each in fields(owner)
        if _KEY in each.metadata
    }


def _without_none(hint: Any) -> Any:
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    return kinds[0] if len(kinds) == 1 and NoneType in get_args(hint) else hint


def arguments(owner: object, names: Sequence[str]) -> list[str]:
    """The options `names` of an object as the command line gives them; one that is None is left out."""
    found: list[str] = []
    kind: Any = type(owner)
    for name in names:
        if (value := getattr(owner, name)) is not None:
            of = declared(kind)[name]
            for each in value if of.option.repeated else [value]:
                found += [of.flag, of.option.write(each)]
    return found
