"""`explorer distill` and `explorer students`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from explorer.errors import ModelError, PlanError, TrainingError
from studies.cli.commands.output import duration, out, print_json, table, words

if TYPE_CHECKING:
    from explorer.estimate import Estimate
    from explorer.networks.experts import Experts
    from explorer.networks.student import Student
    from training.experts import First
    from training.loop import Budget, Training

JUDGED = 8
"""Held-out prompts of the paired drift."""


def distill_command(
    what: str,
    *,
    model: str,
    folder: Path,
    freeze: str | None,
    source: Path | None,
    data: str,
    prompts: str | None,
    timesteps: str,
    steps: int | None,
    minutes: float | None,
    batch: str,
    rate: float,
    seed: int,
    runs: int,
    device: str,
    half: bool,
    experts: int | None,
    routing: str,
    first_expert: str,
    checkpointing: bool,
) -> None:
    """Distil a student and print where it is. Interrupted, it goes on by the same command."""
    from explorer.models.loading import default_guidance
    from explorer.networks.experts import Experts
    from studies.interrupts import interruptible
    from training.experts import First

    refuse_folder(folder, "speedup.json", "a speed-up adapter")
    part, size = _part(timesteps), batch_size(batch)
    mixing = None if experts is None else Experts(experts, routing)  # type: ignore[arg-type]  # it checks
    if first_expert not in get_args(First):
        raise TrainingError(f"--first-expert is {' or '.join(get_args(First))}, got {first_expert!r:.40}.")
    budget = budget_of(steps, minutes)
    check_positive({"--batch": size, "--runs": runs})
    check_trained(model)
    if data != "teacher" and not Path(data).is_dir():
        raise TrainingError(f"--data {data!r} is no folder; give a folder of captioned pictures, or 'teacher'.")
    taught, held_out = prompts_of(model, prompts)
    with interruptible():
        pipe, accelerator, say = teacher(model, device, half)
        _distil(
            pipe, what, folder, budget, freeze=freeze, source=source, data=data,
            taught=taught, held_out=held_out, guidance=default_guidance(model), part=part, batch=size,
            rate=rate, seed=seed, runs=runs, accelerator=accelerator, say=say, experts=mixing,
            first=cast("First", first_expert), checkpointing=checkpointing,
        )  # fmt: skip


def refuse_folder(folder: Path, document: str, what: str) -> None:
    """Refuse to train in a folder that holds a network of another kind. Raises TrainingError."""
    if (folder / document).exists():
        raise TrainingError(f"{folder} holds {what}; give --out another folder.")


def budget_of(steps: int | None, minutes: float | None) -> Budget:
    """1000 steps where nothing is asked for. Raises TrainingError."""
    from training.loop import Budget

    check_positive({"--steps": steps, "--minutes": minutes})
    return Budget(1000 if steps is None and minutes is None else steps, minutes)


def check_positive(given: Mapping[str, float | None]) -> None:
    """Raises TrainingError for a number of 0 or less, with the name of its option."""
    for name, value in given.items():
        if value is not None and not value > 0:
            raise TrainingError(f"{name} must be positive, got {value}.")


def check_trained(model: str) -> None:
    """Raises TrainingError for a model with random weights."""
    from explorer.models.loading import has_weights

    if not has_weights(model):
        raise TrainingError(f"{model} has random weights, so there is nothing to learn from it; give a trained model.")


def prompts_of(model: str, prompts: str | None) -> tuple[list[str], list[str]]:
    """What a network is taught on, and the held-out prompts of its drift.

    Args:
        model: The teacher.
        prompts: Those that are asked for; the search's own by default.
    """
    from explorer.models.prompts import HELD_OUT, load_prompts, search_prompts

    own = search_prompts(model)
    return load_prompts(prompts or own).texts, load_prompts(HELD_OUT[own], JUDGED).texts


def teacher(model: str, device: str, half: bool) -> tuple[Any, Any, Callable[..., None]]:
    """The model's pipeline where it is trained, with the accelerator and what prints of `_processes`."""
    from explorer.devices import resolve_device
    from explorer.models.loading import load_pipeline

    accelerator, say = _processes(device, half)
    say(f"loading {model} ...", markup=False)
    where = resolve_device(device) if accelerator is None else accelerator.device
    pipe = load_pipeline(model, device=str(where))
    pipe.set_progress_bar_config(disable=True)
    return pipe, accelerator, say


