"""What every benchmark shares: its options, and a result that says on what and how it was measured.

A result is one JSON document: the figures that a text may quote, every sample that they come from, the device with its
driver, the versions, and the command that measures it again. Beside it lies a chart, as a PNG where Chrome or Chromium
is found, otherwise as a page.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.compile_modes import COMPILE_MODES
from explorer.devices import describe, resolve_device
from explorer.errors import StudyError
from explorer.files import write_whole

if TYPE_CHECKING:
    import plotly.graph_objects as go

RESULTS = Path("benchmarks/results")
PACKAGES = ("torch", "diffusers", "transformers", "triton", "DeepCache", "numpy", "inheritance-explorer")
SCHEMA = 1
QUICK = "few samples (--quick): not to be quoted"
FREE = {"out", "resume", "part", "only", "nodes"}
"""Options in which a run may differ from the one that it goes on with."""


def options(description: str) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark takes; add your own to it.

    --compile names a mode of `explorer.inherit`; --out is the JSON file.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", default="emoji", help="emoji, arch:sd15, arch:sdxl, a diffusers folder or a hub id")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    parser.add_argument("--dtype", default="auto", help="auto, float32, float16 or bfloat16")
    parser.add_argument("--batch", type=int, default=1, help="pictures a call; the UNet sees twice as many")
    parser.add_argument("--resolution", type=int, help="side of a picture in pixels; the model's own by default")
    parser.add_argument("--compile", default="off", choices=COMPILE_MODES, help="mode of explorer.inherit")
    parser.add_argument("--out", type=Path, help=f"the JSON file, by default one in {RESULTS}")
    parser.add_argument("--rounds", type=int, help="samples of everything; by the speed of the device by default")
    parser.add_argument("--quick", action="store_true", help="few samples, to see that it runs; not to be quoted")
    return parser


def resumable(parser: argparse.ArgumentParser) -> None:
    """Add `--resume` to a benchmark that writes its result as it goes."""
    parser.add_argument("--resume", action="store_true", help="go on with the result that stands in --out")


def default_out(name: str, arguments: argparse.Namespace) -> Path:
    """`benchmarks/results/NAME-MODEL-DEVICE[-DTYPE][-bN][-COMPILE].json`, so that runs do not overwrite each other."""
    device = resolve_device(arguments.device)
    parts = [name, Path(arguments.model).name.replace("arch:", ""), describe(device).name, arguments.dtype]
    parts += [f"b{arguments.batch}", f"{arguments.resolution or 'own'}px", arguments.compile]
    words = "-".join(str(part) for part in parts if part not in ("auto", "off", "b1", "ownpx"))
    plain = "".join(c if c.isalnum() or c in "-." else "-" for c in words + ("-quick" if arguments.quick else ""))
    return RESULTS / f"{'-'.join(part for part in plain.split('-') if part)}.json"


def write_result(
    name: str,
    figures: Mapping[str, Any],
    samples: Mapping[str, Any] | Sequence[Any],
    arguments: argparse.Namespace,
    out: Path | None = None,
    say: bool = True,
) -> Path:
    """Write one result as JSON, in the place of an earlier one, and return its path. `figures`: what may be quoted,
    unless it is a quick one's; `samples`: every raw sample. say: whether to tell the path on stderr.

    Raises:
        StudyError: when the place cannot be written.
    """
    path = place(name, arguments, out)
    document = {
        "schema": SCHEMA,
        "benchmark": name,
        "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": command(),
        "quick": arguments.quick,
        **({"note": QUICK} if arguments.quick else {}),
        "arguments": _plain(arguments),
        "device": describe(resolve_device(arguments.device)).to_json(),
        "machine": {"cores": os.cpu_count(), "load": list(os.getloadavg()), "system": platform.platform()},
        "versions": {"python": platform.python_version(), **_versions()},
        "commit": _commit(),
        "figures": dict(figures),
        "samples": samples,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(finite(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_whole(path, text.encode())  # killed while it writes, a benchmark leaves the last whole result
    except OSError as error:
        raise StudyError(f"cannot write {path}: {error.strerror}; give another --out.") from error
    if say:
        print(f"wrote {path}{f'; {QUICK}' if arguments.quick else ''}", file=sys.stderr)
    return path


def place(name: str, arguments: argparse.Namespace, out: Path | None = None) -> Path:
    """Where the result of a benchmark stands."""
    return out or arguments.out or default_out(name, arguments)


def resumed(name: str, arguments: argparse.Namespace) -> dict[str, Any] | None:
    """The document to go on with under `--resume`; None without it, or where nothing was written yet.

    Raises:
        StudyError: when the file is no result of this benchmark, or was measured with other options, on another device
            or with another torch: samples of two would stand in one result.
    """
    path = place(name, arguments)
    if not arguments.resume or not path.exists():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        kept, schema, given = document["arguments"], document["schema"], _plain(arguments)
        found = {"benchmark": document["benchmark"], "device": document["device"], "schema": schema}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{path} is no result to go on with ({error}); give another --out.") from error
    here = describe(resolve_device(arguments.device)).to_json()
    wanted: dict[str, Any] = {"benchmark": name, "device": here, "schema": SCHEMA}
    for key in kept.keys() & given.keys() - FREE:
        found[f"--{key}"], wanted[f"--{key}"] = kept[key], given[key]
    other = [key for key in wanted if found[key] != wanted[key]]
    if other:
        told = "; ".join(f"{key} {found[key]} there and {wanted[key]} here" for key in other)
        raise StudyError(f"{path} was measured otherwise ({told}); give the same options, or another --out.")
    return dict(document)


def _plain(arguments: argparse.Namespace) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in vars(arguments).items()}


def finite(value: Any) -> Any:
    """`value` with its infinities and NaNs as words, which JSON has no numbers for: a sample is never lost for one."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    return [finite(each) for each in value] if isinstance(value, list | tuple) else value


def write_figure(figure: go.Figure | Callable[[], go.Figure], result: Path) -> Path | None:
    """Draw `figure`, or what it makes, beside the JSON file `result`: a PNG, or a page where there is no Chrome or
    Chromium. That of a quick result says so. Where plotly is missing, as on a machine that only measures, nothing is
    drawn, and a line on stderr says so."""
    if importlib.util.find_spec("plotly") is None:
        print(f"no chart: plotly is not installed. The figures are in {result}", file=sys.stderr)
        return None
    from studies.results.charts import write_html, write_png

    if callable(figure):
        figure = figure()
    if json.loads(result.read_text(encoding="utf-8"))["quick"]:
        figure.add_annotation(text=QUICK, xref="paper", yref="paper", x=1, y=1.08, showarrow=False)
    path = result.with_suffix(".png")
    try:
        if importlib.util.find_spec("kaleido") is None:
            raise StudyError("kaleido, which draws pictures, is not installed.")
        write_png(figure, path)
    except StudyError:
        path = result.with_suffix(".html")
        write_html(figure, path)
    print(f"wrote {path}", file=sys.stderr)
    return path


def command() -> str:
    """The command line that runs this benchmark again, from the root of the repository, without a URL's password."""
    words = [re.sub(r"(://[^:/@]*):.*@", r"\1:***@", word) for word in sys.argv[1:]]
    parts = Path(sys.argv[0]).with_suffix("").parts
    inside = parts[parts.index("benchmarks") :] if "benchmarks" in parts else ("benchmarks", parts[-1])
    return shlex.join(["python", "-m", ".".join(inside), *words])


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    import torch

    return found | {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}


def _commit() -> str | None:
    """The commit that was measured, with `+` where the tree had changes; None outside of a git checkout."""
    try:
        head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(["git", "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")
