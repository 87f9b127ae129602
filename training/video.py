"""Videos to clips: mp4, webm, gif, mov or mkv in; uint8 frames [N, T, H, W, 3] of the world's rate and size.

One frame is decoded at a time and clips are spooled to the disk: memory does not grow with the videos.
"""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import repeat
from math import ceil, prod
from pathlib import Path
from typing import IO, TypeVar

import av
import numpy as np
from numpy.lib import format as npy
from PIL import Image
from rich.markup import escape
from rich.progress import Progress

from pocketgenie.errors import UserError
from pocketgenie.training.data import Frames

Item = TypeVar("Item")

SUFFIXES = (".gif", ".mkv", ".mov", ".mp4", ".webm")
CONTAINERS = "gif,matroska,mov"
"""Recognised by content. libav knows playlists as well, which would open other files and addresses."""
MAX_PIXELS = 2**26
"""8192x8192: a larger frame is refused before it is decoded."""


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    width: int
    height: int
    fps: float
    length: int
    """T, frames per clip."""
    hold_out: float = 0.0
    """Share of the clips that goes into a second file: the ends of videos, since neighbours look alike."""


@dataclass(frozen=True, kw_only=True)
class ClipFiles:
    """What `make_clips` wrote."""

    clips: dict[Path, int]
    """Clips in each file: the one asked for, and the held-out one if any."""
    videos: int
    skipped: int


def parse_size(text: str) -> tuple[int, int]:
    """ "160x90" -> (width, height), each 1..4096. Raises UserError."""
    match = re.fullmatch(r"([0-9]{1,4})x([0-9]{1,4})", text)
    width, height = (int(side) for side in match.groups()) if match else (0, 0)
    if not (1 <= width <= 4096 and 1 <= height <= 4096):
        raise UserError(f"{text} is no size; give WIDTHxHEIGHT, each 1 to 4096, such as 160x90")
    return width, height


def make_clips(source: Path, out: Path, options: ClipOptions) -> ClipFiles:
    """Cut a video, or all videos of a folder and below, into clips; write `out` (and OUT-heldout.npz).

    The files are written whole or not at all. In a folder, a video that cannot be used is skipped with a line
    that says why. Raises UserError when none can be used.
    """
    paths = find_videos(source)
    skipped = 0
    held: list[bool] = []
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out.parent) as spool, Progress(transient=True) as progress:
        task = progress.add_task("videos", total=len(paths))
        for path in paths:
            begin, count = spool.tell(), 0
            try:
                for clip in video_clips(path, options):
                    spool.write(clip.tobytes())
                    count += 1
                    progress.update(task, description=f"videos, {len(held) + count} clips")
            except UserError as error:
                if path == source:
                    raise
                line = f"[yellow]skipped:[/] {escape(str(error))}"
                progress.console.print(line, soft_wrap=True, highlight=False)
                spool.seek(begin)
                skipped, count = skipped + 1, 0
            apart = min(count, int((len(held) + count) * options.hold_out + 1e-9) - sum(held))
            held += [False] * (count - apart) + [True] * apart
            progress.advance(task)
        if not held:
            raise UserError(f"none of the {len(paths)} videos in {source} can be used")
        files = {out: [row for row, apart in enumerate(held) if not apart]}
        if options.hold_out:
            files[out.with_name(f"{out.stem}-heldout.npz")] = [row for row, apart in enumerate(held) if apart]
        if not all(files.values()):
            raise UserError(
                f"{len(held)} clips are too few to hold out {options.hold_out:g} of them; add videos"
            )
        _write_all(files, spool, options)
    counts = {path: len(rows) for path, rows in files.items()}
    return ClipFiles(clips=counts, videos=len(paths) - skipped, skipped=skipped)


