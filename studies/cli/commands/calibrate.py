"""`explorer calibrate`."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn

from studies.cli.commands.output import duration, out, print_command, print_json, table, words
from studies.config import SearchConfig
from studies.interrupts import interruptible
from studies.predicting import calibration
from studies.predicting.calibration import Calibration
from studies.searching.calibrate import CalibrationProgress, calibrate
from studies.searching.further import left_out
from studies.searching.session import Session, open_session
from studies.storage.command_lines import command_line
from studies.storage.saved import Saved
from studies.storage.store import Store, StudyRecord, pictures_folder

SILENT_SECONDS = 10.0


def run_calibrate(
    config: SearchConfig, *, pictures: int | None, points: int | None, again: bool, as_json: bool
) -> None:
    """Make or resume the calibration of a study, which is made as well when it does not exist.

    Args:
        config: As `studies.searching.asking.config_asked` gives it.
        pictures: How many of the study's prompts are run.
        points: Evaluations of a run at which errors are measured.
        again: Drop the existing calibration first.
        as_json: Print a JSON document.

    Raises:
        ExplorerError: In one sentence.
        KeyboardInterrupt: On Ctrl-C, with what is done stored.
    """
    console = words()
    console.print(f"loading {config.model} ...", markup=False)
    session = open_session(config, references=Saved.of_references(pictures_folder(config.storage)))
    with Store.open(config.storage) as store:
        study = store.create_study(config.study, session.settings)
        if again:
            calibration.drop(store, study)
        try:
            made = with_progress(store, study, session, pictures=pictures, points=points)
        except KeyboardInterrupt:
            console.print("\ninterrupted; what is done is stored. Resume with the same command.", markup=False)
            raise
    if as_json:
        print_json(document(study, made))
        return
    print_calibration(made)
    print_command(console, "\nsearch with it", command_line("search", "--study", config.study, storage=config.storage))


def with_progress(store: Store, study: StudyRecord, session: Session, **options: Any) -> Calibration:
    """`calibrate` with a line of progress and the time left: redrawn on a terminal, otherwise now and then."""
    console = words()
    said = -SILENT_SECONDS
    columns = (
        TextColumn("[bold]calibrating"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[words]}", markup=False),
    )
    with interruptible(), Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("calibrating", total=None, words="")

        def show(standing: CalibrationProgress) -> None:
            nonlocal said
            left = "" if standing.seconds_left is None else f", {duration(standing.seconds_left)} left"
            text = f"{standing.words}{left}"
            bar.update(task, total=standing.total, completed=standing.done, words=text)
            if not console.is_terminal and standing.seconds - said >= SILENT_SECONDS:
                said = standing.seconds
                console.print(f"[{standing.done}/{standing.total}] calibrating: {text}", markup=False)

        made = calibrate(store, study, session, on_progress=show, **options)
    if sentence := left_out(session.space.setting, made):
        console.print(sentence, markup=False)
    return made


def document(study: StudyRecord, made: Calibration) -> dict[str, Any]:
    """What `explorer calibrate --json` prints: relative errors, effects and times; null where nothing was measured."""
    design, errors = made.design, made.errors
    return {
        "study": study.name,
        "seconds": made.seconds,
        "pictures": errors.pictures,
        "evaluations": design.evaluations,
        "steps": list(design.steps),
        "ages": list(design.ages),
        "errors": {
            mask: {rule: _numbers(made.error_map(mask, rule)) for rule in design.rules} for mask in design.masks
        },
        "nodes": {name: _numbers(row) for (name, _), row in zip(design.nodes, made.node_map(), strict=True)},
        "removal_steps": list(design.removal_steps),
        "removals": [
            {"unit": unit, "form": form, "errors": _numbers(row)}
            for (unit, form), row in zip(design.removals, made.removal_map(), strict=True)
        ],
        "effects": _numbers(made.effects()),
        "time_shares": {mask: float(errors.seconds[m] / errors.seconds[-1]) for m, mask in enumerate(design.masks)},
        "step_seconds": float(errors.seconds[-1]),
        "plain": {str(steps): float(np.sqrt(square / errors.latents[0])) for steps, square in made.plain.items()},
    }


def _numbers(values: Any) -> Any:
    if isinstance(values, np.ndarray) and values.ndim:
        return [_numbers(value) for value in values]
    return float(values) if np.isfinite(values) else None


def print_calibration(made: Calibration) -> None:
    """Relative error of the guided prediction by mask and rule, at the median step, two evaluations after an extract
    step; then what each mask costs."""
    design, errors = made.design, made.errors
    console = out()
    age = design.ages[min(1, len(design.ages) - 1)]
    shown = table("mask", ">time", *(f">{rule}" for rule in design.rules))
    for m, mask in enumerate(design.masks):
        cells = []
        for rule in design.rules:
            values = made.error_map(mask, rule)[:, design.ages.index(age)]
            known = values[np.isfinite(values)]
            cells.append(f"{np.median(known):.1%}" if len(known) else "-")
        shown.add_row(mask, f"{errors.seconds[m] / errors.seconds[-1]:.0%}", *cells)
    console.print(shown)
    console.print(
        f"\nerror of the guided prediction where one step inherits features {age} evaluations old, median over "
        f"{len(design.steps)} steps, {errors.pictures} pictures; time of a step, of a full one. Cost: "
        f"{duration(made.seconds)}."
    )
