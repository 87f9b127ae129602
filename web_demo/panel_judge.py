"""Judge: what a bundle's check found, its speed, its precision search; and the check itself, from here."""

from __future__ import annotations

import streamlit as st
from pydantic import ValidationError

from pocketgenie.errors import UserError
from pocketgenie.export import evidence, figures, searched
from pocketgenie.export.bundle import Bundle
from pocketgenie.export.page import Block, Section, Text
from pocketgenie.quantize.pareto import SEARCH
from pocketgenie.runtimes.results import BenchDocument, CheckDocument, ParityDocument, RuntimeRow
from pocketgenie.web_demo import panel_jobs
from pocketgenie.web_demo.jobs import CheckOrder
from pocketgenie.web_demo.shelf import Entry, Shelf, measured_in
from pocketgenie.web_demo.widgets import blocks, choose_entry

PARITY, BENCH = "parity.json", "bench.json"


def show(shelf: Shelf) -> None:
    """The panel."""
    left, right = st.columns([1, 2.2], gap="large")
    with left:
        entry = choose_entry(shelf, "judge")
        checkable = entry.manifest.reference is not None and entry.manifest.clips is not None
        st.markdown("### Check it here")
        st.caption(
            "Parity against the float32 reference on held-out clips (L0 to L4), and speed in turns with its "
            "rivals. Takes minutes; the figures go into the bundle."
        )
        chosen = st.multiselect(
            "Runtimes",
            [name for name in measured_in(entry.manifest.target) if name != "reference"],
            key=f"judge-{entry.name}",
            placeholder="all that work here",
        )
        frames = st.slider("Frames of a roll-out", 16, 128, 64, 16, key="judge-frames")
        if st.button("Check", type="primary", disabled=not checkable, width="stretch"):
            order = CheckOrder(bundle=entry.folder.resolve(), runtimes=tuple(chosen), frames=int(frames))
            panel_jobs.begin(f"check of {entry.name}", order)
        if not checkable:
            st.caption("It holds no reference and clips: export it again without `--no-reference`.")
    with right:
        panel_jobs.show(("check",))
        _verdict(entry)


def _verdict(entry: Entry) -> None:
    found = read_check(entry)
    title, lead, verdict = figures.headline(entry.manifest, found, "it was not checked yet")
    st.title(title)
    colour = {"passed": "green", "falls short": "red"}.get(verdict, "orange")
    st.markdown(f":{colour}-badge[{verdict}] {lead}")
    row = figures.headline_row(found)
    parts: list[Section | Block] = []
    if found and row and row.fps:
        parts.append(figures.tiles(found, row))
    if found:
        parts += [
            Section("Speed", figures.speed(found, {})),
            *evidence.parity(found),
            *evidence.not_run(found),
        ]
        if found.quality:
            parts.append(Section("Beside its teacher", [evidence.by_teacher(found.quality)]))
    if search := searched.read_search(_verified(entry, SEARCH)):
        parts.append(searched.section(search))
    parts += evidence.engines(entry.manifest)
    parts.append(Section("How it was made", [evidence.facts(entry.manifest, found)]))
    if not found:
        parts.insert(
            0,
            Text("**Check** plays it beside the reference and says how fast it is."),
        )
    blocks(parts, f"judge-{entry.name}-blocks")


def _verified(entry: Entry, name: str) -> Bundle:
    """The bundle; `name` is as it was written, where it is there. Raises UserError."""
    bundle = Bundle(folder=entry.folder, manifest=entry.manifest)
    if name in entry.manifest.files:
        bundle.verify([name])
    return bundle


def read_check(entry: Entry) -> CheckDocument | None:
    """parity.json and bench.json of a bundle in one document; None without. Raises UserError."""
    if not {PARITY, BENCH} <= entry.manifest.files.keys():
        return None
    bundle = _verified(entry, PARITY)
    bundle.verify([BENCH])
    try:
        parity = ParityDocument.model_validate_json(bundle.path(PARITY).read_bytes())
        bench = BenchDocument.model_validate_json(bundle.path(BENCH).read_bytes())
    except ValidationError:
        raise UserError(f"{entry.name} was checked by another version; check it again") from None
    right = {row.name: row for row in parity.runtimes}
    rows = tuple(
        RuntimeRow(**{**dict(fast), **dict(right[fast.name])})
        for fast in bench.runtimes
        if fast.name in right
    )
    shared = {name: getattr(bench, name) for name in CheckDocument.model_fields if name != "runtimes"}
    return CheckDocument(**shared, runtimes=rows)
