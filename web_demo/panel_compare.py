"""Compare: two bundles or runtimes, the same picture, actions and noise, side by side."""

from __future__ import annotations

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from pocketgenie.errors import UserError
from pocketgenie.export.charts import Bar, bars, curve
from pocketgenie.export.page import Block, Charts, Section, Strip, Text, Tiles
from pocketgenie.runtimes.pictures import Frame, difference, enlarge
from pocketgenie.runtimes.player import parse_actions
from pocketgenie.web_demo.panel_play import TICKET
from pocketgenie.web_demo.shelf import Entry, Shelf
from pocketgenie.web_demo.studio import MAX_FRAMES, Comparison, Side, compare, fits
from pocketgenie.web_demo.tickets import Ticket
from pocketgenie.web_demo.widgets import blocks, choose_entry, choose_runtime, choose_start, png, telling

DONE = "comparison"
AMPLIFY = 8
COLD, HOT = np.array([38, 46, 55]), np.array([240, 185, 90])
HELD = 6  # frames that a random action is held


def show(shelf: Shelf) -> None:
    """The panel."""
    left, right, third = st.columns([1, 1, 1.1], gap="large")
    with left:
        one = _side(shelf, "Left")
    with right:
        sides = one, _side(shelf, "Right", other_than=one.entry.name)
    with third:
        start = choose_start(one.entry, "compare")
    with left:
        actions = _actions(one.entry)
    with right:
        with st.expander("Sampling"):
            seed = st.number_input("Seed", 0, 2**31 - 1, 0, key="compare-seed")
            zero = st.toggle("Always the likeliest tokens", key="compare-zero", help="No noise.")
        if why := fits(sides[0].entry, sides[1].entry):
            st.warning(f"These cannot be compared: {why}.")
        ready = not why and start is not None and bool(actions)
        go = st.button("Compare", type="primary", disabled=not ready, width="stretch")
    if go and start is not None:
        with telling() as tell:
            st.session_state[DONE] = compare(sides, start.frame, actions, int(seed), zero, tell)
    if DONE in st.session_state:
        _result(st.session_state[DONE])
    else:
        st.title("Is it still the same world?")
        st.write(
            "Choose two bundles, or one bundle in two runtimes. Both play the same actions from the same "
            "picture with the same noise; what differs is what the precision or the runtime costs."
        )


def _side(shelf: Shelf, name: str, other_than: str | None = None) -> Side:
    entry = choose_entry(shelf, f"compare-{name}", name, other_than)
    return Side(entry=entry, runtime=choose_runtime(entry, f"compare-{name}"))


