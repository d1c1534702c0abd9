"""A variant: one mask compiled against one UNet into a branch-free function. What really runs at a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from explorer.architecture import Node
from explorer.mask import FORMS, Feature, Form, Mask, liveness
from explorer.program import Conditions, Program

Features = dict[Feature, Tensor]


@dataclass(frozen=True)
class Instruction:
    """Run, store or inherit one node, then let go of the tensors that nobody reads after it."""

    node: Node
    form: Form | None
    store: tuple[Form, ...]
    release: tuple[str, ...]


class Variant:
    """`variant(sample, conditions, inherited)` gives (noise, stored features).

    sample: (B, C, H, W). inherited: (name, form) -> feature for every read of the mask, already combined by the rule.
    noise: (B, C_out, H, W). stored: (name, form) -> residual branch or output, as `stores` asks.
    """

    def __init__(self, program: Program, mask: Mask, stores: frozenset[Feature] = frozenset()) -> None:
        self.program = program
        self.mask = mask
        self.stores = stores
        self.reads = liveness(program.architecture, mask).reads
        self.instructions = _compile(program, mask, stores)

    def __call__(self, sample: Tensor, at: Conditions, inherited: Mapping[Feature, Tensor]) -> tuple[Tensor, Features]:
        program = self.program
        values: dict[str, Tensor] = {"sample": sample}
        stored: Features = {}
        for instruction in self.instructions:
            node, name = instruction.node, instruction.node.name
            if instruction.form == "output":
                value = inherited[name, "output"]
            elif node.is_unit:
                x = values[node.inputs[0]]
                branch = inherited[name, "residual"] if instruction.form == "residual" else program.branch(node, x, at)
                if "residual" in instruction.store:
                    stored[name, "residual"] = branch
                value = program.join(node, branch, x)
            else:
                value = program.run(node, _inputs(node, values, at), at)
            if "output" in instruction.store:
                stored[name, "output"] = value
            if name in at.adds:
                value = value + at.adds[name]
            values[name] = value
            for unread in instruction.release:
                del values[unread]
        return values["out"], stored


def _inputs(node: Node, values: Mapping[str, Tensor], at: Conditions) -> tuple[Tensor, ...]:
    if node.kind != "cat":
        return (values[node.inputs[0]],)
    hidden, skip = node.inputs
    value = values[skip]
    return values[hidden], value + at.skip_adds[skip] if skip in at.skip_adds else value


def _compile(program: Program, mask: Mask, stores: frozenset[Feature]) -> tuple[Instruction, ...]:
    architecture = program.architecture
    live = liveness(architecture, mask)
    forms = mask.forms
    kept = {*live.run, *(name for name, _ in live.reads)}
    nodes = [node for node in architecture.nodes if node.name in kept]
    last_use: dict[str, int] = {}
    for i, node in enumerate(nodes):
        if forms.get(node.name) != "output":
            last_use.update(dict.fromkeys(node.inputs, i))
    return tuple(
        Instruction(
            node,
            forms.get(node.name),
            tuple(form for form in FORMS if (node.name, form) in stores),
            tuple(name for name, last in last_use.items() if last == i),
        )
        for i, node in enumerate(nodes)
    )
