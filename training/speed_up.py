"""Training of a speed-up adapter (SpeedUpNet, arXiv 2312.08887) on its base's own guided runs; the base stays frozen.

The paper's text of its multi-step consistency loss is not public, so this is our own form. A guided run of many DDIM
steps is recorded: its samples x_0, x_1 ... at the times t_0 > t_1 > ... Every loss asks the same of the adapter:
that one step from x_i, without guidance, lands where the run is at a later time t_j,

    L(i, j) = |v - v*|^2 / |v*|^2,

where v is the velocity that the UNet predicts with the adapter and v* the one whose DDIM step from x_i to t_j gives
x_j.

- Guidance: j = i + 1, so v* is the guided prediction itself.
- Consistency: x_i at one of a few anchors and x_j at the next one.
- Consistency along the adapter's own run: as before, but x_i is where the adapter's own steps from x_0 have led.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from explorer.errors import TrainingError
from explorer.networks.speedup import SpeedUp
from explorer.networks.speedup_branch import SpeedUpUse
from explorer.networks.student import unet_fingerprint
from explorer.runtime.speed_up import put_on
from training.curves import draw_curves
from training.distill import DECAY, WARM_UP, relative
from training.guided_runs import GuidedRuns
from training.loop import Average, Budget, Training, check_step, step_generator
from training.muon import Muon
from training.teacher_data import under_ddim
from training.team import Loss


@dataclass(frozen=True)
class SpeedUpSettings:
    """How an adapter is trained.

    Attributes:
        batch: Samples of a step.
        rate: The learning rate (Muon; AdamW for vectors).
        seed: Of all random numbers.
        anchors: Steps of the run that it is trained for; the recorded runs have a multiple of it.
        guidance: Share of the samples that learn the guided prediction.
        own: Share of the training steps whose other samples begin where the adapter's own run is; the rest begin at the
            recorded samples.
    """

    batch: int = 64
    rate: float = 2e-3
    seed: int = 0
    anchors: int = 4
    guidance: float = 0.25
    own: float = 0.5

    def __post_init__(self) -> None:
        check_step(self.batch, self.rate)
        if self.anchors < 1:
            raise TrainingError(f"an anchor or more is needed, got {self.anchors}.")
        if not (0 <= self.guidance <= 1 and 0 <= self.own <= 1):
            raise TrainingError(f"shares of samples and steps are from 0 to 1, got {self.guidance} and {self.own}.")


@dataclass
class Scale:
    """The guidance scales of a batch, (B, 1, 1), as an adapter's processors read them."""

    guidance: Any = field(default=1.0)


@contextmanager
def adapted(unet: nn.Module, adapter: SpeedUp, scale: Scale | None = None) -> Iterator[Scale]:
    """Within it the UNet's cross-attentions have the adapter's branches; the scales are set on what it yields, which is
    `scale` where one is given."""
    scale = scale or Scale()
    take_off = put_on(unet, adapter, scale)
    try:
        yield scale
    finally:
        take_off()


class Steps:
    """DDIM's step as a UNet's velocity, for the noise levels of a scheduler.

    Args:
        scheduler: DDIM's, with the noise levels and what the UNet predicts.
    """

    def __init__(self, scheduler: Any) -> None:
        self.levels: Tensor = scheduler.alphas_cumprod
        self.last: Tensor = scheduler.final_alpha_cumprod
        self.prediction: str = scheduler.config.prediction_type

    def alpha(self, times: Tensor) -> Tensor:
        """(B, 1, 1, 1) the share of the signal's variance at timesteps (B,); the end of a run for those below 0."""
        levels = self.levels.to(times.device, torch.float32)
        found = torch.where(times < 0, self.last.to(levels), levels[times.long().clamp_min(0)])
        return found.reshape(-1, 1, 1, 1)

    def velocity(self, made: Tensor, sample: Tensor, alpha: Tensor) -> Tensor:
        """A UNet's prediction at `sample` (B, C, h, w) as a velocity."""
        if self.prediction == "v_prediction":
            return made
        if self.prediction == "sample":
            return (alpha.sqrt() * sample - made) / (1 - alpha).sqrt()
        return (made - (1 - alpha).sqrt() * sample) / alpha.sqrt()

    @staticmethod
    def land(sample: Tensor, velocity: Tensor, alpha: Tensor, later: Tensor) -> Tensor:
        """Where a step from noise level `alpha` to `later` leads."""
        clean = alpha.sqrt() * sample - (1 - alpha).sqrt() * velocity
        noise = alpha.sqrt() * velocity + (1 - alpha).sqrt() * sample
        return later.sqrt() * clean + (1 - later).sqrt() * noise

    @staticmethod
    def wanted(sample: Tensor, landing: Tensor, alpha: Tensor, later: Tensor) -> Tensor:
        """The velocity whose step from `sample` lands at `landing`: the inverse of `land`."""
        still = (later * alpha).sqrt() + ((1 - later) * (1 - alpha)).sqrt()
        moved = ((1 - later) * alpha).sqrt() - (later * (1 - alpha)).sqrt()
        return (landing - still * sample) / moved


