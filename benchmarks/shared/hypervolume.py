"""How fast fronts grow: curves of hypervolume, what they say of each method, and their table and chart.

The hypervolume is that of (share of the un-accelerated run's time, PSNR in dB), from the corner of the un-accelerated
time and FLOOR dB, over the rectangle from no time at all to CEILING dB: 0 where nothing is saved, 1 out of reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.shared.cached_scores import CEILING
from explorer.bootstrap import interval, resample
from explorer.estimate import Estimate
from studies.pareto.front import hypervolume, non_dominated

if TYPE_CHECKING:
    import plotly.graph_objects as go

Array = NDArray[np.float64]
FLOOR = 15.0
"""dB of the corner: about where a picture is another one of the same prompt (the embedded model at 10 plain steps of
PNDM instead of 20: 15.1 dB)."""
GOAL = 0.95
CHECKPOINTS = (10, 20, 40, 60)
RESAMPLES = 2000
GROUPS = ("fewer steps", "the 69 rows of the paper", "DeepCache", "DeepCache's masks with forecasts",
          "encoder propagation")  # fmt: skip
PUBLISHED, ALL, BEST = "all that is published", "all baselines", "best known"


def volume(points: Array) -> float:
    """Of points (n, 2), share of the time and dB."""
    scaled = np.stack([points[:, 0], (CEILING - points[:, 1]) / (CEILING - FLOOR)], axis=1)
    return hypervolume(scaled, (1.0, 1.0))


def points_of(entries: Iterable[Mapping[str, Any]]) -> Array:
    return np.array([[entry["share"], entry["psnr"]] for entry in entries], dtype=np.float64).reshape(-1, 2)


@dataclass(frozen=True)
class VolumeCurve:
    """One run. volume: (K + 1,) after 0 .. K of its plans; seconds: (K + 1,) spent until then, calibration first."""

    volume: Array
    seconds: Array
    making: float
    proposing: float
    calibration: float


def curve(run: Mapping[str, Any], plans: int) -> VolumeCurve:
    """A run that ended early (an exhausted space, failed plans) stays where it ended."""
    start, own = points_of(run["start"]), points_of(run["plans"])
    values = [volume(np.vstack([start, own[:k]])) for k in range(len(own) + 1)]
    spent = [run["calibration"], *(entry["seconds"] + entry["proposing"] for entry in run["plans"])]
    lack = plans + 1 - len(values)
    count = max(1, len(run["plans"]))
    return VolumeCurve(
        np.pad(np.array(values), (0, max(0, lack)), mode="edge")[: plans + 1],
        np.pad(np.cumsum(spent), (0, max(0, lack)), mode="edge")[: plans + 1],
        sum(entry["seconds"] for entry in run["plans"]) / count,
        sum(entry["proposing"] for entry in run["plans"]) / count,
        run["calibration"],
    )


def median_over_seeds(values: Array) -> Estimate:
    """The median of (seeds,) with its 95% bootstrap interval over seeds; of one seed the interval is that value."""
    rows = resample(len(values), RESAMPLES)
    return interval(float(np.median(values)), np.median(values[rows], axis=1), len(values))


def band(values: Array) -> tuple[Array, Array, Array]:
    """Median, low and high of (seeds, k) along the second axis: (k,) each."""
    found = [median_over_seeds(column) for column in values.T]
    return tuple(np.array([getattr(each, part) for each in found]) for part in ("value", "low", "high"))  # type: ignore[return-value]


def first_reaching(volumes: Array, goal: float) -> float:
    """Plans until the curve (K + 1,) reaches the goal; infinite where it does not."""
    reached = np.flatnonzero(volumes >= goal)
    return float(reached[0]) if len(reached) else float("inf")


def group_of(entry: Mapping[str, Any]) -> str:
    """To which of GROUPS a baseline belongs, by its name."""
    name = str(entry["name"])
    if name.startswith("plain@"):
        return GROUPS[0]
    if name.startswith("DC"):
        return GROUPS[3] if "+" in name else GROUPS[2]
    return GROUPS[4] if name.startswith("EP") else GROUPS[1]


def baseline_volumes(entries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of each group of baselines alone, of all that copies as published, and of all."""
    members: dict[str, list[Mapping[str, Any]]] = {group: [] for group in GROUPS}
    for entry in entries:
        members[group_of(entry)].append(entry)
    found = {group: volume(points_of(rows)) for group, rows in members.items()}
    found[PUBLISHED] = volume(points_of(entry for entry in entries if group_of(entry) != GROUPS[3]))
    found[ALL] = volume(points_of(entries))
    return found


