"""`explorer certify`: a study's trial or an export, re-scored on held-out prompts with fresh seeds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from explorer.errors import ExplorerError, StudyError
from explorer.models.prompts import texts
from explorer.plans.cast import Cast
from explorer.plans.plan import InheritancePlan
from explorer.plans.plan_files import PLAN_FILE
from explorer.quality.registry import LEAST
from studies.certificates.asked import asked_trial
from studies.certificates.carried import students_option
from studies.certificates.certify import certify
from studies.certificates.document import CERTIFICATE, PAGE, certificate_folder
from studies.certificates.export import exported_plan, read_export, write_card
from studies.certificates.held_out import check_held_out, held_out
from studies.choosing.judgement import QualityLimits
from studies.cli.commands.output import counted, out, print_json, words
from studies.config import SearchConfig, make_config
from studies.interrupts import interruptible
from studies.searching.asking import measured_config
from studies.searching.session import Session, open_session
from studies.settings import StudySettings
from studies.storage.store import Store
from studies.wording import cut_words


@dataclass(frozen=True)
class Subject:
    """What is certified: the plan, what it was searched with, and where the certificate goes."""

    plan: InheritancePlan
    words: str
    config: SearchConfig
    searched: StudySettings | None
    folder: Path
    export: bool


def certify_command(
    target: str,
    trial: str | None,
    storage: str,
    folder: Path | None,
    count: int | None,
    limits: QualityLimits,
    again: bool,
    given: dict[str, Any],
    as_json: bool,
) -> None:
    """given: options of SearchConfig that the user named; the rest are those of the search."""
    if count is not None and count < LEAST:
        raise StudyError(f"a certificate needs at least {LEAST} pictures, got --count {count}.")
    subject = _subject(target, trial, storage, folder, given)
    console = words()
    console.print(f"loading {subject.config.model} ...", markup=False)
    session = open_session(subject.config)
    _check_weights(session, subject, given)
    check_held_out(session, subject.searched)
    total = len(session.evaluator.prompts) if count is None else count
    if (cut := cut_words(session.evaluator.pipe, texts(session.evaluator.prompts))) is not None:
        console.print(cut, markup=False)
    console.print(
        f"certifying {subject.words}: {total} pictures of each run, of {subject.config.prompts}", markup=False
    )
    try:
        with interruptible(), counted("pictures", console) as show:
            document = certify(
                session, subject.plan, subject.words, subject.folder, count=total, limits=limits, again=again,
                on_progress=show,
            )  # fmt: skip
    except KeyboardInterrupt:
        console.print(f"\ninterrupted; what was measured is kept in {subject.folder}. Resume with the same command.")
        raise
    made_for = subject.plan.made_for and subject.plan.made_for.fingerprint
    if subject.export and made_for in (None, session.settings.extra["weights"]):
        write_card(subject.folder, document)
    if as_json:
        print_json(document)
        return
    out().print(document["claim"]["sentence"], markup=False, soft_wrap=True)
    out().print(f"\nreport:  {subject.folder / PAGE}\ndata:    {subject.folder / CERTIFICATE}", markup=False)


def _subject(target: str, trial: str | None, storage: str, folder: Path | None, given: dict[str, Any]) -> Subject:
    if trial is None:
        return _of_export(Path(target), folder, given)
    with Store.open(storage, read_only=True) as store:
        study = store.study(target)
        row = asked_trial(store, study, trial)
        place = folder or certificate_folder(store, study, row.key)
    plan = exported_plan(study, row)
    config = certificate_config(study.settings, study.name, given, plan.cast)
    return Subject(plan, row.words, config, study.settings, place, export=False)


def _of_export(export: Path, folder: Path | None, given: dict[str, Any]) -> Subject:
    if not export.exists():
        raise StudyError(
            f"there is no folder {export}; give the folder of an `explorer export`, a plan's file, or a study's name "
            "and --trial."
        )
    plan, metrics = read_export(export)
    given = given | {"students": students_option(export, plan, given.get("students", ()))}
    if export.name == PLAN_FILE:
        export = export.parent
    if export.is_file() and folder is None:
        raise StudyError(f"{export} is a plan's file; say with --out in which folder its certificate is to be.")
    settings = export_settings(export, metrics)
    name = metrics["plan"] if metrics else plan.describe()
    if settings is None:
        config = _changed(SearchConfig(model=model_of(export, plan, given), steps=plan.steps), given)
    else:
        config = certificate_config(settings, "certificate", given, plan.cast)
    return Subject(plan, name, config, settings, folder or export, export=folder is None)


def export_settings(export: Path, metrics: dict[str, Any] | None) -> StudySettings | None:
    """The settings of the search in an export's metrics.json; None for a bare plan. Raises StudyError."""
    if metrics is None:
        return None
    try:
        settings = StudySettings.from_json(metrics["settings"])
        measured_config(settings, "export")  # which checks each
        return settings
    except (ExplorerError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise StudyError(f"{export}/metrics.json cannot be read ({error!r}); export the trial again.") from error


def model_of(export: Path, plan: InheritancePlan, given: dict[str, Any]) -> str:
    """The model to run a plan on: the one that is given, otherwise the one it was made for. Raises StudyError."""
    model = given.get("model") or (plan.made_for.model if plan.made_for else None)
    if not model:
        raise StudyError(f"the plan in {export} does not say which model it was made for; give --model.")
    return model


def certificate_config(
    settings: StudySettings, study: str, given: dict[str, Any], cast: Cast | None = None
) -> SearchConfig:
    """A search's options, with held-out prompts, fresh seeds and what the user gives. cast: the plan's."""
    config = measured_config(settings, study, cast=cast)
    if settings.reference not in ("embedded", "baseline", None) and not Path(settings.reference).exists():
        config = replace(config, reference="baseline")  # an export's, whose folder of pictures is elsewhere
    return _changed(config, given)


def _changed(config: SearchConfig, given: dict[str, Any]) -> SearchConfig:
    others = {name: value for name, value in given.items() if name != "prompts"}
    return make_config(others, base=held_out(config, given.get("prompts")))


def _check_weights(session: Session, subject: Subject, given: dict[str, Any]) -> None:
    """Other weights than the plan was found on are certified only where the user names the model."""
    found_on = subject.plan.made_for and subject.plan.made_for.fingerprint
    here = session.settings.extra["weights"]
    if given.get("model") is None and found_on and found_on != here:
        raise StudyError(
            f"the plan was found on {subject.config.model} with weights {found_on}, and here it has {here}; name the "
            "model with --model to certify it on these weights anyway."
        )
