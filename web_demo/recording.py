"""What was played, to take home: a GIF or an MP4, alone or with its action log and start picture."""

from __future__ import annotations

import io
import json
import zipfile
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from PIL import Image

from pocketgenie.errors import UserError
from pocketgenie.export.manifest import Manifest
from pocketgenie.runtimes.pictures import Frame, encode_gif, enlarge
from pocketgenie.runtimes.worker import Worker, WorkerFailed
from pocketgenie.web_demo.tickets import Kept, Ticket

Form = Literal["gif", "mp4", "json", "zip"]
TYPES: dict[Form, str] = {
    "gif": "image/gif",
    "mp4": "video/mp4",
    "json": "application/json",
    "zip": "application/zip",
}
SIDE = 256  # pixels that the shorter side has at least


def scale_for(frame: Frame) -> int:
    """Whole pixels: how much larger a frame is written."""
    height, width, _ = frame.shape
    return int(max(1, -(-SIDE // min(height, width))))


def encode_mp4(frames: list[Frame], fps: float) -> bytes:
    """H.264 in MP4, whole-pixel enlargement. Raises UserError without PyAV or its encoder."""
    try:
        import av
    except ImportError:
        raise UserError("MP4 needs PyAV; pip install 'pocketgenie[demo]', or take the GIF") from None
    file, scale = io.BytesIO(), scale_for(frames[0])
    height, width = (side * scale // 2 * 2 for side in frames[0].shape[:2])  # yuv420p halves both
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "16", "preset": "veryfast", "tune": "animation"}
        for frame in frames:
            picture = np.ascontiguousarray(enlarge(frame, scale)[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def has_mp4() -> bool:
    """Whether MP4 can be written here."""
    try:
        import av

        return "libx264" in av.codecs_available
    except ImportError:
        return False


def action_log(ticket: Ticket, kept: Kept, manifest: Manifest) -> dict[str, Any]:
    """All that repeats the play: `pocketgenie play BUNDLE --image start.png --seed ... --actions ...`"""
    return {
        "schema_version": 1,
        "bundle": ticket.bundle,
        "world": manifest.spec.name,
        "checkpoint_hash": manifest.checkpoint_hash,
        "runtime": ticket.runtime,
        "precision": manifest.precision,
        "begun": kept.begun,
        "fps": manifest.spec.fps,
        "seed": ticket.seed,
        "temperature_zero": ticket.temperature_zero,
        "actions": [action + 1 for action in kept.actions],
        "actions_count_from": 1,
        "frames_kept": [kept.first, kept.first + len(kept.frames) - 1],
    }


class Encoder:
    """In a process of its own: encoding takes seconds, and the server's threads have frames to send."""

    def gif(self, frames: list[Frame], fps: float) -> bytes:
        """encode_gif"""
        return encode_gif(frames, fps, scale_for(frames[0]))

    def mp4(self, frames: list[Frame], fps: float) -> bytes:
        """encode_mp4"""
        return encode_mp4(frames, fps)


def download(ticket: Ticket, manifest: Manifest, form: Form) -> bytes:
    """What the page offers to keep. Raises UserError when nothing was played, or it cannot be written."""
    kept = ticket.recording.kept()
    if kept.start is None:
        raise UserError("nothing was played yet; hold a key first")
    log = json.dumps(action_log(ticket, kept, manifest), indent=1).encode()
    if form == "json":
        return log
    fps = manifest.spec.fps
    movie: Literal["gif", "mp4"] = form if form != "zip" else "mp4" if has_mp4() else "gif"
    try:
        with Worker("encoder", Encoder, timeout=120) as worker:
            film: bytes = worker.call(movie, kept.frames, fps)
    except WorkerFailed as failure:
        raise UserError(f"the {movie.upper()} could not be written: {failure}") from None
    if form != "zip":
        return film
    picture, file = io.BytesIO(), io.BytesIO()
    Image.fromarray(kept.start).save(picture, "PNG")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"play.{movie}", film)
        archive.writestr("actions.json", log)
        archive.writestr("start.png", picture.getvalue())
    return file.getvalue()