def find_videos(source: Path) -> list[Path]:
    """The file itself, or all files below a folder that are named like videos, sorted. Raises UserError."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise UserError(f"no file or folder {source}; name a video or a folder of videos")
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise UserError(f"{source} holds no video; the names end in {', '.join(SUFFIXES)}")
    return found


def video_clips(path: Path, options: ClipOptions) -> Iterator[Frames]:
    """Clips uint8 [T, H, W, 3] of one video, one after the other; a rest at a cut or the end is dropped.

    Raises UserError for what is no video, breaks off, is damaged, or is too short for one clip.
    """
    fps = Fraction(options.fps).limit_denominator(1001)
    clip: list[Frames] = []
    clips = longest = 0
    last: av.VideoFrame | None = None
    for frame in resample(read_frames(path), fps, options.length / fps):
        if frame is None:
            clip = []
            continue
        repeated = frame is last and clip
        clip.append(clip[-1] if repeated else fit_frame(frame, options.width, options.height))
        last, longest = frame, max(longest, len(clip))
        if len(clip) == options.length:
            yield np.stack(clip)
            clip, clips = [], clips + 1
    if not clips:
        raise UserError(
            f"{path} is too short: {longest} frames at {options.fps:g} FPS, a clip has {options.length}"
        )


def read_frames(path: Path) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """(seconds, frame) of the first picture track, as the file tells them. Raises UserError."""
    first: Fraction | None = None
    last = gap = Fraction(0)
    only = {"format_whitelist": CONTAINERS}
    try:
        with (
            path.open("rb") as file,
            av.open(file, "r", metadata_errors="replace", container_options=only) as container,
        ):
            if not container.streams.video:
                raise UserError(f"{path} holds no pictures; give a video")
            stream = container.streams.video[0]
            width, height = stream.codec_context.width, stream.codec_context.height
            if width * height > MAX_PIXELS:
                raise UserError(f"{path} is too large ({width}x{height}); scale it down to 8192x8192 or less")
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # it may grow on the way
            for frame in container.decode(stream):
                if frame.pts is None or frame.time_base is None:
                    continue
                now = frame.pts * frame.time_base
                if first is None:
                    first = last = now
                gap, last = max(gap, now - last), now
                yield now, frame
            seconds = Fraction(container.duration or 0, av.time_base)
            if stream.duration and stream.time_base:
                seconds = stream.duration * stream.time_base
    except UserError:
        raise
    except Exception as error:  # libav's errors are of many kinds, and a damaged file can cause any
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path} is no video or is damaged ({' '.join(reason.split())[:80]})") from None
    if first is None:
        raise UserError(f"{path} holds no frames; it is damaged")
    shown = last - first
    if seconds - shown > gap + max(Fraction(1), seconds / 10):
        raise UserError(
            f"{path} breaks off after {float(shown):.1f} of {float(seconds):.1f} seconds; copy it again"
        )


def resample(timed: Iterable[tuple[Fraction, Item]], fps: Fraction, pause: Fraction) -> Iterator[Item | None]:
    """The item nearest in time to each multiple of 1 / fps after the first item.

    A step back in time or a wait longer than `pause` is a cut: None is given and time starts anew.
    """
    shown: tuple[Fraction, Item] | None = None
    origin, gap, count = Fraction(0), 1 / fps, 0
    for now, item in timed:
        if shown is None:
            origin = now
        elif 0 <= now - shown[0] <= pause:
            due = ceil(((shown[0] + now) / 2 - origin) * fps)
            yield from repeat(shown[1], due - count)
            count, gap = max(count, due), now - shown[0] or gap
        else:
            yield from repeat(shown[1], ceil((shown[0] + gap / 2 - origin) * fps) - count)
            yield None
            origin, gap, count = now, 1 / fps, 0
        shown = now, item
    if shown is not None:
        yield from repeat(shown[1], ceil((shown[0] + gap / 2 - origin) * fps) - count)


def fit_frame(frame: av.VideoFrame, width: int, height: int) -> Frames:
    """Upright, cropped around the centre to the aspect of width x height, scaled: uint8 [H, W, 3]"""
    image = Image.fromarray(frame.to_ndarray(format="rgb24"))
    if frame.rotation:
        image = image.rotate(frame.rotation, expand=True)
    scale = min(image.width / width, image.height / height)
    crop = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (image.width - crop[0]) // 2, (image.height - crop[1]) // 2
    whole = crop[0] % width == 0 and crop[1] % height == 0  # enlarged pixel art comes back exact
    how = Image.Resampling.BOX if whole else Image.Resampling.LANCZOS
    return np.asarray(image.resize((width, height), how, (left, top, left + crop[0], top + crop[1])))


def _write_all(files: dict[Path, list[int]], spool: IO[bytes], options: ClipOptions) -> None:
    """All files, or none of them."""
    parts = {path.with_name(path.name + ".part"): path for path in files}
    try:
        for part, path in parts.items():
            _write_clips(part, spool, files[path], options)
        for part, path in parts.items():
            os.replace(part, path)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def _write_clips(path: Path, spool: IO[bytes], rows: list[int], options: ClipOptions) -> None:
    """An .npz as numpy.savez_compressed writes it, without holding it in memory."""
    shape = (options.length, options.height, options.width, 3)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("frames.npy", "w", force_zip64=True) as file,
    ):
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(rows), *shape)}
        npy.write_array_header_1_0(file, header)
        for row in rows:
            spool.seek(row * prod(shape))
            file.write(spool.read(prod(shape)))
