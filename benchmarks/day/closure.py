"""What a program of this project imports, read and not run: the packages of others that a machine needs for it."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LATE = ("benchmarks",)
"""Rooms whose late imports count as well: what a benchmark's functions import runs in its main."""
AT_HOME = {"plotly", "kaleido", "studies.results.charts"}
"""For charts, which are drawn elsewhere (`benchmarks.shared.report.write_figure`)."""


@functools.cache
def files(root: Path = ROOT) -> dict[str, Path]:
    """Every module under `root` by its dotted name; a package is the name of its `__init__`."""
    found = {}
    for path in root.glob("*/**/*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        if not parts[0].startswith((".", "build")):
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def statements(tree: ast.AST, late: bool) -> Iterator[ast.AST]:
    """Every import of a syntax tree that runs with it. late: also those in its functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        elif late or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from statements(node, late)


@functools.cache
def imports_of(path: Path, late: bool) -> set[str]:
    names: set[str] = set()
    for node in statements(ast.parse(path.read_text(encoding="utf-8")), late):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def foreign(module: str, root: Path = ROOT) -> set[str]:
    """The packages of others that importing `module` imports, through whatever module of ours."""
    known = files(root)
    rooms = {name.split(".")[0] for name in known}
    waiting, seen, found = [module], set(), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        parts = name.split(".")
        waiting += [".".join(parts[:n]) for n in range(1, len(parts))]
        if name not in known:
            continue
        imports = imports_of(known[name], late=False)
        if parts[0] in LATE:
            imports |= {each for each in imports_of(known[name], late=True) if not AT_HOME & {each, each.split(".")[0]}}
        for each in imports:
            if each in known:
                waiting.append(each)
            elif each.split(".")[0] not in rooms:
                found.add(each.split(".")[0])
    return found - set(sys.stdlib_module_names)
