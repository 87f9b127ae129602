"""A session plays one world: what every runtime offers, and the part that all of them share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

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
        """uint8 [action_frames, H, W, 3] -> latent action, squared distance to each action's code."""
        ...

    def close(self) -> None: ...


class GraphSession:
    """A Session over any backend that runs the contract's graphs."""

    def __init__(self, spec: WorldSpec, backend: Backend) -> None:
        self.spec = spec
        self.backend = backend
        self.rings: dict[MemoryName, Ring] = {
            name: Ring(memory, backend.memory(memory)) for name, memory in spec.memories.items()
        }

    def _run(self, graph: str, inputs: dict[str, Any], *memories: MemoryName) -> dict[str, Any]:
        for name in memories:
            if name in self.rings:
                inputs |= self.rings[name].inputs()
        return self.backend.run(graph, inputs)

    def _push(self, outputs: dict[str, Any], *memories: MemoryName) -> None:
        for name in memories:
            if name in self.rings:
                ring = self.rings[name]
                ring.push(outputs[f"{ring.spec.prefix}entry"])

    def reset(self) -> None:
        for ring in self.rings.values():
            ring.reset()

    def encode(self, frame: Array) -> Array:
        outputs = self._run("encode", {"frame": np.ascontiguousarray(frame)}, "encoder")
        self._push(outputs, "encoder")
        tokens: Array = outputs["tokens"].copy()
        return tokens

    def observe(self, tokens: Array, action: int) -> None:
        inputs = {"tokens": tokens.astype(np.int32), "action": np.array([action], np.int32)}
        self._push(self._run("observe", inputs, "dynamics"), "dynamics")
        if "decoder" in self.rings:
            self._push(self._run("decode", {"tokens": inputs["tokens"]}, "decoder"), "decoder")

    def play(self, action: int, noise: Array) -> tuple[Array, Array]:
        inputs = {"action": np.array([action], np.int32), "noise": noise}
        outputs = self._run("play", inputs, "dynamics", "decoder")
        self._push(outputs, "dynamics", "decoder")
        return outputs["tokens"].copy(), outputs["frame"].copy()

    def decode(self, tokens: Array) -> Array:
        frame: Array = self._run("decode", {"tokens": tokens.astype(np.int32)}, "decoder")["frame"].copy()
        return frame

    def logits(self, tokens: Array, action: int) -> Array:
        inputs = {"tokens": tokens.astype(np.int32), "action": np.array([action], np.int32)}
        logits: Array = self._run("logits", inputs, "dynamics")["logits"].copy()
        return logits

    def infer_action(self, frames: Array) -> tuple[int, Array]:
        outputs = self._run("infer_action", {"frames": np.ascontiguousarray(frames)})
        return int(outputs["action"][0]), outputs["distances"].copy()

    def close(self) -> None:
        self.backend.close()
