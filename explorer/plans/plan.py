"""The plan: masks, schedule and rule, with what they were made for. What a search proposes and a user takes home."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from explorer.errors import ExplorerError, PlanError, brief
from explorer.plans.coefficients import Coefficients
from explorer.plans.plan_files import PLAN_FILE, find_plan, push, read_document, write_plan
from explorer.plans.plan_text import mask_from_text, mask_to_text, schedule_from_text, schedule_to_text
from explorer.plans.rules import Rule
from explorer.plans.schedule import MAX_EVALUATIONS, Periodic, Schedule, Segments, schedule_from_json
from explorer.plans.schedulers import check_name, short
from explorer.plans.transfer import transfer
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Feature, Mask, liveness

SCHEMA = 3
"""1 wrote masks and the schedule as objects, which are still read. 3 is written where a scheduler is named, so that a
version that knows none refuses the plan instead of running it under another one; without one it is 2."""
MAX_MASKS = 64
EXTRACT_ALWAYS = Periodic(1)
COPY = Rule()


@dataclass(frozen=True)
class MadeFor:
    """What a plan was found on, as far as it is known: a model's id, the fingerprint of its weights
    (`explorer.models.loading.fingerprint`), the scheduler's class and the UNet evaluations of a run with it."""

    model: str | None = None
    fingerprint: str | None = None
    scheduler: str | None = None
    evaluations: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if value is not None}

    @classmethod
    def from_json(cls, data: Any) -> MadeFor:
        """Read untrusted input; unknown fields are passed over. Raises PlanError."""
        if not isinstance(data, dict):
            raise PlanError("what the plan was made for cannot be read; expected an object.")
        values = {name: data[name] for name in ("model", "fingerprint", "scheduler") if data.get(name) is not None}
        for name, value in values.items():
            if not isinstance(value, str) or len(value) > 200 or not value.isprintable():
                raise PlanError(f"the plan's {name} must be a text of at most 200 printable characters; mend it.")
        count = data.get("evaluations")
        if count is not None and (type(count) is not int or not 1 <= count <= MAX_EVALUATIONS):
            raise PlanError(f"the plan's evaluations must be a number from 1 to {MAX_EVALUATIONS}, got {count!r:.40}.")
        return cls(**values, evaluations=count)


