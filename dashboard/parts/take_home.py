"""The Plan page's way out: an export as a zip, the two lines of use, the commands that make it again."""

from __future__ import annotations

import io
import shlex
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import streamlit as st

from dashboard.context import storage
from dashboard.wording import file_name
from explorer.plans.plan import InheritancePlan
from search_spaces.axes import choices
from studies.results.rows import TrialRow
from studies.storage.command_lines import command_line
from studies.storage.store import Store, StudyRecord


def take_home(study: StudyRecord, row: TrialRow, plan: InheritancePlan) -> None:
    folder = file_name(study.name, "trial", row.number)
    with st.container(border=True):
        st.subheader("Take it home", anchor=False)
        code, command = st.columns(2)
        with code:
            st.code(two_lines(folder), language="python")
            applied = [axis.applied(value) for axis in choices() if (value := axis.of(plan)) is not None]
            put = "".join(f" {each}" for each in applied)
            st.caption(
                f"`pipe` is your diffusers pipeline; call it as usual, with `num_inference_steps={plan.steps}`.{put}"
            )
        with command:
            st.code(export_command(study, row, folder), language="bash", wrap_lines=True)
            st.caption(
                "The same export from the command line; its `reproduce.sh` measures the plan's speed again, and its "
                "quality on held-out prompts."
            )
        assert row.number is not None
        zipped = zip_of(storage(), study.name, row.number, folder)
        st.download_button(
            "Export the plan", zipped, f"{folder}.zip", "application/zip", on_click="ignore", type="primary",
            icon=":material/download:", key="export",
        )  # fmt: skip
        st.caption(
            "A zip file of what `explorer export` writes: the plan, its scores, a card, a script that measures it "
            "again and a pipeline for diffusers."
        )


def two_lines(folder: str) -> str:
    """The use of an export's folder."""
    return f'from explorer import inherit\ninherit(pipe, "{folder}")'


def export_command(study: StudyRecord, row: TrialRow, folder: str) -> str:
    words = ("export", study.name, "--trial", row.number, "--out", folder)
    return f"{command_line(*words, storage=storage())}\nsh {shlex.quote(folder)}/reproduce.sh"


def zip_of(url: str, study: str, number: int, folder: str) -> Callable[[], bytes]:
    """Makes the zip when somebody clicks: `folder` with what `write_export` writes, from a storage that is only read.

    The callable raises ExplorerError when the trial cannot be exported.
    """

    def make() -> bytes:
        from studies.certificates.export import find_trial, write_export

        with Store.open(url, read_only=True) as store, tempfile.TemporaryDirectory() as place:
            record = store.study(study)
            target = Path(place) / folder
            write_export(store, record, find_trial(store, record, number), target)
            stream = io.BytesIO()
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in sorted(target.rglob("*")):
                    if path.is_file():
                        archive.write(path, f"{folder}/{path.relative_to(target)}")
            return stream.getvalue()

    return make
