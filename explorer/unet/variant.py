"""A variant: one mask compiled against one UNet into a branch-free function. What really runs at a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from explorer.unet.architecture import Node
from explorer.unet.mask import FORMS, Feature, Form, Mask, last_uses, liveness
from explorer.unet.program import Conditions, Program

Features = dict[Feature, Tensor]


@dataclass(frozen=True)
class Instruction:
    """Run, store, inherit or remove one node, then let go of the tensors that nobody reads after it."""

    node: Node
    form: Form | None
    store: tuple[Form, ...]
    release: tuple[str, ...]


class Variant:
    """`variant(sample, conditions, inherited)` gives (noise, stored features).

    sample: (B, C, H, W). inherited: (name, form) -> feature for every read of the mask, combined by the rule; each is
    asked for once, when its node's turn comes, and let go after its last reader.
    noise: (B, C_out, H, W). stored: (name, form) -> residual branch or output, as `stores` asks.
    """

    def __init__(self, program: Program, mask: Mask, stores: frozenset[Feature] = frozenset()) -> None:
        self.program = program
        self.mask = mask
        self.stores = stores
        self.reads = liveness(program.architecture, mask).reads
        self.instructions = _compile(program, mask, stores)

    def __call__(self, sample: Tensor, at: Conditions, inherited: Mapping[Feature, Tensor]) -> tuple[Tensor, Features]:
        values: dict[str, Tensor] = {"sample": sample}
        stored: Features = {}
        for instruction in self.instructions:
            values[instruction.node.name] = self._run(instruction, values, at, inherited, stored)
            for unread in instruction.release:
                del values[unread]
        return values["out"], stored

    def _run(
        self, instruction: Instruction, values: Mapping[str, Tensor], at: Conditions,
        inherited: Mapping[Feature, Tensor], stored: Features,
    ) -> Tensor:  # fmt: skip
        """The output of one node. Nothing but `values` and `stored` holds a tensor after it."""
        program, node, name = self.program, instruction.node, instruction.node.name
        if instruction.form == "output":
            value = inherited[name, "output"]
        elif instruction.form == "residual":
            value = program.join(node, inherited[name, "residual"], values[node.inputs[0]])
        elif instruction.form == "zero":
            value = program.join(node, None, values[node.inputs[0]])
        elif instruction.form == "bypass":
            value = values[node.inputs[0]]
        elif node.is_unit:
            branch = program.branch(node, values[node.inputs[0]], at)
            if "residual" in instruction.store:
                stored[name, "residual"] = branch
            value = program.join(node, branch, values[node.inputs[0]])
        else:
            value = program.run(node, _inputs(node, values, at), at)
        if "output" in instruction.store:
            stored[name, "output"] = value
        return value + at.adds[name] if name in at.adds else value


def _inputs(node: Node, values: Mapping[str, Tensor], at: Conditions) -> tuple[Tensor, ...]:
    if node.kind != "cat":
        return (values[node.inputs[0]],)
    hidden, skip = node.inputs
    value = values[skip]
    return values[hidden], value + at.skip_adds[skip] if skip in at.skip_adds else value


def _compile(program: Program, mask: Mask, stores: frozenset[Feature]) -> tuple[Instruction, ...]:
    forms = mask.forms
    nodes, last_use = last_uses(program.architecture, mask)
    return tuple(
        Instruction(
            node,
            forms.get(node.name),
            tuple(form for form in FORMS if (node.name, form) in stores),
            tuple(name for name, last in last_use.items() if last == i),
        )
        for i, node in enumerate(nodes)
    )
