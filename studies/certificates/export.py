"""Export a trial: a folder with the plan, its scores, a card, and what measures and runs it again."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from explorer.errors import PlanError, StudyError
from explorer.files import write_whole
from explorer.plans.cast import cast_students
from explorer.plans.plan import InheritancePlan, MadeFor
from explorer.plans.plan_files import PLAN_FILE
from studies.certificates.card import STRIP, card_text
from studies.certificates.carried import (
    BESIDE,
    FACTS,
    carried_students,
    drop_students,
    student_facts,
    write_students,
)
from studies.certificates.document import CERTIFICATE, KEPT, PAGE, certificate_folder, certificate_of, read_certificate
from studies.certificates.strip import picture_strip
from studies.certificates.templates import pipeline_text, script_text
from studies.documents import Shape, check_document, read_document
from studies.results.rows import TrialRow, trials
from studies.results.summary import plain_row
from studies.storage.store import Store, StudyRecord
from studies.storage.tables import DONE, FAILED, SCREENED, UNSTEADY

METRICS = "metrics.json"
CARD = "README.md"
SCRIPT = "reproduce.sh"
PIPELINE = "pipeline.py"
METRICS_KIND = "inheritance-metrics"
_METRICS_SHAPE: Shape = {
    "plan": str,
    "key": str,
    "scores": dict,
    "prompts": dict,
    "seeds": dict,
    "settings": {
        "model": str, "device": str, "dtype": str, "steps": int, "scheduler": str, "guidance": (int, float),
        "resolution": list, "prompts": str, "seed": int, "extra": dict,
    },
}  # fmt: skip
"""What is read of metrics.json, here and for the card."""
PACKAGES = ("inheritance-explorer", "torch", "diffusers", "transformers", "open_clip_torch")


def find_trial(store: Store, study: StudyRecord, number: int) -> TrialRow:
    """The scored trial of that number. Raises StudyError for one that is not there, has failed, or is not done."""
    rows = {row.number: row for row in trials(store, study) if row.number is not None}
    if number not in rows:
        known = f"0 to {max(rows)}" if rows else "none"
        raise StudyError(f"the study {study.name!r} has no trial {number} (it has: {known}); see `explorer show`.")
    row = rows[number]
    if row.state == FAILED:
        raise StudyError(f"trial {number} of {study.name!r} failed ({row.reason}), so it cannot be exported.")
    if row.state == SCREENED:
        raise StudyError(
            f"trial {number} of {study.name!r} was not scored completely ({row.reason}), so it cannot be exported; "
            "choose one of the front (`explorer show`)."
        )
    if row.state == UNSTEADY:
        raise StudyError(
            f"trial {number} of {study.name!r} is unsteady ({row.reason}), so its speed is not known; search on when "
            "the machine is quiet, which times it again."
        )
    if row.state != DONE:
        raise StudyError(f"trial {number} of {study.name!r} is {row.state} and has no scores yet; continue the search.")
    return row


def write_export(
    store: Store,
    study: StudyRecord,
    row: TrialRow,
    folder: str | Path,
    *,
    force: bool = False,
    students: Sequence[str] = (),
) -> list[Path]:
    """Write the trial's export into `folder` and return its files; the storage is only read.

    folder: new, empty, or an earlier export, whose files are replaced. force: write into any other folder too.
    students: `NAME=DIR` of those that lie elsewhere than the study knows. A certificate of the trial that lies beside
    the storage goes along, and the card quotes it.

    Raises:
        StudyError: when the folder holds something else, or cannot be written, or a student of the plan is missing or
            another one.
        PlanError: when the stored plan cannot be read.
    """
    folder = Path(folder)
    plan = exported_plan(study, row)
    carried = carried_students(study, plan, students)
    metrics = metrics_document(store, study, row)
    if carried:
        metrics["students"] = {name: student_facts(found) for name, found in carried.items()}
    _prepare(folder, plan, force)
    certificate = _bring_certificate(certificate_folder(store, study, row.key), folder, plan, study.settings.extra)
    strip = picture_strip(store, study, row, plain_row(trials(store, study, keep_plans=False), study.settings.steps))
    files = {
        PLAN_FILE: _json(plan.to_json()),
        METRICS: _json(metrics),
        CARD: card_text(plan, metrics, certificate, strip=strip is not None).encode(),
        SCRIPT: script_text(metrics).encode(),
        PIPELINE: pipeline_text(plan).encode(),
    }
    if strip is not None:
        files[STRIP] = strip
    try:
        for name, content in files.items():
            write_whole(folder / name, content)
        (folder / SCRIPT).chmod(0o755)
        if strip is None:
            (folder / STRIP).unlink(missing_ok=True)
    except OSError as error:
        raise StudyError(
            f"cannot write the export to {folder} ({error.strerror or error}); make room there."
        ) from error
    written = [folder / name for name in files] + write_students(folder, carried)
    return written + [folder / name for name in (CERTIFICATE, PAGE) if certificate and (folder / name).is_file()]


def exported_plan(study: StudyRecord, row: TrialRow) -> InheritancePlan:
    """The trial's plan with what it was made for. Raises PlanError when the stored one cannot be read."""
    plan = InheritancePlan.from_json(row.plan)
    settings = study.settings
    scheduler = plan.scheduler or settings.scheduler
    made_for = MadeFor(public_name(settings.model), settings.extra.get("weights"), scheduler, row.evaluations)
    return replace(plan, made_for=made_for, name=row.name or plan.name)


