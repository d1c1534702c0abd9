"""The plan: masks, schedule and rule, with what they were made for. What a search proposes and a user takes home."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from explorer.architecture import Architecture
from explorer.coefficients import Coefficients
from explorer.errors import ExplorerError, PlanError
from explorer.mask import Feature, Mask, liveness
from explorer.rules import Rule
from explorer.schedule import MAX_EVALUATIONS, Periodic, Schedule, Segments, schedule_from_json

SCHEMA = 1
MAX_FILE_BYTES = 4_000_000
MAX_MASKS = 64
EXTRACT_ALWAYS = Periodic(1)
COPY = Rule()


@dataclass(frozen=True)
class InheritancePlan:
    """An immutable, validated plan.

    steps: the pipeline's `num_inference_steps` it was made for; the schedule counts UNet evaluations and is resolved
    when a run begins. masks: choice k of the schedule is masks[k - 1]. name: for people (`CO6/P5†`).

    Raises:
        PlanError: when a mask names an unknown unit, makes the output independent of the sample, or is missing; when
            the schedule starts with an inherit step; when the step count is not positive.
    """

    architecture: Architecture
    steps: int
    masks: tuple[Mask, ...] = ()
    schedule: Schedule = EXTRACT_ALWAYS
    rule: Rule = COPY
    name: str | None = None

    def __post_init__(self) -> None:
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
                "(explorer.fitting.fit)."
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
        inherits = any(steps)
        return {
            "architecture": self.architecture.signature,
            "steps": self.steps,
            "masks": [mask.entries for mask in list(order)[1:]],
            "choices": steps,
            "rule": self.rule.to_json() if inherits else Rule().to_json(),
        }

    def key(self, evaluations: int) -> str:
        """Hash of the canonical form: two plans with one key make the same pictures at the same cost."""
        return hashlib.sha256(json.dumps(self.canonical(evaluations), sort_keys=True).encode()).hexdigest()[:20]

    def describe(self) -> str:
        """The plan in words: name or structure, schedule, rule, steps."""
        if self.extracts_always:
            return self.name or f"plain@{self.steps}"
        if self.name:
            return self.name
        masks = " + ".join(describe_mask(self.architecture, mask) for mask in self.masks)
        switches = getattr(self.schedule, "switches", ())
        at = f" switching at {', '.join(f'{s:.0%}' for s in switches)}" if switches else ""
        return f"{masks} / {self.schedule.name}{at}{self.rule.suffix}, {self.steps} steps"

    def renamed(self, name: str | None) -> InheritancePlan:
        return replace(self, name=name)

    def with_rule(self, rule: Rule) -> InheritancePlan:
        """The same masks and schedule under another rule; a name shows it (`DC0/P5` becomes `DC0/P5+fit`)."""
        name = None if self.name is None else self.name.removesuffix(self.rule.suffix) + rule.suffix
        return replace(self, rule=rule, name=name)

    # Files -----------------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "kind": "inheritance-plan",
            "name": self.name,
            "steps": self.steps,
            "architecture": self.architecture.to_json(),
            "masks": [dict(mask.entries) for mask in self.masks],
            "schedule": self.schedule.to_json(),
            "rule": self.rule.to_json(),
        }

    @classmethod
    def from_json(cls, data: Any) -> InheritancePlan:
        """Inverse of `to_json` for untrusted input. Raises PlanError in one sentence for anything that is no plan."""
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
        masks = data["masks"]
        if not isinstance(masks, list) or not all(isinstance(mask, dict) for mask in masks):
            raise PlanError("the plan's masks cannot be read; expected a list of objects {unit: form}.")
        try:
            return cls(
                architecture=Architecture.from_json(data["architecture"]),
                steps=data["steps"],
                masks=tuple(Mask.of(mask) for mask in masks),
                schedule=schedule_from_json(data["schedule"]),
                rule=Rule.from_json(data["rule"]),
                name=name,
            )
        except PlanError:
            raise
        except (ExplorerError, TypeError, ValueError, OverflowError) as error:
            raise PlanError(f"the plan cannot be read: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON. Raises PlanError when the place cannot be written."""
        try:
            Path(path).write_text(json.dumps(self.to_json(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        except (OSError, ValueError) as error:  # ValueError: a path with a null byte, a name that is no Unicode
            reason = getattr(error, "strerror", None) or error
            raise PlanError(f"cannot write the plan to {str(path)!r}: {reason}; choose another place.") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> InheritancePlan:
        """Read and validate a plan file. Raises PlanError for a missing, truncated, hostile or newer file."""
        try:
            if Path(path).stat().st_size > MAX_FILE_BYTES:
                raise PlanError(f"{path} is larger than any plan ({MAX_FILE_BYTES} bytes); give a plan file.")
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise PlanError(f"cannot read the plan {path}: {error.strerror}; check the path.") from error
        except UnicodeDecodeError as error:
            raise PlanError(f"{path} is not a text file; give a plan's JSON file.") from error
        except ValueError as error:
            raise PlanError(f"{str(path)!r} is no path ({error}); give a plan's JSON file.") from error
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise PlanError(
                f"{path} is not a whole JSON file ({error}); it may be cut off, export it again."
            ) from error
        try:
            return cls.from_json(data)
        except PlanError as error:
            raise PlanError(f"{path}: {error}") from error


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
