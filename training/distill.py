"""Distillation of a student from its teacher's UNet (BK-SDM, arXiv 2305.15798; A-SDM, arXiv 2406.00210, Sec. IV-B).

Teacher and student are run by the engine's own program, which gives the outputs of their blocks without hooks. Every
loss is relative to the teacher's mean square, sample by sample, so that no term outweighs the others and the shares of
a batch add up to the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from explorer.errors import TrainingError
from explorer.networks.student import WHOLE_RUN, Student, block_of
from explorer.unet.architecture import Architecture, Node
from explorer.unet.conditions import read_conditions
from explorer.unet.mask import Feature, Mask, liveness
from explorer.unet.program import Conditions, Program
from explorer.unet.variant import Variant
from training.curves import draw_curves
from training.experts import First, begin_experts, check_source
from training.loop import Average, Budget, Training, check_step, normal, step_generator
from training.muon import Muon
from training.teacher_data import Examples
from training.team import Loss

Freeze = Literal["deep", "none"]
EMPTY = 0.1
"""Share of samples with the empty prompt."""
ALONG = 0.5
"""Share of samples that are states of the teacher's runs; the others are its pictures noised again."""
SNR_LIMIT = 5.0
"""Of min-SNR weights (Hang et al. 2023, arXiv 2303.09556)."""
WARM_UP = 50
DECAY = 0.998
"""Of the average of the weights, which is what is saved."""


@dataclass(frozen=True)
class Settings:
    """How a student is distilled.

    Attributes:
        batch: Samples of a step.
        rate: The learning rate (Muon; AdamW for vectors).
        seed: Of all random numbers.
        task: Weight of the loss to the true noise, where a picture was noised.
        out: Weight of the loss to the teacher's output.
        features: Weight of the losses to the outputs of the teacher's blocks, as a mean over blocks.
    """

    batch: int = 64
    rate: float = 1e-3
    seed: int = 0
    task: float = 1.0
    out: float = 1.0
    features: float = 1.0

    def __post_init__(self) -> None:
        check_step(self.batch, self.rate)


def trained_blocks(student: Student, freeze: str | None) -> tuple[str, ...]:
    """The blocks to train.

    Args:
        student: What is distilled.
        freeze: `deep` freezes the blocks in which nothing is removed, `none` none; otherwise the names of the frozen
            blocks, with commas between. None is `deep` where a down or up block has nothing removed.

    Raises:
        TrainingError: For an unknown block, or where nothing would be left to train.
    """
    architecture = student.architecture
    every = ("conv_in", "time", *architecture.blocks, "out")
    touched = {architecture.by_name[name].block for name in student.removed.forms}
    intact = [block for block in architecture.blocks if block not in touched]
    if freeze is None:
        freeze = "deep" if any(block != "mid" for block in intact) else "none"
    if freeze == "deep":
        frozen = {*every} - touched
    elif freeze == "none":
        frozen = set()
    else:
        frozen = {name.strip() for name in freeze.split(",")}
        unknown = sorted(frozen - {*every})
        if unknown:
            raise TrainingError(
                f"unknown block {unknown[0]!r}; --freeze takes deep, none or some of {', '.join(every)}."
            )
    left = {block_of(name) for name in student.computed(student.empty())}
    blocks = tuple(block for block in every if block not in frozen and block in left)
    if not blocks:
        raise TrainingError("every block of the student is frozen, so there is nothing to train; freeze fewer.")
    return blocks


def thinned_part(source: Student, student: Student) -> Student:
    """Of a source the weights of the blocks in which `student` lacks something; the others are its teacher's."""
    architecture = student.architecture
    blocks = {architecture.by_name[name].block for name in student.removed.forms}
    tensors = {name: tensor for name, tensor in source.tensors.items() if block_of(name) in blocks}
    return source.trained_as(tensors, tuple(block for block in source.trained if block in blocks))


def initial(
    student: Student, unet: nn.Module, blocks: tuple[str, ...], source: Student | None = None,
    first: First = "student", seed: int = 0,
) -> Student:  # fmt: skip
    """The student before training: the weights of the blocks to train are its teacher's, or where `source` has them
    those. Of a source that lacks other nodes only the blocks are taken in which the student lacks something, as A-SDM
    assembles M1 to M3 from a distilled Base and the teacher. Its experts begin as `begin_experts` says, by `first` and
    `seed`."""
    if source is not None:
        source.check_teacher(unet)
        check_source(student, source)
        source = source if source.removed == student.removed else thinned_part(source, student)
    given = {} if source is None else source.tensors
    own = dict(unet.named_parameters())
    tensors = {
        name: given.get(name, own[name]).detach().to("cpu", torch.float32).clone()
        for name in student.computed(unet)
        if block_of(name) in blocks
    }
    if student.experts is not None:
        tensors = begin_experts(student, unet, blocks, tensors, source, first, seed)
    return student.trained_as(tensors, blocks)


