"""What the panels share: components of our own, the choice of a bundle, of a runtime, of a picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from pocketgenie.errors import UserError
from pocketgenie.export.page import Block, Section, block_html
from pocketgenie.export.style import STYLE
from pocketgenie.runtimes.pictures import Frame, Picture, enlarge
from pocketgenie.web_demo.guards import picture_of
from pocketgenie.web_demo.hub import hub
from pocketgenie.web_demo.settings import MAX_PICTURE_MB
from pocketgenie.web_demo.shelf import Entry, Shelf, gallery

HERE = Path(__file__).resolve().parent
DARK = STYLE.replace(":root", ":host").replace("color-scheme: light dark", "color-scheme: dark")
"""The report's style, for a shadow root."""
LOADER = """
export default function({ parentElement, data, setStateValue }) {
  let over = false, end = () => {};
  import(new URL('/pocketgenie/canvas/%s.js', document.baseURI).href).then(({ mount }) => {
    if (!over) end = mount(parentElement.querySelector('.root'), data, setStateValue);
  });
  return () => { over = true; end(); };
}
"""
COLOURS = 10
WAYS = ("Gallery", "Upload", "Camera", "Draw", "Describe")
NO_CAMERA = "No view? Allow this page the camera in your browser, which gives it to localhost and https only."
"""Streamlit asks for leave, and says nothing when it is refused."""


@cache
def component(name: str, styles: str, isolated: bool = True) -> Any:
    """A component whose script is web_demo/canvas/NAME.js, with a `mount(element, data, setStateValue)`.

    Isolated ones have a shadow root: there their keys look as if they came from the root, not from a button.
    """
    return st.components.v2.component(
        f"pocketgenie_{name}",
        html='<div class="root"></div>',
        css=styles,
        js=LOADER % name,
        isolate_styles=isolated,
    )


def style(name: str) -> str:
    """A style sheet beside the scripts."""
    return (HERE / "canvas" / f"{name}.css").read_text(encoding="utf-8")


def blocks(sections: Sequence[Section | Block], key: str, large: bool = False) -> None:
    """Sections of a report, or bare blocks, as a report shows them; `large`: pictures to look into."""
    parts = []
    for section in sections:
        if isinstance(section, Section):
            inside = "".join(map(block_html, section.blocks))
            parts.append(f"<section><h2>{section.title}</h2>{inside}</section>")
        else:
            parts.append(block_html(section))
    component("blocks", DARK + style("blocks"))(key=key, data={"html": "".join(parts), "large": large})


@contextmanager
def telling() -> Iterator[Callable[[str], None]]:
    """A line that says what is being done, gone when it is."""
    place = st.empty()

    def tell(what: str) -> None:
        place.info(what, icon=":material/hourglass_top:")

    try:
        yield tell
    finally:
        place.empty()


def png(frame: Frame, scale: int = 1) -> bytes:
    """Pixels as a PNG, enlarged by whole pixels."""
    file = io.BytesIO()
    Image.fromarray(enlarge(frame, scale)).save(file, "PNG")
    return file.getvalue()


def uri(frame: Frame) -> str:
    """A picture for a component."""
    return f"data:image/png;base64,{base64.b64encode(png(frame)).decode()}"


def choose_entry(shelf: Shelf, key: str, label: str = "Bundle", other_than: str | None = None) -> Entry:
    """One of the bundles."""
    names = list(shelf.bundles)
    index = next((i for i, name in enumerate(names) if name != other_than), 0)
    name = st.selectbox(label, names, index=index, key=f"{key}-bundle")
    assert name is not None
    st.caption(shelf.bundles[name].words)
    return shelf.bundles[name]


def choose_runtime(entry: Entry, key: str) -> str:
    """One of the runtimes that may play it here. Raises UserError when there is none."""
    if not entry.runtimes:
        raise UserError(f"nothing here plays {entry.manifest.target} bundles; `pocketgenie doctor` says why")
    chosen = st.selectbox("Runtime", entry.runtimes, key=f"{key}-runtime-{entry.name}")
    assert chosen is not None
    return chosen


