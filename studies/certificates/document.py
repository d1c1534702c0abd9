"""A certificate as a document: where it lies, and reading it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from explorer.errors import PlanError, ScoreError, StudyError
from explorer.estimate import Estimate
from explorer.plans.cast import cast_students
from explorer.plans.plan import InheritancePlan
from studies.documents import check_document, read_document
from studies.storage.store import Store, StudyRecord

CERTIFICATE = "certificate.json"
PAGE = "certificate.html"
FOLDER = "explorer-certificates"
KEPT = ".certificate"
"""The folder beside a certificate with what it is computed from."""
KIND = "inheritance-certificate"
SCHEMA = 2
"""1 took further pictures of a prompt as independent; what it was computed from is still read."""

FULL, PLAN, SAME_COST, ABOVE = "full", "plan", "same cost", "one above"
"""The runs of a certificate: the un-accelerated pipeline, the plan, and plain steps of its cost and of one more."""

_REMEDY = "delete it, or certify again"
_RUN = {"name": str, "steps": int, "speedup": dict, "scores": dict}
_SHAPE = {
    "claim": {"verdict": str, "sentence": str, "limits": dict, "beats_fewer_steps": bool},
    "plan": {"words": str, "key": str, "document": dict},
    "count": int,
    "prompts": int,
    "also_certified": list,
    "clip": str,
    "runs": {FULL: _RUN, PLAN: _RUN},
    "settings": {"model": str, "prompts": str, "seed": int, "device": str, "extra": dict},
}
"""What is read of a certificate, here and for the card."""


def certificate_folder(store: Store, study: StudyRecord, key: str) -> Path:
    """Where the certificate of a study's plan lies: beside the storage, as its pictures do."""
    return store.folder / FOLDER / study.folder / key


def read_certificate(folder: Path) -> dict[str, Any] | None:
    """The certificate in `folder`; None when there is none. Raises StudyError for a file that is none or newer."""
    path = folder / CERTIFICATE
    if not path.is_file():
        return None
    document = read_document(path, {}, _REMEDY)
    if document.get("kind") != KIND:
        raise StudyError(f"{path} is not a certificate; {_REMEDY}.")
    schema = document.get("schema")
    if schema != SCHEMA:
        older = isinstance(schema, int) and schema < SCHEMA
        remedy = "certify again; finished measurements are kept" if older else f"upgrade the explorer, or {_REMEDY}"
        raise StudyError(f"{path} has schema {schema!r:.40} and this version reads {SCHEMA}; {remedy}.")
    check_document(document, _SHAPE, path, _REMEDY)
    for name, run in document["runs"].items():
        _check_run(path, name, run)
    return document


def _check_run(path: Path, name: str, run: Any) -> None:
    read = run if isinstance(run, Mapping) else {}
    scores = read.get("scores")
    try:
        if not isinstance(read.get("name"), str) or not isinstance(scores, Mapping):
            raise ScoreError("it lacks a name or its scores")
        for score in (read.get("speedup"), *scores.values()):
            Estimate.from_json(score)
    except ScoreError as error:
        raise StudyError(f"{path} cannot be read (the run {name!r:.40}: {error}); {_REMEDY}.") from error


def certificate_of(folder: Path, plan: InheritancePlan, extra: Mapping[str, Any]) -> dict[str, Any] | None:
    """The certificate in `folder` where it is of this plan, whatever its name, on weights of the same fingerprints;
    None otherwise. extra: of the study's settings. Raises StudyError as `read_certificate` does."""
    document = read_certificate(folder)
    if document is None:
        return None
    try:
        certified = InheritancePlan.from_json(document["plan"]["document"])
    except PlanError:
        return None
    same = replace(certified, name=plan.name, made_for=plan.made_for) == plan
    measured = document["settings"]["extra"]
    return document if same and _weights(measured, plan) == _weights(extra, plan) else None


def _weights(extra: Mapping[str, Any], plan: InheritancePlan) -> list[Any]:
    """The fingerprints of what the plan runs: the model and its students."""
    students = extra.get("student weights")
    named = students if isinstance(students, Mapping) else {}
    return [extra.get("weights"), *(named.get(name) for name in cast_students(plan.cast))]


def plain_document(run: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.to_json() for name, estimate in run.items()}