@dataclass(frozen=True)
class InheritancePlan:
    """An immutable, validated plan.

    steps: the pipeline's `num_inference_steps` it was made for; the schedule counts UNet evaluations and is resolved
    when a run begins. masks: choice k of the schedule is masks[k - 1]. name: for people (`CO6/P5†`).
    made_for: where it was found; what it computes does not depend on that.
    scheduler: one of `explorer.plans.schedulers.SCHEDULERS` that the plan is for, which `inherit` puts on the pipeline;
    None is the pipeline's own.

    Raises:
        PlanError: when a mask names an unknown unit, makes the output independent of the sample, or is missing; when
            the schedule starts with an inherit step; when the step count is not positive; for a scheduler that a plan
            may not name.
    """

    architecture: Architecture
    steps: int
    masks: tuple[Mask, ...] = ()
    schedule: Schedule = EXTRACT_ALWAYS
    rule: Rule = COPY
    name: str | None = None
    made_for: MadeFor | None = None
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.scheduler is not None and check_name(self.scheduler) != self.scheduler:
            raise PlanError(f"a plan names its scheduler by its class, {check_name(self.scheduler)}; write it so.")
        if not isinstance(self.steps, int) or not 1 <= self.steps <= MAX_EVALUATIONS:
            raise PlanError(f"a plan is for 1 to {MAX_EVALUATIONS} steps, got {self.steps!r}.")
        if len(self.masks) > MAX_MASKS:
            raise PlanError(f"a plan has at most {MAX_MASKS} masks, got {len(self.masks)}.")
        for mask in self.masks:
            mask.check(self.architecture)
        wanted = self.masks_wanted
        if wanted > len(self.masks):
            raise PlanError(f"the schedule asks for mask {wanted} and the plan has {len(self.masks)}.")
        if self.rule.weights is not None:
            self._check_weights(self.rule.weights)

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

    def resolve(self, evaluations: int) -> tuple[int, ...]:
        """The choice of mask at each of a run's UNet evaluations (0: extract). Raises PlanError when a schedule that
        was written out, or weights that were fitted, do not fit."""
        if self.rule.weights is not None and evaluations != self.rule.weights.evaluations:
            raise PlanError(
                f"this plan's weights were fitted for {self.rule.weights.evaluations} UNet evaluations and the run has "
                f"{evaluations}; run it with the step count and scheduler it was made for, or fit it again "
                "(explorer.calibration.fitting.fit)."
            )
        return self.schedule.resolve(evaluations)

    def mask(self, choice: int) -> Mask:
        return self.masks[choice - 1] if choice else Mask()

    @property
    def extracts_always(self) -> bool:
        """Whether this is the un-accelerated pipeline (a `plain@n` control)."""
        return self.masks_wanted == 0 or not any(self.masks)

    def canonical(self, evaluations: int) -> dict[str, Any]:
        """What is computed at each evaluation, without names or unread entries: equal for plans that do the same."""
        order: dict[Mask, int] = {Mask(): 0}
        steps = []
        for choice in self.resolve(evaluations):
            steps.append(order.setdefault(self.mask(choice).effective(self.architecture), len(order)))
        rule = self.rule if any(steps) else Rule()
        if rule.weights is not None:
            rule = replace(rule, weights=rule.weights.used())
        return {
            "architecture": self.architecture.signature,
            "steps": self.steps,
            "masks": [mask.entries for mask in list(order)[1:]],
            "choices": steps,
            "rule": rule.to_json(),
            **({} if self.scheduler is None else {"scheduler": self.scheduler}),
        }

    def key(self, evaluations: int) -> str:
        """Hash of the canonical form: two plans with one key make the same pictures at the same cost."""
        return hashlib.sha256(json.dumps(self.canonical(evaluations), sort_keys=True).encode()).hexdigest()[:20]

    def describe(self) -> str:
        """The plan in words: name or structure, schedule, rule, steps, scheduler."""
        if self.extracts_always:
            return self.name or plain_name(self.steps, self.scheduler)
        if self.name:
            return self.name + self._of_scheduler
        masks = " + ".join(describe_mask(self.architecture, mask) for mask in self.masks)
        switches = getattr(self.schedule, "switches", ())
        at = f" switching at {', '.join(f'{s:.0%}' for s in switches)}" if switches else ""
        return f"{masks} / {self.schedule.name}{at}{self.rule.suffix}, {self.steps} steps{self._of_scheduler}"

    @property
    def _of_scheduler(self) -> str:
        return "" if self.scheduler is None else f" of {short(self.scheduler)}"

    def transfer(self, architecture: Architecture) -> InheritancePlan:
        """This plan for another architecture, its nodes mapped to those there: see `explorer.plans.transfer`."""
        return transfer(self, architecture)

    def with_rule(self, rule: Rule) -> InheritancePlan:
        """The same masks and schedule under another rule; a name shows it (`DC0/P5` becomes `DC0/P5+fit`)."""
        name = None if self.name is None else self.name.removesuffix(self.rule.suffix) + rule.suffix
        return replace(self, rule=rule, name=name)

    # Files -----------------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 2 if self.scheduler is None else SCHEMA,
            "kind": "inheritance-plan",
            "name": self.name,
            **({} if self.made_for is None else {"made_for": self.made_for.to_json()}),
            "steps": self.steps,
            **({} if self.scheduler is None else {"scheduler": self.scheduler}),
            "architecture": self.architecture.to_json(),
            "masks": [mask_to_text(self.architecture, mask) for mask in self.masks],
            "schedule": schedule_to_text(self.schedule),
            "rule": self.rule.to_json(),
        }

    @classmethod
    def from_json(cls, data: Any) -> InheritancePlan:
        """Inverse of `to_json` for untrusted input. Raises PlanError in one sentence for anything that is no plan."""
        try:
            return cls._read(data)
        except PlanError as error:
            raise PlanError(brief(error)) from error
        except (ExplorerError, TypeError, ValueError, OverflowError) as error:
            raise PlanError(f"the plan cannot be read: {brief(error)}") from error

    @classmethod
    def _read(cls, data: Any) -> InheritancePlan:
        if not isinstance(data, dict) or data.get("kind") != "inheritance-plan":
            raise PlanError("this is not a plan; expected a JSON object of kind 'inheritance-plan'.")
        schema = data.get("schema")
        if not isinstance(schema, int) or schema < 1:
            raise PlanError(f"the plan's schema {schema!r} cannot be read; expected a number up to {SCHEMA}.")
        if schema > SCHEMA:
            raise PlanError(f"the plan has schema {schema}, this version reads up to {SCHEMA}; upgrade the explorer.")
        missing = [field for field in ("steps", "architecture", "masks", "schedule", "rule") if field not in data]
        if missing:
            raise PlanError(f"the plan lacks {', '.join(missing)}; export it again.")
        name = data.get("name")
        if name is not None and (not isinstance(name, str) or len(name) > 200 or not name.isprintable()):
            raise PlanError("the plan's name must be a text of at most 200 printable characters; rename it.")
        masks, schedule = data["masks"], data["schedule"]
        if not isinstance(masks, list) or not all(isinstance(mask, dict | str) for mask in masks):
            raise PlanError("the plan's masks cannot be read; expected a list of texts such as 'mid up3.l2.attn='.")
        if len(masks) > MAX_MASKS:
            raise PlanError(f"a plan has at most {MAX_MASKS} masks, got {len(masks)}.")
        architecture = Architecture.from_json(data["architecture"])
        return cls(
            architecture=architecture,
            steps=data["steps"],
            masks=tuple(
                mask_from_text(architecture, mask) if isinstance(mask, str) else Mask.of(mask) for mask in masks
            ),
            schedule=schedule_from_text(schedule) if isinstance(schedule, str) else schedule_from_json(schedule),
            rule=Rule.from_json(data["rule"]),
            name=name,
            made_for=MadeFor.from_json(data["made_for"]) if data.get("made_for") is not None else None,
            scheduler=data.get("scheduler"),
        )

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


