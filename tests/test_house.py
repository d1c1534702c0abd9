"""The house: imports go down, packages and modules stay small, and the picture shows what is there."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
MOST_MODULES = 16
MOST_LINES = 350
MOST_LINES_OF_A_TEST = 400


def load_house() -> Any:
    spec = importlib.util.spec_from_file_location("house", ROOT / "docs" / "house.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["house"] = module
    spec.loader.exec_module(module)
    return module


HOUSE = load_house()
MODULES = HOUSE.modules()


def write(root: Path, **sources: str) -> dict[str, Any]:
    for name, text in sources.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return HOUSE.modules(root)  # type: ignore[no-any-return]


def test_no_import_climbs() -> None:
    assert HOUSE.climbing(MODULES) == []


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("explorer__unet__mask", "from explorer.plans.plan import x"),
        ("explorer__unet__mask", "def late():\n    import explorer.plans.plan"),
        ("explorer__errors", "from explorer.plans import plan"),
        ("search_spaces__unit", "from studies.queue.queue import queue"),
    ],
)
def test_an_import_that_climbs_is_found(source: str, text: str, tmp_path: Path) -> None:
    found = write(tmp_path, explorer__plans__plan="x = 1\n", studies__queue__queue="", **{source: text})
    assert len(HOUSE.climbing(found)) == 1


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(MODULES) == []


def test_a_circle_is_found(tmp_path: Path) -> None:
    found = write(
        tmp_path, explorer__a="import explorer.b", explorer__b="import explorer.c", explorer__c="import explorer.a"
    )
    assert circles(found) == [["explorer.a", "explorer.b", "explorer.c"]]


def circles(found: dict[str, Any]) -> list[list[str]]:
    """Strongly connected groups of more than one module (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(found[name].runs):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                groups.append(sorted(group))

    for name in found:
        if name not in index:
            visit(name)
    return groups


def test_no_package_is_crowded() -> None:
    packages: dict[str, list[str]] = {}
    for name, path in HOUSE.files().items():
        if path.name != "__init__.py":
            packages.setdefault(name.rsplit(".", 1)[0], []).append(name)
    assert {name: len(held) for name, held in packages.items() if len(held) > MOST_MODULES} == {}


def test_no_module_is_long() -> None:
    assert {name: module.lines for name, module in MODULES.items() if module.lines > MOST_LINES} == {}
    tests = {path: path.read_text(encoding="utf-8").count("\n") for path in (ROOT / "tests").rglob("*.py")}
    assert {str(path.relative_to(ROOT)): n for path, n in tests.items() if n > MOST_LINES_OF_A_TEST} == {}


def test_the_picture_is_of_these_imports() -> None:
    assert HOUSE.PICTURE.read_text(encoding="utf-8") == HOUSE.picture(MODULES)
