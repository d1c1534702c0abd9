"""Whether errors of removed units add up, and whether the student that they choose beats the named ones.

Random removals of several sizes are predicted by the sum of their units' errors, and measured: the distance of the
final latents from the teacher's on other prompts, and the paired drift of the pictures after a short distillation.
Then what `explorer students --choose` chooses at the time of each named student is distilled like that one, and the two
are compared on the same prompts and seeds.

    python -m benchmarks.students.removal_additivity --work build/removals

Everything is kept in --work, and the result is written after each removal and each student: the same command resumes.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from benchmarks.shared.measure import load, profiled, run
from benchmarks.shared.rank_correlation import CORRELATIONS, cell, correlate, document
from benchmarks.shared.report import options, write_figure, write_result
from benchmarks.shared.students import Bench, quick, student_options
from benchmarks.shared.work_folder import Ticker
from explorer import InheritancePlan, inherit
from explorer.calibration.removal_choice import RemovalChoice
from explorer.calibration.removal_errors import measure_removals
from explorer.models.pictures import run as run_pipeline
from explorer.models.prompts import load_prompts, search_prompts
from explorer.models.workload import twin
from explorer.networks.removals import removal_of, unit_removals
from explorer.networks.student import Student
from explorer.plans.schedule import Every
from explorer.timing.profile import Profile
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Form, Mask

NAME = "removal-additivity"
SIZES = (1, 2, 3, 4, 6, 8, 11, 15, 20, 26)
"""Units of the random removals, in turn."""
CONTROLS = ("M1", "M2", "M3", "Base")
CALIBRATED = 4
"""Prompts on which single errors are measured; none of them is judged."""
LATENTS = 16
"""Judged prompts whose final latents are compared."""
SEED = 1_000_003
"""Of the calibration's pictures."""
SMALLEST = 1e-6
"""A distance whose logarithm is still taken."""


@dataclass(frozen=True)
class Drawn:
    """A random removal of `size` units."""

    size: int
    mask: Mask


def draw_removals(architecture: Architecture, count: int, seed: int = 0) -> list[Drawn]:
    """`count` different removals; their sizes go through `SIZES`, at most all units. Each unit is removed in a form
    that it takes."""
    forms: dict[str, list[Form]] = {}
    for unit, form in unit_removals(architecture):
        forms.setdefault(unit, []).append(form)
    draw = random.Random(seed)
    made: dict[Mask, Drawn] = {}
    while len(made) < count:
        size = min(SIZES[len(made) % len(SIZES)], len(forms))
        entries: dict[str, Form] = {}
        for unit in draw.sample(sorted(forms), size):
            entries |= removal_of(architecture, unit, draw.choice(forms[unit])).forms
        mask = Mask.of(entries)
        made.setdefault(mask, Drawn(size, mask))
    return list(made.values())


