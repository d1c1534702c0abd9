"""The factory of what scores plans: `make_evaluator` assembles a `CandidateEvaluator` from its parts."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch

from explorer.compile_modes import CompileMode
from explorer.devices import DeviceInfo
from explorer.models.prompts import Prompt
from explorer.models.workload import is_guided
from explorer.networks.student import Student
from explorer.plans.plan import InheritancePlan
from explorer.quality.scorer import Scorer
from explorer.runtime.replay import Recording
from explorer.timing.latency import PAIRS
from explorer.unet.architecture import Architecture
from studies.queue.quiet_machine import Quiet
from studies.scoring.evaluator import CandidateEvaluator
from studies.scoring.latency_meter import LatencyMeter
from studies.scoring.limits import PlanLimits
from studies.scoring.picture_maker import PictureMaker
from studies.scoring.pipelines import DenoisingLoop, Pipelines
from studies.scoring.predictor import Predictor
from studies.scoring.running import encode


def make_evaluator(
    pipe: Any,
    *,
    steps: int,
    guidance: float,
    prompts: tuple[Prompt, ...],
    scorer: Scorer | None,
    device: torch.device,
    info: DeviceInfo,
    seed: int = 0,
    batch: int = 16,
    latency_batch: int = 1,
    pairs: int = PAIRS,
    size: tuple[int, int] | None = None,
    compile: CompileMode = "off",
    embeds: dict[str, Any] | None = None,
    limits: PlanLimits | None = None,
    replay: int = 0,
    overlap: bool | None = None,
    students: Mapping[str, Student] | None = None,
) -> CandidateEvaluator:
    """Assemble what scores plans of `pipe`, which stays as it is.

    Args:
        pipe: The un-accelerated pipeline.
        steps: Of the un-accelerated run.
        guidance: The guidance scale.
        prompts: One for each picture.
        scorer: None measures latency alone (a model with random weights has no quality).
        device: Where the pipeline is.
        info: The device's facts.
        seed: Of the first picture.
        batch: Pictures a call.
        latency_batch: Pictures of the loop that is timed.
        pairs: Quiet pairs of a latency.
        size: Height and width of a picture in pixels, the pipeline's own by default.
        compile: The mode in which both sides of a latency run.
        embeds: Prompt embeddings of the loop that is timed, for a pipeline without a text encoder.
        limits: Beyond which a proposed plan is not measured.
        replay: Bytes of UNet outputs that are kept in files, so that plans which begin alike do not compute their
            beginning twice; 0 never does.
        overlap: Make pictures while those before are turned into bytes; None: on a CUDA device alone.
        students: The networks that a plan's cast may name.
    """

    @functools.cache
    def conditions() -> dict[str, Any]:
        texts = [prompts[i % len(prompts)].text for i in range(latency_batch)]
        return encode(pipe, texts, device, is_guided(guidance), prompts[0].negative)

    plain = InheritancePlan(Architecture.of(pipe.unet), steps)
    pipelines = Pipelines.of(pipe, plain, compile, students)
    # A GPU computes by itself; one thread of the CPU feeds it.
    quiet = Quiet(info.threads if info.kind == "cpu" else 1)
    return CandidateEvaluator(
        pipelines,
        DenoisingLoop(conditions if embeds is None else lambda: embeds, guidance, size, seed),
        LatencyMeter(device, info, quiet, images=latency_batch, pairs=pairs),
        PictureMaker(
            pipelines, prompts, steps, guidance, device, seed, batch, size,
            overlap=device.type == "cuda" if overlap is None else overlap,
            recording=Recording(replay) if replay and compile == "off" else None,
        ),
        Predictor(
            plain, pipelines.evaluations, students={name: each.removed for name, each in (students or {}).items()}
        ),
        scorer,
        limits,
    )  # fmt: skip
