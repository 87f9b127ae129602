"""Imitate: the latent actions of a video, played again from another picture."""

from __future__ import annotations

import base64

import numpy as np
import streamlit as st

from pocketgenie.errors import UserError
from pocketgenie.export.page import Block, Section, Strip, Table, Text
from pocketgenie.runtimes.pictures import encode_gif, strip
from pocketgenie.web_demo.recording import scale_for
from pocketgenie.web_demo.settings import MAX_VIDEO_MB
from pocketgenie.web_demo.shelf import Entry, Shelf
from pocketgenie.web_demo.studio import MAX_FRAMES, Imitation, imitate, read_video
from pocketgenie.web_demo.widgets import blocks, choose_entry, choose_runtime, choose_start, png, telling

DONE = "imitation"
STRIP = 24  # frames that the strip shows


def show(shelf: Shelf) -> None:
    """The panel."""
    left, right = st.columns([1, 2.2], gap="large")
    with left:
        entry = choose_entry(shelf, "imitate")
        if "infer_action" not in entry.manifest.graphs:
            raise UserError(
                f"{entry.name} has no action model: it cannot tell what happens in a video; "
                "choose another bundle"
            )
        runtime = choose_runtime(entry, "imitate")
        st.markdown("### The video to imitate")
        file = st.file_uploader(
            f"The first {MAX_FRAMES / entry.manifest.spec.fps:.0f} seconds count",
            type=["mp4", "webm", "gif", "mov", "mkv"],
            max_upload_size=MAX_VIDEO_MB,
            key="imitate-video",
        )
        start = choose_start(entry, "imitate")
        go = st.button("Imitate", type="primary", disabled=file is None or start is None, width="stretch")
    with right:
        if go and file is not None and start is not None:
            with telling() as tell:
                tell("reading the video")
                video = read_video(file.getvalue(), entry.manifest.spec)
                st.session_state[DONE] = entry, imitate(entry, runtime, video, start.frame, 0, tell)
        if DONE in st.session_state:
            _result(*st.session_state[DONE])
        else:
            st.title("What happens there, here")
            st.write(
                "Every video of a moving scene holds actions that nobody wrote down. The world's action "
                "model names the one that leads from each frame to the next; played from another picture, "
                "they do there what happened in the video."
            )


def _result(entry: Entry, found: Imitation) -> None:
    spec = entry.manifest.spec
    frames = found.video[found.first - 1 :]  # the one before the first action, then one per action
    notes = ["start", *(f"action {action + 1}" for action in found.actions)]
    pairs = zip(frames, found.film.frames, notes, strict=True)
    scale = scale_for(frames[0])
    film = [strip((a, b), ("the video", "imitated"), scale, note) for a, b, note in pairs]
    gif = encode_gif(film, spec.fps)
    st.markdown("### The same actions, another start")
    st.html(
        f'<img alt="the video and its imitation" style="max-width:100%;border-radius:10px" '
        f'src="data:image/gif;base64,{base64.b64encode(gif).decode()}">'
    )
    shown = np.unique(np.linspace(1, len(found.actions), STRIP).round().astype(int)).tolist()
    rows = [
        ("video", [(f"**{found.actions[t - 1] + 1}**", png(frames[t])) for t in shown]),
        ("imitated", [(f"{t / spec.fps:.1f} s", png(found.film.frames[t])) for t in shown]),
    ]
    used = np.bincount(found.actions, minlength=spec.actions)
    parts: list[Section | Block] = [
        Section(
            "The latent actions",
            [
                Text("Under each frame of the video: the action that led to it."),
                Strip(rows),
                Table(
                    ("action", *(str(action + 1) for action in range(spec.actions))),
                    [("frames", *map(str, used.tolist()))],
                ),
                Text(
                    f"How clear they are: {np.mean(found.clear):.0%} on average (0 %: the second nearest "
                    "code is as near; 100 %: beyond doubt)."
                ),
            ],
        )
    ]
    blocks(parts, "imitate-blocks")
    st.download_button("Save as GIF", gif, "imitation.gif", "image/gif", icon=":material/download:")