def _processes(device: str, half: bool) -> tuple[Any, Callable[..., None]]:
    """An accelerator, and what prints. The accelerator is of the processes that `accelerate launch` started, or for
    half precision; None for plain training. The first process prints."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 and not half:
        return None, words().print
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="bf16" if half else "no")
    return accelerator, words().print if accelerator.is_main_process else _silent


def counting(what: str, say: Callable[..., None]) -> Callable[[int, int], None]:
    """A progress of runs, of how many, that says what is left from now on."""
    began = time.monotonic()

    def show(done: int, of: int) -> None:
        seconds = (time.monotonic() - began) * (of - done) / done
        say(f"{what}: {done} of {of}, {duration(seconds)} left", markup=False)

    return show


def _silent(*_: Any, **__: Any) -> None:
    """What the other processes print."""


def _distil(
    pipe: Any, what: str, folder: Path, budget: Any, *, freeze: str | None, source: Path | None, data: str,
    taught: Sequence[str], held_out: Sequence[str], guidance: float, part: tuple[float, float], batch: int | None,
    rate: float, seed: int, runs: int, accelerator: Any, say: Callable[..., None], experts: Experts | None,
    first: First, checkpointing: bool,
) -> None:  # fmt: skip
    from explorer.networks.student import Student
    from training.curves import CURVES
    from training.distill import Settings, distill, initial, trained_blocks
    from training.folders import alone
    from training.held_out import DriftWatch, PairedDrift
    from training.loop import CHECKPOINT
    from training.step_profile import load_prediction, predict, save_prediction
    from training.teacher_data import captioned_pictures, teacher_runs

    main = accelerator is None or accelerator.is_main_process
    student = replace(student_of(what, pipe.unet, part), experts=experts)
    blocks = trained_blocks(student, freeze)
    if experts is not None and not student.conditional(blocks):
        raise TrainingError(
            "the trained blocks have no ResUnit that works on more than 1x1, so none can have experts; freeze other "
            "blocks, or leave out --experts."
        )
    origin = None if source is None else Student.load(source)
    settings = Settings(rate=rate, seed=seed)
    begun = initial(student, pipe.unet, blocks, origin, first, seed)
    with alone(folder, "distill") if main else nullcontext():
        say(f"student {student.name}: {begun.parameters / 1e6:.1f} M parameters, trained: {', '.join(blocks)}"
            f"{_mixed(begun, blocks)}", markup=False)  # fmt: skip
        if data == "teacher":
            with nullcontext() if accelerator is None else accelerator.main_process_first():
                examples = teacher_runs(
                    pipe, taught, runs, folder / "checkpoint" / "runs", guidance=max(guidance, 1.5), seed=seed,
                    progress=counting("runs of the teacher", say),
                )  # fmt: skip
        else:
            examples = captioned_pictures(pipe, Path(data))
        predicted = folder / "checkpoint" / "prediction.json"
        resumed = (folder / "checkpoint" / CHECKPOINT).exists()
        if batch is None and resumed:  # the memory may be another by now
            batch = load_prediction(predicted).batch
        prediction = predict(
            pipe, begun, examples, settings, batch, checkpointing=checkpointing, accelerator=accelerator
        )  # fmt: skip
        say(prediction.describe(budget), markup=False)
        if main and not resumed:
            save_prediction(prediction, predicted)
        settings = replace(settings, batch=prediction.batch)
        watch = None
        if main:
            drift = PairedDrift(pipe, student, held_out, guidance)
            watch = DriftWatch(folder / "checkpoint" / "drift.csv", "the teacher", say)
            watch.before(lambda: drift(begun.network(pipe.unet, check=False)))

        def look(training: Training) -> None:
            """Measure the drift of the averaged weights now and then."""

            def measured() -> Estimate:
                tensors = {name: value.detach().cpu() for name, value in training.average.values.items()}
                return drift(student.trained_as(tensors, blocks).network(pipe.unet, check=False))

            if watch is not None:
                watch.look(training, measured)

        made = distill(
            pipe, student, examples, folder, budget, settings, blocks=blocks, source=origin, first=first,
            checkpointing=checkpointing, accelerator=accelerator, on_step=look,
        )  # fmt: skip
    if not main:
        return
    size = (folder / "student.safetensors").stat().st_size
    say(f"wrote {folder} ({size / 1e6:.1f} MB, {len(made.tensors)} tensors); its curves: {folder / CURVES}",
        markup=False)  # fmt: skip


def _mixed(student: Student, blocks: tuple[str, ...]) -> str:
    if student.experts is None:
        return ""
    count, experts = len(student.conditional(blocks)), student.experts
    return f"; {experts.count} experts by {experts.routing} in {count} convolutions"


def batch_size(text: str) -> int | None:
    """`64`, or None for `auto`."""
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise TrainingError(f"--batch is a number of samples or auto, got {text!r:.40}.") from None


def _part(text: str) -> tuple[float, float]:
    """`0..0.4` as the part of a run."""
    first, dots, last = text.partition("..")
    try:
        start, end = float(first), float(last)
    except ValueError:
        dots = ""
    if not dots or not 0 <= start < end <= 1:
        raise TrainingError(f"--timesteps is a part of the run such as 0..0.4 (0: its beginning), got {text!r}.")
    return start, end


def student_of(what: str, unet: Any, part: tuple[float, float] = (0.0, 1.0)) -> Student:
    """A named student, one whose removed parts are written as a plan writes them (`dn0.l1-- up3.l1--`), or what the
    student in a folder lacks; its weights are not taken.

    Raises:
        ModelError: For anything else.
    """
    from explorer.networks.removals import NAMED
    from explorer.networks.student import WHOLE_RUN, Student
    from explorer.networks.student_files import DOCUMENT
    from explorer.plans.plan_text import mask_from_text
    from explorer.unet.architecture import Architecture

    if what.lower() in {name.lower() for name in NAMED}:
        student = Student.named(what, unet)
    elif (Path(what) / DOCUMENT).is_file():
        found = Student.load(what)
        found.check_teacher(unet)
        student = found.trained_as({}, ())
        part = found.timesteps if part == WHOLE_RUN else part
    else:
        try:
            removed = mask_from_text(Architecture.of(unet), what)
        except PlanError as error:
            raise ModelError(f"{what!r:.80} is no student: {error}") from error
        if not len(removed) or any(form not in ("zero", "bypass") for form in removed.forms.values()):
            raise ModelError(
                f"{what!r:.80} is no student; give one of {', '.join(NAMED)}, the parts to remove, such as "
                "'dn0.l1-- up3.l1--', or a student's folder."
            )
        student = Student.removing(unet, removed.forms)
    return replace(student, timesteps=part)


def students_command(model: str, folders: Sequence[Path], as_json: bool) -> None:
    """The named students of a model and those in folders, with what they cost."""
    from explorer.models.loading import load_empty_unet

    unet = load_empty_unet(model)
    rows = [student_row(student, place) for student, place in known_students(unet, folders)]
    if as_json:
        print_json(rows)
        return
    shown = table("student", ">parameters", ">GMACs", ">MACs", ">removed", "weights")
    for row in rows:
        shown.add_row(
            str(row["name"]), f"{row['parameters']:,}", f"{row['macs'] / 1e9:.2f}", f"{row['macs_share']:.1%}",
            f"{len(row['removed'])} nodes", "the teacher's" if row["weights"] is None else str(row["weights"]),
        )  # fmt: skip
    out().print(shown)


def known_students(unet: Any, folders: Sequence[Path]) -> list[tuple[Student, Path | None]]:
    """The named students that this UNet has, which are fewer where it has fewer levels, and those in folders with
    their places."""
    from explorer.networks.removals import NAMED
    from explorer.networks.student import Student

    found: list[tuple[Student, Path | None]] = []
    for name in NAMED:
        with suppress(ModelError):
            found.append((Student.named(name, unet), None))
    return found + [(Student.load(folder), folder) for folder in folders]


def student_row(student: Student, weights: Path | None) -> dict[str, Any]:
    """A student's part of `explorer students --json`. weights: its folder; None where they are the teacher's."""
    size = student.config["sample_size"]
    height, width = (size, size) if isinstance(size, int) else size
    return {
        "name": student.name,
        "removed": student.removed.forms,
        "parameters": student.parameters,
        "macs": student.macs(height, width),
        "macs_share": student.macs_share(height, width),
        "trained_blocks": list(student.trained),
        "experts": None if student.experts is None else asdict(student.experts),
        "weights": None if weights is None else str(weights),
    }
