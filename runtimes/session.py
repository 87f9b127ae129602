"""A session plays one world: what every runtime offers, and the part that all of them share."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pocketgenie.errors import UserError
from pocketgenie.genie.spec import MemoryName, MemorySpec, WorldSpec
from pocketgenie.runtimes.ring import Ring, SlotArray

Array = NDArray[Any]


class Backend(Protocol):
    """Runs the graphs of a bundle."""

    def memory(self, spec: MemorySpec) -> SlotArray:
        """Zeroed memory [W, *entry] for one ring, where this backend computes."""
        ...

    def run(self, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Named outputs; they may be overwritten by the next run of the same graph.

        Host arrays in and out, but for each ring's memory, which is what `memory` gave, and for the entries,
        which are whatever that memory takes into a slot.
        """
        ...

    def close(self) -> None: ...


class Session(Protocol):
    """One world being played. Frames are uint8 [H, W, 3], tokens int32 [S]."""

    spec: WorldSpec

    def reset(self) -> None:
        """Forget the history."""
        ...

    def encode(self, frame: Array) -> Array:
        """Tokens of a real frame."""
        ...

    def observe(self, tokens: Array, action: int) -> None:
        """Take a given frame into the history; `action` led to it (spec.no_action for the first)."""
        ...

    def play(self, action: int, noise: Array) -> tuple[Array, Array]:
        """Draw the next frame, take it into the history -> tokens, frame. noise int32 [N, S]: genie.noise."""
        ...

    def decode(self, tokens: Array) -> Array:
        """Pixels of tokens, as the frame that follows the history; the history stays as it is."""
        ...

    def logits(self, tokens: Array, action: int) -> Array:
        """One refinement pass over the next frame (V where masked) -> float32 [S, V]."""
        ...

    def infer_action(self, frames: Array) -> tuple[int, Array]:
        """uint8 [action_frames, H, W, 3] -> latent action, squared distance to each action's code. Raises
        UserError for a world without an action model."""
        ...

    def close(self) -> None: ...


class GraphSession:
    """A Session over any backend that runs the contract's graphs.

    In an absolute window (WorldSpec.window) no slot is ever written over. The frame that finds the ring full
    is the window's last: it leaves no entry, and before the next frame the ring is emptied and the last W
    frames are observed again, the oldest of them as one that no action led to. What is not asked for is not
    observed.
    """

    def __init__(self, spec: WorldSpec, backend: Backend) -> None:
        self.spec = spec
        self.backend = backend
        self.rings: dict[MemoryName, Ring] = {
            name: Ring(memory, backend.memory(memory)) for name, memory in spec.memories.items()
        }
        kept = spec.memories["dynamics"].slots if spec.window == "absolute" else 0
        self._history: deque[tuple[Array, int]] = deque(maxlen=kept)
        """The last W frames' tokens and the action that led to each, in an absolute window."""
        self._seen: deque[Array] = deque(maxlen=kept if "encoder" in spec.memories else 0)
        """The last W pictures that were encoded."""
        self._moved: set[MemoryName] = set()
        """Rings that hold an older window than the next frame's."""

    def _run(self, graph: str, inputs: dict[str, Any], *memories: MemoryName) -> dict[str, Any]:
        for name in memories:
            if name in self.rings:
                inputs |= self.rings[name].inputs()
        return self.backend.run(graph, inputs)

    def _push(self, outputs: dict[str, Any], *memories: MemoryName) -> None:
        for name in memories:
            if name not in self.rings:
                continue
            ring = self.rings[name]
            if self.spec.window == "absolute" and ring.full:
                self._moved.add(name)
            else:
                ring.push(outputs[f"{ring.spec.prefix}entry"])

    def _move(self) -> None:
        """Bring the rings that play reads to the window of the next frame."""
        if "dynamics" in self._moved:
            self._restart("dynamics", "decoder")
            for tokens, action in self._history:
                self._observe(tokens, action)

    def _restart(self, *memories: MemoryName) -> None:
        for name in memories:
            if name in self.rings:
                self.rings[name].reset()
            self._moved.discard(name)

    def reset(self) -> None:
        self._restart("dynamics", "encoder", "decoder")
        self._history.clear()
        self._seen.clear()

    def encode(self, frame: Array) -> Array:
        if "encoder" in self._moved:
            self._restart("encoder")
            for picture in self._seen:
                self._encode(picture)
        self._seen.append(frame)
        tokens: Array = self._encode(frame)["tokens"].copy()
        return tokens

    def _encode(self, frame: Array) -> dict[str, Any]:
        outputs = self._run("encode", {"frame": np.ascontiguousarray(frame)}, "encoder")
        self._push(outputs, "encoder")
        return outputs

    def observe(self, tokens: Array, action: int) -> None:
        self._history.append((tokens, action))
        if self.spec.window == "absolute" and self.rings["dynamics"].full:
            self._moved.add("dynamics")  # it is the window's last frame, or beyond it
        else:
            self._observe(tokens, action)

    def _observe(self, tokens: Array, action: int) -> None:
        if self.spec.window == "absolute" and not self.rings["dynamics"].filled[0]:
            action = self.spec.no_action
        inputs = {"tokens": tokens.astype(np.int32), "action": np.array([action], np.int32)}
        self._push(self._run("observe", inputs, "dynamics"), "dynamics")
        if "decoder" in self.rings:
            self._push(self._run("decode", {"tokens": inputs["tokens"]}, "decoder"), "decoder")

    def play(self, action: int, noise: Array) -> tuple[Array, Array]:
        self._move()
        inputs = {"action": np.array([action], np.int32), "noise": noise}
        outputs = self._run("play", inputs, "dynamics", "decoder")
        self._push(outputs, "dynamics", "decoder")
        tokens: Array = outputs["tokens"].copy()
        self._history.append((tokens, action))
        return tokens, outputs["frame"].copy()

    def decode(self, tokens: Array) -> Array:
        self._move()
        frame: Array = self._run("decode", {"tokens": tokens.astype(np.int32)}, "decoder")["frame"].copy()
        return frame

    def logits(self, tokens: Array, action: int) -> Array:
        self._move()
        inputs = {"tokens": tokens.astype(np.int32), "action": np.array([action], np.int32)}
        logits: Array = self._run("logits", inputs, "dynamics")["logits"].copy()
        return logits

    def infer_action(self, frames: Array) -> tuple[int, Array]:
        if not self.spec.action_frames:
            raise UserError(f"the world {self.spec.name} has no action model: it names no action of a video")
        outputs = self._run("infer_action", {"frames": np.ascontiguousarray(frames)})
        return int(outputs["action"][0]), outputs["distances"].copy()

    def close(self) -> None:
        self.backend.close()
