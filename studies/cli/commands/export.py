"""`explorer export`: a trial into a folder that works in any diffusers pipeline."""

from __future__ import annotations

from pathlib import Path

from studies.certificates.asked import asked_trial
from studies.certificates.export import write_export
from studies.cli.commands.output import out, print_json
from studies.storage.store import Store


def export_command(study_name: str, trial: str, folder: Path, storage: str, force: bool, as_json: bool) -> None:
    with Store.open(storage, read_only=True) as store:
        study = store.study(study_name)
        row = asked_trial(store, study, trial)
        files = write_export(store, study, row, folder, force=force)
    if as_json:
        print_json(
            {"study": study_name, "trial": row.number, "folder": str(folder), "files": [path.name for path in files]}
        )
        return
    console = out()
    console.print(f"{row.words}: {len(files)} files in {folder}\n", markup=False)
    console.print("  from explorer import inherit", markup=False)
    console.print(f"  inherit(pipe, {str(folder)!r})", markup=False)
