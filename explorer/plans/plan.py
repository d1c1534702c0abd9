"""The plan: masks, schedule and rule, with what they were made for. What a search proposes and a user takes home."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from explorer.errors import ExplorerError, PlanError, brief
from explorer.plans.canonical import canonical_form, hash_of
from explorer.plans.cast import TEACHER, Cast, cast_students
from explorer.plans.document import MAX_NAME, fields_of, to_document
from explorer.plans.plan_checks import check_plan
from explorer.plans.plan_files import PLAN_FILE, find_plan, push, read_document, write_plan
from explorer.plans.plan_text import describe_mask
from explorer.plans.provenance import MadeFor
from explorer.plans.rules import Rule
from explorer.plans.schedule import Periodic, Schedule, Segments
from explorer.plans.schedulers import short
from explorer.plans.transfer import transfer
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Feature, Mask, liveness

EXTRACT_ALWAYS = Periodic(1)
COPY = Rule()


@dataclass(frozen=True)
class InheritancePlan:
    """An immutable, validated plan: what is inherited or removed, and when (A-SDM, arXiv 2406.00210, Sec. IV).

    Attributes:
        architecture: The UNet structure that the plan is for.
        steps: The pipeline's `num_inference_steps`.
        masks: Choice k of the schedule is `masks[k - 1]`.
        schedule: Which mask each UNet evaluation has. It is resolved when a run begins.
        rule: How a feature is taken over from earlier extract steps.
        name: A name for people, such as `CO6/P5†`.
        made_for: Where the plan was found. It does not change what the plan computes.
        scheduler: One of `explorer.plans.schedulers.SCHEDULERS`, with options of `OPTIONS` there
            (`DPMSolverMultistepScheduler+karras`); None is the pipeline's own.
        spacing: One of `explorer.plans.schedulers.SPACINGS`; None is the scheduler's own.
        cast: Which network runs until which fraction of the run; None is the pipeline's UNet alone.
        speedup: The name of a speed-up adapter; None for a run without one.

    Raises:
        PlanError: For an unknown unit, a missing mask, an output that does not depend on the sample, a step that
            inherits before any extract step, weights that do not fit, or a value out of range.
    """

    architecture: Architecture
    steps: int
    masks: tuple[Mask, ...] = ()
    schedule: Schedule = EXTRACT_ALWAYS
    rule: Rule = COPY
    name: str | None = None
    made_for: MadeFor | None = None
    scheduler: str | None = None
    spacing: str | None = None
    cast: Cast | None = None
    speedup: str | None = None

    def __post_init__(self) -> None:
        check_plan(self)

    @property
    def masks_wanted(self) -> int:
        """The number of masks that the schedule may choose."""
        if isinstance(self.schedule, Segments):
            return max(choice for choice, _ in self.schedule.runs)
        always_extracts = isinstance(self.schedule, Periodic) and self.schedule.period == 1
        return 0 if always_extracts else 1 + len(self.schedule.switches)

    # What the plan does in a run -------------------------------------------------------------------------------------

    def resolve(self, evaluations: int, start: int = 0) -> tuple[int, ...]:
        """The choice of mask at each UNet evaluation of a run; 0 extracts.

        A step that would inherit before anything was extracted extracts. No feature passes from one run to the next, or
        from one network of the cast to another.

        Args:
            evaluations: UNet evaluations of the complete schedule.
            start: The evaluation at which the run begins (img2img runs the tail).

        Raises:
            PlanError: When a schedule that was written out, or fitted weights, are for another number of evaluations.
        """
        if self.rule.weights is not None and evaluations != self.rule.weights.evaluations:
            raise PlanError(
                f"this plan's weights were fitted for {self.rule.weights.evaluations} UNet evaluations and the run has "
                f"{evaluations}; run it with the step count and scheduler it was made for, or fit it again "
                "(explorer.calibration.fitting.fit)."
            )
        choices = self.schedule.resolve(evaluations)
        if self.cast is None and choices[start : start + 1] == (0,):
            return choices[start:]
        networks = self.networks(evaluations)
        live = {choice: liveness(self.architecture, self.mask(choice)) for choice in set(choices)}
        made: list[int] = []
        extracted = False
        for i in range(start, evaluations):
            choice = choices[i]
            extracted = extracted and networks[i] == networks[i - 1]
            if live[choice].reads:
                made.append(choice if extracted else 0)
                extracted = True
            else:
                made.append(choice)
                extracted = extracted or not live[choice].removed
        return tuple(made)

    def networks(self, evaluations: int) -> tuple[str, ...]:
        """The name of the network that runs at each evaluation."""
        return (TEACHER,) * evaluations if self.cast is None else self.cast.resolve(evaluations)

    def mask(self, choice: int) -> Mask:
        """The mask of a choice of the schedule; 0 is the empty mask, which extracts."""
        return self.masks[choice - 1] if choice else Mask()

    @property
    def extracts_always(self) -> bool:
        """Whether this is the un-accelerated pipeline (a `plain@n` control)."""
        return self.cast is None and self.speedup is None and not self.masked

    @property
    def masked(self) -> bool:
        """Whether any step of the plan may have a mask that is not empty."""
        return self.masks_wanted > 0 and any(self.masks)

    def check_runnable(self, students: Collection[str] = (), speedups: Collection[str] = ()) -> None:
        """Refuse a plan that this version can read but cannot run.

        Args:
            students: Names of the students that are given.
            speedups: Names of the speed-up adapters that are given.

        Raises:
            PlanError: For a student or a speed-up adapter that is not given.
        """
        for student in cast_students(self.cast):
            if student not in students:
                raise PlanError(f"the plan needs the student {student!r}; give it with students={{{student!r}: ...}}.")
        if self.speedup is not None and self.speedup not in speedups:
            name = repr(self.speedup)
            raise PlanError(f"the plan needs the speed-up adapter {name}; give it with speedups={{{name}: ...}}.")

    def canonical(self, evaluations: int) -> dict[str, Any]:
        """What is computed at each evaluation, as JSON, without names: equal for plans that do the same."""
        return canonical_form(self, evaluations)

    def key(self, evaluations: int) -> str:
        """Hash of the canonical form: plans with one key make the same pictures at the same cost."""
        return hash_of(self, evaluations)

    def describe(self) -> str:
        """One line: the name, or cast, structure, schedule, rule and steps; then scheduler, spacing and adapter."""
        prefix = "" if self.cast is None else self.cast.prefix
        if not self.masked:
            return (self.name or prefix + plain_name(self.steps, self.scheduler, self.spacing)) + self._of_speedup
        if self.name:
            return self.name + self._of_scheduler
        masks = " + ".join(describe_mask(self.architecture, mask) for mask in self.masks)
        switches = getattr(self.schedule, "switches", ())
        at = f" switching at {', '.join(f'{s:.0%}' for s in switches)}" if switches else ""
        return f"{prefix}{masks} / {self.schedule.name}{at}{self.rule.suffix}, {self.steps} steps{self._of_scheduler}"

    @property
    def _of_scheduler(self) -> str:
        named = "" if self.scheduler is None else f" of {short(self.scheduler)}"
        return named + ("" if self.spacing is None else f", {self.spacing} timesteps") + self._of_speedup

    @property
    def _of_speedup(self) -> str:
        return "" if self.speedup is None else f", with the speed-up {self.speedup}"

    def transfer(self, architecture: Architecture) -> InheritancePlan:
        """This plan for another architecture.

        Raises:
            PlanError: When no inherited node has a counterpart there (see `explorer.plans.transfer`).
        """
        return transfer(self, architecture)

    def with_rule(self, rule: Rule) -> InheritancePlan:
        """The same masks and schedule under another rule; a name shows it (`DC0/P5` becomes `DC0/P5+fit`)."""
        name = None if self.name is None else self.name.removesuffix(self.rule.suffix) + rule.suffix
        return replace(self, rule=rule, name=name)

    def with_cast(self, cast: str | Cast | None) -> InheritancePlan:
        """The same plan under a cast; a name shows it (`DC0/P3` becomes `m2+DC0/P3`).

        Args:
            cast: Such as `m2` or `base@0.4, teacher` (also `base@0.4`). None or `teacher` is the pipeline's UNet alone.

        Raises:
            PlanError: For a cast that cannot be read.
        """
        chosen = Cast.of(cast) if isinstance(cast, str) else cast
        name = self.name
        if name is not None:
            before = "" if self.cast is None else self.cast.prefix
            after = ("" if chosen is None else chosen.prefix) + name.removeprefix(before)
            # A name that does not show the cast that it had (`S1`) says nothing of the plan with another.
            name = after if name.startswith(before) and len(after) <= MAX_NAME else None
        return replace(self, cast=chosen, name=name)

    # Files -----------------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """The plan as the JSON object of a plan file (docs/plan-format.md)."""
        return to_document(self)

    @classmethod
    def from_json(cls, data: Any) -> InheritancePlan:
        """Read untrusted JSON that `to_json` wrote.

        Raises:
            PlanError: For anything that is not a valid plan.
        """
        try:
            return cls(**fields_of(data))
        except PlanError as error:
            raise PlanError(brief(error)) from error
        except (ExplorerError, TypeError, ValueError, OverflowError) as error:
            raise PlanError(f"the plan cannot be read: {brief(error)}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a plan file.

        Raises:
            PlanError: When the file cannot be written.
        """
        write_plan(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> InheritancePlan:
        """Read and validate a plan file.

        Raises:
            PlanError: For a file that is missing, truncated, invalid or of a newer schema.
        """
        try:
            return cls.from_json(read_document(path))
        except PlanError as error:
            raise error if str(path) in str(error) else PlanError(f"{path}: {error}") from error

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write `inheritance.json` into `folder`, for `from_pretrained` and `inherit`.

        Raises:
            PlanError: When the file cannot be written.
        """
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise PlanError(f"cannot make the folder {str(folder)!r}: {reason}; choose another place.") from error
        self.save(Path(folder) / PLAN_FILE)

    @classmethod
    def from_pretrained(
        cls, place: str | os.PathLike[str], *, revision: str | None = None, token: str | None = None
    ) -> InheritancePlan:
        """Load a plan. It is data: no code is run.

        Args:
            place: A plan file, an export's folder, or a hub repository (`owner/name`; only this uses the network).
            revision: Branch, tag or commit of the repository.
            token: Access token of the hub.

        Raises:
            PlanError: When there is no valid plan at `place`.
        """
        return cls.load(find_plan(place, revision=revision, token=token))

    def push_to_hub(
        self,
        repository: str,
        *,
        folder: str | os.PathLike[str] | None = None,
        private: bool | None = None,
        token: str | None = None,
        message: str | None = None,
    ) -> str:
        """Upload the plan, or the export in `folder`, to the hub, and return the repository's address.

        Args:
            repository: `owner/name`. It is created if it does not exist.
            folder: The folder of an `explorer export`. Only the files of an export are uploaded.
            private: Whether a new repository is private.
            token: Access token of the hub.
            message: Message of the commit.

        Raises:
            PlanError: When the hub refuses.
        """
        return push(self, repository, folder=folder, private=private, token=token, message=message)


def plain_name(steps: int, scheduler: str | None = None, spacing: str | None = None) -> str:
    """The name of a control: `plain@20`, `plain@20/DPMSolverMultistep~trailing`."""
    named = "" if scheduler is None else f"/{short(scheduler)}"
    return f"plain@{steps}{named}" + ("" if spacing is None else f"~{spacing}")


@dataclass(frozen=True)
class Run:
    """A plan resolved for one run: for each evaluation the choice, what it stores and what may be dropped after it.

    choices[i]: 0 extracts; a mask that only removes nodes neither stores nor reads. stores[i]: the features that an
    extract step must keep, as a later step reads them. last_read[i, (name, form)]: the last evaluation that reads
    the feature extracted at i. networks[i]: the network that runs.
    """

    choices: tuple[int, ...]
    stores: tuple[frozenset[Feature], ...]
    last_read: dict[tuple[int, Feature], int]
    networks: tuple[str, ...]


def features_read(plan: InheritancePlan) -> frozenset[Feature]:
    """Every feature that an inherit step of the plan may read: what an extract step stores that serves all of them."""
    return frozenset(feature for mask in plan.masks for feature in liveness(plan.architecture, mask).reads)


def resolve_run(plan: InheritancePlan, evaluations: int, start: int = 0) -> Run:
    """Resolve `plan` for a run of `evaluations` without the first `start` (img2img runs the tail)."""
    asked, networks = plan.resolve(evaluations, start), plan.networks(evaluations)[start:]
    live = {choice: liveness(plan.architecture, plan.mask(choice)) for choice in {0, *asked}}
    # An empty mask extracts.
    choices = tuple(choice if live[choice].reads or live[choice].removed else 0 for choice in asked)
    stores: list[set[Feature]] = [set() for _ in choices]
    last_read: dict[tuple[int, Feature], int] = {}
    extracts: list[int] = []
    for i, choice in enumerate(choices):
        if i and networks[i] != networks[i - 1]:
            extracts.clear()
        if not choice:
            extracts.append(i)
        for source in extracts[-plan.rule.history :]:
            for feature in live[choice].reads:
                stores[source].add(feature)
                last_read[source, feature] = i
    return Run(choices, tuple(frozenset(s) for s in stores), last_read, networks)