class Additivity:
    """The measurements, each made once in the work folder."""

    def __init__(self, pipe: Any, arguments: argparse.Namespace) -> None:
        self.arguments, self.bench = arguments, Bench(pipe, arguments)
        self.work, self.pipe = self.bench.work, pipe
        self.architecture = Architecture.of(pipe.unet)
        self.choices = RemovalChoice(self._profile().cost_model, self._squares())
        self.drawn = draw_removals(self.architecture, arguments.removals)
        self._latents: torch.Tensor | None = None

    def _profile(self) -> Profile:
        found = self.work.read("profile")
        started = None if found is None else Profile.from_json(found)
        return profiled(
            self.pipe, self.arguments, self.arguments.steps, started,
            lambda profile: self.work.write("profile", profile.to_json()),
        )  # fmt: skip

    def _squares(self) -> dict[tuple[str, Form], float]:
        def made() -> list[Any]:
            prompts = load_prompts(search_prompts(self.arguments.model), CALIBRATED).prompts
            found = measure_removals(
                self.pipe, prompts, guidance=self.bench.guidance, steps=self.arguments.steps, seed=SEED
            )
            return [[unit, form, square] for (unit, form), square in found.items()]

        return {(unit, form): square for unit, form, square in self.work.get("removals", made)}

    def _final(self, mask: Mask | None = None) -> torch.Tensor:
        """Final latents of the first judged prompts, under a removal or the teacher's own."""
        pipe = twin(self.pipe)
        plan = InheritancePlan(self.architecture, self.arguments.steps)
        if mask is not None:
            plan = replace(plan, masks=(mask,), schedule=Every())
        prompts = self.bench.judged[: min(LATENTS, self.arguments.pictures)]
        how: dict[str, Any] = {"seed": 0, "steps": self.arguments.steps, "guidance": self.bench.guidance}
        with torch.no_grad(), inherit(pipe, plan):
            return run_pipeline(pipe, prompts, output_type="latent", **how).float()

    def before(self, number: int) -> float:
        """The distance of a random removal's final latents from the teacher's, over their size."""

        def made() -> float:
            if self._latents is None:
                self._latents = self._final()
            moved = self._final(self.drawn[number].mask) - self._latents
            return float((moved.square().mean() / self._latents.square().mean()).sqrt())

        return float(self.work.get(f"before/{number:03d}", made))

    def after(self, number: int) -> dict[str, Any]:
        """The scores of a random removal after a short distillation."""
        steps = self.arguments.short_steps
        name = f"random-{number:03d}-{steps}"
        student = Student.removing(self.pipe.unet, self.drawn[number].mask.forms, name="random")
        return self.bench.scores(self.bench.distilled(student, name, steps), name)

    def contest(self, control: str) -> dict[str, Any]:
        """A named student against what is chosen at its time: both are distilled alike."""
        steps, freeze = self.arguments.train_steps, self.arguments.freeze
        named = Student.named(control, self.pipe.unet)
        rated = self.choices.rated(named.removed)
        best = self.choices.within(rated.share)
        chosen = Student.removing(self.pipe.unet, best.mask.forms, name=f"chosen-{control}")
        sides = [
            (self.bench.distilled(student, f"{student.name}-{steps}-{freeze}", steps, freeze=freeze),
             f"{student.name}-{steps}-{freeze}")
            for student in (chosen, named)
        ]  # fmt: skip
        times = self.work.get(f"times/{control}", lambda: self.bench.times(
            {"chosen": chosen, control: named}, self.arguments.rounds or (3 if self.arguments.quick else 15)
        ))  # fmt: skip
        return {
            "removed": best.mask.forms,
            "predicted_share": {"chosen": best.share, control: rated.share},
            "predicted_error": {"chosen": best.error, control: rated.error},
            "measured_share": {name: times[name]["share"] for name in ("chosen", control)},
            "chosen": _means(self.bench.scores(*sides[0])),
            control: _means(self.bench.scores(*sides[1])),
            "chosen less named": self.bench.difference(*sides),
        }


def _means(scores: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in scores.items() if name != "each"}


def figures_of(rows: Sequence[Mapping[str, Any]], contests: Mapping[str, Any]) -> dict[str, Any]:
    """rows: of each removal its size, `predicted` and `before`, and where it was distilled `psnr`."""
    predicted, before = (np.array([row[name] for row in rows]) for name in ("predicted", "before"))
    logs = np.log(np.maximum(predicted, SMALLEST)), np.log(np.maximum(before, SMALLEST))
    taught = [row for row in rows if row.get("psnr") is not None]
    drift = -np.array([row["psnr"] for row in taught])
    sums, own = (np.array([row[name] for row in taught]) for name in ("predicted", "before"))
    sizes = sorted({row["size"] for row in rows})
    return {
        "removals": len(rows),
        "distilled": len(taught),
        "before": {kind: document(correlate(predicted, before, kind)) for kind in CORRELATIONS}
        | {"pearson of logarithms": document(correlate(*logs, "pearson"))},
        "after": {kind: document(correlate(sums, drift, kind)) for kind in CORRELATIONS},
        "measured before against after": {kind: document(correlate(own, drift, kind)) for kind in CORRELATIONS},
        "measured over predicted by size": {
            str(size): float(np.median([row["before"] / max(row["predicted"], SMALLEST)
                                        for row in rows if row["size"] == size]))
            for size in sizes
        },
        "contests": dict(contests),
        "wins": {control: verdict(contest["chosen less named"]) for control, contest in contests.items()},
    }  # fmt: skip


