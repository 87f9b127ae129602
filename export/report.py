"""report.md, report.html and rollout.gif: what a person looks at to judge a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from pocketgenie.export import evidence, figures, searched
from pocketgenie.export.charts import curve
from pocketgenie.export.manifest import Manifest
from pocketgenie.export.page import (
    Block,
    Charts,
    Code,
    Image,
    Page,
    Section,
    Strip,
    Text,
    to_html,
    to_markdown,
)
from pocketgenie.quantize.pareto import SearchDocument
from pocketgenie.runtimes.pictures import difference, encode_gif, side_by_side, strip
from pocketgenie.runtimes.results import CheckDocument, TeacherFigures
from pocketgenie.training.evaluation import psnr_db

Frames = NDArray[np.uint8]
AMPLIFY = 8  # what a difference is multiplied with, to be seen
STILLS = 8
HOLD = 12  # frames that the last picture of a film stands still


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """The same actions and noise from the same picture, played twice."""

    runtime: str
    """Where the target was played."""
    reference: Frames
    """uint8 [1 + T, H, W, 3], the start first"""
    target: Frames
    """uint8 [1 + T, H, W, 3]"""
    actions: tuple[int, ...]
    """[T] in [0, A)"""
    first_difference: int | None
    """The first frame (0 is the start) with other tokens; None when all are the same."""

    def psnr_db(self) -> list[float]:
        """Of every drawn frame, target against reference; 100 for equal pictures."""
        apart = self.target[1:].astype(np.float64) - self.reference[1:]
        return [psnr_db(float((frame**2).mean())) for frame in apart]


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """All that a report says."""

    manifest: Manifest
    check: CheckDocument | None
    not_checked: str = ""
    """Why there is no check."""
    rollout: Rollout | None = None
    teacher: Frames | None = None
    """uint8 [1 + T, H, W, 3]: the teacher's frames for the roll-out's picture, actions and seed."""
    each_action: Frames | None = None
    """uint8 [A, 1 + K, H, W, 3]: every action held for K frames from the same start, the start first."""
    commands: Sequence[str] = ()
    """What made and checked the bundle, as a user would type it."""
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    """Where the time of a frame goes."""
    search: SearchDocument | None = None
    """The precision search that made the bundle."""


def write_report(folder: Path, data: ReportData) -> None:
    """Write report.md, report.html and, with pictures to show, rollout.gif and actions.gif into a folder."""
    sections = _sections(data)
    page = Page(*figures.headline(data.manifest, data.check, data.not_checked), sections)
    for section in sections:
        for block in section.blocks:
            if isinstance(block, Image):
                (folder / block.file).write_bytes(block.data)
    (folder / "report.md").write_text(to_markdown(page), encoding="utf-8")
    (folder / "report.html").write_text(to_html(page), encoding="utf-8")


def _sections(data: ReportData) -> list[Section]:
    check, row = data.check, figures.headline_row(data.check)
    sections: list[Section] = []
    if check and row and row.fps:
        sections.append(Section("How fast", [figures.tiles(check, row)]))
    if data.rollout:
        sections.append(_rollout(data.rollout, data.manifest.spec.fps))
    if data.teacher is not None or (check and check.quality):
        sections.append(_beside_teacher(data, check.quality if check else None))
    if data.each_action is not None:
        sections.append(_each_action(data.each_action, data.manifest.spec.fps))
    if check:
        sections.append(Section("Speed", figures.speed(check, data.stages_ms)))
        sections += [*evidence.parity(check), *evidence.not_run(check)]
    if data.search:
        sections.append(searched.section(data.search))
    sections += evidence.engines(data.manifest)
    made: list[Block] = [Code("\n".join(data.commands))] if data.commands else []
    sections.append(Section("How it was made", [*made, evidence.facts(data.manifest, check)]))
    return [*sections, evidence.files(data.manifest), evidence.meaning()]


def _rollout(rollout: Rollout, fps: float) -> Section:
    notes = ["start", *(f"frame {t}   action {action + 1}" for t, action in enumerate(rollout.actions, 1))]
    scale = _scale(rollout.target, 256)
    names = "reference", rollout.runtime
    film = side_by_side(list(rollout.reference), list(rollout.target), names, notes, scale, AMPLIFY)
    gif = Image("rollout.gif", _film(film, fps), "reference, target and their difference")

    apart = difference(rollout.reference, rollout.target, AMPLIFY)
    rows = zip((*names, f"difference ×{AMPLIFY}"), (rollout.reference, rollout.target, apart), strict=True)
    picked = np.unique(np.linspace(0, len(rollout.actions), STILLS).round().astype(int)).tolist()
    stills = Strip([(name, [(_frame_name(t), _png(frames[t])) for t in picked]) for name, frames in rows])

    first = rollout.first_difference
    same, apart_since = "Every token of every frame is the same.", ""
    if first is not None:
        same = f"The first token that differs is in frame {first}."
        apart_since = " From there on each goes its own way; L3 below says whether that choice was a tie."
    told = (
        f"Left the PyTorch reference, then `{rollout.runtime}`, then how far they are apart, {AMPLIFY} times "
        f"amplified: black is no difference. Same picture, same actions, same noise. **{same}**{apart_since}"
    )
    likeness = curve(rollout.psnr_db(), 100, "PSNR per frame")
    chart = Charts([("Likeness of each frame to the reference's: PSNR, dB", likeness)])
    return Section("The same roll-out, twice", [Text(told), gif, stills, chart])


def _beside_teacher(data: ReportData, found: TeacherFigures | None) -> Section:
    told = (
        "This world was distilled from a larger or slower one, its teacher, which plays at float32: a native "
        "one as in the paper, in 25 refinement steps a frame, another as its project plays it. "
    )
    if found:
        told += "The figures are of held-out clips; above 0 dB this world is better."
    else:
        told += "How well it plays beside it: `pocketgenie check --teacher`."
    blocks: list[Block] = [Text(told), *([evidence.by_teacher(found)] if found else [])]
    if data.teacher is None or data.rollout is None:
        return Section("Beside its teacher", blocks)
    played, names = data.rollout, ("teacher", "this world")
    notes = ["start", *(f"frame {t}   action {action + 1}" for t, action in enumerate(played.actions, 1))]
    scale = _scale(played.target, 256)
    pairs = zip(data.teacher, played.target, notes, strict=True)
    film = [strip(pair, names, scale, note) for *pair, note in pairs]
    gif = Image("teacher.gif", _film(film, data.manifest.spec.fps), "the teacher and the distilled world")
    picked = np.unique(np.linspace(0, len(played.actions), STILLS).round().astype(int)).tolist()
    rows = zip(names, (data.teacher, played.target), strict=True)
    stills = Strip([(name, [(_frame_name(t), _png(frames[t])) for t in picked]) for name, frames in rows])
    same = Text(
        "Same picture, same actions, same seed. Each draws its own future of them: they need not agree "
        "in what comes into view, only in how it moves and what it is made of."
    )
    return Section("Beside its teacher", [*blocks, same, gif, stills])


def _each_action(held: Frames, fps: float) -> Section:
    count, frames = len(held), held.shape[1] - 1
    names = ["start", *(f"action {action + 1}" for action in range(count))]
    tiles = np.concatenate([held[:1, :1].repeat(frames + 1, 1), held])  # [1 + A, 1 + K, H, W, 3]
    columns, scale = -(-len(tiles) // 2), _scale(held, 160)
    film = [strip(list(tiles[:, t]), names, scale, columns=columns) for t in range(frames + 1)]
    gif = Image("actions.gif", _film(film, fps), "every action from the same start")
    ends = [(name, _png(one[-1])) for name, one in zip(names, tiles, strict=True)]
    told = (
        f"Each of the {count} actions held for {frames} frames, all from the same picture. The actions are "
        "latent: nobody named them, the model found them in its videos. Look what each of them does."
    )
    return Section("Each action from the same start", [Text(told), gif, Strip([(_frame_name(frames), ends)])])


def _film(frames: list[Frames], fps: float) -> bytes:
    """A GIF whose last frame stands still for a while."""
    return encode_gif([*frames, *frames[-1:] * HOLD], fps)


def _frame_name(number: int) -> str:
    return f"frame {number}" if number else "start"


def _scale(frames: Frames, pixels: int) -> int:
    """Whole enlargement that brings a frame's longer side near this many pixels."""
    height, width, _ = frames.shape[-3:]
    return max(1, round(pixels / int(max(height, width))))


def _png(frame: Frames) -> bytes:
    file = BytesIO()
    Pillow.fromarray(frame).save(file, "PNG", optimize=True)
    return file.getvalue()
