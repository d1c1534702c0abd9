"""The wheels that a bare GPU machine needs for a GPU day: found from what its tasks import, and fetched for its Python.

A machine that has torch's usual companions (`ON_MACHINE`) is given the rest, in the versions that are installed here.
`--list` only names them. Wheels and the tracked files of this tree, which travel together, must stay below 64 MiB.

    python -m benchmarks.day.wheels --out build/wheels
"""

from __future__ import annotations

import argparse
import importlib.metadata
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.day.closure import ROOT, foreign
from benchmarks.day.tasks import CUDA_TESTS, PREFLIGHT, TASKS
from benchmarks.gpu_day import CARRIED, ON_MACHINE
from benchmarks.shared.measure import run
from explorer.errors import StudyError

MOST_CARRIED = 64 * 2**20
"""Bytes that travel to such a machine, packed."""
PYTHON = "3.12"
THERE = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0", "platform_machine": "x86_64", "extra": ""}
PLATFORMS = (
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
    "manylinux1_x86_64",
)


def imported() -> set[str]:
    """The packages that the day's tasks import, beside those of the machine."""
    modules = {task.words.split()[0] for task in (PREFLIGHT, *TASKS) if task.shared}
    modules |= {path.removesuffix(".py").replace("/", ".") for path in CUDA_TESTS} | {"tests.conftest"}
    return set[str]().union(*(foreign(module) for module in modules)) - set(ON_MACHINE)


def distributions(packages: set[str]) -> set[str]:
    """The distributions that hold these packages, by their canonical names."""
    known = importlib.metadata.packages_distributions()
    return {canonicalize_name(known[package][0]) for package in packages if package in known}


def needed(roots: set[str]) -> set[str]:
    """These distributions with all that they require on such a machine."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found.add(name)
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # required there and not here: pip finds it by name
        for text in requires:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate(THERE):
                waiting.append(requirement.name)
    return found


def wanted() -> list[str]:
    """What to fetch, as pip names it: `name==version`, sorted."""
    there = needed(distributions(set(ON_MACHINE)))
    here = needed(distributions(imported() | set(CARRIED))) - there
    found = []
    for name in sorted(here):
        try:
            found.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(name)
    return found


def fetching(names: list[str], folder: Path) -> list[str]:
    """The command that fetches their wheels for such a machine, and nothing that they require."""
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    return [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--python-version",
        PYTHON, "--implementation", "cp", *platforms, "--dest", str(folder), *names,
    ]  # fmt: skip


def tracked(root: Path = ROOT) -> int:
    """Bytes of the files that git tracks, which travel unpacked at most; 0 outside of a checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True)
    paths = [root / name for name in listed.stdout.split("\0") if name]
    return sum(path.stat().st_size for path in paths if path.is_file())


def check_size(folder: Path, tree: int) -> int:
    """Bytes of the wheels in `folder`. Raises StudyError where they are too many to travel with a tree of so many."""
    sizes = {wheel.name: wheel.stat().st_size for wheel in folder.glob("*.whl")}
    total = sum(sizes.values())
    if total + tree > MOST_CARRIED:
        largest = ", ".join(sorted(sizes, key=lambda name: -sizes[name])[:3])
        raise StudyError(
            f"the wheels in {folder} are {total / 2**20:.1f} MiB and the tracked files {tree / 2**20:.1f}; together "
            f"{MOST_CARRIED // 2**20} may travel. The largest wheels are {largest}; clear the folder of older "
            "versions, or leave out the task that imports one."
        )
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/wheels"), help="the folder; %(default)s")
    parser.add_argument("--list", action="store_true", help="only print what would be fetched")
    arguments = parser.parse_args()
    names = wanted()
    if arguments.list:
        print("\n".join(names))
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    if subprocess.run(fetching(names, arguments.out)).returncode:
        raise StudyError("pip could not fetch the wheels, see above; what it fetched is kept.")
    tree = tracked()
    total = check_size(arguments.out, tree)
    print(
        f"{len(names)} wheels in {arguments.out}: {total / 2**20:.1f} MiB beside {tree / 2**20:.1f} MiB of tracked "
        f"files; {MOST_CARRIED // 2**20} may travel"
    )


if __name__ == "__main__":
    run(main)
