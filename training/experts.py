"""Where the experts of a student's convolutions begin.

They begin so that the network is the plain student: the routers' weights are 0 and their biases 6 for the
first expert and -6 for the others, so that its share is 0.9975 and theirs are 0.0025 each. Biases of 0, as CondConv
has them, would halve every kernel.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from explorer.errors import TrainingError
from explorer.networks.student import Student

First = Literal["student", "teacher"]
"""Whose kernel the first expert has. The paper says both: the compressed model's (Sec. IV-B) and the teacher's (Table
II). They differ where a student begins with the weights of another one."""
OPEN = 6.0
"""Logit of the first expert's share; the others have its negative."""


def check_source(student: Student, source: Student) -> None:
    """Refuse to begin with the weights of a student whose convolutions are mixed otherwise. Raises TrainingError."""
    if source.experts is not None and source.experts != student.experts:
        theirs = source.experts
        raise TrainingError(
            f"the student {source.name!r} to begin with has {theirs.count} experts by {theirs.routing}; give --experts "
            f"{theirs.count} --routing {theirs.routing}, or another --from."
        )


def begin_experts(
    student: Student, unet: nn.Module, blocks: tuple[str, ...], tensors: dict[str, Tensor], source: Student | None,
    first: First, seed: int,
) -> dict[str, Tensor]:  # fmt: skip
    """The weights of a student with its experts before training.

    Args:
        student: What is trained.
        unet: The teacher.
        blocks: Those that are trained.
        tensors: The student's weights by the teacher's names: its own, or another student's.
        source: The other student. Experts of its own are taken over.
        first: Whose kernel the first expert has; `teacher` takes the place of a source's.
        seed: Of the other experts, which are random with the standard deviation of the first one.
    """
    given = {} if source is None or source.experts is None else source.tensors
    teacher = dict(unet.named_parameters())
    found = dict(tensors)
    generator = torch.Generator().manual_seed(seed)
    shapes = student.expert_tensors(blocks)
    for conv in student.conditional(blocks):
        weight = f"{conv}.weight"
        taken = f"{conv}.router.weight" in given
        if first == "teacher" and not taken:
            found[weight] = teacher[weight].detach().to("cpu", torch.float32).clone()
        spread = found[weight].std()
        for name in (name for name in shapes if name.startswith(f"{conv}.")):
            random = torch.randn(shapes[name], generator=generator) * spread  # the same numbers whatever is taken over
            if taken:
                found[name] = given[name].detach().to("cpu", torch.float32).clone()
            elif name == f"{conv}.router.weight":
                found[name] = torch.zeros(shapes[name])
            elif name == f"{conv}.router.bias":
                found[name] = torch.full(shapes[name], -OPEN)
                found[name][0] = OPEN
            else:
                found[name] = random
    return found
