"""The demo's ASGI app, for `streamlit run web_demo/app.py`; `pocketgenie demo` does that with its settings.

The page is Streamlit's (page.py); frames go over a socket of our own (stream.py), not through Streamlit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.middleware import Middleware

from pocketgenie.web_demo.guards import HostGuard
from pocketgenie.web_demo.hub import hub
from pocketgenie.web_demo.routes import make_routes


@asynccontextmanager
async def lifespan(_: Any) -> AsyncIterator[dict[str, Any]]:
    """No engine outlives the server."""
    yield {}
    hub().close()


app = st.App(
    Path(__file__).resolve().with_name("page.py"),
    routes=make_routes(hub()),
    middleware=[Middleware(HostGuard, address=hub().settings.address)],
    lifespan=lifespan,
)
