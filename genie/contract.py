"""The world contract: what any model (native, imported, your own) offers to be exported and played."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from pocketgenie.genie.sampler import Sampler
from pocketgenie.genie.spec import MemorySpec, TensorSpec, WorldSpec

TORCH_DTYPES = {
    "uint8": torch.uint8,
    "int32": torch.int32,
    "float32": torch.float32,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class GraphDef:
    """One graph: a module whose forward takes `inputs` and returns the tuple of `outputs`, batch 1."""

    module: nn.Module
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class World(Protocol):
    """Anything with these three can be exported."""

    spec: WorldSpec

    def graphs(self) -> dict[str, GraphDef]:
        """`encode`, `observe`, `step`, `decode`, `play`, `logits`; with an action model `infer_action`; where
        the spec says so, `prefill`."""
        ...

    def full_logits(self, tokens_TS: Tensor, actions_T: Tensor) -> Tensor:
        """Logits [S, spec.logits] of the last frame from one full pass over the history, without any memory.

        tokens int64 [T, S], V where the last frame is masked; actions int64 [T], actions[t] leads to frame t.
        In an absolute window T is at most W + 1, and nothing led to its first frame.
        """
        ...


@runtime_checkable
class OwnSampler(Protocol):
    """A world whose spec's `order` is `own`."""

    def sampler(self) -> nn.Module:
        """Called as genie/sampler.py's Sampler is: hidden, head, noise [N, S] -> tokens int64 [S]."""
        ...


def sampler_of(world: World) -> nn.Module:
    """What draws a world's frames, in its graphs and in the uncached passes alike."""
    if world.spec.order == "own":
        assert isinstance(world, OwnSampler), "a world of its own order brings a sampler"
        return world.sampler()
    return Sampler(world.spec)


def signatures(spec: WorldSpec) -> dict[str, tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]]:
    """Inputs and outputs of a world's graphs: the one place where names, dtypes and shapes are fixed."""

    def tensor(name: str, dtype: str, shape: tuple[int, ...], meaning: str) -> TensorSpec:
        return TensorSpec.model_validate({"name": name, "dtype": dtype, "shape": shape, "meaning": meaning})

    def ring(memory: MemorySpec | None) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        return (memory.inputs(), (memory.output(),)) if memory else ((), ())

    past, entry = ring(spec.memories["dynamics"])
    encoder_past, encoder_entry = ring(spec.memories.get("encoder"))
    decoder_past, decoder_entry = ring(spec.memories.get("decoder"))
    frame = tensor("frame", "uint8", spec.frame_shape, "RGB pixels")
    tokens = tensor(
        "tokens", "int32", (spec.tokens,), f"the frame's tokens, 0..{spec.codebook - 1}, row by row"
    )
    masked = tensor("tokens", "int32", (spec.tokens,), f"tokens of the frame, {spec.codebook} where masked")
    action = tensor("action", "int32", (1,), f"the action that leads to this frame; {spec.no_action} is none")
    noise = tensor(
        "noise", "int32", (spec.steps, spec.tokens), "row numbers of the Gumbel table; 0 is no noise"
    )
    logits = tensor("logits", "float32", (spec.tokens, spec.logits), "one refinement pass over the frame")
    clip = tensor("frames", "uint8", (spec.action_frames, *spec.frame_shape), "consecutive frames")
    named = tensor("action", "int32", (1,), "the latent action of the last transition")
    distances = tensor("distances", "float32", (spec.actions,), "squared distance to each action's code")
    history = tensor("tokens", "int32", (spec.kept, spec.tokens), "of the frames that stay, oldest first")
    led_by = tensor("actions", "int32", (spec.kept,), "the action that led to each; the first follows none")
    held = tuple(
        memory.model_copy(update={"name": f"kept_{number}_{memory.name}"})
        for number in range(spec.kept)
        for memory in (*entry, *decoder_entry)
    )
    prefill = {"prefill": ((history, led_by), held)} if spec.prefill else {}
    named_action = {"infer_action": ((clip,), (named, distances))} if spec.action_frames else {}
    return {
        "encode": ((frame, *encoder_past), (tokens, *encoder_entry)),
        "observe": ((tokens, action, *past), entry),
        "step": ((action, noise, *past), (tokens, *entry)),
        "decode": ((tokens, *decoder_past), (frame, *decoder_entry)),
        "play": ((action, noise, *past, *decoder_past), (tokens, frame, *entry, *decoder_entry)),
        "logits": ((masked, action, *past), (logits,)),
        **named_action,
        **prefill,
    }
