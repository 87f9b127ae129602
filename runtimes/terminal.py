"""A world played live in the terminal: half-block pixels, keys for actions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import ClassVar

import numpy as np
from rich.segment import Segment
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Key, Resize
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from pocketgenie.errors import UserError
from pocketgenie.genie.spec import WorldSpec
from pocketgenie.runtimes.blocks import fit, half_blocks
from pocketgenie.runtimes.pictures import Frame, write_gif
from pocketgenie.runtimes.player import Player

PANEL = Size(28, 4)  # its width beside the picture, its height below it
KEPT_FRAMES = 1000  # what `s` saves: the latest ones
DIGITS_AND_LETTERS = "1234567890bcdefhijklmnoptvwxyz"
"""Keys of the first 30 actions; letters that are no command, here or in a browser (site/ui/hands.js)."""
ARROWS = ("left", "right", "up", "down")
SHOWN = {"left": "←", "right": "→", "up": "↑", "down": "↓"}
COMMANDS = {
    "space": "pause",
    ".": "one step",
    "a": "repeat by itself",
    "u": "no speed limit",
    "r": "start again",
    "g": "next picture",
    "s": "save a GIF",
    "q": "quit",
}


def key_map(spec: WorldSpec, remapped: str = "") -> dict[str, int]:
    """Key -> action in [0, A): digits and letters; arrows as the world names them, else the first actions;
    `remapped`.

    `remapped` is like "right=4,left=2", actions from 1. Raises `UserError` for an action out of range and for
    keys that have another task.
    """
    keys = {key: action for action, key in enumerate(DIGITS_AND_LETTERS[: spec.actions])}
    for arrow, action in (spec.arrows or dict(zip(ARROWS, range(spec.actions), strict=False))).items():
        keys[arrow] = action
    for pair in filter(None, remapped.split(",")):
        key, _, number = (part.strip() for part in pair.partition("="))
        if not key or not number.isdecimal() or not 1 <= int(number) <= spec.actions:
            raise UserError(
                f"--keys {pair!r}: write key=action, like right=4,left=2; actions 1 to {spec.actions}"
            )
        if key in COMMANDS:
            raise UserError(f"--keys {pair!r}: {key} is for '{COMMANDS[key]}'; choose another key")
        keys[key] = int(number) - 1
    return keys


class Picture(Widget):
    """Draws a frame as large as it fits, in the middle."""

    frame: Frame | None = None
    strips: Sequence[Strip] = ()

    def draw(self, frame: Frame) -> None:
        self.frame = frame
        columns, rows = self.size
        if columns and rows:
            pixels = fit(frame, columns, rows)
            room = columns - pixels.shape[1]
            left, right = Segment(" " * (room // 2)), Segment(" " * (room - room // 2))
            self.strips = [Strip([left, *strip, right], columns) for strip in half_blocks(pixels)]
        self.refresh()

    def on_resize(self) -> None:
        if self.frame is not None:
            self.draw(self.frame)

    def render_line(self, y: int) -> Strip:
        row = y - (self.size.height - len(self.strips)) // 2
        return self.strips[row] if 0 <= row < len(self.strips) else Strip.blank(self.size.width)


class Terminal(App[None]):
    """The game. The world waits for a key; holding one plays on; `a` repeats the last action by itself."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+c", "quit", priority=True)]
    CSS = """
    Screen { layout: horizontal; background: black; overflow: hidden; }
    Screen.below { layout: vertical; }
    Picture { width: 1fr; height: 1fr; }
    Static { width: 28; height: 100%; padding: 1 1 0 2; color: #c9d1d9; }
    Screen.below Static { width: 100%; height: auto; max-height: 30%; padding: 0 1; overflow: hidden; }
    """

    def __init__(self, player: Player, starts: Sequence[Frame], keys: Mapping[str, int], saves: Path) -> None:
        """starts: the pictures that `g` goes through, uint8 [H, W, 3] each; saves: the folder for `s`."""
        super().__init__(ansi_color=True)  # colours as given: no filter over every cell
        self.player, self.starts, self.keys, self.saves = player, starts, keys, saves
        self.frames: deque[Frame] = deque(maxlen=KEPT_FRAMES)
        self.shown: deque[float] = deque(maxlen=240)  # when the last frames appeared
        self.start = 0  # which of the starts
        self.restart = False
        self.number = 0  # of the frame shown
        self.pressed: int | None = None
        self.last: int | None = None
        self.auto = self.paused = self.unlimited = self.single = False
        self.said = ""  # about the last key
        self.wake = asyncio.Event()

    def compose(self) -> ComposeResult:
        yield Picture()
        yield Static()

    def on_mount(self) -> None:
        self.run_worker(self._play())
        self.set_interval(0.2, self._tell)  # not at every frame: laying out text takes long

    def on_resize(self, event: Resize) -> None:
        """Put the panel where it leaves the picture larger."""
        height, width, _ = self.player.spec.frame_shape
        beside = min((event.size.width - PANEL.width) / width, 2 * event.size.height / height)
        below = min(event.size.width / width, 2 * (event.size.height - PANEL.height) / height)
        self.screen.set_class(below > beside, "below")
        self._tell()

    async def _play(self) -> None:
        """The only place that touches the player: the session never sees two calls at once."""
        await self._begin()
        await asyncio.to_thread(self.player.step, 0)  # loads what the first key would otherwise wait for
        await asyncio.to_thread(self.player.start, self.starts[self.start])
        while True:
            began = perf_counter()
            if self.restart:
                self.restart, self.pressed, self.last = False, None, None
                await self._begin()
            elif (action := self._due()) is not None:
                self.pressed, self.last, self.single = None, action, False
                self._show(await asyncio.to_thread(self.player.step, action))
                if not self.unlimited:
                    await asyncio.sleep(max(0.0, began + 1 / self.player.spec.fps - perf_counter()))
            else:
                self.wake.clear()
                await self.wake.wait()

    async def _begin(self) -> None:
        frame = await asyncio.to_thread(self.player.start, self.starts[self.start])
        self.frames.clear()
        self._show(frame)

    def _due(self) -> int | None:
        """The action to play now, if any."""
        if self.paused and not self.single:
            return None
        if self.pressed is None and (self.auto or self.single):
            return self.last
        return self.pressed

    def _show(self, frame: Frame) -> None:
        self.number = self.player.played
        self.frames.append(frame)
        self.shown.append(perf_counter())
        self.query_one(Picture).draw(frame)

    def on_key(self, event: Key) -> None:
        name = event.key
        if event.character and event.is_printable and name != "space":
            name = event.character  # "." rather than "full_stop"
        self.said = ""
        if name in self.keys:
            self.pressed = self.keys[name]
        elif name in COMMANDS:
            self._command(name)
        self.wake.set()
        self._tell()

    def _command(self, key: str) -> None:
        match key:
            case "space":
                self.paused = not self.paused
            case ".":
                self.single = True
            case "a":
                self.auto = not self.auto
            case "u":
                self.unlimited = not self.unlimited
            case "r":
                self.restart = True
            case "g":
                self.start, self.restart = (self.start + 1) % len(self.starts), True
            case "s" if self.frames:
                self.run_worker(self._save())
            case "q":
                self.exit()

    async def _save(self) -> None:
        path = next(path for n in count(1) if not (path := self.saves / f"pocketgenie-{n}.gif").exists())
        try:
            await asyncio.to_thread(write_gif, list(self.frames), path, self.player.spec.fps, 6)
        except OSError as error:
            self.said = f"not saved: {error.strerror}"
        else:
            self.said = f"saved {path.name}"
        self._tell()

    def _tell(self) -> None:
        """The panel: what is played, how fast, which keys."""
        spec, timings = self.player.spec, self.player.timings
        now = perf_counter()
        chosen = self.pressed if self.pressed is not None else self.last
        numbers = Text.assemble(
            *((f" {a + 1} ", "reverse bold" if a == chosen else "") for a in range(spec.actions))
        )
        named = {SHOWN.get(key, key): action for key, action in self.keys.items() if key != str(action + 1)}
        others = "  ".join(f"{key} {action + 1}" for key, action in named.items())
        plays = self.auto and self.last is not None
        state = "paused" if self.paused else "plays on" if plays else "waits for a key"
        p50, p95 = np.quantile(timings, (0.5, 0.95)) * 1000 if timings else (0.0, 0.0)
        pace = "no limit" if self.unlimited else f"limit {spec.fps:g}"
        facts = [
            Text(f"{spec.name}  frame {self.number}", "bold"),
            Text(f"{sum(now - t < 1 for t in self.shown)} fps  ({pace})"),
            Text(f"p50 {p50:.0f} ms  p95 {p95:.0f} ms") if timings else Text("p50 -  p95 -"),
            Text(state, "bold green" if state == "plays on" else "bold yellow"),
        ]
        if self.screen.has_class("below"):
            keys = [Text.assemble((key, "bold"), f" {what}") for key, what in COMMANDS.items()]
            said = [Text(self.said, "bold green")] if self.said else []
            lines = [Text("  ").join([*said, facts[0], facts[3], numbers, Text(others), *facts[1:3], *keys])]
        else:
            keys = [Text.assemble((f"{key:<6}", "bold"), what) for key, what in COMMANDS.items()]
            lines = [*facts, Text(), Text("actions", "bold"), numbers, Text(others), Text(), *keys]
            lines += [Text(), Text(self.said, "bold green")]
        self.query_one(Static).update(Text("\n").join(lines))


def play_live(player: Player, starts: Sequence[Frame], keys: Mapping[str, int]) -> None:
    """Play until the user quits; GIFs go to the working directory."""
    Terminal(player, starts, keys, Path.cwd()).run()
