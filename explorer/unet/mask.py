"""A mask: which nodes inherit at a step, and how; and liveness: what still has to run under it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from explorer.errors import PlanError
from explorer.unet.architecture import Architecture, Node

Form = Literal["residual", "output"]
FORMS: tuple[Form, ...] = get_args(Form)
Feature = tuple[str, Form]
"""What a step stores and a later one inherits: a node's residual branch or its output."""


@dataclass(frozen=True)
class Mask:
    """The inheriting nodes of a step with the form of each, sorted by name. The empty mask is an extract step.

    `residual` (units only): out = F_previous + identity(x), Eq. 4 of A-SDM; the identity path stays live.
    `output`: the node's whole output is inherited, and what only it read need not run (DeepCache's form).
    """

    entries: tuple[tuple[str, Form], ...] = ()

    @classmethod
    def of(cls, nodes: Iterable[str] | Mapping[str, Form], form: Form = "residual") -> Mask:
        """A mask of `nodes`, all in one `form`, or a mapping node -> form."""
        pairs = nodes.items() if isinstance(nodes, Mapping) else ((name, form) for name in nodes)
        return cls(tuple(sorted(pairs)))

    @property
    def forms(self) -> dict[str, Form]:
        return dict(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def check(self, architecture: Architecture) -> None:
        """Raise PlanError when a name or form does not fit `architecture`, or the output ignores the sample."""
        for name, form in self.entries:
            node = architecture.by_name.get(name)
            if node is None:
                raise PlanError(
                    f"unknown unit {name!r}; this architecture has {architecture.describe()}: "
                    f"{', '.join(architecture.units[:3])} ... {architecture.units[-1]}."
                )
            if form not in FORMS:
                raise PlanError(f"unknown form {form!r} at {name}; expected one of {', '.join(FORMS)}.")
            if form == "residual" and not node.is_unit:
                raise PlanError(f"{name} has no residual branch; only its output can be inherited (form 'output').")
        if not liveness(architecture, self).depends_on_sample:
            raise PlanError(
                "with this mask the UNet's output no longer depends on the current sample, so the step computes "
                "nothing new; leave at least one path from conv_in to the output live."
            )

    def effective(self, architecture: Architecture) -> Mask:
        """The same computation with the fewest entries: nodes that nobody reads any more are dropped."""
        read = dict(liveness(architecture, self).reads)
        return Mask(tuple(entry for entry in self.entries if entry[0] in read))


@dataclass(frozen=True)
class Liveness:
    """What runs under a mask, from a backward walk over the node list.

    run: nodes computed in full, in order. reads: inherited features that are read, with their form.
    depends_on_sample: whether the output still depends on the current sample.
    """

    run: tuple[str, ...]
    reads: tuple[tuple[str, Form], ...]
    depends_on_sample: bool


@lru_cache(maxsize=4096)
def liveness(architecture: Architecture, mask: Mask) -> Liveness:
    """Walk backwards from the output: a node inheriting its output reads nothing, one inheriting its residual reads
    only its identity's input, every other one reads its inputs."""
    forms = mask.forms
    needed = {"out"}
    run: list[str] = []
    reads: list[tuple[str, Form]] = []
    for node in reversed(architecture.nodes):
        if node.name not in needed:
            continue
        form = forms.get(node.name)
        if form is None:
            run.append(node.name)
        else:
            reads.append((node.name, form))
        if form != "output":
            needed.update(node.inputs)
    return Liveness(tuple(reversed(run)), tuple(reversed(reads)), "sample" in needed)


def last_uses(architecture: Architecture, mask: Mask) -> tuple[tuple[Node, ...], dict[str, int]]:
    """The nodes that a step under `mask` goes through in order, those that inherit among them, and for each name that
    is read the place of its last reader."""
    live, forms = liveness(architecture, mask), mask.forms
    kept = {*live.run, *(name for name, _ in live.reads)}
    nodes = tuple(node for node in architecture.nodes if node.name in kept)
    last: dict[str, int] = {}
    for i, node in enumerate(nodes):
        if forms.get(node.name) != "output":
            last.update(dict.fromkeys(node.inputs, i))
    return nodes, last
