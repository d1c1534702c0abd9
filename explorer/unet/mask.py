"""A mask: which nodes inherit or are removed at a step, and how; and liveness: what still has to run under it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from explorer.errors import PlanError
from explorer.unet.architecture import Architecture, Node
from explorer.unet.shapes import Misfit, first_misfit

Form = Literal["residual", "output", "zero", "bypass"]
FORMS: tuple[Form, ...] = ("residual", "output")
"""The forms of inheritance."""
REMOVALS: tuple[Form, ...] = ("zero", "bypass")
"""The forms of removal, which read no stored feature."""
Feature = tuple[str, Form]
"""What a step stores and a later one inherits: a node's residual branch or its output."""


@dataclass(frozen=True)
class Mask:
    """The nodes that a step does not compute, with the form of each, sorted by name. The empty mask is an extract step.

    `residual` (units only): out = F_previous + identity(x), Eq. 4 of A-SDM; the identity path stays live.
    `output`: the node's whole output is inherited, and what only it read need not run (DeepCache's form).
    `zero` (units only): out = identity(x), Eq. 4 with F = 0; the identity path with its shortcut stays live.
    `bypass`: out = the node's first input, so that a bypassed `cat` drops its skip. What reads it must get the shape
    that it takes: a layer goes with its `cat`, a sampler with all nodes inside it.

    `zero` and `bypass` remove a node: they need no stored feature, so a mask of these alone needs no extract step.
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

    @property
    def removes(self) -> bool:
        """Whether any entry is a removal."""
        return any(form in REMOVALS for _, form in self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def check(self, architecture: Architecture) -> None:
        """Raise PlanError when a name or form does not fit `architecture`, a bypass gives a node a shape that it does
        not take, or the output ignores the sample."""
        for name, form in self.entries:
            node = architecture.by_name.get(name)
            if node is None:
                raise PlanError(
                    f"unknown unit {name!r}; this architecture has {architecture.describe()}: "
                    f"{', '.join(architecture.units[:3])} ... {architecture.units[-1]}."
                )
            if form not in get_args(Form):
                raise PlanError(f"unknown form {form!r} at {name}; expected one of {', '.join(get_args(Form))}.")
            if form == "residual" and not node.is_unit:
                raise PlanError(f"{name} has no residual branch; only its output can be inherited (form 'output').")
            if form == "zero" and not node.is_unit:
                raise PlanError(f"{name} has no residual branch to remove by 'zero'; remove it by 'bypass'.")
            if form == "bypass" and node.kind in ("conv_in", "out"):
                raise PlanError(f"{name} cannot be removed; every UNet needs it.")
        misfit = self.misfit(architecture)
        if misfit is not None:
            raise PlanError(
                f"with this mask {misfit.node} would read {misfit.found}, where it takes {misfit.wanted}; bypass nodes "
                "only where input and output have one shape: the nodes of a layer together with its cat, a sampler "
                "together with all nodes inside it."
            )
        if not liveness(architecture, self).depends_on_sample:
            raise PlanError(
                "with this mask the UNet's output no longer depends on the current sample, so the step computes "
                "nothing new; leave at least one path from conv_in to the output live."
            )

    def misfit(self, architecture: Architecture) -> Misfit | None:
        """The first node that would read another shape than it takes, as one before it is bypassed; None where there is
        none. Names and forms must fit `architecture`."""
        bypassed, inherited = (
            frozenset(name for name, form in self.entries if form == each) for each in ("bypass", "output")
        )
        if not bypassed:
            return None
        return first_misfit(architecture, last_uses(architecture, self)[0], bypassed, inherited)

    def effective(self, architecture: Architecture) -> Mask:
        """The same computation with the fewest entries: nodes whose output is not read are dropped."""
        live = liveness(architecture, self)
        read = {name for name, _ in (*live.reads, *live.removed)}
        return Mask(tuple(entry for entry in self.entries if entry[0] in read))


@dataclass(frozen=True)
class Liveness:
    """What runs under a mask, from a backward walk over the node list.

    run: nodes computed in full, in order. reads: inherited features that are read, with their form. removed: removed
    nodes whose output is read, with their form. depends_on_sample: whether the output still depends on the current
    sample.
    """

    run: tuple[str, ...]
    reads: tuple[tuple[str, Form], ...]
    removed: tuple[tuple[str, Form], ...]
    depends_on_sample: bool

    @property
    def identities(self) -> tuple[str, ...]:
        """Units of which only the identity path runs."""
        return tuple(name for name, form in (*self.reads, *self.removed) if form in ("residual", "zero"))


@lru_cache(maxsize=4096)
def liveness(architecture: Architecture, mask: Mask) -> Liveness:
    """Walk backwards from the output over what each node reads (`inputs_read`)."""
    forms = mask.forms
    needed = {"out"}
    run: list[str] = []
    reads: list[tuple[str, Form]] = []
    removed: list[tuple[str, Form]] = []
    for node in reversed(architecture.nodes):
        if node.name not in needed:
            continue
        form = forms.get(node.name)
        if form is None:
            run.append(node.name)
        else:
            (removed if form in REMOVALS else reads).append((node.name, form))
        needed.update(inputs_read(node, form))
    return Liveness(tuple(reversed(run)), tuple(reversed(reads)), tuple(reversed(removed)), "sample" in needed)


def inputs_read(node: Node, form: Form | None) -> tuple[str, ...]:
    """The inputs that a node reads in a form (None: it is computed). One that inherits its output reads none, a
    bypassed one its first, and a unit of which the identity path runs its only one."""
    if form == "output":
        return ()
    return node.inputs[:1] if form == "bypass" else node.inputs


def last_uses(architecture: Architecture, mask: Mask) -> tuple[tuple[Node, ...], dict[str, int]]:
    """The nodes that a step under `mask` goes through in order, those that inherit or are removed among them, and for
    each name that is read the place of its last reader."""
    live, forms = liveness(architecture, mask), mask.forms
    kept = {*live.run, *(name for name, _ in (*live.reads, *live.removed))}
    nodes = tuple(node for node in architecture.nodes if node.name in kept)
    last: dict[str, int] = {}
    for i, node in enumerate(nodes):
        last.update(dict.fromkeys(inputs_read(node, forms.get(node.name)), i))
    return nodes, last


def without(mask: Mask, removed: Mask) -> Mask:
    """A mask as a network runs it that lacks nodes: what it lacks is neither computed nor has a branch to inherit. An
    output may be inherited anywhere."""
    gone = removed.forms
    kept = {name: form for name, form in mask.forms.items() if form == "output" or name not in gone}
    return Mask.of({**gone, **kept})
