"""Work of the panels that is no live play: reading a video, its latent actions, two roll-outs side by side.

One at a time, each in processes of its own that end with it.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketgenie.errors import UserError
from pocketgenie.genie.spec import WorldSpec
from pocketgenie.runtimes.pictures import Frame
from pocketgenie.runtimes.worker import Worker, WorkerFailed
from pocketgenie.training.evaluation import psnr_db, squared_error
from pocketgenie.web_demo.playing import Film, Playing
from pocketgenie.web_demo.settings import MAX_VIDEO_MB
from pocketgenie.web_demo.shelf import Entry

MAX_FRAMES = 96
PATIENCE = 60.0  # seconds that one waits for another's turn to end
Report = Callable[[str], None]
_DESK = threading.Lock()


@contextmanager
def desk() -> Iterator[None]:
    """Whoever is here works alone. Raises UserError when another takes too long."""
    if not _DESK.acquire(timeout=PATIENCE):
        raise UserError("somebody else's comparison is still running; try again in a moment")
    try:
        yield
    except WorkerFailed as failure:
        raise UserError(f"{failure.who}: {failure}") from None
    finally:
        _DESK.release()


class VideoReader:
    """libav on foreign bytes: in a process of its own."""

    def frames(self, path: Path, width: int, height: int, fps: float, most: int) -> NDArray[np.uint8]:
        """The first frames of a video at a rate, up to a cut or `most`: uint8 [T, H, W, 3]"""
        from pocketgenie.training.video import fit_frame, read_frames, resample

        rate = Fraction(fps).limit_denominator(1001)
        kept: list[NDArray[np.uint8]] = []
        for frame in resample(read_frames(path), rate, pause=2 / rate * 8):
            if frame is None and not kept:
                continue
            if frame is None or len(kept) == most:
                break
            kept.append(fit_frame(frame, width, height))
        return np.stack(kept)


def read_video(data: bytes, spec: WorldSpec, most: int = MAX_FRAMES) -> NDArray[np.uint8]:
    """A user's video as the world's frames uint8 [T, H, W, 3]. Raises UserError."""
    if len(data) > MAX_VIDEO_MB * 1_000_000:
        raise UserError(f"the video has {len(data) / 1e6:.0f} MB; at most {MAX_VIDEO_MB} are read")
    with tempfile.TemporaryDirectory(prefix="pocketgenie-") as folder:
        path = Path(folder) / "video"
        path.write_bytes(data)
        try:
            with Worker("the video", VideoReader, timeout=120) as reader:
                frames: NDArray[np.uint8] = reader.call(
                    "frames", path, spec.width, spec.height, spec.fps, most
                )
        except WorkerFailed as failure:
            raise UserError(str(failure).replace(str(path), "the video")) from None
    if len(frames) < spec.action_frames:
        raise UserError(f"the video is too short: {len(frames)} frames at {spec.fps:g} a second")
    return frames


@dataclass(frozen=True, kw_only=True)
class Imitation:
    video: NDArray[np.uint8]
    """[T, H, W, 3]"""
    actions: list[int]
    """That lead to the frames from `first` on."""
    clear: list[float]
    """Of each action: 0 a toss-up, towards 1 beyond doubt."""
    first: int
    film: Film
    """The same actions from another picture."""


def imitate(
    entry: Entry, runtime: str, video: NDArray[np.uint8], start: Frame, seed: int, report: Report
) -> Imitation:
    """What happens in a video, again, from another start. Raises UserError."""
    with desk():
        report(f"opening {entry.name} in {runtime}")
        with Worker(runtime, Playing, entry.folder, runtime) as worker:
            report(f"inferring the actions of {len(video)} frames")
            actions, clear = worker.call("infer", video)
            report(f"playing {len(actions)} frames")
            film: Film = worker.call("film", start, actions, seed)
    first = entry.manifest.spec.action_frames - 1
    return Imitation(video=video, actions=actions, clear=clear, first=first, film=film)


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two that are compared."""

    entry: Entry
    runtime: str

    @property
    def name(self) -> str:
        return f"{self.entry.name} · {self.runtime}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    sides: tuple[Side, Side]
    films: tuple[Film, Film]
    actions: list[int]
    grid: tuple[int, int]
    tokens: bool
    """Whether the two speak of the same tokens."""

    def differing(self) -> NDArray[np.bool_]:
        """[1 + n, S]: which tokens differ; the start first"""
        found: NDArray[np.bool_] = self.films[0].tokens != self.films[1].tokens
        return found

    def psnr_db(self) -> list[float]:
        """Of every drawn frame; 100 for equal pictures."""
        pairs = zip(self.films[0].frames[1:], self.films[1].frames[1:], strict=True)
        return [psnr_db(squared_error(a, b)) for a, b in pairs]


def fits(a: Entry, b: Entry) -> str:
    """Why two bundles cannot play the same actions from the same picture; empty when they can."""
    one, two = a.manifest.spec, b.manifest.spec
    if one.frame_shape != two.frame_shape:
        return f"{a.name} is {one.width}x{one.height}, {b.name} {two.width}x{two.height}"
    if one.actions != two.actions:
        return f"{a.name} has {one.actions} actions, {b.name} {two.actions}"
    return ""


def compare(
    sides: tuple[Side, Side], start: Frame, actions: list[int], seed: int, zero: bool, report: Report
) -> Comparison:
    """The same picture, actions and seed in two places, one after the other. Raises UserError."""
    if why := fits(sides[0].entry, sides[1].entry):
        raise UserError(f"these cannot be compared: {why}")
    films: list[Film] = []
    with desk():
        for side in sides:
            report(f"{side.name}: {len(actions)} frames")
            with Worker(side.runtime, Playing, side.entry.folder, side.runtime) as worker:
                films.append(worker.call("film", start, actions, seed, zero))
    one, two = (side.entry.manifest.spec for side in sides)
    same = (one.grid, one.codebook) == (two.grid, two.codebook)
    return Comparison(sides=sides, films=(films[0], films[1]), actions=actions, grid=one.grid, tokens=same)
