"""The job that runs: what it does, for how long, how to end it. Part of the panels Judge and Export."""

from __future__ import annotations

from html import escape

import streamlit as st

from pocketgenie.web_demo.hub import hub
from pocketgenie.web_demo.jobs import Job, Order

SHOWN = 14  # lines of the log
ICONS = {"running": "hourglass_top", "done": "check_circle", "failed": "error", "cancelled": "cancel"}


def begin(title: str, order: Order) -> None:
    """Start a job and show it. Raises UserError while another runs."""
    hub().jobs.begin(title, order)
    st.rerun()


def show(kinds: tuple[str, ...]) -> None:
    """The last job, if it is of one of these kinds; looks again every second while it runs."""
    job = hub().jobs.last
    if job is None or job.order.kind not in kinds:
        return
    if job.state == "running":
        st.fragment(_watch, run_every=1.0)()
    else:
        _draw(job)


def _watch() -> None:
    job = hub().jobs.last
    if job is None:
        return
    if job.state != "running":
        st.rerun()  # the whole page: the lists have changed
    _draw(job)


def _draw(job: Job) -> None:
    with st.container(border=True):
        left, right = st.columns([4, 1], vertical_alignment="center")
        icon = ICONS[job.state]
        left.markdown(f":material/{icon}: **{job.title}** · {job.state} · {job.seconds:.0f} s")
        if job.state == "running" and right.button("Cancel", key="job-cancel", width="stretch"):
            with st.spinner("ending it"):
                job.cancel()
            st.rerun()
        if job.state == "running":
            share = 1 - 0.93 ** len(job.lines)  # nobody knows how many steps there are
            st.progress(share, text=job.lines[-1][1] if job.lines else "starting")
        elif job.state == "failed":
            st.error(job.words)
        elif job.words:
            st.caption(job.words)
        log = "\n".join(f"{seconds:6.1f} s  {what}" for seconds, what in list(job.lines)[-SHOWN:])
        st.html(f'<pre class="log">{escape(log)}</pre>')