def figures_of(runs: Sequence[Mapping[str, Any]], baselines: Sequence[Mapping[str, Any]], plans: int) -> dict[str, Any]:
    """What may be quoted: for each method the hypervolume after some plans, the plans to GOAL of the best known one
    (of the union of everything measured here), seconds a plan, and the ratio to the baselines' hypervolume."""
    everything = [*baselines, *(entry for run in runs for part in ("start", "plans") for entry in run[part])]
    best, standing = volume(points_of(everything)), baseline_volumes(baselines)
    checkpoints = sorted({*(k for k in CHECKPOINTS if k < plans), plans})
    found: dict[str, Any] = {}
    for name in dict.fromkeys(run["method"]["name"] for run in runs):
        curves = [curve(run, plans) for run in runs if run["method"]["name"] == name]
        volumes = np.stack([each.volume for each in curves])
        reached = np.array([first_reaching(row, GOAL * best) for row in volumes])
        final = volumes[:, -1]
        found[name] = {
            "seeds": len(curves),
            "hypervolume": {str(k): median_over_seeds(volumes[:, k]).to_json() for k in checkpoints},
            "share of the best known": median_over_seeds(final / best).to_json(),
            "plans to 95% of the best known": {
                "each": [None if np.isinf(value) else int(value) for value in reached],
                "reached by": int(np.isfinite(reached).sum()),
                "median": _finite(float(np.median(reached)) if np.isfinite(np.median(reached)) else None),
            },
            "over all baselines": median_over_seeds(final / standing[ALL]).to_json(),
            "over all that is published": median_over_seeds(final / standing[PUBLISHED]).to_json(),
            "seconds a plan, making and scoring": _median([each.making for each in curves]),
            "seconds a plan, proposing": _median([each.proposing for each in curves]),
            "seconds of calibration": _median([each.calibration for each in curves]),
            "found the front": _finders([run for run in runs if run["method"]["name"] == name]),
            "seconds in all": _median([float(each.seconds[-1]) for each in curves]),
        }
    return {
        "plans": plans,
        "corner": {"share": 1.0, "psnr": FLOOR},
        "ceiling": CEILING,
        "best known hypervolume": best,
        "baselines": standing,
        "plain start": volume(points_of(runs[0]["start"])) if runs else None,
        "methods": found,
    }


def _finders(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """By kind of proposer, how many plans it proposed and how many of them are on the front of their run, over seeds.
    Empty where the runs do not tell kinds apart."""
    found: dict[str, dict[str, int]] = {}
    for run in runs:
        start = points_of(run["start"])
        points = np.vstack([start, points_of(run["plans"])])
        inside = (points[:, 0] < 1) & (points[:, 1] > FLOOR)
        front = non_dominated(points * (1, -1)) & inside
        for entry, kept in zip(run["plans"], front[len(start) :], strict=True):
            if entry.get("by") is not None:
                row = found.setdefault(entry["by"], {"plans": 0, "front": 0})
                row["plans"] += 1
                row["front"] += int(kept)
    return found


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else value


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))


