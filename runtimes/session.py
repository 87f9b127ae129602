"""A session plays one world: what every runtime offers, and the part that all of them share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pocketgenie.errors import UserError
from pocketgenie.genie.spec import MemoryName, MemorySpec, WorldSpec
from pocketgenie.runtimes.ring import Ring, SlotArray, Window

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
    is the window's last: it leaves no entry; before the next frame the ring is emptied and the frames that
    stay are observed again, the oldest as one that no action led to. What nobody asks for is not observed.
    """

    def __init__(self, spec: WorldSpec, backend: Backend) -> None:
        self.spec = spec
        self.backend = backend
        self.rings: dict[MemoryName, Ring] = {
            name: Ring(memory, backend.memory(memory)) for name, memory in spec.memories.items()
        }
        self._absolute = spec.window == "absolute"
        self._forget()

    def _forget(self) -> None:
        self._frames: Window[tuple[Array, int]] = Window(self.spec)
        """Tokens of the past frames and the action that led to each; in an absolute window."""
        self._pictures: Window[Array] = Window(self.spec)
        """Those that were encoded."""
        self._stale = False
        """Whether the rings that play reads hold an older window than `_frames`."""

    def _run(self, graph: str, inputs: dict[str, Any], *memories: MemoryName) -> dict[str, Any]:
        for name in memories:
            if name in self.rings:
                inputs |= self.rings[name].inputs()
        return self.backend.run(graph, inputs)

    def _push(self, outputs: dict[str, Any], *memories: MemoryName) -> None:
        for name in memories:
            if name in self.rings:
                ring = self.rings[name]
                if not (self._absolute and ring.full):
                    ring.push(outputs[f"{ring.spec.prefix}entry"])

    def _restart(self, *memories: MemoryName) -> None:
        for name in memories:
            if name in self.rings:
                self.rings[name].reset()

    def _make_room(self) -> None:
        """Bring the rings that play reads to the window of the next frame."""
        if self._absolute and (self._frames.move() or self._stale):
            self._restart("dynamics", "decoder")
            if self.spec.prefill and len(self._frames.past) == self.spec.kept:
                self._prefill()
            else:
                for tokens, action in self._frames.past:
                    self._observe(tokens, action)
            self._stale = False

    def _prefill(self) -> None:
        """Observe all frames that stay at once."""
        tokens, actions = (np.array(part, np.int32) for part in zip(*self._frames.past, strict=True))
        outputs = self.backend.run("prefill", {"tokens": tokens, "actions": actions})
        for number in range(self.spec.kept):
            for name in self.rings.keys() - {"encoder"}:
                ring = self.rings[name]
                ring.push(outputs[f"kept_{number}_{ring.spec.prefix}entry"])

    def reset(self) -> None:
        self._restart("dynamics", "encoder", "decoder")
        self._forget()

    def encode(self, frame: Array) -> Array:
        if self._absolute and "encoder" in self.rings and self._pictures.add(frame):
            self._restart("encoder")
            for picture in self._pictures.past[:-1]:
                self._encode(picture)
        tokens: Array = self._encode(frame)["tokens"].copy()
        return tokens

    def _encode(self, frame: Array) -> dict[str, Any]:
        outputs = self._run("encode", {"frame": np.ascontiguousarray(frame)}, "encoder")
        self._push(outputs, "encoder")
        return outputs

    def observe(self, tokens: Array, action: int) -> None:
        if self._absolute:
            self._stale |= self._frames.add((tokens, action))
        if not self._stale:
            self._observe(tokens, action)

    def _observe(self, tokens: Array, action: int) -> None:
        ring = self.rings["dynamics"]
        if self._absolute and ring.full:
            return
        if self._absolute and not ring.filled[0]:
            action = self.spec.no_action
        inputs = {"tokens": tokens.astype(np.int32), "action": np.array([action], np.int32)}
        self._push(self._run("observe", inputs, "dynamics"), "dynamics")
        if "decoder" in self.rings:
            self._push(self._run("decode", {"tokens": inputs["tokens"]}, "decoder"), "decoder")

    def play(self, action: int, noise: Array) -> tuple[Array, Array]:
        self._make_room()
        inputs = {"action": np.array([action], np.int32), "noise": noise}
        outputs = self._run("play", inputs, "dynamics", "decoder")
        self._push(outputs, "dynamics", "decoder")
        tokens: Array = outputs["tokens"].copy()
        if self._absolute:
            self._frames.add((tokens, action))
        return tokens, outputs["frame"].copy()

    def decode(self, tokens: Array) -> Array:
        self._make_room()
        frame: Array = self._run("decode", {"tokens": tokens.astype(np.int32)}, "decoder")["frame"].copy()
        return frame

    def logits(self, tokens: Array, action: int) -> Array:
        self._make_room()
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
