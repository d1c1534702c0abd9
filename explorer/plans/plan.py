"""The plan: masks, schedule and rule, with what they were made for. What a search proposes and a user takes home."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from explorer.errors import ExplorerError, PlanError, brief
from explorer.plans.cast import TEACHER, Cast, check_label
from explorer.plans.coefficients import Coefficients
from explorer.plans.document import MAX_MASKS, MAX_NAME, fields_of, to_document
from explorer.plans.plan_files import PLAN_FILE, find_plan, push, read_document, write_plan
from explorer.plans.plan_text import describe_mask
from explorer.plans.provenance import MadeFor
from explorer.plans.rules import Rule
from explorer.plans.schedule import MAX_EVALUATIONS, Every, Periodic, Schedule, Segments
from explorer.plans.schedulers import check_name, check_spacing, short
from explorer.plans.transfer import transfer
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Feature, Mask, liveness

EXTRACT_ALWAYS = Periodic(1)
COPY = Rule()


@dataclass(frozen=True)
class InheritancePlan:
    """An immutable, validated plan.

    steps: the pipeline's `num_inference_steps` it was made for; the schedule counts UNet evaluations and is resolved
    when a run begins. masks: choice k of the schedule is masks[k - 1]. name: for people (`CO6/P5†`).
    made_for: where it was found; what it computes does not depend on that.
    scheduler: one of `explorer.plans.schedulers.SCHEDULERS` that the plan is for, with options of `OPTIONS` there
    (`DPMSolverMultistepScheduler+karras`), which `inherit` puts on the pipeline; None is the pipeline's own. spacing:
    of its timesteps, one of `explorer.plans.schedulers.SPACINGS`; None is the scheduler's own. cast: which network runs
    until which fraction of the run; None is the pipeline's UNet alone.
    speedup: the name of a speed-up adapter that the run has; None for a run without one.

    Raises:
        PlanError: when a mask names an unknown unit, makes the output independent of the sample, or is missing; when
            a step inherits before any extract step; when the step count is not positive; for a scheduler, a spacing, a
            cast or an adapter that a plan may not name.
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
        if self.scheduler is not None and check_name(self.scheduler) != self.scheduler:
            raise PlanError(f"a plan names its scheduler by its class, {check_name(self.scheduler)}; write it so.")
        if self.spacing is not None:
            check_spacing(self.spacing)
        if self.speedup is not None:
            check_label(self.speedup, "a speed-up adapter")
        if self.cast is not None and not self.cast.students:
            raise PlanError("a cast of the teacher alone is the plan without a cast; leave it out.")
        if not isinstance(self.steps, int) or not 1 <= self.steps <= MAX_EVALUATIONS:
            raise PlanError(f"a plan is for 1 to {MAX_EVALUATIONS} steps, got {self.steps!r}.")
        if len(self.masks) > MAX_MASKS:
            raise PlanError(f"a plan has at most {MAX_MASKS} masks, got {len(self.masks)}.")
        for mask in self.masks:
            mask.check(self.architecture)
        wanted = self.masks_wanted
        if wanted > len(self.masks):
            raise PlanError(f"the schedule asks for mask {wanted} and the plan has {len(self.masks)}.")
        self._check_first_extract()
        if self.rule.weights is not None:
            self._check_weights(self.rule.weights)

    def _check_first_extract(self) -> None:
        """A mask that inherits has an extract step before it. One that only removes nodes needs none."""
        every = [(choice, 1) for choice in range(1, self.masks_wanted + 1)] if isinstance(self.schedule, Every) else ()
        for choice, _ in getattr(self.schedule, "runs", every):
            live = liveness(self.architecture, self.mask(choice))
            if live.reads:
                raise PlanError(
                    "a schedule whose first step inherits has nothing to inherit (steps that only remove nodes aside); "
                    "begin with an extract step."
                )
            if not live.removed:
                return

    def _check_weights(self, weights: Coefficients) -> None:
        """What the masks read has weights, and nothing else has: a file cannot hide entries that mean nothing."""
        read = {f for mask in self.masks[: self.masks_wanted] for f in liveness(self.architecture, mask).reads}
        for name, form in sorted(weights.features - read):
            raise PlanError(f"the weights name {name} ({form}), which no mask reads; fit the plan again.")
        for name, form in sorted(read - weights.features):
            raise PlanError(f"the fitted rule has no weights for {name} ({form}); fit the plan again.")

    @property
    def masks_wanted(self) -> int:
        """How many of the masks the schedule may choose."""
        if isinstance(self.schedule, Segments):
            return max(choice for choice, _ in self.schedule.runs)
        always_extracts = isinstance(self.schedule, Periodic) and self.schedule.period == 1
        return 0 if always_extracts else 1 + len(self.schedule.switches)

    # What the plan does in a run -------------------------------------------------------------------------------------

    def resolve(self, evaluations: int, start: int = 0) -> tuple[int, ...]:
        """The choice of mask at each of a run's UNet evaluations (0: extract), from the one numbered `start`, where the
        run begins (img2img runs the tail).

        A step that would inherit before anything was extracted extracts: nothing survives from one run to the next, or
        from one network of the cast to another. Raises PlanError when a schedule that was written out, or weights that
        were fitted, do not fit.
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
        """The network of each evaluation of a run."""
        return (TEACHER,) * evaluations if self.cast is None else self.cast.resolve(evaluations)

    def mask(self, choice: int) -> Mask:
        return self.masks[choice - 1] if choice else Mask()

    @property
    def extracts_always(self) -> bool:
        """Whether this is the un-accelerated pipeline (a `plain@n` control)."""
        return self.cast is None and self.speedup is None and not self.masked

    @property
    def masked(self) -> bool:
        """Whether any step of the plan may have a mask that is not empty."""
        return self.masks_wanted > 0 and any(self.masks)

    def check_runnable(self, students: Collection[str] = ()) -> None:
        """Raise PlanError, naming it, for a part of the plan that cannot be run: a student that is not among those
        given, or what this version reads and cannot run."""
        for student in () if self.cast is None else self.cast.students:
            if student not in students:
                raise PlanError(f"the plan needs the student {student!r}; give it with students={{{student!r}: ...}}.")
        if self.speedup is not None:
            raise PlanError(
                f"the plan needs the speed-up adapter {self.speedup!r}, which this version cannot run; take a plan "
                "without one, or upgrade the explorer."
            )

    def canonical(self, evaluations: int) -> dict[str, Any]:
        """What is computed at each evaluation, without names or unread entries: equal for plans that do the same."""
        order: dict[Mask, int] = {Mask(): 0}
        networks = self.networks(evaluations)
        steps = []
        for choice in self.resolve(evaluations):
            steps.append(order.setdefault(self.mask(choice).effective(self.architecture), len(order)))
        inherits = any(liveness(self.architecture, mask).reads for mask in order)
        rule = self.rule if inherits else Rule()
        if rule.weights is not None:
            rule = replace(rule, weights=rule.weights.used())
        return {
            "architecture": self.architecture.signature,
            "steps": self.steps,
            "masks": [mask.entries for mask in list(order)[1:]],
            "choices": steps,
            "rule": rule.to_json(),
            **({} if self.scheduler is None else {"scheduler": self.scheduler}),
            **({} if self.spacing is None else {"spacing": self.spacing}),
            **({} if set(networks) == {TEACHER} else {"networks": list(networks)}),
            **({} if self.speedup is None else {"speedup": self.speedup}),
        }

    def key(self, evaluations: int) -> str:
        """Hash of the canonical form: two plans with one key make the same pictures at the same cost."""
        return hashlib.sha256(json.dumps(self.canonical(evaluations), sort_keys=True).encode()).hexdigest()[:20]

    def describe(self) -> str:
        """The plan in words: name, or cast, structure, schedule, rule and steps; then scheduler, spacing, adapter."""
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
        """This plan for another architecture, its nodes mapped to those there: see `explorer.plans.transfer`."""
        return transfer(self, architecture)

    def with_rule(self, rule: Rule) -> InheritancePlan:
        """The same masks and schedule under another rule; a name shows it (`DC0/P5` becomes `DC0/P5+fit`)."""
        name = None if self.name is None else self.name.removesuffix(self.rule.suffix) + rule.suffix
        return replace(self, rule=rule, name=name)

    def with_cast(self, cast: str | Cast | None) -> InheritancePlan:
        """The same plan run by the networks of a cast: `m2`, `base@0.4, teacher` (also `base@0.4`); None or `teacher`
        is the pipeline's UNet alone. A name shows it (`DC0/P3` becomes `m2+DC0/P3`). Raises PlanError."""
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
        """Inverse of `to_json` for untrusted input. Raises PlanError in one sentence for anything that is no plan."""
        try:
            return cls(**fields_of(data))
        except PlanError as error:
            raise PlanError(brief(error)) from error
        except (ExplorerError, TypeError, ValueError, OverflowError) as error:
            raise PlanError(f"the plan cannot be read: {brief(error)}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON. Raises PlanError when the place cannot be written."""
        write_plan(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> InheritancePlan:
        """Read and validate a plan file. Raises PlanError for a missing, truncated, hostile or newer file."""
        try:
            return cls.from_json(read_document(path))
        except PlanError as error:
            raise error if str(path) in str(error) else PlanError(f"{path}: {error}") from error

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the plan into `folder` as `inheritance.json`, which `from_pretrained` and `inherit` read."""
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
        """The plan in a file, in the folder of an export, or in a hub repository (`owner/name`, which alone uses the
        network). It is data: no code is run. Raises PlanError."""
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
        """Send the plan, or the whole export in `folder`, to the hub repository `owner/name`; returns its address.
        Raises PlanError when the hub refuses."""
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
    """Resolve `plan` for a run of `evaluations`, of which the first `start` are left out (img2img runs the tail)."""
    asked, networks = plan.resolve(evaluations, start), plan.networks(evaluations)[start:]
    live = {choice: liveness(plan.architecture, plan.mask(choice)) for choice in set(asked)}
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
