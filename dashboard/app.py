"""The app's frame: pages, the storage and the study's box. `streamlit run dashboard/app.py -- --storage URL`."""

from __future__ import annotations

import numpy as np
import streamlit as st
from PIL import Image

from dashboard.context import FRONT, PLAN, choose_study, open_store
from dashboard.wording import plain, say
from explorer.errors import ExplorerError

# Drawn here, as an icon by name would be fetched from the network: steps across, what they compute downwards.
ICON = np.kron(np.array([[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 1, 1, 0]]), np.ones((8, 8), int))


def main() -> None:
    colours = np.array([[0, 114, 178], [230, 159, 0]], dtype=np.uint8)
    st.set_page_config("Inheritance Explorer", Image.fromarray(colours[ICON]), layout="wide")
    page = st.navigation(
        [
            st.Page("page_studies.py", title="Studies", icon=":material/database:", default=True),
            st.Page(FRONT, title="Front", icon=":material/scatter_plot:", url_path="front"),
            st.Page(PLAN, title="Plan", icon=":material/grid_on:", url_path="plan"),
        ]
    )
    try:
        with open_store() as store:
            names = [study.name for study in store.studies()]
            where = store.where
        if not names:
            say(f"the storage {where} holds no study; run `explorer search` first.")
            return
        choose_study(names)
        st.sidebar.caption(f"Storage: {plain(where)}. Read only: nothing on these pages changes it.")
        page.run()
    except ExplorerError as error:
        say(error)


if __name__ == "__main__":
    main()
