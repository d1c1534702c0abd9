"""`explorer students --choose`: which units to remove, by measured error and measured time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.errors import ModelError
from studies.cli.commands.distill import known_students, student_row
from studies.cli.commands.output import counted, out, print_command, print_json, table, words
from studies.config import SearchConfig

if TYPE_CHECKING:
    from explorer.calibration.removal_choice import RemovalChoice
    from explorer.networks.student import Student
    from explorer.timing.profile import Profile
    from explorer.unet.mask import Mask
    from studies.storage.store import Store

PICTURES, STEPS = 4, 25
"""Prompts on which the errors are measured, and the steps of their runs."""
TIMED_ROUNDS = 5
QUICK_SECONDS = 30.0
"""The students are timed where that takes at most so long."""


def choose_command(
    model: str,
    share: float | None,
    *,
    folders: Sequence[Path],
    folder: Path | None,
    device: str,
    storage: str,
    as_json: bool,
) -> None:
    """Choose what to remove, and print it beside the named students and those in folders.

    Args:
        model: The teacher.
        share: Of the teacher's measured UNet time.
        folders: Of further students.
        folder: For the chosen student; None writes none.
        device: To measure on.
        storage: Where the profile and calibrations are kept.
        as_json: Print a JSON document.

    Raises:
        ExplorerError: In one sentence.
    """
    from explorer.devices import resolve_device, resolve_dtype
    from explorer.models.loading import has_weights, load_pipeline
    from explorer.networks.student import Student
    from explorer.networks.student_files import WEIGHTS
    from explorer.plans.plan_text import mask_to_text
    from explorer.timing.profiling import workload_of
    from studies.cli.commands.profile import profiling_progress
    from studies.interrupts import interruptible
    from studies.searching.profiles import measured_profile
    from studies.storage.command_lines import command_line
    from studies.storage.store import Store

    if share is None:
        raise ModelError("--out is for the chosen student; give --choose SHARE as well.")
    if not 0 < share <= 1:
        raise ModelError(f"--choose takes a share of the teacher's time above 0 and at most 1, got {share:g}.")
    if not has_weights(model):
        raise ModelError(f"{model} has random weights, so no error can be measured on it; give a trained model.")
    if folder is not None and (folder / WEIGHTS).exists():
        raise ModelError(f"{folder} holds the weights of a distilled student; give another --out.")
    where = resolve_device(device)
    kind = str(resolve_dtype("auto", where)).removeprefix("torch.")
    console = words()
    with Store.open(storage) as store, interruptible():
        console.print(f"loading {model} ...", markup=False)
        pipe = load_pipeline(model, device=str(where), dtype=kind)
        pipe.set_progress_bar_config(disable=True)
        workload = workload_of(pipe, device=str(where), dtype=kind)
        with profiling_progress(str(where)) as show:
            profile = measured_profile(store, pipe, model, workload, steps=SearchConfig.steps, on_progress=show)
        choices = _choices(pipe, model, profile, store)
        best = choices.within(share)
        if folder is not None and not best.mask:
            raise ModelError(
                f"nothing has to be removed for a share of {share:g}; give a smaller one, or leave out --out."
            )
        chosen = Student.removing(pipe.unet, best.mask.forms, name=f"chosen{100 * share:g}")
        listed: list[tuple[Student, Path | None]] = [(chosen, None), *known_students(pipe.unet, folders)]
        for student, place in listed:
            if place is not None:
                student.check_teacher(pipe.unet)
        times = _timed(pipe, [student.removed for student, _ in listed], profile)
    if folder is not None:
        chosen.save(folder)
    rows = [
        student_row(student, place) | _prediction(choices, student.removed, measured)
        for (student, place), measured in zip(listed, times, strict=True)
    ]
    document: dict[str, Any] = {
        "model": model,
        "share": share,
        "least_share": choices.least,
        "teacher_seconds": profile.extract_seconds,
        "chosen": rows[0],
        "students": rows[1:],
    }
    if as_json:
        print_json(document)
    else:
        _print(document, mask_to_text(chosen.architecture, best.mask))
    if folder is not None:
        console.print(f"wrote {folder}", markup=False)
        print_command(
            console, "distil it", command_line("distill", folder, "--model", model, "--out", f"{folder}-distilled")
        )


def _choices(pipe: Any, model: str, profile: Profile, store: Store) -> RemovalChoice:
    """By the removals of a stored calibration of these weights; measured now where there is none."""
    from explorer.calibration.removal_choice import RemovalChoice
    from explorer.calibration.removal_errors import measure_removals
    from explorer.models.loading import default_guidance
    from explorer.models.prompts import load_prompts, search_prompts
    from studies.device_lock import on_device
    from studies.predicting.calibration import removals_of_weights

    squares = removals_of_weights(store, profile.fingerprint)
    if not squares:
        began, tenth = time.monotonic(), -1
        with counted("UNet evaluations, errors of removals", words()) as show:

            def tell(done: int, total: int) -> None:
                nonlocal tenth
                if done * 10 // total > tenth:
                    tenth = done * 10 // total
                    show(done, total, (time.monotonic() - began) * (total - done) / done)

            prompts = load_prompts(search_prompts(model), PICTURES).prompts
            with on_device(profile.device, shared=True):
                squares = measure_removals(pipe, prompts, steps=STEPS, guidance=default_guidance(model), progress=tell)
    return RemovalChoice(profile.cost_model, squares)


def _timed(pipe: Any, masks: Sequence[Mask], profile: Profile) -> list[float | None]:
    """The measured time of a UNet evaluation under each mask over the teacher's, taken in turn with it; None where
    measuring would take long, or nothing is removed."""
    from explorer.devices import resolve_device
    from explorer.models.workload import twin, unet_inputs
    from explorer.timing.step_times import StepSamples, time_steps
    from studies.device_lock import on_device

    different = list(dict.fromkeys(mask for mask in masks if mask))
    effort = profile.effort
    evaluations = 2 * len(different) * (TIMED_ROUNDS + effort.warmups) * effort.calls
    if not different or evaluations * profile.extract_seconds > QUICK_SECONDS:
        return [None for _ in masks]
    device, samples = resolve_device(profile.workload.device), StepSamples()
    inputs = unet_inputs(pipe, profile.workload, device)
    with on_device(profile.device):
        for _ in time_steps(
            twin(pipe).unet, different, inputs, device, samples, rounds=TIMED_ROUNDS, warmups=effort.warmups,
            calls=effort.calls,
        ):  # fmt: skip
            pass
    return [samples.relative(different.index(mask)) if mask else None for mask in masks]


def _prediction(choices: RemovalChoice, mask: Mask, measured: float | None) -> dict[str, Any]:
    """What is predicted and measured of a removal, and the least error that its predicted time allows."""
    rated = choices.rated(mask)
    return {
        "predicted_error": rated.error,
        "predicted_time_share": rated.share,
        "measured_time_share": measured,
        "least_error": choices.within(min(1.0, max(rated.share, choices.least))).error,
    }


def _print(document: dict[str, Any], removed: str) -> None:
    shown = table(
        "student", ">removed", ">parameters", ">MACs", ">time", ">measured", ">error", ">least at that time", "weights"
    )
    for row in (document["chosen"], *document["students"]):
        shown.add_row(
            row["name"], f"{len(row['removed'])} nodes", f"{row['parameters']:,}", f"{row['macs_share']:.1%}",
            f"{row['predicted_time_share']:.1%}",
            "" if row["measured_time_share"] is None else f"{row['measured_time_share']:.1%}",
            "" if row["predicted_error"] is None else f"{row['predicted_error']:.2f}", f"{row['least_error']:.2f}",
            "the teacher's" if row["weights"] is None else row["weights"],
        )  # fmt: skip
    console = out()
    console.print(shown)
    console.print(
        f"\n{document['chosen']['name']} lacks {removed or 'nothing'}\n\ntime: of a UNet evaluation, of the teacher's "
        f"{document['teacher_seconds'] * 1e3:.2f} ms, predicted and measured. error: predicted distance of the final "
        "latents from the teacher's before distillation, over their size, and the least that the same time allows."
    )