def table(figures: Mapping[str, Any]) -> str:
    """The figures as Markdown, best method first."""
    methods = sorted(figures["methods"].items(), key=lambda item: -item[1]["share of the best known"]["value"])
    if not methods:
        return "no run stands"
    counts = list(methods[0][1]["hypervolume"])
    goal = f"plans to {GOAL:.0%} of the best"
    head = [*(f"HV at {k}" for k in counts), "of the best", goal, "over baselines", "over published",
            "s a plan: making", "proposing", "s: calibration", "in all"]  # fmt: skip
    lines = [f"| method | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    for name, row in methods:
        reached = row["plans to 95% of the best known"]
        word = f"> {figures['plans']}" if reached["median"] is None else f"{reached['median']:.0f}"
        cells = [
            *(_cell(row["hypervolume"][k], 3) for k in counts),
            _cell(row["share of the best known"], 3),
            f"{word} ({reached['reached by']} of {row['seeds']} seeds)",
            _cell(row["over all baselines"], 2),
            _cell(row["over all that is published"], 2),
            f"{row['seconds a plan, making and scoring']:.2f}",
            f"{row['seconds a plan, proposing']:.2f}",
            f"{row['seconds of calibration']:.0f}",
            f"{row['seconds in all']:.0f}",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    shared = [(name, row["found the front"]) for name, row in methods if len(row["found the front"]) > 1]
    if shared:
        lines += ["", "| method | proposed by | plans | of them on their run's front |", "|---|---|---|---|"]
        lines += [f"| {name} | {by} | {row['plans']} | {row['front']} |"
                  for name, rows in shared for by, row in rows.items()]  # fmt: skip
    lines += ["", "| baselines | hypervolume |", "|---|---|"]
    lines += [f"| {name} | {value:.3f} |" for name, value in figures["baselines"].items()]
    lines.append(f"| the best known: everything measured here | {figures['best known hypervolume']:.3f} |")
    return "\n".join(lines)


def _cell(row: Mapping[str, float], digits: int) -> str:
    return f"{row['value']:.{digits}f} [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"


def chart(runs: Sequence[Mapping[str, Any]], figures: Mapping[str, Any]) -> go.Figure:
    """Hypervolume against plans and against seconds: medians over seeds with their intervals."""
    import plotly.graph_objects as go
    from plotly.colors import qualitative
    from plotly.subplots import make_subplots

    plans = figures["plans"]
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.04)
    for number, name in enumerate(figures["methods"]):
        colour = qualitative.Dark24[number % len(qualitative.Dark24)]
        curves = [curve(run, plans) for run in runs if run["method"]["name"] == name]
        volumes = np.stack([each.volume for each in curves])
        ends = min(float(each.seconds[-1]) for each in curves)
        begin = max(float(each.seconds[0]) for each in curves)
        seconds = np.linspace(begin, max(begin, ends), 2 * plans + 1)
        timed = np.stack([each.volume[np.searchsorted(each.seconds, seconds, "right") - 1] for each in curves])
        for column, (x, values) in enumerate(((np.arange(plans + 1.0), volumes), (seconds, timed)), start=1):
            middle, low, high = band(values)
            shade = go.Scatter(
                x=[*x, *x[::-1]], y=[*high, *low[::-1]], fill="toself", fillcolor=colour, opacity=0.15, mode="lines",
                line={"width": 0}, hoverinfo="skip", showlegend=False, legendgroup=name,
            )  # fmt: skip
            line = go.Scatter(
                x=x, y=middle, name=name, legendgroup=name, showlegend=column == 1, mode="lines",
                line={"color": colour, "width": 2},
            )  # fmt: skip
            figure.add_trace(shade, row=1, col=column)
            figure.add_trace(line, row=1, col=column)
    longest = max(float(curve(run, plans).seconds[-1]) for run in runs)
    for label, dash in ((ALL, "dash"), (PUBLISHED, "dashdot"), (BEST, "dot")):
        value = figures["best known hypervolume"] if label == BEST else figures["baselines"][label]
        for column, end in ((1, float(plans)), (2, longest)):
            level = go.Scatter(
                x=[0, end], y=[value, value], name=label, legendgroup=label, showlegend=column == 1, mode="lines",
                line={"color": "#666", "dash": dash, "width": 1.5},
            )  # fmt: skip
            figure.add_trace(level, row=1, col=column)
    figure.update_xaxes(title_text="scored plans", row=1, col=1)
    figure.update_xaxes(title_text="seconds, calibration included", row=1, col=2)
    figure.update_yaxes(title_text="hypervolume", row=1, col=1)
    return figure.update_layout(template="simple_white", width=1200, height=520)
