"""What an axis is: one dimension of the search, and all that proposing, predicting and showing must know of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from explorer.plans.plan import InheritancePlan
from search_spaces.space import Parameters, Setting, with_rule

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

UNKNOWN = "other"
"""What a column says of a plan with a value that this version does not know."""
Move = Callable[[InheritancePlan, Setting, Random], InheritancePlan | None]
"""A plan to a valid one that differs in one thing; None where the move does not apply."""


@dataclass
class Draft:
    """A plan whose axes are being drawn.

    Attributes:
        setting: What it is for.
        fields: Of `InheritancePlan`, as far as they are drawn.
        rule: The name of its rule, under which the plan is put when all else is known.
    """

    setting: Setting
    fields: dict[str, Any] = field(default_factory=dict)
    rule: str = "copy"

    @property
    def evaluations(self) -> int:
        """UNet evaluations of a run, once steps and scheduler are drawn."""
        return self.setting.at(self.fields["steps"], self.fields.get("scheduler"))

    def plan(self) -> InheritancePlan:
        return with_rule(InheritancePlan(self.setting.architecture, **self.fields), self.rule, self.setting)


@dataclass(frozen=True)
class PlanRun:
    """A run of a plan in the figures that axes are encoded by.

    Attributes:
        plan: The plan.
        choices: Of its masks, one for each UNet evaluation; 0 extracts.
        times: Predicted time of each inherit step over that of a full one; (1.0,) where there is none.
        whole: UNet evaluations of the un-accelerated run.
    """

    plan: InheritancePlan
    choices: tuple[int, ...]
    times: Sequence[float]
    whole: int

    @property
    def extracts(self) -> list[int]:
        """The evaluations that extract."""
        return [i for i, choice in enumerate(self.choices) if not choice]


class Study(Protocol):
    """What a study is (`studies.settings.StudySettings`)."""

    @property
    def scheduler(self) -> str: ...
    @property
    def extra(self) -> Mapping[str, Any]: ...


class Axis(ABC):
    """One dimension of the search. An instance is that of the plans of one study.

    An axis that every study has overrides `suggest` and `guesses`; one that a study may lack is a `Choice`.

    Attributes:
        name: Of its parameter.
        after: The axes that must be drawn before it, by name.
        moves: How a proposer goes on from a plan along it.
        lengths: Of each number of `encode`: how far apart plans have little in common (`studies.proposing.surrogate`).
        part: Of `InheritancePlan.canonical`, by which it tells plans apart; empty where that has the axis's own name.
        column: Of `PlanFacts`, in which it is shown; None where no column shows it alone.
        title: Of its filter on the dashboard; empty where it has none.
        help: What its filter is about.
    """

    name: ClassVar[str]
    after: ClassVar[tuple[str, ...]] = ()
    moves: ClassVar[tuple[Move, ...]] = ()
    lengths: ClassVar[tuple[float, ...]] = ()
    part: ClassVar[str] = ""
    column: ClassVar[str | None] = None
    title: ClassVar[str] = ""
    help: ClassVar[str] = ""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    # What proposes -----------------------------------------------------------------------------------------------

    @classmethod
    def searched(cls, setting: Setting) -> bool:
        """Whether the plans of a study differ along it."""
        return True

    @abstractmethod
    def suggest(self, trial: BaseTrial, draft: Draft) -> None:
        """Draw a value and put it into the draft. Every value gives a valid plan."""

    @abstractmethod
    def guesses(self, plan: InheritancePlan, evaluations: int) -> Iterator[Parameters]:
        """The inverse: parameters that may give the plan's value, the most telling first; the space proves them. None
        where the space holds no such plan."""

    def baselines(self) -> Iterator[InheritancePlan]:
        """The controls that every study with this axis begins with."""
        return iter(())

    @property
    def holds(self) -> str:
        """What the space holds along it, as the end of a sentence; empty where that needs no mention."""
        return ""

    # What a plan is ----------------------------------------------------------------------------------------------

    @classmethod
    def key(cls, canonical: Mapping[str, Any]) -> Any:
        """What tells plans apart along it, of `InheritancePlan.canonical`; None where that has no such part, as the
        plan has the pipeline's own."""
        return canonical.get(cls.part or cls.name)

    @classmethod
    def encode(cls, run: PlanRun) -> list[float]:
        """The numbers by which the surrogate compares plans, one for each of `lengths`."""
        return []

    @classmethod
    def kinds(cls) -> tuple[str, ...]:
        """The values of an axis without an order, which the surrogate is told one by one (`kind`)."""
        return ()

    @classmethod
    def kind(cls, plan: InheritancePlan) -> str:
        """Which of `kinds` the plan is."""
        return str(getattr(plan, cls.name))

    # What people see ---------------------------------------------------------------------------------------------

    @classmethod
    def fact(cls, document: Mapping[str, Any]) -> Any:
        """The value of its column for a plan's JSON, which may be of any version or damaged. Never raises."""
        raise NotImplementedError(f"the column {cls.column} of {cls.name} is read by studies.storage.facts")

    @classmethod
    def label(cls, facts: object, study: Study) -> str:
        """What its filter calls a plan with these columns (`studies.storage.facts.PlanFacts`)."""
        assert cls.column is not None
        return str(getattr(facts, cls.column))