def metrics_document(store: Store, study: StudyRecord, row: TrialRow) -> dict[str, Any]:
    """What metrics.json holds: scores with intervals and counts, seeds, device, versions, the study's settings."""
    settings = study.settings
    plain = plain_row(trials(store, study, keep_plans=False), settings.steps)
    return {
        "kind": METRICS_KIND,
        "schema": 1,
        "study": study.name,
        "trial": row.number,
        "origin": row.origin,
        "plan": row.words,
        "key": row.key,
        "scores": _scores(row),
        "unaccelerated": None if plain is None else {"name": f"plain@{settings.steps}", "scores": _scores(plain)},
        "directions": {objective.name: objective.direction for objective in settings.objectives},
        "prompts": {
            "name": public_name(settings.prompts),
            "hash": settings.prompts_hash,
            "count": settings.extra.get("prompt count"),
        },
        "seeds": {"first": settings.seed, "count": settings.extra.get("prompt count")},
        "device": row.device or settings.device,
        "settings": shareable(settings.to_json()),
        "versions": versions() | {"torch when measured": settings.extra.get("torch")},
    }


def _scores(row: TrialRow) -> dict[str, Any]:
    return {
        metric: score.to_json() | ({"extractor": row.extractors[metric]} if metric in row.extractors else {})
        for metric, score in row.scores.items()
    }


def versions() -> dict[str, str]:
    """The versions of what measures, on this machine now."""
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def public_name(text: str) -> str:
    """A model, prompt set or reference as others may read it: of a path on this machine its last part alone."""
    if Path(text).is_absolute():
        return Path(text).name
    prefix, sign, path = text.rpartition(":") if text.startswith("openclip:") else text.partition("=")  # NAME=DIR
    return prefix + sign + Path(path).name if Path(path).is_absolute() else text


