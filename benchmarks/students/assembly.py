"""A-SDM's Tables I and II (arXiv 2406.00210): assembled students, and students with conditional convolutions.

Each student is distilled twice, as in the paper: the first distillation is that of Base, or for Table II of the plain
student itself, and the second one begins with its weights. An assembled student takes from Base the blocks in which it
lacks something, and the others from the teacher. Scores are of held-out prompts, as means over training seeds; times
are of UNet evaluations in turn with the teacher's. The paper's orderings are tested by the differences on the same
prompts and seeds.

    python -m benchmarks.students.assembly --seeds 3 --work build/assembly

Everything is kept in --work, and the result is written after each step: the same command resumes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.shared.assembly_figures import chart, ordering_rows, pooled, tables
from benchmarks.shared.assembly_rows import CURVE, ORDERINGS, TEACHER_LABEL, Row, rows_of, tables_of
from benchmarks.shared.measure import load, run
from benchmarks.shared.report import options, write_figure, write_result
from benchmarks.shared.students import TEACHER, Bench, Judged, has_experts, quick, student_options, with_experts
from benchmarks.shared.work_folder import Ticker, digest
from explorer.models.workload import vae_factor
from explorer.networks.student import Student

NAME = "assembly"
POINTS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)
"""Shares of a training after which the student of the curve is judged."""
LEFT_OUT = "this version's trainings have no experts, so the rows with conditional convolutions are left out"


class Assembly:
    """The trainings, scores and times, each made once in the work folder."""

    def __init__(self, pipe: Any, arguments: argparse.Namespace) -> None:
        self.pipe, self.arguments, self.bench = pipe, arguments, Bench(pipe, arguments)
        every = rows_of(arguments.tables.split(","))
        self.rows = [row for row in every if not row.experts or has_experts()]
        self.notes = [] if len(self.rows) == len(every) else [LEFT_OUT]

    @property
    def work(self) -> int:
        """Things that `measure` yields."""
        return self.arguments.seeds * len(self.rows) + len(self.pairs()) + 1 + len(self.curve_steps)

    def _plain(self, name: str, seed: int) -> Student:
        """The first distillation of a named student."""
        steps = self.arguments.train_steps
        return self.bench.distilled(Student.named(name, self.pipe.unet), f"{name}-first-{steps}-s{seed}", steps,
                                    seed=seed)  # fmt: skip

    def student(self, row: Row, seed: int) -> tuple[Student, str]:
        """The student of a row after both distillations, and the name under which it is kept."""
        steps = self.arguments.train_steps
        name = f"{row.key}-{steps}-s{seed}"
        student = Student.named(row.student, self.pipe.unet)
        further: dict[str, Any] = {}
        if row.experts:
            student = with_experts(student, row.experts, row.routing)
            further = {"first": row.first}
        source = self._plain(row.source, seed)
        return self.bench.distilled(
            student, name, steps, seed=seed + 1000, freeze=row.freeze, source=source, **further
        ), name  # fmt: skip

    def pairs(self) -> list[tuple[str, str]]:
        """The labels of the paper's orderings that are measured, the better one first."""
        known = {TEACHER_LABEL, *(row.label for row in self.rows)}
        pairs = [pair for ordering in ORDERINGS for pair in ordering.pairs]
        return list(dict.fromkeys(pair for pair in pairs if known.issuperset(pair)))

    def difference(self, pair: tuple[str, str], seed: int) -> dict[str, Any]:
        """Scores of the first of a pair less those of the second, of one training seed."""
        sides: list[Judged] = []
        for label in pair:
            row = next((row for row in self.rows if row.label == label), None)
            sides.append((None, TEACHER) if row is None else self.student(row, seed))
        return self.bench.difference(*sides)

    def times(self) -> dict[str, Any]:
        """Of the students of the first seed and the teacher, in one run."""
        rounds = self.arguments.rounds or (3 if self.arguments.quick else 15)
        students = {row.label: self.student(row, 0)[0] for row in self.rows}
        key = digest({"rows": sorted(students), "rounds": rounds, "calls": self.arguments.calls})
        return dict(self.bench.work.get(f"times/{key}", lambda: self.bench.times(students, rounds)))

    @property
    def curve_steps(self) -> list[int]:
        """Steps of a training after which the student of the curve is judged."""
        return sorted({max(1, round(share * self.arguments.train_steps)) for share in POINTS})

    def curve(self, step: int) -> dict[str, Any]:
        """Scores of the student of the curve after a step of one distillation."""
        steps = self.arguments.train_steps
        name = f"{CURVE}-curve-{steps}"
        student = self.bench.distilled(
            Student.named(CURVE, self.pipe.unet), name, steps, freeze="deep", snapshots=self.curve_steps[:-1]
        )
        if step != steps:
            student = Student.load(self.bench.snapshot(name, step))
        return {"step": step} | _means(self.bench.scores(student, f"{name}-at-{step}"))