def trainable(begun: Student, unet: nn.Module) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """The network of a student before training, and its parameters that are trained; the teacher's are none."""
    for p in unet.parameters():
        p.requires_grad_(False)
    network = begun.network(unet)
    parameters = {name: p for name, p in network.named_parameters() if name in begun.tensors}
    for p in parameters.values():
        p.requires_grad_(True)
    return network, parameters


class Checkpointed(Program):
    """A program whose units keep their inputs alone for the backward pass, and are computed again in it."""

    def branch(self, node: Node, x: Tensor, at: Conditions) -> Tensor:
        made: Tensor = checkpoint(super().branch, node, x, at, use_reentrant=False)
        return made


class Pair:
    """Teacher and student in one call: the student's losses against its teacher on the same inputs.

    Args:
        teacher: The teacher's UNet.
        network: The student's.
        removed: What the student lacks.
        checkpointing: Whether the student's units are computed again in the backward pass, which saves memory.
    """

    def __init__(self, teacher: nn.Module, network: nn.Module, removed: Mask, *, checkpointing: bool = False) -> None:
        self.teacher, self.network = teacher, network
        self.architecture = Architecture.of(teacher)
        self.taps = taps(self.architecture, removed)
        stores = frozenset(self.taps)
        self._teacher = Variant(Program(teacher), Mask(), stores)
        self._student = Variant((Checkpointed if checkpointing else Program)(network), removed, stores)

    def __call__(
        self, sample: Tensor, timestep: Tensor, context: Tensor, added: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The student's output, the teacher's, and of each sample the relative squared errors (B,) of the output and,
        averaged over blocks, of the features."""
        with torch.no_grad():
            out, theirs = self._teacher(*self._read(self.teacher, sample, timestep, context, added), {})
        made, own = self._student(*self._read(self.network, sample, timestep, context, added), {})
        features = [relative(own[tap], theirs[tap]) for tap in self.taps]
        mean = torch.stack(features).mean(0) if features else torch.zeros_like(sample[:, 0, 0, 0])
        return made, out, relative(made, out), mean

    def _read(
        self, unet: nn.Module, sample: Tensor, timestep: Tensor, context: Tensor, added: dict[str, Tensor]
    ) -> tuple[Tensor, Conditions]:
        return read_conditions(unet, self.architecture, sample, timestep, context, added=added)


def taps(architecture: Architecture, removed: Mask) -> tuple[Feature, ...]:
    """The output of each down and up block of which the student computes something: its last node, but for a sampler
    that is removed."""
    run = set(liveness(architecture, removed).run)
    found: list[Feature] = []
    for block in (name for name in architecture.blocks if name != "mid"):
        nodes = [node for node in architecture.nodes if node.block == block]
        kept = [node for node in nodes if node.kind not in ("down", "up") or node.name in run]
        if any(node.name in run for node in nodes):
            found.append((kept[-1].name, "output"))
    return tuple(found)


def relative(made: Tensor, wanted: Tensor) -> Tensor:
    """(B,) the mean squared error of each sample over the mean square of what was wanted."""
    error = (made - wanted).float().square().flatten(1).mean(1)
    return error / wanted.float().square().flatten(1).mean(1).clamp_min(1e-8)


def min_snr(alphas: Tensor, prediction: str) -> Tensor:
    """Weights of the loss at noise levels, alphas (B,) being the share of the signal's variance."""
    snr = alphas / (1 - alphas).clamp_min(1e-8)
    clipped = snr.clamp_max(SNR_LIMIT)
    return clipped / (snr + 1) if prediction == "v_prediction" else clipped / snr.clamp_min(1e-8)


def make_loss(
    pair: Pair,
    examples: Examples,
    scheduler: Any,
    settings: Settings,
    timesteps: tuple[float, float] = WHOLE_RUN,
) -> Loss:
    """The losses of a step's batch, or of a share of it, drawn by the step's number alone, in a part of the run."""
    device = next(pair.network.parameters()).device
    alphas = scheduler.alphas_cumprod.to(device)
    prediction = scheduler.config.prediction_type
    data = examples
    begin, end = timesteps
    steps, total = len(data.times), len(alphas)
    along = [i for i in range(steps) if begin <= i / steps < end]
    low, high = int(total * (1 - end)), max(int(total * (1 - begin)), int(total * (1 - end)) + 1)

    def loss_of(step: int, share: slice) -> dict[str, Tensor]:
        drawn = step_generator(settings.seed, step)
        size = settings.batch
        rows = torch.randint(len(data), (size,), generator=drawn)
        empty = torch.rand(size, generator=drawn) < EMPTY
        stored = torch.rand(size, generator=drawn) < (ALONG if along else 0.0)
        place = torch.randint(max(len(along), 1), (size,), generator=drawn)
        timestep = torch.randint(low, high, (size,), generator=drawn)
        noise = normal((size, *data.latents.shape[1:]), drawn, torch.device("cpu"), settings.seed, step)
        rows, empty, stored, place, timestep, noise = (
            each[share] for each in (rows, empty, stored, place, timestep, noise)
        )
        at = torch.tensor(along or [0])[place]
        when = torch.where(stored, data.times[at].long() if along else timestep, timestep).to(device)
        latents, noise = data.latents[rows].to(device, torch.float32), noise.to(device)
        alpha = alphas[when].float()
        signal, sigma = (each.reshape(-1, 1, 1, 1) for each in (alpha.sqrt(), (1 - alpha).sqrt()))
        noised = signal * latents + sigma * noise
        state = data.states[at, rows].to(device, torch.float32) if along else noised
        was = stored.to(device)
        sample = torch.where(was.reshape(-1, 1, 1, 1), state, noised)
        context = torch.where(empty.reshape(-1, 1, 1), data.empty[None], data.context[rows]).to(device, torch.float32)
        added = {
            name: torch.where(empty.reshape(-1, *[1] * (value.ndim - 1)), data.empty_added[name][None], value[rows]).to(
                device
            )
            for name, value in data.added.items()
        }
        made, _, out, features = pair(sample, when, context, added)
        target = noise if prediction == "epsilon" else signal * noise - sigma * latents
        if prediction == "sample":
            target = latents
        task = relative(made, target) * ~was
        weights = min_snr(alpha, prediction)
        weights = weights / min_snr(alphas[low:high], prediction).mean()
        terms = {
            "task": (weights * task).sum() / size,
            "out": (weights * out).sum() / size,
            "features": features.sum() / size,
        }
        loss = settings.task * terms["task"] + settings.out * terms["out"] + settings.features * terms["features"]
        return {"loss": loss, **{name: value.detach() for name, value in terms.items()}}

    return loss_of


def distill(
    pipe: Any,
    student: Student,
    examples: Examples,
    folder: Path,
    budget: Budget,
    settings: Settings,
    *,
    blocks: tuple[str, ...],
    source: Student | None = None,
    first: First = "student",
    checkpointing: bool = False,
    workers: int = 1,
    accelerator: Any = None,
    on_step: Callable[[Training], None] | None = None,
) -> Student:
    """Distil a student, or go on from the checkpoint in `folder / "checkpoint"`, and save it in `folder`.

    Args:
        pipe: The teacher's pipeline, which is not changed.
        student: What to distil.
        examples: What it is taught on.
        folder: For the student.
        budget: Steps or minutes.
        settings: How.
        blocks: Those to train, see `trained_blocks`.
        source: A distilled student whose weights it begins with, where it has them.
        first: Whose kernel the first expert of a convolution begins with.
        checkpointing: Whether to compute the student's units again in the backward pass, for less memory.
        workers: Processes on a CPU, of one thread each.
        accelerator: Of the processes that `accelerate launch` has started, instead of workers.
        on_step: Called after each step.

    Returns:
        The student with the averaged weights.

    Raises:
        TrainingError: For a checkpoint of another student or of other settings.
        ModelError: For another teacher.
    """
    student.check_teacher(pipe.unet)
    begun = initial(student, pipe.unet, blocks, source, first, settings.seed)
    network, parameters = trainable(begun, pipe.unet)
    mixed = "" if student.experts is None else f" with {student.experts}, the first one the {first}'s"
    about = {
        "student": f"{student.name} {student.removed.forms} of {student.teacher}{mixed}", "blocks": ",".join(blocks),
        "timesteps": repr(student.timesteps),
        "settings": repr(settings), "examples": str(len(examples)),
        "source": "teacher" if source is None else f"{source.name} {sorted(source.tensors)[:1]}",
    }  # fmt: skip
    training = Training(
        folder / "checkpoint", parameters, Muon(parameters.values(), settings.rate, decay=0.01),
        Average(parameters, DECAY), budget, log_every=20, about=about, on_save=lambda: draw_curves(folder),
    )  # fmt: skip
    training.resume()
    pair = Pair(pipe.unet, network, student.removed, checkpointing=checkpointing)
    loss = make_loss(pair, examples, pipe.scheduler, settings, student.timesteps)
    for _ in training.run(loss, settings.rate, WARM_UP, workers, accelerator):
        if on_step is not None:
            on_step(training)
    made = begun.trained_as(
        {name: value.detach().cpu().clone() for name, value in training.average.values.items()}, blocks
    )
    if training.writes:
        made.save(folder)
    return made