def _actions(entry: Entry) -> list[int]:
    """Typed, at random, or those of the last play."""
    spec = entry.manifest.spec
    ticket: Ticket | None = st.session_state.get(TICKET)
    played = ticket.recording.kept().actions if ticket else []
    ways = ["At random", "Typed", *(["My last play"] if played else [])]
    way = st.segmented_control(
        "Actions", ways, default=ways[0], required=True, key="compare-actions-way", wrap=True
    )
    if way == "Typed":
        some = f"1,1,{min(4, spec.actions)}x8,{min(2, spec.actions)}x6"
        text = st.text_input("Which", some, key="compare-actions", help="4x8: action 4, eight times")
        try:
            return parse_actions(text or "", spec)[:MAX_FRAMES]
        except UserError as error:
            st.error(str(error))
            return []
    if way == "My last play":
        st.caption(f"{min(len(played), MAX_FRAMES)} frames")
        return [action for action in played[:MAX_FRAMES] if action < spec.actions]
    frames = st.slider("Frames", 8, MAX_FRAMES, 32, 8, key="compare-frames")
    rng = np.random.default_rng(0)
    held = rng.integers(0, spec.actions, -(-frames // HELD)).repeat(HELD)[:frames]
    return [int(action) for action in held]


def _result(found: Comparison) -> None:
    one, two = found.films
    number = st.slider("Frame", 0, len(found.actions), len(found.actions), key="compare-frame")
    a, b = one.frames[number], two.frames[number]
    scale = max(1, 224 // a.shape[1])
    led = "the start" if not number else f"action {found.actions[number - 1] + 1}"
    pictures = [
        (found.sides[0].name, png(a, scale)),
        (found.sides[1].name, png(b, scale)),
        (f"difference ×{AMPLIFY}", png(difference(a, b, AMPLIFY), scale)),
    ]
    parts: list[Section | Block] = [_tiles(found)]
    if found.tokens:
        differ = found.differing()
        pictures.append(("differing tokens", png(_marked(b, differ[number].reshape(found.grid)), scale)))
    parts.append(Section(f"Frame {number}: {led}", [Strip([("", pictures)])]))
    charts = [("Likeness of each frame: PSNR, dB", curve(found.psnr_db(), 100, "PSNR per frame"))]
    speeds = [
        Bar(
            name=f"{side.entry.manifest.precision} {side.runtime}",
            value=rate,
            shown=f"{rate:.0f} fps",
            ours=not index,
        )
        for index, (side, film) in enumerate(zip(found.sides, found.films, strict=True))
        if (rate := 1000 / float(np.median(film.ms)))
    ]
    charts.append(("Frames per second, one after the other here and now", bars(speeds, "frames per second")))
    parts.append(Section("Over time", [Charts(charts)]))
    if found.tokens:
        places = _heat(differ[1:].mean(0).reshape(found.grid))
        parts.append(
            Section(
                "Which tokens differ",
                [
                    Text("From left to right the frames, downwards the tokens of a frame. Lit: they differ."),
                    Strip(
                        [
                            (
                                "",
                                [
                                    ("each token in each frame", png(_heat(differ.T), 6)),
                                    ("where in the picture: the brighter, the more often", png(places, 48)),
                                ],
                            )
                        ]
                    ),
                ],
            )
        )
    else:
        parts.append(Text("Their tokens are not the same codes; only the pictures can be compared."))
    blocks(parts, "compare-blocks", large=True)


def _tiles(found: Comparison) -> Tiles:
    likeness = found.psnr_db()
    tiles = []
    if found.tokens:
        differ = found.differing()
        parted = np.flatnonzero(differ.any(1))
        first = f"frame {int(parted[0])}" if len(parted) else "none"
        tiles += [
            (f"{1 - differ.mean():.1%}", "of all tokens equal", f"in {len(differ)} frames"),
            (first, "first with another token", "from there on each goes its own way"),
        ]
    equal = sum(value >= 100 for value in likeness)
    many = f"{equal} of {len(likeness)} frames equal"
    tiles.append((f"{np.mean(likeness):.1f} dB", "likeness on average", many))
    return Tiles(tiles)


def _heat(share: NDArray[np.float64] | NDArray[np.bool_]) -> Frame:
    """0..1 [r, c] -> uint8 [r, c, 3]"""
    weight = np.asarray(share, np.float64)[..., None]
    return np.asarray(np.rint(COLD + (HOT - COLD) * np.sqrt(weight)), np.uint8)


def _marked(frame: Frame, differ: NDArray[np.bool_]) -> Frame:
    """A frame, darkened where the tokens agree, with the colour of heat over those that differ."""
    rows, columns = differ.shape
    mask = enlarge(differ[..., None].astype(np.uint8), 1)
    tall, wide = frame.shape[0] // rows, frame.shape[1] // columns
    mask = mask.repeat(tall, 0).repeat(wide, 1)[: frame.shape[0], : frame.shape[1]]
    plain = frame[: mask.shape[0], : mask.shape[1]].astype(np.float64)
    lit = plain * 0.35 + HOT * 0.65
    return np.asarray(np.where(mask > 0, lit, plain * 0.45), np.uint8)