def measure(arguments: argparse.Namespace, found: Assembly) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """What was done last, with the figures and samples so far."""
    bench, seeds = found.bench, range(arguments.seeds)
    own = int(found.pipe.unet.config.sample_size)
    side = arguments.resolution // vae_factor(found.pipe) if arguments.resolution else own
    teacher = bench.scores(None, TEACHER)
    figures: dict[str, Any] = {"teacher": _means(teacher), "rows": {}, "orderings": [], "curve": [], "times": {},
                               "notes": found.notes}  # fmt: skip
    samples: dict[str, Any] = {"teacher": teacher["each"]}
    scores: dict[str, list[dict[str, Any]]] = {}
    for seed in seeds:
        for row in found.rows:
            student, name = found.student(row, seed)
            scores.setdefault(row.label, []).append(bench.scores(student, name))
            figures["rows"][row.label] = {
                "tables": tables_of(row), "parameters": student.parameters,
                "macs_share": student.macs_share(side, side), "seeds": len(scores[row.label]),
                **seed_means(scores[row.label]),
            }  # fmt: skip
            samples[row.label] = [each["each"] for each in scores[row.label]]
            yield f"{row.label}, seed {seed}", figures, samples
    differences: dict[tuple[str, str], dict[str, Any]] = {}
    for pair in found.pairs():
        each = [found.difference(pair, seed) for seed in seeds]
        differences[pair] = {metric: pooled([one[metric] for one in each]).to_json() for metric in each[0]}
        figures["orderings"] = ordering_rows(differences)
        yield " against ".join(pair), figures, samples
    measured = found.times()
    figures["times"] = {label: {name: each[name] for name in ("share", "seconds")} for label, each in measured.items()}
    samples["times"] = {label: each["samples"] for label, each in measured.items()}
    yield "times", figures, samples
    for step in found.curve_steps:
        figures["curve"].append(found.curve(step))
        yield f"{CURVE} after {step} steps", figures, samples


def seed_means(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Every metric as the mean over training seeds with its interval, and each seed's value."""
    found: dict[str, Any] = {}
    for metric in (name for name in scores[0] if name != "each"):
        found[metric] = pooled([each[metric] for each in scores]).to_json()
        found[f"{metric} by seed"] = [float(np.round(each[metric]["value"], 4)) for each in scores]
    return found


def _means(scores: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in scores.items() if name != "each"}


def main() -> None:
    parser = options(str(__doc__).splitlines()[0])
    student_options(parser, "build/assembly")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each student")
    parser.add_argument("--tables", default="I,II", help="of the paper: I, II or both")
    arguments = parser.parse_args()
    if arguments.quick:
        quick(arguments)
        arguments.seeds = 1
    found = Assembly(load(arguments), arguments)
    for note in found.notes:
        print(note, file=sys.stderr)
    ticker = Ticker(found.work)
    path, figures = None, dict[str, Any]()
    for words, figures, samples in measure(arguments, found):
        ticker.tell(words)
        path = write_result(NAME, figures, samples, arguments, say=False)
    if path is not None:
        print(tables(figures))
        write_figure(chart(figures["curve"]), path)
        print(f"wrote {path}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