def choose_start(entry: Entry, key: str) -> Picture | None:
    """A picture to start from, by one of several ways; None until there is one."""
    way = st.pills("Start from", WAYS, default=WAYS[0], required=True, key=f"{key}-way", wrap=True)
    spec = entry.manifest.spec
    try:
        match way:
            case "Upload":
                file = st.file_uploader(
                    "A picture",
                    type=["png", "jpg", "jpeg", "webp", "gif", "bmp", "tiff", "avif"],
                    max_upload_size=MAX_PICTURE_MB,
                    key=f"{key}-upload",
                    label_visibility="collapsed",
                )
                picture = picture_of(file.getvalue(), spec, "your picture") if file else None
            case "Camera":
                shot = st.camera_input("Camera", key=f"{key}-camera", label_visibility="collapsed")
                if shot is None:
                    st.caption(NO_CAMERA)
                picture = picture_of(shot.getvalue(), spec, "the photo") if shot else None
            case "Draw":
                picture = _drawing(entry, key)
            case "Describe":
                picture = _described(entry, key)
            case _:
                return _from_gallery(entry, key)
    except UserError as error:
        st.error(str(error))
        return None
    if picture is not None and way != "Draw":
        st.image(png(picture.frame), caption=picture.done, width=160)
    return picture


def _from_gallery(entry: Entry, key: str) -> Picture | None:
    pictures = gallery(entry)
    if not pictures:
        st.info("This bundle has no gallery; start from a picture of your own.")
        return None
    state = component("gallery", style("gallery"))(
        key=f"{key}-gallery-{entry.name}",
        data={"pictures": [uri(picture.frame) for picture in pictures]},
        default={"chosen": 0},
        on_chosen_change=lambda: None,
    )
    chosen = state.chosen if isinstance(state.chosen, int) else 0
    return pictures[chosen if 0 <= chosen < len(pictures) else 0]


def _drawing(entry: Entry, key: str) -> Picture | None:
    spec = entry.manifest.spec
    state = component("draw", style("draw"))(
        key=f"{key}-draw",
        data={"width": spec.width, "height": spec.height, "colours": _colours(entry)},
        default={"png": None},
        on_png_change=lambda: None,
    )
    if not isinstance(state.png, str) or not state.png.startswith("data:image/png;base64,"):
        return None
    try:
        data = base64.b64decode(state.png.partition(",")[2], validate=True)
    except ValueError:
        return None
    return picture_of(data, spec, "the drawing")


def _colours(entry: Entry) -> list[list[int]]:
    """What to draw with: the gallery's own colours, the most frequent first."""
    frames = [picture.frame for picture in gallery(entry)] or [np.zeros((8, 8, 3), np.uint8)]
    few = Image.fromarray(np.concatenate(frames)).quantize(COLOURS, Image.Quantize.MAXCOVERAGE)
    counted = sorted(few.getcolors() or [], reverse=True)
    palette = np.array(few.getpalette(), np.uint8).reshape(-1, 3)
    return [palette[index].tolist() for _, index in counted if isinstance(index, int)]


def _described(entry: Entry, key: str) -> Picture | None:
    from pocketgenie.web_demo.prompt import MAX_WORDS, draw, what_is_missing

    settings = hub().settings
    missing = what_is_missing(settings.prompt_model)
    text = st.text_area(
        "What should it show?",
        placeholder="a small knight on green hills, pixel art",
        max_chars=MAX_WORDS,
        disabled=bool(missing),
        key=f"{key}-prompt",
    )
    if missing:
        st.info(missing)
        return None
    assert settings.prompt_model is not None
    drawn: dict[str, Any] = st.session_state.setdefault("drawn", {})
    if st.button("Draw it", key=f"{key}-prompt-go", disabled=not (text or "").strip()):
        with st.spinner("the model draws; the first time it is loaded as well"):
            drawn["picture"] = draw(settings.prompt_model, str(text), seed=drawn.get("times", 0))
            drawn["times"] = drawn.get("times", 0) + 1  # the same words again: another picture
            drawn["words"] = text
    if "picture" not in drawn:
        return None
    return picture_of(_as_png(drawn["picture"]), entry.manifest.spec, f"“{drawn['words']}”")


def _as_png(frame: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG")
    return file.getvalue()
