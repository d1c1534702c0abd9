"""The app's frame: its pages, the study's box, and what is said when there is nothing to look at. `explorer dashboard`
starts it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import streamlit as st
from PIL import Image

from dashboard.context import (
    ANATOMY,
    CALIBRATION,
    COMPARE,
    FRONT,
    PLAN,
    PROGRESS,
    STUDENTS,
    STUDIES,
    choose_study,
    enter,
    open_store,
    storage,
)
from dashboard.live import follow
from dashboard.wording import plain, say
from explorer.errors import ExplorerError
from studies.storage.command_lines import command_line

# Drawn here, as an icon by name would be fetched from the network: steps across, what they compute downwards.
ICON = np.kron(np.array([[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 1, 1, 0]]), np.ones((8, 8), int))
# A page's file is read when somebody opens it.
PAGES = {
    STUDIES: ("Studies", ":material/database:", None),
    FRONT: ("Front", ":material/scatter_plot:", "front"),
    PLAN: ("Plan", ":material/grid_on:", "plan"),
    COMPARE: ("Compare", ":material/compare:", "compare"),
    ANATOMY: ("Anatomy", ":material/account_tree:", "anatomy"),
    STUDENTS: ("Students", ":material/school:", "students"),
    CALIBRATION: ("Calibration", ":material/thermostat:", "calibration"),
    PROGRESS: ("Progress", ":material/trending_up:", "progress"),
}


def main() -> None:
    colours = np.array([[0, 114, 178], [230, 159, 0]], dtype=np.uint8)
    st.set_page_config("Inheritance Explorer", Image.fromarray(colours[ICON]), layout="wide")
    st.logo(Image.fromarray(colours[ICON]), size="large")
    here = Path(__file__).parent
    pages = {
        st.Page(file, title=title, icon=icon, url_path=path, default=path is None): file
        for file, (title, icon, path) in PAGES.items()
        if (here / file).exists()
    }
    page = st.navigation(list(pages))
    enter(pages[page])
    names: list[str] = []
    try:
        with open_store() as store:
            names = [study.name for study in store.studies()]
            where = store.where
        if not names:
            say(f"the storage {where} holds no study; run `explorer search` first.")
            st.code(command_line("search", "--trials", 60, storage=storage()), language="bash")
            return
        choose_study(names)
        with st.sidebar:
            follow(pages[page])
        st.sidebar.caption(f"Storage: {plain(where)}. These pages only read it.")
        page.run()
    except ExplorerError as error:
        say(error)
        if names and pages[page] != PROGRESS:
            st.page_link(PROGRESS, label="What was tried, what failed and why", icon=PAGES[PROGRESS][1])


if __name__ == "__main__":
    main()
