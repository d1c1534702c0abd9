"""Schedules: for each UNet evaluation of a run, which mask. 0 is the extract step, k the k-th mask of the plan.

`Periodic`, `Curve` and `Every` fit any number of evaluations; `Segments` are written out and fit only the number they
were made for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any, ClassVar

from explorer.errors import PlanError

MAX_EVALUATIONS = 10_000


def _switched(choices: Sequence[bool], switches: tuple[float, ...]) -> tuple[int, ...]:
    """Give each inherit step its mask: the first until the first switch (a fraction of the run), then the next."""
    n = len(choices)
    return tuple(0 if extract else 1 + sum(i >= switch * n for switch in switches) for i, extract in enumerate(choices))


def _check_switches(switches: tuple[float, ...]) -> None:
    if list(switches) != sorted(set(switches)) or any(not 0 < s < 1 for s in switches):
        raise PlanError(f"switches between masks must be ascending fractions between 0 and 1, got {list(switches)}.")


@dataclass(frozen=True)
class Periodic:
    """Pn of A-SDM (Fig. 11): extract at 0 and at offset, offset + n, ...; the last `tail` of the run extracts.

    period: evaluations from one extract step to the next; 1 extracts always. offset: of the first extract step after
    the one at 0 (0: the period counts from 0). tail: fraction of the evaluations at the end that extract; the
    paper's dagger is 0.2 (10 of 50). switches: fractions of the run at which the next mask takes over.
    """

    kind: ClassVar[str] = "periodic"
    period: int
    offset: int = 0
    tail: float = 0.0
    switches: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.period <= MAX_EVALUATIONS:
            raise PlanError(f"a period counts evaluations from 1 to {MAX_EVALUATIONS}, got {self.period}.")
        if not 0 <= self.offset < max(self.period, 1):
            raise PlanError(f"the offset must be from 0 to the period minus 1 ({self.period - 1}), got {self.offset}.")
        if not 0 <= self.tail <= 1:
            raise PlanError(f"the full tail is a fraction of the run from 0 to 1, got {self.tail}.")
        _check_switches(self.switches)

    def resolve(self, evaluations: int) -> tuple[int, ...]:
        # The small constant keeps 0.2 * 50 at 10 whatever the floating-point product is.
        full_from = evaluations - int(self.tail * evaluations + 1e-9)
        return _switched(
            [i == 0 or i >= full_from or i % self.period == self.offset for i in range(evaluations)], self.switches
        )

    @property
    def name(self) -> str:
        dagger = "†" if abs(self.tail - 0.2) < 1e-9 else f"|tail {self.tail:g}" if self.tail else ""
        return f"P{self.period}{f'@{self.offset}' if self.offset else ''}{dagger}"

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "period": self.period,
            "offset": self.offset,
            "tail": self.tail,
            "switches": list(self.switches),
        }


@dataclass(frozen=True)
class Curve:
    """DeepCache's non-uniform schedule: extract steps crowd around a centre (DeepCache, Sec. 3.3 and its released
    `sample_from_quad_center`), `extracts` of them. Where rounding makes two the same, the power is lowered by 0.02
    until it does not, as there; at power 1 less than `extracts` may be left.

    centre: fraction of the run; power: above 1, larger is more crowded. tail and switches as in `Periodic`.
    """

    kind: ClassVar[str] = "curve"
    extracts: int
    centre: float
    power: float
    tail: float = 0.0
    switches: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.extracts <= MAX_EVALUATIONS:
            raise PlanError(f"a curve has from 1 to {MAX_EVALUATIONS} extract steps, got {self.extracts}.")
        if not 0 <= self.centre <= 1 or not 1 <= self.power <= 10:
            raise PlanError(
                f"a curve's centre lies in [0, 1] and its power in [1, 10], got {self.centre} and {self.power}."
            )
        if not 0 <= self.tail <= 1:
            raise PlanError(f"the full tail is a fraction of the run from 0 to 1, got {self.tail}.")
        _check_switches(self.switches)

    def resolve(self, evaluations: int) -> tuple[int, ...]:
        full_from = evaluations - int(self.tail * evaluations + 1e-9)
        keys = self._keys(evaluations)
        return _switched([i in keys or i >= full_from for i in range(evaluations)], self.switches)

    def _keys(self, evaluations: int) -> set[int]:
        centre, count = round(self.centre * evaluations), min(self.extracts, evaluations)
        power = self.power
        inner = _quad_center(evaluations, count, centre, power)
        while len(inner) != count - 1 and power > 1:
            power -= 0.02
            inner = _quad_center(evaluations, count, centre, max(power, 1.0))
        return {0} | {key for key in inner if 0 <= key < evaluations}

    @property
    def name(self) -> str:
        tail = f"|tail {self.tail:g}" if self.tail else ""
        return f"N{self.extracts}c{self.centre:g}p{self.power:g}{tail}"

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "extracts": self.extracts,
            "centre": self.centre,
            "power": self.power,
            "tail": self.tail,
            "switches": list(self.switches),
        }


@dataclass(frozen=True)
class Every:
    """A mask at every evaluation, and no extract step: for masks that only remove nodes.

    switches: as in `Periodic`; an empty mask before or after one computes everything there.
    """

    kind: ClassVar[str] = "every"
    switches: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _check_switches(self.switches)

    def resolve(self, evaluations: int) -> tuple[int, ...]:
        return _switched([False] * evaluations, self.switches)

    @property
    def name(self) -> str:
        return "every"

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "switches": list(self.switches)}


@dataclass(frozen=True)
class Segments:
    """A schedule written out: (choice, length) runs over all evaluations. A plan begins with an extract step or a mask
    that only removes nodes."""

    kind: ClassVar[str] = "segments"
    runs: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if any(length < 1 or not 0 <= choice <= 64 for choice, length in self.runs):
            raise PlanError("a segment is a mask's number (0 extracts) and a length of at least 1.")
        if not self.runs:
            raise PlanError("a schedule that is written out has no evaluations; begin with an extract step.")
        if self.evaluations > MAX_EVALUATIONS:
            raise PlanError(f"a schedule has at most {MAX_EVALUATIONS} evaluations, this one has {self.evaluations}.")

    @classmethod
    def of(cls, choices: Iterable[int]) -> Segments:
        """From one choice per evaluation."""
        return cls(tuple((choice, len(list(group))) for choice, group in groupby(choices)))

    @property
    def evaluations(self) -> int:
        return sum(length for _, length in self.runs)

    def resolve(self, evaluations: int) -> tuple[int, ...]:
        if evaluations != self.evaluations:
            raise PlanError(
                f"this plan writes out {self.evaluations} UNet evaluations and the run has {evaluations}; run it with "
                "the step count and scheduler it was made for, or use a plan of a mode (such as P5)."
            )
        return tuple(choice for choice, length in self.runs for _ in range(length))

    @property
    def name(self) -> str:
        choices = [choice for choice, length in self.runs for _ in range(length)]
        return f"S{choices.count(0)}/{len(choices)}"

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "runs": [list(run) for run in self.runs]}


Schedule = Periodic | Curve | Every | Segments


@lru_cache(maxsize=4096)
def _quad_center(evaluations: int, count: int, centre: int, power: float) -> tuple[int, ...]:
    """The inner extract steps of DeepCache's `sample_from_quad_center`: the ends of the run are no steps.

    Its root of -centre is Python's, a complex number, of whose power NumPy keeps the real part. That moves the steps on
    both sides of the centre, so it is kept as it was released.
    """
    first, last = complex(-centre) ** (1 / power), (evaluations - centre) ** (1 / power)
    points = (first + (last - first) * k / count for k in range(count + 1))
    return tuple(centre + offset for offset in sorted({int((point**power).real) for point in points})[1:-1])


def parse_mode(text: str) -> Periodic:
    """A sampling mode of A-SDM, Fig. 11: `Pn`, with `†` or `d` for the dagger (the last fifth extracts).

    Raises:
        PlanError: for any other text.
    """
    match = re.fullmatch(r"P([1-9]\d{0,3})(†|d)?", text) if isinstance(text, str) else None
    if match is None:
        raise PlanError(f"unknown sampling mode {text!r}; expected Pn such as P5, or P5† (also P5d).")
    return Periodic(int(match[1]), tail=0.2 if match[2] else 0.0)


def schedule_from_json(data: Any) -> Schedule:
    """Read any schedule, untrusted. Raises PlanError."""
    try:
        kind = data["kind"]
        if kind == "periodic":
            period, offset = _whole(data["period"]), _whole(data["offset"])
            return Periodic(period, offset, _real(data["tail"]), _reals(data["switches"]))
        if kind == "curve":
            return Curve(
                _whole(data["extracts"]), _real(data["centre"]), _real(data["power"]), _real(data["tail"]),
                _reals(data["switches"]),
            )  # fmt: skip
        if kind == "every":
            return Every(_reals(data["switches"]))
        if kind == "segments":
            return Segments(tuple((_whole(choice), _whole(length)) for choice, length in data["runs"]))
    except (KeyError, TypeError, ValueError) as error:
        raise PlanError(f"the plan's schedule cannot be read ({error}); export the plan again.") from error
    raise PlanError(f"unknown kind of schedule {kind!r}; expected periodic, curve, every or segments.")


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"expected an integer, found {value!r}")
    return value


def _real(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"expected a number, found {value!r}")
    return float(value)


def _reals(values: Any) -> tuple[float, ...]:
    return tuple(_real(value) for value in values)
