"""What a benchmark needs where it measures: its imports, read and not run, hold nothing that such a machine lacks."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.gpu_day import CARRIED, MOST_CARRIED, ON_MACHINE, PREFLIGHT, TASKS
from tests.test_house import HOUSE, ROOT, write

LATE = ("benchmarks",)
"""Rooms whose late imports count as well: what a benchmark's functions import runs in its main."""
AT_HOME = {"plotly", "kaleido", "studies.results.charts"}
"""For charts, which are drawn elsewhere (`benchmarks.shared.report.write_figure`)."""
MODULES = sorted(
    {word for task in (PREFLIGHT, *TASKS) for word in task.words.split() if word.startswith("benchmarks.")}
)


def statements(tree: ast.AST, late: bool) -> Iterator[ast.AST]:
    """Every import of a syntax tree that runs with it. late: also those in its functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        elif late or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from statements(node, late)


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
    known = HOUSE.files(root)
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
            elif each.split(".")[0] not in HOUSE.ROOMS:
                found.add(each.split(".")[0])
    return found - set(sys.stdlib_module_names)


@pytest.mark.parametrize("module", MODULES)
def test_a_task_imports_nothing_that_is_not_there(module: str) -> None:
    assert foreign(module) - {*ON_MACHINE, *CARRIED} == set()


def test_an_import_through_another_module_is_found(tmp_path: Path) -> None:
    write(
        tmp_path,
        benchmarks__some="def main():\n    from studies.a import x\n\n\ndef chart():\n    import plotly\n",
        studies__a="import optuna\n\n\ndef late():\n    import sqlalchemy\n",
    )
    assert foreign("benchmarks.some", tmp_path) == {"optuna"}
    write(tmp_path, benchmarks__some="import plotly.graph_objects as go\n")
    assert foreign("benchmarks.some", tmp_path) == {"plotly"}


def test_what_travels_with_the_tree_is_small() -> None:
    """The tracked files alone; wheels come on top, see `benchmarks.gpu_day`."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert sum(path.stat().st_size for path in paths if path.is_file()) < MOST_CARRIED
