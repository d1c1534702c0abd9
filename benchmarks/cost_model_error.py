"""(d) The additive model's error over 200 random masks: the cost model is fitted to a profile's designed masks, then
predicts steps that it has never seen, which are measured after it.

    python -m benchmarks.cost_model_error --model arch:sd15 --device cuda --resolution 512
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import plotly.graph_objects as go

from benchmarks import measure, node_times
from benchmarks.report import options, write_figure, write_result
from explorer.architecture import Architecture
from explorer.designed_masks import designed_masks
from explorer.devices import resolve_device
from explorer.errors import PlanError
from explorer.mask import FORMS, Form, Mask
from explorer.plan import MAX_MASKS
from explorer.profiles import Profile, Timed
from explorer.step_times import StepSamples, time_steps
from explorer.workload import twin, unet_inputs

COUNT, QUICK = 200, 20
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


def measured(pipe: object, profile: Profile, masks: list[Mask], device: str) -> tuple[list[Timed], list[StepSamples]]:
    """Each mask's step, timed as a profile times its own, at the speed of the profile's extract step."""
    where = resolve_device(device)
    inputs = unet_inputs(pipe, profile.workload, where)
    effort, timed, kept = profile.effort, [], []
    for start in range(0, len(masks), MAX_MASKS):
        some, samples = masks[start : start + MAX_MASKS], StepSamples()
        for _ in time_steps(
            twin(pipe).unet, some, inputs, where, samples, rounds=effort.rounds, warmups=effort.warmups,
            calls=effort.calls, compile=profile.workload.compile,
        ):  # fmt: skip
            pass
        kept.append(samples)
        for k, mask in enumerate(some):
            seconds = samples.seconds(k, profile.extract_seconds)
            name = f"mask {start + k}"
            timed.append(Timed(name, seconds, profile.cost_model.step_seconds(mask), samples.relative(k)))
        print(f"{start + len(some)} of {len(masks)} masks", file=sys.stderr)
    return timed, kept


def figure_of(profile: Profile, timed: list[Timed]) -> go.Figure:
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


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--masks", type=int, default=COUNT, help="random masks")
    parser.add_argument("--nodes", type=Path, help="also write there what benchmarks.node_times tells, of this profile")
    arguments = parser.parse_args()
    pipe = measure.load(arguments)
    profile = measure.profiled(pipe, arguments, steps=node_times.STEPS if arguments.nodes else 10)
    if arguments.nodes:
        node_times.publish(pipe, profile, arguments, arguments.nodes)
    apart = [*(mask.effective(profile.architecture) for mask in profile.tested.values()), *profile.designed]
    masks = random_masks(profile.architecture, QUICK if arguments.quick else arguments.masks, apart)
    timed, samples = measured(pipe, profile, masks, arguments.device)
    errors = np.abs([each.error for each in timed])
    figures = {
        "masks": len(timed),
        "median_error": float(np.median(errors)),
        "p90_error": float(np.quantile(errors, 0.9)),
        "worst_error": float(errors.max()),
        "mean_signed_error": float(np.mean([each.error for each in timed])),
        "noise": float(np.median([each.noise(k) for each in samples for k in range(len(each.pairs))])),
        "steps": [each.to_json() | {"mask": list(mask.entries)} for each, mask in zip(timed, masks, strict=True)],
    }
    document = {"profile": profile.to_json(), "masks": [each.to_json() for each in samples]}
    path = write_result("cost-model-error", figures, document, arguments)
    write_figure(figure_of(profile, timed), path)
    print(
        f"{len(timed)} random masks: median error {figures['median_error']:.2%}, worst {figures['worst_error']:.2%}; "
        f"the measurements themselves repeat within {figures['noise']:.2%}"
    )


if __name__ == "__main__":
    measure.run(main)
