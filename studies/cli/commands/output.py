"""Where commands write: tables and JSON on stdout, progress and words on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table


def out() -> Console:
    """stdout; wide enough for a table when it is no terminal."""
    return _console(160, stderr=False)


def words() -> Console:
    """stderr, for progress and remarks; a line is never broken where there is no terminal."""
    return _console(400, stderr=True)


def _console(width: int, *, stderr: bool) -> Console:
    """A console that shows text as it is, as names, paths and plans may come from anybody: no markup, no emoji codes.

    width: where it is no terminal."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else width, highlight=False, markup=False, emoji=False)


def print_command(console: Console, what: str, command: str) -> None:
    """A command to paste, after what it is for, in one line however narrow the terminal is."""
    console.print(f"{what}:  {command}", soft_wrap=True)


def print_json(document: Any) -> None:
    print(json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False))


def table(*columns: str, title: str | None = None) -> Table:
    """A plain table; a column whose name begins with `>` is aligned to the right."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    return made


def duration(seconds: float) -> str:
    """Seconds for people: 42 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


@contextmanager
def counted(what: str, console: Console) -> Iterator[Callable[[int, int, float | None], None]]:
    """Progress in things done: `show(done, total, seconds left)`. A bar on a terminal, otherwise a line each time."""
    columns = (
        TextColumn("[bold]{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
        TextColumn("{task.fields[words]}", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None, words="")

        def show(done: int, total: int, left: float | None) -> None:
            text = f"{duration(left)} left" if left is not None else ""
            bar.update(task, completed=done, total=total, words=text)
            if not console.is_terminal and done:
                console.print(f"[{done}/{total}] {what}{f', {text}' if text else ''}", markup=False)

        yield show
