"""`explorer rename` and `delete`: the studies of a storage."""

from __future__ import annotations

import sys

import typer

from explorer.errors import StudyError
from studies.certificates.housekeeping import contents, delete_study, rename_study
from studies.cli.commands.output import out, print_json, words
from studies.storage.store import Store

NOT_DONE = 1


def rename_command(name: str, new: str, storage: str, as_json: bool) -> None:
    """Rename a study. Raises StudyError, as `rename_study` and where there is no such study."""
    with _existing(storage) as store:
        renamed = rename_study(store, store.study(name), new)
    if as_json:
        print_json({"study": renamed.name, "was": name})
        return
    out().print(f"the study {name!r} is {renamed.name!r} now", markup=False, soft_wrap=True)


def delete_command(name: str, storage: str, yes: bool, as_json: bool) -> None:
    """Delete a study, after a question on a terminal. yes: do not ask.

    Raises:
        StudyError: as `delete_study`, and where nobody can be asked.
        typer.Exit: with status 1 when the answer is no.
    """
    with _existing(storage) as store:
        study = store.study(name)
        held = contents(store, study)
        if not yes:
            _ask(f"the study {name!r} of {store.where} with {held.words}")
        shared = delete_study(store, study)
        if shared is not None:
            words().print(
                f"note: its files beside the storage are kept, because {shared} has a study with the same files",
                markup=False, soft_wrap=True,
            )  # fmt: skip
    if as_json:
        document = {"study": name, "plans": held.plans, "measurements": held.measurements, "pictures": held.pictures}
        print_json(document | {"calibrated": held.calibrated, "files_deleted": shared is None})
        return
    out().print(f"deleted the study {name!r}: {held.words}", markup=False, soft_wrap=True)


def _existing(storage: str) -> Store:
    Store.open(storage, read_only=True).close()  # which makes no storage where there is none
    return Store.open(storage)


def _ask(what: str) -> None:
    if not sys.stdin.isatty():
        raise StudyError(f"deleting {what} cannot be undone; give --yes to delete it without confirmation.")
    if not typer.confirm(f"delete {what}? This cannot be undone", err=True):
        words().print("nothing was deleted")
        raise typer.Exit(NOT_DONE)