def plain_name(steps: int, scheduler: str | None = None) -> str:
    """The name of a control: `plain@20`, `plain@20/DPMSolverMultistep`."""
    return f"plain@{steps}" + ("" if scheduler is None else f"/{short(scheduler)}")


def describe_mask(architecture: Architecture, mask: Mask) -> str:
    """A mask in words: whole blocks and layers by name, a count for the rest."""
    forms: Mapping[str, str] = mask.forms
    words: list[str] = []
    left = set(forms)
    for group in (architecture.blocks, architecture.layers):
        for name, units in group.items():
            if set(units) <= left and len({forms[unit] for unit in units}) == 1:
                words.append(name + ("=" if forms[units[0]] == "output" else ""))
                left -= set(units)
    singles = sorted(left)
    words += [name + ("=" if forms[name] == "output" else "") for name in singles[:3]]
    if len(singles) > 3:
        words.append(f"{len(singles) - 3} more")
    return " ".join(words) or "nothing"


@dataclass(frozen=True)
class Run:
    """A plan resolved for one run: for each evaluation the choice, what it stores and what may be dropped after it.

    choices[i]: 0 extracts. stores[i]: the features that an extract step must keep, as a later step reads them.
    last_read[i, (name, form)]: the last evaluation that reads the feature extracted at i.
    """

    choices: tuple[int, ...]
    stores: tuple[frozenset[Feature], ...]
    last_read: dict[tuple[int, Feature], int]


def features_read(plan: InheritancePlan) -> frozenset[Feature]:
    """Every feature that an inherit step of the plan may read: what an extract step stores that serves all of them."""
    return frozenset(feature for mask in plan.masks for feature in liveness(plan.architecture, mask).reads)


def resolve_run(plan: InheritancePlan, evaluations: int, start: int = 0) -> Run:
    """Resolve `plan` for a run of `evaluations`, of which the first `start` are left out (img2img runs the tail).

    The first evaluation that runs always extracts: nothing survives from one run to the next.
    """
    asked = (0, *plan.resolve(evaluations)[start + 1 :])
    reads = {choice: liveness(plan.architecture, plan.mask(choice)).reads for choice in set(asked)}
    choices = tuple(choice if reads[choice] else 0 for choice in asked)  # an empty mask extracts
    stores: list[set[Feature]] = [set() for _ in choices]
    last_read: dict[tuple[int, Feature], int] = {}
    extracts: list[int] = []
    for i, choice in enumerate(choices):
        if not reads[choice]:
            extracts.append(i)
            continue
        for source in extracts[-plan.rule.history :]:
            for feature in reads[choice]:
                stores[source].add(feature)
                last_read[source, feature] = i
    return Run(choices, tuple(frozenset(s) for s in stores), last_read)
