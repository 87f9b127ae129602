"""The one play loop for every runtime: a picture, then one frame per action."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketgenie.errors import UserError
from pocketgenie.genie.noise import draw_noise
from pocketgenie.genie.spec import WorldSpec
from pocketgenie.runtimes.pictures import Frame, Picture, check_gif_name, load_picture, write_gif
from pocketgenie.runtimes.session import Session

MAX_PLAYED = 100_000  # frames of one `--actions`; a slip like 1x99999999 is refused


class Player:
    """Plays a world: `start(image)`, then `step(action)` for every further frame.

    Given a bundle's folder it loads the bundle in `runtime`; given a session it plays that one.
    The same seed, image and actions give the same frames. Raises `UserError` as loading does.
    """

    def __init__(
        self, world: Session | Path, runtime: str = "ort-cpu", seed: int = 0, temperature_zero: bool = False
    ) -> None:
        if isinstance(world, Path):
            from pocketgenie.runtimes.table import load_session

            self.session: Session = load_session(world, runtime)
        else:
            self.session = world
        self.seed = seed
        self.temperature_zero = temperature_zero
        self.tokens: NDArray[np.int32] = np.empty(0, np.int32)
        """Of the frame shown last, int32 [S]; empty before `start`."""
        self.timings: deque[float] = deque(maxlen=1000)
        """Seconds that the last steps took, newest last; emptied by `start`."""
        self.played = 0
        """Frames drawn since `start`."""

    @property
    def spec(self) -> WorldSpec:
        return self.session.spec

    def start(self, image: Frame) -> Frame:
        """Begin at an image uint8 [H, W, 3] -> the image as the world's tokenizer sees it, uint8 [H, W, 3]"""
        if image.dtype != np.uint8 or image.shape != self.spec.frame_shape:
            raise UserError(
                f"the image is {image.dtype} {list(image.shape)}, this world's frames are uint8 "
                f"{list(self.spec.frame_shape)}; read it with pocketgenie.runtimes.pictures.load_picture"
            )
        self.session.reset()
        self.tokens = self.session.encode(image)
        frame = self.session.decode(self.tokens)  # before it is history
        self.session.observe(self.tokens, self.spec.no_action)
        self.timings.clear()
        self.played = 0
        return frame

    def step(self, action: int) -> Frame:
        """Draw the next frame: action in [0, A) -> uint8 [H, W, 3]"""
        if not 0 <= action < self.spec.actions:
            last = self.spec.actions - 1
            raise UserError(f"action {action} is out of range: this world's actions are 0 to {last}")
        if not len(self.tokens):
            raise UserError("nothing to play from; call start(image) first")
        began = perf_counter()
        noise = draw_noise(self.spec, self.seed, self.played, self.temperature_zero)
        self.tokens, frame = self.session.play(action, noise)
        self.timings.append(perf_counter() - began)
        self.played += 1
        return frame

    def close(self) -> None:
        """Let go of the runtime."""
        self.session.close()

    def __enter__(self) -> Player:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


@dataclass(frozen=True, kw_only=True)
class Start:
    """A player, the pictures it can start from, and what to say of the runtime before."""

    player: Player
    pictures: list[Picture]
    words: str | None


def open_player(
    folder: Path, image: Path | None, runtime: str | None, seed: int, temperature_zero: bool, fallback: bool
) -> Start:
    """A bundle, ready to play, and the pictures to start from: the user's, then the bundle's gallery.

    `runtime`: None for the one that the bundle was exported for. Raises `UserError` for the bundle, the
    runtime (with `fallback` only when nothing else plays it) and the image; and without any picture.
    """
    from pocketgenie.export.bundle import load_bundle
    from pocketgenie.runtimes.fallback import load_with_fallback
    from pocketgenie.runtimes.table import load_session, own_runtime

    bundle = load_bundle(folder)
    paths = [*([image] if image else []), *(bundle.path(name) for name in bundle.manifest.gallery)]
    if not paths:
        raise UserError("this bundle has no gallery; name a picture to start from: --image any.png")
    starts = [load_picture(path, bundle.manifest.spec) for path in paths]
    name, words = runtime or own_runtime(bundle.manifest.target), None
    if fallback:
        session, words = load_with_fallback(bundle, name)
    else:
        session = load_session(bundle, name)
    player = Player(session, seed=seed, temperature_zero=temperature_zero)
    return Start(player=player, pictures=starts, words=words)


def play_gif(player: Player, image: Frame, actions: str, out: Path, scale: int) -> str:
    """Play `actions` (see `parse_actions`) from an image into a GIF -> what came of it, in words"""
    chosen = parse_actions(actions, player.spec)
    check_gif_name(out)
    frames = [player.start(image), *map(player.step, chosen)]
    write_gif(frames, out, player.spec.fps, scale)
    p50, p95 = np.quantile(player.timings, (0.5, 0.95))
    return (
        f"{len(frames)} frames, drawn at {1 / p50:.0f} fps (p50 {p50 * 1000:.1f} ms, p95 {p95 * 1000:.1f} ms)"
    )


def parse_actions(text: str, spec: WorldSpec) -> list[int]:
    """ "1,1,4x8,2" as a person counts, 1 to A -> [0, 0, 3, 3, 3, 3, 3, 3, 3, 3, 1]. Raises `UserError`."""
    actions: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,9})(?:x(\d{1,9}))?", part.strip(), re.ASCII)
        if not match:
            raise UserError(f"{part.strip()!r} is no action; write 1,1,4x8,2 (4x8 is action 4 eight times)")
        action, times = int(match[1]), int(match[2] or 1)
        if not 1 <= action <= spec.actions:
            raise UserError(f"action {action} is out of range: this world's actions are 1 to {spec.actions}")
        if len(actions) + times > MAX_PLAYED:
            raise UserError(f"more than {MAX_PLAYED} frames; play fewer at once")
        actions += [action - 1] * times
    return actions
