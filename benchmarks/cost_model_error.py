"""(d) The additive model's error over 200 random masks: the cost model is fitted to a profile's designed masks, then
predicts steps that it has never seen, which are measured after it.

    python -m benchmarks.cost_model_error --model arch:sd15 --device cuda --resolution 512

The result is written after each round of the profile and after each few masks; `--resume` goes on with one that was
ended early.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import node_times
from benchmarks.shared import measure
from benchmarks.shared.report import options, resumable, resumed, write_figure, write_result
from explorer.devices import resolve_device
from explorer.errors import PlanError
from explorer.models.workload import twin, unet_inputs
from explorer.timing.designed_masks import designed_masks
from explorer.timing.profile import Profile, TimedPrediction
from explorer.timing.step_times import StepSamples, time_steps
from explorer.unet.architecture import Architecture
from explorer.unet.mask import FORMS, Form, Mask

if TYPE_CHECKING:
    import plotly.graph_objects as go

NAME = "cost-model-error"
COUNT, QUICK = 200, 20
CHUNK = 25
"""Masks timed in turn, and written together."""
SEED = 2406


def random_masks(architecture: Architecture, count: int, apart: list[Mask]) -> list[Mask]:
    """Half as a profile designs them, with another seed; half every unit by itself, in either form or computed, which
    no design draws."""
    made = designed_masks(architecture, count // 2, SEED, apart)
    known = {*apart, *made}
    draw = random.Random(SEED)
    while len(made) < count:
        chosen: dict[str, Form] = {
            unit: draw.choice(FORMS) for unit in architecture.units if draw.random() < draw.choice((0.2, 0.5, 0.8))
        }
        try:
            Mask.of(chosen).check(architecture)
        except PlanError:
            continue
        mask = Mask.of(chosen).effective(architecture)
        if len(mask) and mask not in known:
            known.add(mask)
            made.append(mask)
    return made


def timed_chunk(pipe: Any, profile: Profile, masks: list[Mask]) -> StepSamples:
    """Each mask's step, timed as a profile times its own."""
    where, effort, samples = resolve_device(profile.workload.device), profile.effort, StepSamples()
    for _ in time_steps(
        twin(pipe).unet, masks, unet_inputs(pipe, profile.workload, where), where, samples, rounds=effort.rounds,
        warmups=effort.warmups, calls=effort.calls, compile=profile.workload.compile,
    ):  # fmt: skip
        pass
    return samples


def compared(profile: Profile, masks: list[Mask], chunks: list[StepSamples]) -> list[TimedPrediction]:
    """Of each mask that was timed its prediction and its time, at the speed of the profile's extract step."""
    extract = profile.extract_seconds
    found = [(samples, k) for samples in chunks for k in range(len(samples.pairs))]
    return [
        TimedPrediction(
            f"mask {n}", samples.seconds(k, extract), profile.cost_model.step_seconds(mask), samples.relative(k)
        )
        for n, (mask, (samples, k)) in enumerate(zip(masks, found, strict=False))
    ]


def figure_of(profile: Profile, timed: list[TimedPrediction]) -> go.Figure:
    import plotly.graph_objects as go

    made = go.Figure()
    made.add_scatter(
        x=[1e3 * each.measured for each in timed], y=[100 * each.error for each in timed], mode="markers", name="mask"
    )
    made.add_hline(y=0, line_dash="dot")
    work = profile.workload
    title = f"Cost model: {profile.model}, {profile.device.name}, {work.dtype}, batch {work.batch}, {work.compile}"
    made.update_layout(
        title=title, xaxis_title="measured step, ms", yaxis_title="error of the prediction, %", template="simple_white"
    )
    return made


class ErrorResult:
    """The chunks so far and the profile; written whenever something was added."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.masks: list[Mask] = []
        self.chunks: list[StepSamples] = []
        self.profile: Profile | None = None
        document = resumed(NAME, arguments)
        if document is not None:
            self.chunks = [StepSamples.from_json(each) for each in document["samples"]["masks"]]
            self.profile = Profile.from_json(document["samples"]["profile"])

    @property
    def done(self) -> int:
        return sum(len(samples.pairs) for samples in self.chunks)

    def keep(self, profile: Profile) -> None:
        self.profile = profile
        self.write(say=False)

    def write(self, say: bool = True) -> Path:
        assert self.profile is not None
        document = {"profile": self.profile.to_json(), "masks": [each.to_json() for each in self.chunks]}
        return write_result(NAME, self.figures(), document, self.arguments, say=say)

    def figures(self) -> dict[str, Any]:
        if not self.chunks or self.profile is None:
            return {"masks": 0, "masks_planned": len(self.masks)}
        timed = compared(self.profile, self.masks, self.chunks)
        errors = np.abs([each.error for each in timed])
        return {
            "masks": len(timed),
            "masks_planned": len(self.masks),
            "median_error": float(np.median(errors)),
            "p90_error": float(np.quantile(errors, 0.9)),
            "worst_error": float(errors.max()),
            "mean_signed_error": float(np.mean([each.error for each in timed])),
            "noise": float(np.median([each.noise(k) for each in self.chunks for k in range(len(each.pairs))])),
            "steps": [
                each.to_json() | {"mask": list(mask.entries)} for each, mask in zip(timed, self.masks, strict=False)
            ],
        }


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--masks", type=int, default=COUNT, help="random masks")
    parser.add_argument("--nodes", type=Path, help="also write there what benchmarks.node_times tells, of this profile")
    resumable(parser)
    arguments = parser.parse_args()
    result = ErrorResult(arguments)
    pipe = measure.load(arguments)
    steps = node_times.STEPS if arguments.nodes else 10
    profile = measure.profiled(pipe, arguments, steps, result.profile, result.keep)
    if arguments.nodes:
        node_times.publish(pipe, profile, arguments, arguments.nodes)
    apart = [*(mask.effective(profile.architecture) for mask in profile.tested.values()), *profile.designed]
    result.masks = random_masks(profile.architecture, QUICK if arguments.quick else arguments.masks, apart)
    pace = measure.Pace(len(result.masks), result.done)
    while result.done < len(result.masks):
        some = result.masks[result.done :][:CHUNK]
        result.chunks.append(timed_chunk(pipe, profile, some))
        result.write(say=False)
        pace.tell("masks timed", len(some))
    figures, path = result.figures(), result.write()
    write_figure(lambda: figure_of(profile, compared(profile, result.masks, result.chunks)), path)
    print(
        f"{figures['masks']} random masks: median error {figures['median_error']:.2%}, worst "
        f"{figures['worst_error']:.2%}; the measurements themselves repeat within {figures['noise']:.2%}"
    )


if __name__ == "__main__":
    measure.run(main)