def shareable(value: Any) -> Any:
    """Settings without the paths of this machine."""
    if isinstance(value, Mapping):
        return {name: shareable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [shareable(each) for each in value]
    return public_name(value) if isinstance(value, str) else value


def read_export(place: str | Path) -> tuple[InheritancePlan, dict[str, Any] | None]:
    """The plan of an export (or any folder with a plan, or its file), and its metrics.json where there is one.

    Raises:
        PlanError: when there is no plan. StudyError: when metrics.json cannot be read.
    """
    place = Path(place)
    if not place.exists():
        raise PlanError(f"there is no folder {place}; give the folder of an `explorer export`, or a plan's file.")
    plan = InheritancePlan.load(place if place.is_file() else place / PLAN_FILE)
    path = (place.parent if place.name == PLAN_FILE else place) / METRICS
    if not path.is_file():
        return plan, None
    remedy = "export the trial again"
    document = read_document(path, {}, remedy)
    if document.get("kind") != METRICS_KIND:
        raise StudyError(f"{path} is not the metrics of an export; {remedy}.")
    check_document(document, _METRICS_SHAPE, path, remedy)
    if "students" in document:
        check_document(document, {"students": dict.fromkeys(cast_students(plan.cast), FACTS)}, path, remedy)
    return plan, document


def write_card(folder: Path, certificate: Mapping[str, Any]) -> bool:
    """Make the export's card quote the certificate. False when the folder is a bare plan, which has no card."""
    plan, metrics = read_export(folder)
    if metrics is None:
        return False
    text = card_text(plan, metrics, certificate, strip=(folder / STRIP).is_file())
    try:
        write_whole(folder / CARD, text.encode())
    except OSError as error:
        raise StudyError(f"cannot write {folder / CARD} ({error.strerror or error}); make room there.") from error
    return True


def _prepare(folder: Path, plan: InheritancePlan, force: bool) -> None:
    """Make the folder; refuse one that holds other things, and drop the certificate of another plan."""
    try:
        if folder.exists() and not folder.is_dir():
            raise StudyError(f"{folder} is a file; give a folder for the export.")
        folder.mkdir(parents=True, exist_ok=True)
        standing = any(folder.iterdir())
        earlier = (folder / PLAN_FILE).is_file()
        if standing and not earlier and not force:
            raise StudyError(
                f"the folder {folder} is not empty and is not an earlier export; give another --out, or --force."
            )
        before = _plan_in(folder) if earlier else None
        if before is not None:
            drop_students(folder, before, cast_students(plan.cast))
        if earlier and before != plan:
            _drop_certificate(folder)
    except OSError as error:
        raise StudyError(f"cannot make the folder {folder} ({error.strerror or error}); give another --out.") from error


def set_aside(folder: Path) -> Path | None:
    """Move the export in `folder` into a subfolder, so that it is not mistaken for a new one. Returns the new place;
    None if there is no export. Other files stay. Raises StudyError when it cannot be moved."""
    if not (folder / PLAN_FILE).is_file():
        return None
    names = ("earlier", *(f"earlier-{number}" for number in range(2, 1000)))
    try:
        place = next(folder / name for name in names if not (folder / name).exists())
        place.mkdir()
        # The plan goes first: from then on the folder is no export, also where this is interrupted.
        for name in (PLAN_FILE, METRICS, CARD, SCRIPT, PIPELINE, STRIP, CERTIFICATE, PAGE, KEPT, BESIDE):
            if (folder / name).exists():
                (folder / name).rename(place / name)
    except OSError as error:
        raise StudyError(
            f"cannot move the earlier export in {folder} aside ({error.strerror or error}); move it away yourself."
        ) from error
    return place


def _plan_in(folder: Path) -> InheritancePlan | None:
    """The plan of the export; None when it cannot be read."""
    try:
        return InheritancePlan.load(folder / PLAN_FILE)
    except PlanError:
        return None


def _drop_certificate(folder: Path) -> None:
    for name in (CERTIFICATE, PAGE):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / KEPT, ignore_errors=True)


def _bring_certificate(
    source: Path, folder: Path, plan: InheritancePlan, extra: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The plan's certificate of most pictures: the storage's, copied along, or the folder's where it is judged by the
    same limits. Drops another plan's."""
    standing, here = certificate_of(source, plan, extra), certificate_of(folder, plan, extra)
    try:
        if here is None and read_certificate(folder) is not None:
            _drop_certificate(folder)
        if standing is None:
            return here
        same = here is not None and here["claim"]["limits"] == standing["claim"]["limits"]
        if here is not None and same and here["count"] > standing["count"]:
            return here
        for name in (CERTIFICATE, PAGE):
            if (source / name).is_file():
                write_whole(folder / name, (source / name).read_bytes())
    except OSError as error:
        raise StudyError(f"cannot copy the certificate to {folder} ({error.strerror or error}).") from error
    return standing


def _json(document: Any) -> bytes:
    return (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode()