def verdict(difference: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """By metric, which side is better: `chosen`, `named`, or `neither` where the interval of the difference holds 0."""
    found = {}
    for metric, estimate in difference.items():
        better = -1 if metric.startswith("fd_") else 1
        low, high = sorted((better * estimate["low"], better * estimate["high"]))
        found[metric] = "chosen" if low > 0 else "named" if high < 0 else "neither"
    return found


def table(figures: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        f"{figures['removals']} random removals, {figures['distilled']} of them distilled",
        "",
        "| predicted against measured | Spearman | Kendall | Pearson |",
        "|---|---|---|---|",
    ]
    titles = {
        "before": "latents, before distillation", "after": "drift in dB, after it",
        "measured before against after": "measured latents before, against drift after",
    }  # fmt: skip
    for name, title in titles.items():
        correlations = " | ".join(cell(figures[name][kind]) for kind in ("spearman", "kendall", "pearson"))
        lines.append(f"| {title} | {correlations} |")
    lines += ["", "| units removed | measured over predicted |", "|---|---|"]
    lines += [f"| {size} | {value:.2f} |" for size, value in figures["measured over predicted by size"].items()]
    if figures["contests"]:
        metrics = list(next(iter(figures["contests"].values()))["chosen less named"])
        lines += [
            "",
            f"| against | time, chosen | named | {' | '.join(f'{name}, chosen less named' for name in metrics)} |",
        ]
        lines.append("|---" * (3 + len(metrics)) + "|")
        for control, contest in figures["contests"].items():
            shares = [cell(contest["measured_share"][name]) for name in ("chosen", control)]
            cells = [
                f"{cell(contest['chosen less named'][name])} ({figures['wins'][control][name]})" for name in metrics
            ]
            lines.append(f"| {control} | {' | '.join([*shares, *cells])} |")
    return "\n".join(lines)


def chart(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Predicted against measured, before distillation and after it."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=2, subplot_titles=["before distillation", "after a short one"])
    taught = [row for row in rows if row.get("psnr") is not None]
    for column, (chosen, name) in enumerate(((rows, "before"), (taught, "psnr")), start=1):
        points = go.Scatter(
            x=[row["predicted"] for row in chosen], y=[row[name] for row in chosen], mode="markers", showlegend=False,
            text=[f"{row['size']} units" for row in chosen], marker={"color": [row["size"] for row in chosen]},
        )  # fmt: skip
        figure.add_trace(points, row=1, col=column)
        figure.update_xaxes(title_text="sum of single errors", type="log", row=1, col=column)
    figure.update_yaxes(title_text="distance of the final latents", type="log", row=1, col=1)
    figure.update_yaxes(title_text="PSNR to the teacher, dB", row=1, col=2)
    return figure.update_layout(template="simple_white", width=900, height=420)


def measure(arguments: argparse.Namespace, pipe: Any) -> Iterator[tuple[str, list[dict[str, Any]], dict[str, Any]]]:
    """What was done last, with the rows and contests so far: removals before distillation, some of them after it,
    then the contests."""
    found = Additivity(pipe, arguments)
    rows: list[dict[str, Any]] = []
    contests: dict[str, Any] = {}
    for number, drawn in enumerate(found.drawn):
        predicted = found.choices.rated(drawn.mask)
        row = {"size": drawn.size, "removed": drawn.mask.forms, "share": predicted.share,
               "predicted": predicted.error, "before": found.before(number)}  # fmt: skip
        rows.append(row)
        yield f"removal {number + 1}", rows, contests
    # the distilled ones are spread over all sizes: the first of them go through `SIZES`
    for number in range(min(arguments.distilled, len(rows))):
        scores = found.after(number)
        rows[number] |= {"psnr": scores["psnr"]["value"], "after": _means(scores)}
        yield f"distilled removal {number + 1}", rows, contests
    for control in [name for name in arguments.controls.split(",") if name]:
        contests[control] = found.contest(control)
        yield f"chosen against {control}", rows, contests


def main() -> None:
    parser = options(str(__doc__).splitlines()[0])
    student_options(parser, "build/removals")
    parser.add_argument("--removals", type=int, default=60, help="random removals")
    parser.add_argument("--distilled", type=int, default=20, help="of them, that are distilled shortly")
    parser.add_argument("--short-steps", type=int, default=60, help="steps of a short distillation")
    parser.add_argument("--controls", default=",".join(CONTROLS), help="named students that the chosen ones meet")
    parser.add_argument("--freeze", default="none", help="blocks that both sides freeze: deep, none or names")
    arguments = parser.parse_args()
    if arguments.quick:
        quick(arguments)
        arguments.removals, arguments.distilled, arguments.short_steps, arguments.controls = 5, 4, 1, "M1"
    controls = [name for name in arguments.controls.split(",") if name]
    ticker = Ticker(arguments.removals + min(arguments.distilled, arguments.removals) + len(controls))
    path = None
    for words, rows, contests in measure(arguments, load(arguments)):
        ticker.tell(words)
        figures = figures_of(rows, contests)
        path = write_result(NAME, figures, rows, arguments, say=False)
    if path is not None:
        print(table(figures))
        write_figure(chart(rows), path)
        print(f"wrote {path}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