def make_loss(unet: Any, scale: Scale, runs: GuidedRuns, scheduler: Any, settings: SpeedUpSettings) -> Loss:
    """The losses of a step's batch, or of a share of it, drawn by the step's number alone.

    Args:
        unet: With an adapter's branches, see `adapted`.
        scale: What `adapted` yields.
        runs: The recorded runs.
        scheduler: DDIM's, see `Steps`.
        settings: How.

    Raises:
        TrainingError: For runs whose evaluations are no multiple of the anchors.
    """
    fine, count = len(runs.times), settings.anchors
    if fine % count:
        raise TrainingError(f"recorded runs of {fine} evaluations have no {count} anchors at equal distances.")
    ddim, stride = Steps(scheduler), fine // count
    times = torch.cat([runs.times, torch.tensor([-1.0])])
    device = next(unet.parameters()).device

    def predicted(sample: Tensor, at: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The velocities at samples of the runs `rows`, and the noise levels."""
        both = torch.cat([runs.context[rows], runs.negative[rows]], dim=1).to(device, torch.float32)
        scale.guidance = runs.guidance[rows].to(device).reshape(-1, 1, 1)
        added = {name: value[rows].to(device) for name, value in runs.added.items()}
        now = times[at].to(device)
        made = unet(sample, now, both, added_cond_kwargs=added or None).sample
        alpha = ddim.alpha(now)
        return ddim.velocity(made.float(), sample, alpha), alpha

    @torch.no_grad()
    def led(rows: Tensor, number: Tensor) -> Tensor:
        """Samples where the adapter's own run is after `number` (B,) steps from the beginning."""
        sample = runs.states[0, rows].to(device, torch.float32)
        for k in range(int(number.max()) if len(number) else 0):
            at = torch.full_like(rows, k * stride)
            velocity, alpha = predicted(sample, at, rows)
            moved = ddim.land(sample, velocity, alpha, ddim.alpha(times[at + stride].to(device)))
            sample = torch.where((number > k).to(device).reshape(-1, 1, 1, 1), moved, sample)
        return sample

    def loss_of(step: int, share: slice) -> dict[str, Tensor]:
        drawn = step_generator(settings.seed, step)
        size = settings.batch
        rows = torch.randint(len(runs), (size,), generator=drawn)
        guides = torch.rand(size, generator=drawn) < settings.guidance
        own = float(torch.rand((), generator=drawn)) < settings.own
        anchor = torch.randint(count, (size,), generator=drawn)
        place = torch.randint(fine, (size,), generator=drawn)
        rows, guides, anchor, place = (each[share] for each in (rows, guides, anchor, place))
        at = torch.where(guides, place, anchor * stride)
        to = torch.where(guides, place + 1, (anchor + 1) * stride)
        sample = runs.states[at, rows].to(device, torch.float32)
        if own and not bool(guides.all()):
            mine = ~guides
            sample[mine.to(device)] = led(rows[mine], anchor[mine])
        later = ddim.alpha(times[to].to(device))
        velocity, alpha = predicted(sample, at, rows)
        landing = runs.states[to, rows].to(device, torch.float32)
        errors = relative(velocity, ddim.wanted(sample, landing, alpha, later))
        kinds = guides.to(device)
        return {
            "loss": errors.sum() / size,
            "guidance": (errors * kinds).sum().detach() / max(size * settings.guidance, 1e-6),
            "consistency": (errors * ~kinds).sum().detach() / max(size * (1 - settings.guidance), 1e-6),
        }

    return loss_of


def train_speed_up(
    pipe: Any,
    runs: GuidedRuns,
    folder: Path,
    budget: Budget,
    settings: SpeedUpSettings,
    use: SpeedUpUse,
    *,
    workers: int = 1,
    accelerator: Any = None,
    on_step: Callable[[Training], None] | None = None,
) -> SpeedUp:
    """Train an adapter, or go on from the checkpoint in `folder / "checkpoint"`, and save it in `folder`.

    Args:
        pipe: The base's pipeline, which is not changed.
        runs: What it is taught on.
        folder: For the adapter.
        budget: Steps or minutes.
        settings: How.
        use: What it is trained for; the fingerprint of the base is filled in.
        workers: Processes on a CPU, of one thread each.
        accelerator: Of the processes that `accelerate launch` has started, instead of workers.
        on_step: Called after each step, with the base as it was; `averaged` gives the adapter so far.

    Returns:
        The adapter with the averaged weights.

    Raises:
        TrainingError: For a checkpoint of another base or of other settings.
        ModelError: For a UNet without cross-attention.
    """
    unet = pipe.unet
    unet.requires_grad_(False)
    adapter = SpeedUp.untrained(unet, replace(use, base=unet_fingerprint(unet))).to(unet.device)
    parameters = dict(adapter.named_parameters())
    about = {"base": str(adapter.use.base), "settings": repr(settings), "runs": f"{len(runs)} of {len(runs.times)}"}
    training = Training(
        folder / "checkpoint", parameters, Muon(parameters.values(), settings.rate, decay=0.0),
        Average(parameters, DECAY), budget, log_every=20, about=about, on_save=lambda: draw_curves(folder),
    )  # fmt: skip
    training.resume()
    scale = Scale()
    loss_of = make_loss(unet, scale, runs, under_ddim(pipe).scheduler, settings)

    def loss(step: int, share: slice) -> dict[str, Tensor]:
        with adapted(unet, adapter, scale):
            return loss_of(step, share)

    for _ in training.run(loss, settings.rate, WARM_UP, workers, accelerator):
        if on_step is not None:
            on_step(training)
    made = averaged(training, adapter)
    if training.writes:
        made.save(folder)
    return made


@torch.no_grad()
def averaged(training: Training, adapter: SpeedUp) -> SpeedUp:
    """A copy of an adapter with the averaged weights of its training.

    Args:
        training: Of such an adapter.
        adapter: For the shapes and the use.
    """
    made = copy.deepcopy(adapter)
    for name, p in made.named_parameters():
        p.copy_(training.average.values[name])
    return made
