"""The page's frame: its look, its panels, what is said when there is nothing to open."""

from __future__ import annotations

from functools import partial
from html import escape

import streamlit as st

from pocketgenie.errors import UserError
from pocketgenie.web_demo import panel_compare, panel_export, panel_imitate, panel_judge, panel_play
from pocketgenie.web_demo.guards import is_local
from pocketgenie.web_demo.hub import hub
from pocketgenie.web_demo.shelf import Shelf, look

LOOK = """
.stAppHeader { background: #0f1215 } .stMainBlockContainer { max-width: 1180px; padding-top: 4.2rem }
h1 { font-size: 1.9rem !important; letter-spacing: -.02em; padding-bottom: .2rem !important }
.stMain h3 { font-size: 1.05rem; letter-spacing: -.01em }
[data-testid="stHeaderActionElements"], .stDeployButton, [data-testid="stDecoration"] { display: none }
[data-testid="stBaseButton-primary"] p { color: #06211d; font-weight: 600 }
.log { font-size: .8rem; line-height: 1.45; color: #98a2ae; margin: 0; white-space: pre-wrap }
"""

PANELS = (
    ("Play", "play", ":material/sports_esports:", panel_play.show),
    ("Imitate", "imitate", ":material/movie:", panel_imitate.show),
    ("Compare", "compare", ":material/compare:", panel_compare.show),
    ("Judge", "judge", ":material/gavel:", panel_judge.show),
    ("Export", "export", ":material/package_2:", panel_export.show),
)


def show() -> None:
    """One run of the page."""
    st.set_page_config(page_title="pocketgenie", page_icon="🧞", layout="wide")
    st.html(f"<style>{LOOK}</style>")
    shelf = look(hub().settings)
    pages = [
        st.Page(partial(_panel, panel, shelf), title=title, url_path=path, icon=icon, default=path == "play")
        for title, path, icon, panel in PANELS
    ]
    st.navigation(pages, position="top").run()


def show_one(path: str) -> None:
    """One panel alone."""
    _panel(next(panel for _, name, _, panel in PANELS if name == path), look(hub().settings))


def _panel(panel: panel_play.Panel, shelf: Shelf) -> None:
    if not is_local(hub().settings.address):
        st.warning("Everybody on this network can open this page, and play and export here.")
    for name, why in shelf.damaged.items():
        st.warning(f"{escape(name)} is left out: {why}")
    if not shelf.bundles and panel is not panel_export.show:
        st.title("No world to play yet")
        st.write(
            f"There is no bundle in `{hub().settings.dist}`. Make one in the panel **Export**, or in a "
            "terminal: `pocketgenie export`, then reload this page."
        )
        return
    try:
        panel(shelf)
    except UserError as error:
        st.error(str(error))
