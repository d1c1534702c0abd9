"""`explorer distill --speedup`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.errors import TrainingError
from studies.cli.commands.distill import (
    batch_size,
    budget_of,
    check_positive,
    check_trained,
    counting,
    prompts_of,
    refuse_folder,
    teacher,
)

if TYPE_CHECKING:
    from explorer.estimate import Estimate
    from explorer.networks.speedup_branch import SpeedUpUse
    from training.loop import Budget, Training
    from training.speed_up import SpeedUpSettings

FINE = 24
"""About how many steps a recorded run has."""
RATE = 2e-3
ABOVE = 1.5
"""The largest guidance scale that is learnt, as a multiple of the model's own."""


def check_kind(speedup: bool, student: str | None, students: Mapping[str, bool], adapters: Mapping[str, bool]) -> None:
    """Refuse options of the one kind of distillation that are given for the other.

    Args:
        speedup: Whether an adapter is asked for.
        student: The student that is asked for.
        students: Options of students: whether each is given.
        adapters: Those of adapters.

    Raises:
        TrainingError: Where there are such, and where neither a student nor an adapter is asked for.
    """
    wrong = [name for name, given in (students if speedup else adapters).items() if given]
    if speedup and student is not None:
        raise TrainingError(f"--speedup trains an adapter and no student; leave out {student!r:.40} or --speedup.")
    if wrong:
        of = "students" if speedup else "a speed-up adapter"
        remedy = f"leave {'them' if len(wrong) > 1 else 'it'} out" + ("" if speedup else ", or give --speedup")
        raise TrainingError(f"{', '.join(wrong)} {'are' if len(wrong) > 1 else 'is'} for {of}; {remedy}.")
    if not speedup and student is None:
        raise TrainingError("nothing is asked for; give a student (Base, Small, Tiny, M1, M2, M3, ...) or --speedup.")


def distill_speed_up_command(
    *,
    model: str,
    folder: Path,
    anchors: int | None,
    guidance: str | None,
    prompts: str | None,
    steps: int | None,
    minutes: float | None,
    batch: str,
    rate: float | None,
    seed: int,
    runs: int,
    device: str,
    half: bool,
) -> None:
    """Train a speed-up adapter and print where it is. Interrupted, it goes on by the same command."""
    from explorer.models.loading import default_guidance
    from explorer.networks.speedup_branch import SpeedUpUse
    from studies.interrupts import interruptible
    from training.speed_up import SpeedUpSettings

    refuse_folder(folder, "student.json", "a student")
    size, count = batch_size(batch), 4 if anchors is None else anchors
    if size is None:
        raise TrainingError("--batch auto is for students; give a number of samples.")
    budget, own = budget_of(steps, minutes), max(1.5, default_guidance(model))
    check_positive({"--batch": size, "--runs": runs, "--anchors": count})
    most = ABOVE * own if guidance is None else _most(guidance)
    check_trained(model)
    settings = SpeedUpSettings(size, RATE if rate is None else rate, seed, count)
    use = SpeedUpUse(min(own, most), most, count)
    taught, held_out = prompts_of(model, prompts)
    with interruptible():
        pipe, accelerator, say = teacher(model, device, half)
        _train(
            pipe, folder, budget, settings, use, taught=taught, held_out=held_out, runs=runs,
            accelerator=accelerator, say=say,
        )  # fmt: skip


def _most(text: str) -> float:
    """The largest scale of `1..6`."""
    first, _, last = text.partition("..")
    try:
        least, most = float(first), float(last)
    except ValueError:
        least = most = 0.0
    if least != 1 or not 1 < most <= 100:
        raise TrainingError(
            f"--guidance is a range of scales from 1 (an adapter changes nothing there) to one above it, such as "
            f"1..6, got {text!r:.40}."
        )
    return most


def _train(
    pipe: Any, folder: Path, budget: Budget, settings: SpeedUpSettings, use: SpeedUpUse, *, taught: Sequence[str],
    held_out: Sequence[str], runs: int, accelerator: Any, say: Callable[..., None],
) -> None:  # fmt: skip
    from explorer.networks.speedup import SpeedUp
    from explorer.networks.speedup_files import FILES
    from training.curves import CURVES
    from training.folders import alone
    from training.guided_runs import guided_runs, negative_prompts
    from training.held_out import DriftWatch, GuidedDrift
    from training.speed_up import averaged, train_speed_up

    if getattr(pipe.unet.config, "time_cond_proj_dim", None) is not None:
        raise TrainingError(
            "the model's UNet takes the guidance scale as a number, so it was distilled to guide by itself and has "
            "nothing to teach an adapter; give the model that it was made from."
        )
    main = accelerator is None or accelerator.is_main_process
    fine = settings.anchors * max(1, round(FINE / settings.anchors))
    untrained = SpeedUp.untrained(pipe.unet, use)
    with alone(folder, "distill") if main else nullcontext():
        say(f"speed-up adapter: {sum(p.numel() for p in untrained.parameters()) / 1e6:.2f} M parameters at "
            f"{len(untrained.names)} cross-attentions; {use.steps} steps, guidance 1 to {use.most:g}",
            markup=False)  # fmt: skip
        with nullcontext() if accelerator is None else accelerator.main_process_first():
            recorded = guided_runs(
                pipe, taught, negative_prompts(taught), runs, folder / "checkpoint" / "runs", steps=fine,
                most=use.most, spacing=use.spacing, seed=settings.seed, progress=counting("guided runs", say),
            )  # fmt: skip
        watch = None
        if main:
            drift = GuidedDrift(pipe, use, held_out, fine)
            watch = DriftWatch(folder / "checkpoint" / "drift.csv", f"{fine} guided steps", say)
            watch.before(lambda: drift(untrained))

        def look(training: Training) -> None:
            """Measure the drift of the averaged weights now and then."""

            def measured() -> Estimate:
                return drift(averaged(training, untrained))

            if watch is not None:
                watch.look(training, measured)

        train_speed_up(pipe, recorded, folder, budget, settings, use, accelerator=accelerator, on_step=look)
    if not main:
        return
    size = (folder / FILES.weights).stat().st_size
    say(f"wrote {folder} ({size / 1e6:.1f} MB, {len(untrained.names)} cross-attentions); its curves: "
        f"{folder / CURVES}", markup=False)  # fmt: skip
    say(f"use it: with speed_up(pipe, {str(folder)!r}): pipe(prompt, num_inference_steps={use.steps}, "
        "guidance_scale=1.0)", markup=False)  # fmt: skip
