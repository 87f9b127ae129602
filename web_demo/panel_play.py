"""Play: the world on a canvas, in real time, from any picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import streamlit as st

from pocketgenie.runtimes.pictures import Picture
from pocketgenie.web_demo.hub import hub
from pocketgenie.web_demo.recording import has_mp4
from pocketgenie.web_demo.shelf import Entry, Shelf
from pocketgenie.web_demo.tickets import Ticket
from pocketgenie.web_demo.widgets import choose_entry, choose_runtime, choose_start, component, style

Panel = Callable[[Shelf], None]
TICKET, TICKET_OF = "ticket", "ticket-of"


def show(shelf: Shelf) -> None:
    """The panel."""
    left, right = st.columns([1, 2.5], gap="large")
    with left:
        entry = choose_entry(shelf, "play")
        runtime = choose_runtime(entry, "play")
        start = choose_start(entry, "play")
        with st.expander("Sampling"):
            seed = st.number_input("Seed", 0, 2**31 - 1, 0, key="play-seed")
            zero = st.toggle("Always the likeliest tokens", key="play-zero", help="Temperature 0: no noise.")
    with right:
        if start is None:
            st.info("Choose a picture to start from.")
            return
        ticket = ticket_for(entry, runtime, start, int(seed), zero)
        spec = entry.manifest.spec
        component("play", style("play"), isolated=False)(
            key="play-canvas",
            data={
                "name": spec.name,
                "ticket": ticket.key,
                "revision": ticket.revision,
                "width": spec.width,
                "height": spec.height,
                "actions": spec.actions,
                "arrows": dict(spec.arrows),
                "fps": spec.fps,
                "mp4": has_mp4(),
            },
        )


def ticket_for(entry: Entry, runtime: str, start: Picture, seed: int, zero: bool) -> Ticket:
    """This session's ticket: the same one while the engine is the same, a new revision for another start."""
    known: Ticket | None = st.session_state.get(TICKET)
    wanted = (entry.name, runtime, entry.manifest.seal)
    other = st.session_state.get(TICKET_OF) != wanted
    if known is None or other or hub().tickets.find(known.key) is None:
        if known is not None:
            hub().tickets.drop(known.key)
        known = hub().tickets.add(
            Ticket(bundle=entry.name, runtime=runtime, start=start.frame, seed=seed, temperature_zero=zero)
        )
        st.session_state[TICKET], st.session_state[TICKET_OF] = known, wanted
    elif (known.seed, known.temperature_zero) != (seed, zero) or not np.array_equal(known.start, start.frame):
        known.start, known.seed, known.temperature_zero = start.frame, seed, zero
        known.revision += 1
    return known
