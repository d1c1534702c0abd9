"""`explorer export`: a trial into a folder that works in any diffusers pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from studies.certificates.asked import asked_trial
from studies.certificates.export import write_export
from studies.cli.commands.output import out, print_json
from studies.storage.store import Store


def export_command(
    study_name: str, trial: str, folder: Path, storage: str, force: bool, students: Sequence[str], as_json: bool
) -> None:
    """students: `NAME=DIR` of those that lie elsewhere than the study knows."""
    with Store.open(storage, read_only=True) as store:
        study = store.study(study_name)
        row = asked_trial(store, study, trial)
        files = write_export(store, study, row, folder, force=force, students=students)
    if as_json:
        names = [str(path.relative_to(folder)) for path in files]
        print_json({"study": study_name, "trial": row.number, "folder": str(folder), "files": names})
        return
    console = out()
    console.print(f"{row.words}: {len(files)} files in {folder}\n", markup=False)
    console.print("  from explorer import inherit", markup=False)
    console.print(f"  inherit(pipe, {str(folder)!r})", markup=False)
