"""Export: a checkpoint becomes a bundle, which then is in every list."""

from __future__ import annotations

import re
from importlib.util import find_spec

import streamlit as st

from pocketgenie.errors import UserError
from pocketgenie.export.cards import CARDS
from pocketgenie.export.manifest import Precision, Target
from pocketgenie.web_demo import panel_jobs
from pocketgenie.web_demo.hub import hub
from pocketgenie.web_demo.jobs import ExportOrder
from pocketgenie.web_demo.shelf import Shelf, sources

TARGETS: dict[Target, str] = {
    "onnx": "ONNX Runtime, on any CPU or card",
    "tensorrt": "TensorRT engines for NVIDIA cards, and the ONNX",
    "web": "a site that plays in any browser; fetches ONNX Runtime Web from npm once",
}
PRECISIONS: dict[Precision, str] = {
    "fp32": "exact; the largest",
    "fp16": "half the size; for cards",
    "int8": "a quarter of the size; fastest on CPUs",
    "int4": "the smallest",
}
NO_BROWSER: tuple[Precision, ...] = ("fp16",)
"""What export/web.py refuses; it is not imported here because it imports onnx."""
USUAL: dict[Target, Precision] = {"onnx": "int8", "tensorrt": "fp16", "web": "int8"}
CARDS_HERE = [name for name in CARDS if name.startswith("rtx")]


def show(shelf: Shelf) -> None:
    """The panel."""
    settings = hub().settings
    found = sources(settings)
    left, right = st.columns([1, 1.6], gap="large")
    with left:
        if not found:
            places = ", ".join(f"`{place}`" for place in settings.checkpoints)
            st.info(f"No checkpoint was found in {places}; `pocketgenie train` makes one.")
            return
        source = st.selectbox("Checkpoint", list(found), key="export-source")
        target = st.radio(
            "Target", list(TARGETS), captions=list(TARGETS.values()), key="export-target", format_func=str
        )
        offered = [name for name in PRECISIONS if target != "web" or name not in NO_BROWSER]
        precision = st.radio(
            "Precision",
            offered,
            captions=[PRECISIONS[name] for name in offered],
            index=offered.index(USUAL[target]),
            key=f"export-precision-{target}",
        )
        cards: list[str] = []
        if target == "tensorrt":
            cards = st.multiselect(
                "Cards",
                CARDS_HERE,
                default=["rtx30", "rtx40", "rtx50"],
                format_func=lambda name: f"{name} ({CARDS[name].architecture})",
                key="export-cards",
            )
        name = destination_name(str(source), target, precision)
        lacking = _lacking(target)
        if lacking:
            st.warning(lacking)
        again = name in shelf.bundles
        ready = not lacking and (target != "tensorrt" or bool(cards))
        words = "Export again" if again else "Export"
        if st.button(words, type="primary", disabled=not ready, width="stretch"):
            order = ExportOrder(
                checkpoint=found[str(source)].resolve(),
                destination=settings.dist.resolve() / name,
                target=target,
                precision=precision,
                cards=",".join(cards) or "portable",
            )
            panel_jobs.begin(f"export of {name}", order)
        st.caption(f"Writes `{settings.dist / name}`, whole or not at all.")
    with right:
        panel_jobs.show(("export",))
        st.title("From checkpoint to bundle")
        st.write(
            "A bundle plays without PyTorch: graphs or engines, the pictures to start from, the checkpoint "
            "to be judged by, and the hash of every file. Those found here:"
        )
        rows = [
            {
                "bundle": entry.name,
                "target": entry.manifest.target,
                "precision": entry.manifest.precision,
                "MB": round(sum(one.size for one in entry.manifest.files.values()) / 1e6, 1),
                "plays here in": ", ".join(entry.runtimes) or "nothing",
            }
            for entry in shelf.bundles.values()
        ]
        st.dataframe(rows, hide_index=True, width="stretch")


def destination_name(source: str, target: str, precision: str) -> str:
    """As `pocketgenie export` names it: plain letters, whatever the checkpoint's folder is called."""
    stem = re.sub(r"[^A-Za-z0-9_.-]", "-", source.rpartition("/")[2].removeprefix("bundle ")).strip(".-")
    stem = re.sub(r"-(onnx|tensorrt|web|openvino)-(fp32|fp16|int8|int4|mixed|auto)$", "", stem)
    if not stem:
        raise UserError(f"{source} has no name that a folder can have")
    return f"{stem}-{target}-{precision}"


def _lacking(target: Target) -> str:
    """What is not installed for this; empty when all is."""
    if any(find_spec(name) is None for name in ("torch", "onnx", "onnxscript")):
        return "Exporting needs more than playing: `pip install 'pocketgenie[export]'`"
    if target == "tensorrt" and find_spec("tensorrt_rtx") is None:
        return "Engines need `pip install 'pocketgenie[tensorrt]'`"
    return ""
