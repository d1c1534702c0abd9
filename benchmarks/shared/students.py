"""What the benchmarks of students share: students distilled in folders, and their pictures beside their teacher's.

Both survive an interruption: a training goes on from its checkpoint, pictures are kept by parts, and what is finished
is not made again. Everything lies in a work folder that is named after what it depends on.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.shared.work_folder import WorkFolder, digest
from explorer import InheritancePlan, inherit
from explorer.bootstrap import mean_estimate
from explorer.devices import clock_for, resolve_device
from explorer.estimate import Estimate
from explorer.models.loading import EMOJI, default_guidance, fingerprint
from explorer.models.prompts import HELD_OUT, load_prompts, search_prompts
from explorer.models.workload import twin, unet_inputs
from explorer.networks.student import Student
from explorer.networks.student_files import DOCUMENT
from explorer.quality import Reference, frechet, load_clip, load_extractor, load_reference
from explorer.quality.clip_score import cosines
from explorer.quality.metrics import default_clip
from explorer.quality.paired import psnr
from explorer.timing.latency import ratio_estimate
from explorer.timing.profiling import workload_of
from explorer.unet.architecture import Architecture
from recipe.evaluation.drawing import Drawer
from training.distill import Settings, distill, trained_blocks
from training.loop import Budget, Training
from training.teacher_data import Examples, teacher_runs

Array = NDArray[np.float64]
Judged = tuple[Student | None, str]
"""A student, or the teacher (None), and the name under which its pictures are kept."""
TEACHER = "teacher"
WARMUPS = 2
"""Rounds of timings that are not counted."""


def student_options(parser: argparse.ArgumentParser, work: str) -> None:
    """Add the options of how students are distilled and judged."""
    parser.add_argument("--steps", type=int, default=25, help="of a picture")
    parser.add_argument("--pictures", type=int, default=256, help="held-out prompts on which students are judged")
    parser.add_argument("--pictures-batch", type=int, default=32, help="pictures made at once")
    parser.add_argument("--extractors", default="emojiclip,efficientnet", help="of the Frechet distances")
    parser.add_argument("--taught", help="prompts of the teacher's runs; the model's search set by default")
    parser.add_argument("--runs", type=int, default=512, help="runs of the teacher that students learn from")
    parser.add_argument("--train-steps", type=int, default=600, help="of a distillation")
    parser.add_argument("--train-batch", type=int, default=64, help="samples of a training step")
    parser.add_argument("--lr", type=float, default=1e-3, help="learning rate")
    parser.add_argument(
        "--workers", type=int, default=1, help="processes of a training on a CPU; needs OMP_NUM_THREADS=1"
    )
    parser.add_argument("--calls", type=int, default=5, help="UNet evaluations of a timing")
    parser.add_argument("--work", type=Path, default=Path(work), help="where all of it is kept")


def quick(arguments: argparse.Namespace) -> None:
    """Make the options of `student_options` those of a run that takes about a minute."""
    arguments.steps, arguments.pictures, arguments.pictures_batch = 4, 8, 8
    arguments.runs, arguments.train_steps, arguments.train_batch = 4, 2, 2
    arguments.extractors = arguments.extractors.split(",")[0]


class Bench:
    """A teacher, the trainings of its students, and the judgement of their pictures.

    Args:
        pipe: The teacher's pipeline.
        arguments: The options, those of `student_options` among them.
    """

    def __init__(self, pipe: Any, arguments: argparse.Namespace) -> None:
        self.pipe, self.arguments = pipe, arguments
        self.device = resolve_device(arguments.device)
        self.guidance = default_guidance(arguments.model)
        self.weights = fingerprint(pipe)
        own = search_prompts(arguments.model)
        self.taught = load_prompts(arguments.taught or own).texts
        self.judged = load_prompts(HELD_OUT[own], arguments.pictures).texts
        told = {"weights": self.weights, "device": self.device.type, "scheduler": dict(pipe.scheduler.config)}
        named = ("steps", "runs", "train_batch", "lr")
        facts = told | {"taught": self.taught} | {name: getattr(arguments, name) for name in named}
        self.work = WorkFolder(arguments.work / digest(facts))

    # Distillation ----------------------------------------------------------------------------------------------------

    @cached_property
    def examples(self) -> Examples:
        """The teacher's runs, recorded once."""
        return teacher_runs(
            self.pipe, self.taught, self.arguments.runs, self.work.folder / "runs", guidance=max(self.guidance, 1.5)
        )

    def distilled(
        self,
        student: Student,
        name: str,
        steps: int,
        *,
        seed: int = 0,
        freeze: str = "none",
        source: Student | None = None,
        snapshots: Sequence[int] = (),
        **further: Any,
    ) -> Student:
        """The student after a distillation, which is made once under `name`.

        Args:
            student: What to distil.
            name: Of its folder.
            steps: Of the training.
            seed: Of the training.
            freeze: As of `training.distill.trained_blocks`.
            source: A distilled student whose weights it begins with.
            snapshots: Steps after which the averaged weights are kept as well, see `snapshot`.
            **further: Of `training.distill.distill`.
        """
        folder = self.work.folder / "students" / name
        if not (folder / DOCUMENT).exists():
            blocks = trained_blocks(student, freeze)
            settings = Settings(batch=self.arguments.train_batch, rate=self.arguments.lr, seed=seed)

            def keep(training: Training) -> None:
                if training.step in snapshots:
                    tensors = {key: value.detach().cpu() for key, value in training.average.values.items()}
                    student.trained_as(tensors, blocks).save(self.snapshot(name, training.step))

            examples, threads = self.examples, torch.get_num_threads()
            if self.arguments.workers > 1:
                torch.set_num_threads(1)
            try:
                distill(
                    self.pipe, student, examples, folder, Budget(steps), settings, blocks=blocks, source=source,
                    workers=self.arguments.workers, on_step=keep, **further,
                )  # fmt: skip
            finally:
                torch.set_num_threads(threads)
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)  # large, and of no further use
        return Student.load(folder)

    def snapshot(self, name: str, step: int) -> Path:
        """The folder of a student's weights after a step of its training."""
        return self.work.folder / "students" / f"{name}-at-{step}"

    # Judgement -------------------------------------------------------------------------------------------------------

    @cached_property
    def _clip(self) -> Any:
        return load_clip(default_clip(self.extractors[0]), self.device)

    @property
    def _judgement(self) -> str:
        """What scores depend on besides the weights."""
        return "-".join([str(len(self.judged)), *self.extractors])

    @property
    def extractors(self) -> list[str]:
        """Names of the feature extractors of the Frechet distances."""
        return [name for name in self.arguments.extractors.split(",") if name]

    @cached_property
    def references(self) -> dict[str, tuple[Any, Reference]]:
        """By extractor: the statistics that ship with the embedded model; the teacher's own pictures otherwise."""
        found: dict[str, tuple[Any, Reference]] = {}
        for name in self.extractors:
            extract = load_extractor(name, self.device)
            if self.arguments.model == EMOJI:
                reference = load_reference("embedded", extract)
            else:
                reference = Reference.from_pictures(self.pictures(None, TEACHER), extract)
            found[name] = (extract, reference)
        return found

    def pictures(self, student: Student | None, name: str) -> torch.Tensor:
        """uint8 (N, 3, H, W) of the judged prompts by a student, or by the teacher (None); kept under `name`."""
        pipe = twin(self.pipe)
        draw = Drawer(pipe, self.work.folder / "pictures" / name, self.guidance, self.arguments.pictures_batch)
        if student is None:
            return draw(self.judged, self.arguments.steps)
        plan = InheritancePlan(Architecture.of(pipe.unet), self.arguments.steps).with_cast("student")
        with torch.no_grad(), inherit(pipe, plan, students={"student": student}):
            return draw(self.judged, self.arguments.steps)

    def scores(self, student: Student | None, name: str) -> dict[str, Any]:
        """Paired PSNR to the teacher's pictures and CLIP score, each with its mean and its values one by one, and the
        Frechet distances; made once under `name`."""
        return dict(self.work.get(f"scores/{name}-{self._judgement}", lambda: self._scored(student, name)))

    def _scored(self, student: Student | None, name: str) -> dict[str, Any]:
        pictures = self.pictures(student, name)
        each = {"clip": cosines(self._clip.encode_pictures(pictures), self._clip.encode_prompts(self.judged))}
        if student is not None:
            each["psnr"] = psnr(pictures, self.pictures(None, TEACHER))
        distances = {
            f"fd_{key}": frechet.estimate(extract(pictures).values, reference.mean, reference.cov).to_json()
            for key, (extract, reference) in self.references.items()
        }
        means: dict[str, Any] = {metric: mean_estimate(values).to_json() for metric, values in each.items()}
        return means | distances | {"each": {metric: values.tolist() for metric, values in each.items()}}

    def difference(self, ours: Judged, theirs: Judged) -> dict[str, Any]:
        """Scores of one network less those of another, on the same prompts and seeds, with intervals of the
        differences."""
        first, second = self.scores(*ours)["each"], self.scores(*theirs)["each"]

        def made() -> dict[str, Any]:
            found: dict[str, Estimate] = {
                metric: mean_estimate(np.array(first[metric]) - np.array(second[metric]))
                for metric in first
                if metric in second
            }
            for key, (extract, reference) in self.references.items():
                features, others = (extract(self.pictures(*side)).values for side in (ours, theirs))
                found[f"fd_{key}"] = frechet.difference_estimate(features, others, reference.mean, reference.cov)
            return {metric: estimate.to_json() for metric, estimate in found.items()}

        return dict(self.work.get(f"differences/{ours[1]}-{theirs[1]}-{self._judgement}", made))

    # Time ------------------------------------------------------------------------------------------------------------

    def times(self, students: Mapping[str, Student], rounds: int) -> dict[str, dict[str, Any]]:
        """The time of a UNet evaluation of each student over the teacher's, by rounds in which all take turns; and the
        teacher's seconds."""
        workload = workload_of(
            self.pipe, device=str(self.device), dtype=str(self.pipe.unet.dtype).removeprefix("torch."),
            batch=self.arguments.batch, resolution=self.arguments.resolution,
        )  # fmt: skip
        inputs, clock = unet_inputs(self.pipe, workload, self.device), clock_for(self.device)
        calls = (rounds + WARMUPS) * self.arguments.calls
        plan = InheritancePlan(Architecture.of(self.pipe.unet), calls)
        taken: dict[str, list[float]] = {}
        with contextlib.ExitStack() as stack, torch.no_grad():
            racers: dict[str, Any] = {}
            everyone: dict[str, Student | None] = {TEACHER: None, **students}
            for name, student in everyone.items():
                unet = twin(self.pipe).unet
                own = plan if student is None else plan.with_cast("student")
                given = None if student is None else {"student": student}
                stack.enter_context(inherit(unet, own, students=given)).begin(calls)
                racers[name] = unet
            names = list(racers)
            for number in range(-WARMUPS, rounds):
                turn = number % len(names)
                for name in [*names[turn:], *names[:turn]]:
                    seconds = clock.time(partial(self._call, racers[name], inputs))
                    if number >= 0:
                        taken.setdefault(name, []).append(seconds / self.arguments.calls)
        teacher = np.array(taken[TEACHER])
        return {
            name: {
                "share": ratio_estimate(np.array(values) / teacher).to_json(),
                "seconds": float(np.median(values)),
                "samples": values,
            }
            for name, values in taken.items()
        }

    def _call(self, unet: Any, inputs: Mapping[str, Any]) -> None:
        for _ in range(self.arguments.calls):
            unet(**inputs)


def has_experts() -> bool:
    """Whether students can have conditional convolutions."""
    return "experts" in {field.name for field in fields(Student)}


def with_experts(student: Student, count: int, routing: str) -> Student:
    """The student with `count` experts in each of its convolutions."""
    experts = import_module("explorer.networks.experts").Experts(count, routing)
    return replace(student, **{"experts": experts})