class Choice(Axis):
    """An axis that a study may lack: an option of the search names further values beside the pipeline's own, and a plan
    carries one in a field of its own, which is None for the pipeline's.

    Attributes:
        option: Of `studies.config.SearchConfig`, and the key in a study's stored settings.
        own: What the option calls the pipeline's own.
        alone: A control that has another value and nothing else, for sentences.
        in_names: How a plan's name shows the value, as a sentence for people.
    """

    option: ClassVar[str]
    own: ClassVar[str] = "own"
    alone: ClassVar[str]
    in_names: ClassVar[str] = ""

    @classmethod
    def searched(cls, setting: Setting) -> bool:
        return bool(setting.values.get(cls.name))

    @property
    def values(self) -> tuple[str | None, ...]:
        """What plans may have; None is the pipeline's own."""
        return (None, *self.setting.values.get(self.name, ()))

    def suggest(self, trial: BaseTrial, draft: Draft) -> None:
        chosen = trial.suggest_categorical(self.name, tuple(self.own if each is None else each for each in self.values))
        draft.fields[self.name] = None if chosen == self.own else chosen

    def guesses(self, plan: InheritancePlan, evaluations: int) -> Iterator[Parameters]:
        value = self.of(plan)
        if value in self.values:
            yield {self.name: self.own if value is None else value}

    def repaired(self, plan: InheritancePlan) -> InheritancePlan:
        """The plan, with the pipeline's own where its other values exclude the one that it has."""
        return plan

    @classmethod
    def of(cls, plan: InheritancePlan) -> Any:
        """The value that a plan carries; None for the pipeline's own."""
        return getattr(plan, cls.name)

    @classmethod
    @abstractmethod
    def known(cls, names: Sequence[str], pipe: Any, steps: int) -> dict[str, Any]:
        """The further values that the option asks for, each with what a space must know of it (`Setting.values`).

        Args:
            names: Of the option.
            pipe: The pipeline that is searched.
            steps: The pipeline steps of the study.

        Raises:
            ExplorerError: For one that this pipeline cannot have.
        """

    @classmethod
    def kept(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """What a study's stored settings hold of its values (`Setting.values`): the option, from which later processes
        read it, and further facts that must match."""
        return {cls.option: [cls.own, *values]}

    @classmethod
    def named(cls, text: str) -> str:
        """Which value a text of the option names."""
        return text

    @classmethod
    @abstractmethod
    def control(cls, plan: InheritancePlan, value: str) -> InheritancePlan:
        """A control of the pipeline's own under another value."""

    @classmethod
    @abstractmethod
    def shown(cls, value: str) -> str:
        """A value as people see it."""

    @classmethod
    @abstractmethod
    def own_shown(cls, study: Study) -> str:
        """The pipeline's own as people see it."""

    @classmethod
    @abstractmethod
    def applied(cls, value: str) -> str:
        """What the plan does to a pipeline, with Markdown."""

    @classmethod
    def suffix(cls, value: Any) -> str:
        """How the name of a plan ends."""
        return "" if value is None else f"/{cls.shown(value)}"

    @classmethod
    def label(cls, facts: object, study: Study) -> str:
        assert cls.column is not None
        return getattr(facts, cls.column) or cls.own_shown(study)

    @classmethod
    def differs(cls, facts: object) -> bool:
        """Whether a plan with these columns has another value than the pipeline's own."""
        return bool(getattr(facts, cls.column or "", None))

    @classmethod
    def among(cls, study: Study) -> list[str]:
        """The further values of a study, as people see them."""
        names = map(cls.named, study.extra.get(cls.option, ()))
        return [cls.shown(name) for name in names if name != cls.own]
