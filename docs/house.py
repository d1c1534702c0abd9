"""The rooms of the code and the order of their packages, and the picture of it: `python docs/house.py` writes
docs/images/house.svg from the imports. tests/test_house.py holds the code to what is declared here."""

from __future__ import annotations

import ast
from collections.abc import Collection
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "house.svg"


@dataclass(frozen=True)
class Room:
    """A top-level package.

    Attributes:
        job: What it is for, in a line.
        imports: The rooms that it may import.
        packages: Its sub-packages from the ground up with their jobs; a package imports its own room's modules outside
            any package, and packages before it. Empty where a room has none.
    """

    job: str
    imports: tuple[str, ...] = ()
    packages: dict[str, str] = field(default_factory=dict)


ROOMS: dict[str, Room] = {
    "explorer": Room(
        "the engine",
        packages={
            "unet": "a UNet as a list of nodes",
            "plans": "what is inherited, and when",
            "models": "models and the pictures they make",
            "networks": "UNets made from a UNet",
            "runtime": "run a plan",
            "timing": "measure and predict time",
            "calibration": "measure and predict error",
            "quality": "scores of pictures",
        },
    ),
    "training": Room("distillation of students and adapters", imports=("explorer",)),
    "search_spaces": Room("from a trial's suggestions to a plan", imports=("explorer",)),
    "studies": Room(
        "the search, its storage and the command line",
        imports=("search_spaces", "explorer", "training"),
        packages={
            "storage": "bytes and SQL",
            "pareto": "fronts and hypervolumes",
            "queue": "who scores what",
            "predicting": "scores without running",
            "scoring": "one candidate",
            "proposing": "the next plan",
            "results": "read a study",
            "choosing": "which plan to take",
            "searching": "run a study",
            "certificates": "proof, and taking home",
            "autotune": "the one command",
            "cli": "the command line",
        },
    ),
    "dashboard": Room("the Streamlit app", imports=("studies", "search_spaces", "explorer")),
    "recipe": Room("how the embedded model was trained", imports=("studies", "training", "explorer")),
    "benchmarks": Room(
        "figures of the docs", imports=("recipe", "training", "dashboard", "studies", "search_spaces", "explorer")
    ),
}


@dataclass(frozen=True)
class Module:
    """A Python file.

    Attributes:
        name: Dotted.
        lines: How many it has.
        imports: The project's modules that it imports anywhere, also late or for annotations alone.
        runs: Those of them that it imports when it runs.
    """

    name: str
    lines: int
    imports: frozenset[str]
    runs: frozenset[str]

    @property
    def room(self) -> str:
        return self.name.split(".")[0]

    @property
    def package(self) -> str:
        """The declared package of its room that it is in; empty for the ground."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 and parts[1] in ROOMS[parts[0]].packages else ""


def files(root: Path = ROOT) -> dict[str, Path]:
    """Every module of every room by its dotted name; a package is the name of its `__init__`."""
    found = {}
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def modules(root: Path = ROOT) -> dict[str, Module]:
    """Every module of every room, read and not run."""
    known = files(root)
    found = {}
    for name, path in known.items():
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        imports = imported(tree, known.keys()) - {name}
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                node.body = [ast.Pass()]
        runs = imported(tree, known.keys()) - {name}
        found[name] = Module(name, text.count("\n"), frozenset(imports), frozenset(runs))
    return found


def imported(tree: ast.AST, known: Collection[str]) -> set[str]:
    """Every known module that a syntax tree imports."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {member if member in known else node.module for member in members}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names & set(known)


def climbing(found: dict[str, Module]) -> list[str]:
    """Every import that goes up: to a room that a room may not import, or to a later package of its own."""
    wrong = []
    for module in found.values():
        for name in sorted(module.imports):
            other = found[name]
            if other.room != module.room:
                climbs = other.room not in ROOMS[module.room].imports
            else:
                order = ["", *ROOMS[module.room].packages]
                climbs = name != module.room and order.index(other.package) > order.index(module.package)
                climbs &= module.name != module.room  # what a room's own __init__ gives its users
            if climbs:
                wrong.append(f"{module.name} imports {name}")
    return wrong


def picture(found: dict[str, Module]) -> str:
    """An SVG: each room a column of its packages, the ground below, with the number of modules of each, and
    an arrow for every package that imports another of its room."""
    width, row, gap, top = 300, 44, 90, 70
    columns: list[tuple[str, list[tuple[str, str]]]] = []
    for name, room in ROOMS.items():
        ground = ("", room.job if not room.packages else "shared ground")
        columns.append((name, [ground, *room.packages.items()]))
    tallest = max(len(rows) for _, rows in columns if len(rows) > 1)
    stacked = [c for c in columns if len(c[1]) == 1]
    tall = [c for c in columns if len(c[1]) > 1]
    height = top + row * tallest + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {(len(tall) + 1) * (width + gap) + 20} {height}" '
        'font-family="sans-serif" font-size="13">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#6b7280"/></marker></defs>',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, (room_name, rows) in enumerate(tall):
        left = 20 + number * (width + gap)
        parts.append(f'<text x="{left}" y="34" font-size="17" font-weight="bold">{room_name}/</text>')
        parts.append(f'<text x="{left}" y="54" fill="#4b5563">{escape(ROOMS[room_name].job)}</text>')
        middle = {package: top + row * (tallest - 1 - level) + row / 2 - 3 for level, (package, _) in enumerate(rows)}
        for package, job in rows:
            held = [m for m in found.values() if m.room == room_name and m.package == package]
            name = f"{package}/" if package else room_name
            parts += box(left, middle[package] - row / 2 + 3, width, row - 6, name, job, held)
        arrows = {
            (module.package, found[name].package)
            for module in found.values()
            for name in module.imports
            if module.room == found[name].room == room_name and module.package != found[name].package
            and found[name].package and module.name != room_name
        }  # fmt: skip
        for start, end in sorted(arrows):
            bow = 10 + 6 * abs(middle[start] - middle[end]) / row
            right = left + width
            parts.append(
                f'<path d="M{right} {middle[start] - 5:.0f}C{right + bow:.0f} {middle[start]:.0f} {right + bow:.0f} '
                f'{middle[end]:.0f} {right + 2} {middle[end] + 5:.0f}" fill="none" stroke="#9ca3af" '
                'marker-end="url(#tip)"/>'
            )
    left = 20 + len(tall) * (width + gap)
    for level, (room_name, _) in enumerate(stacked):
        room = ROOMS[room_name]
        where = top + (row + 22) * level
        members = [m for m in found.values() if m.room == room_name]
        parts += box(left, where, width, row - 6, f"{room_name}/", room.job, members)
        parts.append(f'<text x="{left}" y="{where + row + 8}" fill="#6b7280">imports {", ".join(room.imports)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def box(left: float, top: float, width: float, height: float, name: str, job: str, members: list[Module]) -> list[str]:
    """A package: its name, its job, and how much it holds."""
    size = f"{len(members)} modules"
    return [
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="5" fill="#eef2ff" stroke="#6366f1"/>',
        f'<text x="{left + 10}" y="{top + 16}" font-weight="bold">{escape(name)}</text>',
        f'<text x="{left + 10}" y="{top + 32}" fill="#374151">{escape(job)}</text>',
        f'<text x="{left + width - 10}" y="{top + 16}" text-anchor="end" fill="#6b7280" font-size="11">{size}</text>',
    ]


if __name__ == "__main__":
    PICTURE.write_text(picture(modules()), encoding="utf-8")
