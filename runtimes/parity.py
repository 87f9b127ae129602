"""Does a runtime play the same world as the reference? L1 to L4, on real held-out clips (L0: artefact.py).

The reference's own process answers every question first; a runtime is asked the same and compared. Contexts
are teacher-forced: the reference's tokens and latent actions of real frames, the same for all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketgenie.genie.spec import WorldSpec
from pocketgenie.runtimes.contestants import History
from pocketgenie.runtimes.longplay import held_actions
from pocketgenie.runtimes.results import FrameFigures, PassFigures, RolloutFigures
from pocketgenie.runtimes.worker import Worker
from pocketgenie.training.evaluation import psnr_db, squared_error

Array = NDArray[Any]

MASKED_SHARES = (1.0, 0.5, 0.2)
"""L1: everything masked, as in a frame's first refinement step, and parts, as in later ones."""
CONTEXTS = 8


@dataclass(frozen=True)
class Context:
    """A history, and the frame that really came next."""

    history: History
    action: int
    masked_MS: Array
    """The next frame's tokens under each masking, V where masked."""
    seed: int


class Exam:
    """The questions, and the reference's answers, asked once. clips: uint8 [N, T, H, W, 3]

    Every method raises WorkerFailed with the name of the process that failed.
    """

    def __init__(
        self,
        reference: Worker,
        spec: WorldSpec,
        clips: Array,
        *,
        frames: int,
        rollouts: int,
        seed: int,
        count: int = CONTEXTS,
    ) -> None:
        self.reference, self.spec, self.clips = reference, spec, clips
        self.frames, self.rollouts, self.seed, self.count = frames, rollouts, seed, count

    def shortened(self, frames: int) -> Exam:
        """For a runtime that takes long for a frame: one context, whose ring has wrapped, one roll-out."""
        clips = self.clips[:2]
        return Exam(self.reference, self.spec, clips, frames=frames, rollouts=1, seed=self.seed, count=1)

    @cached_property
    def contexts(self) -> list[Context]:
        """Histories of one frame, half a window, a full one and one whose ring has wrapped, in turn."""
        slots = self.spec.memories["dynamics"].slots
        lengths = (slots + 2, 1, 2 * slots + 1, max(1, slots // 2))
        rng = np.random.default_rng(self.seed)
        made = []
        for number in range(self.count):
            clip = self.clips[number % len(self.clips)]
            frames = clip[_to_and_fro(len(clip), lengths[number % len(lengths)] + 1)]
            tokens, actions = self.reference.call("read", frames)
            hidden = rng.permuted(np.tile(np.arange(self.spec.tokens), (len(MASKED_SHARES), 1)), axis=1)
            counts = np.ceil(np.array(MASKED_SHARES) * self.spec.tokens)[:, None]
            masked = np.where(hidden < counts, self.spec.codebook, tokens[-1]).astype(np.int32)
            made.append(Context((tokens[:-1], actions[:-1]), actions[-1], masked, self.seed + number))
        return made

    @cached_property
    def _logits(self) -> list[Array]:
        return [self.reference.call("logits", c.history, c.masked_MS, c.action) for c in self.contexts]

    @cached_property
    def _next(self) -> list[tuple[Array, Array]]:
        return [self.reference.call("play", c.history, [c.action], c.seed) for c in self.contexts]

    @cached_property
    def _read(self) -> History:
        read: History = self.reference.call("read", self.clips[:, 0])
        return read

    @cached_property
    def starts(self) -> list[tuple[History, list[int], int]]:
        """Each roll-out's first frame, its held random actions, its seed."""
        rng = np.random.default_rng(self.seed)
        made = []
        for number in range(self.rollouts):
            frame = self.clips[number % len(self.clips)][number // len(self.clips) % self.clips.shape[1]]
            tokens, actions = self.reference.call("read", frame[None])
            held = held_actions(rng, self.spec.actions, self.frames)
            made.append(((tokens, actions), held, self.seed + number))
        return made

    @cached_property
    def _played(self) -> list[tuple[Array, Array]]:
        return [self.reference.call("play", *start) for start in self.starts]

    @cached_property
    def _world(self) -> dict[str, float]:
        figures: dict[str, float] = self.reference.call("evaluate", self.clips, self.seed)
        return figures

    def one_pass(self, runtime: Worker) -> PassFigures:
        """L1"""
        apart, divergence, agree = [], [], []
        for context, wanted in zip(self.contexts, self._logits, strict=True):
            found = runtime.call("logits", context.history, context.masked_MS, context.action)
            masked = context.masked_MS == self.spec.codebook
            apart.append(np.abs(found - wanted).max())
            digits = -1, self.spec.factors, self.spec.digit_values  # of a token, each a distribution
            own, its = wanted[masked].reshape(digits), found[masked].reshape(digits)
            divergence.append(_kl(own, its).sum(-1))
            agree.append((its.argmax(-1) == own.argmax(-1)).all(-1))
        return PassFigures(
            max_abs=float(np.max(apart)),
            kl=float(np.concatenate(divergence).mean()),
            top1=float(np.concatenate(agree).mean()),
        )

    def one_frame(self, runtime: Worker) -> FrameFigures:
        """L2"""
        equal, decibels, margins = [], [], []
        for context, (tokens, frames) in zip(self.contexts, self._next, strict=True):
            own_tokens, own_frames = runtime.call("play", context.history, [context.action], context.seed)
            equal.append(own_tokens == tokens)
            decibels.append(psnr_db(squared_error(frames, own_frames)))
            if not equal[-1].all():
                question = context.history, context.action, context.seed, 0, own_tokens[0]
                margins.append(self.reference.call("margin", *question))
        encoded, _ = runtime.call("read", self.clips[:, 0])
        return FrameFigures(
            token_match=float(np.mean(equal)),
            psnr_db=min(decibels),
            margin=max(margins, default=None),
            encode_match=float(np.mean(encoded == self._read[0])),
        )

    def whole_rollout(self, runtime: Worker) -> RolloutFigures:
        """L3"""
        decibels, differing, margins = [], [], []
        for (history, actions, seed), (tokens, frames) in zip(self.starts, self._played, strict=True):
            own_tokens, own_frames = runtime.call("play", history, actions, seed)
            decibels.append([psnr_db(squared_error(*pair)) for pair in zip(frames, own_frames, strict=True)])
            parted = np.flatnonzero((own_tokens != tokens).any(-1))
            if len(parted):
                first = int(parted[0])
                differing.append(first)
                past = np.concatenate([history[0], tokens[:first]]), [*history[1], *actions[:first]]
                margins.append(
                    self.reference.call("margin", past, actions[first], seed, first, own_tokens[first])
                )
        per_frame = np.mean(decibels, axis=0)
        return RolloutFigures(
            frames=self.frames,
            rollouts=self.rollouts,
            first_difference=min(differing, default=None),
            margin=max(margins, default=None),
            psnr_db=float(per_frame.mean()),
            psnr_db_per_frame=tuple(round(float(value), 3) for value in per_frame),
        )

    def world(self, runtime: Worker) -> dict[str, float]:
        """L4: the runtime's figures minus the reference's"""
        found = runtime.call("evaluate", self.clips, self.seed)
        return {name: found[name] - value for name, value in self._world.items()}


def not_measurable(spec: WorldSpec) -> list[str]:
    """What no runtime of such a world can be asked, one line each: neither a fault nor passed."""
    if spec.frames == "tokens":
        return ["L4 world: this world has no pixels (its frames are pictures of its tokens)"]
    if not spec.action_frames:
        return ["controllability: this world has no action model to name the actions of a video"]
    return []


def _to_and_fro(length: int, count: int) -> list[int]:
    """0, 1, ... length - 1, length - 2, ... 1, 0, 1, ...: real frames, each next to a real neighbour"""
    there_and_back: Iterable[int] = [*range(length), *range(length - 2, 0, -1)]
    return list(np.resize(np.array(there_and_back), count))


def _kl(wanted: Array, found: Array) -> Array:
    """KL(wanted || found) of logits [..., V] in nats"""
    p, q = (_log_softmax(logits.astype(np.float64)) for logits in (wanted, found))
    return np.asarray((np.exp(p) * (p - q)).sum(-1))


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
