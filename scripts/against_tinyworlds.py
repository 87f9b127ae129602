"""TinyWorlds' own code against a bundle of the same weights, in one run: is it the same, how much faster?

    git clone https://github.com/AlmondGod/tinyworlds
    python scripts/against_tinyworlds.py tinyworlds BUNDLE --threads 2 --rounds 10

BUNDLE is an imported TinyWorlds, exported for ONNX Runtime; the checkpoint inside it has the weights of both.
Nothing is downloaded; the checkout's `models` are imported and need einops.

Same: both are given the same tokens of a full window. Compared are the logits of one pass, and a frame of the
likeliest tokens; where its tokens differ, the gaps in their own logits at the place that differed first tell
a near-tie from a fault. Faster: in turns, each in a process of its own, with as many threads and steps.
Theirs is the loop of their scripts/run_inference.py (read the window's pictures, draw, decode the window),
without gradients. In both the window is full and moves at every frame.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle, load_bundle
from pocketgenie.importers import tinyworlds
from pocketgenie.importers.tinyworlds_model import to_float
from pocketgenie.importers.tinyworlds_world import TinyWorldsWorld
from pocketgenie.runtimes.brought import held_out_clips
from pocketgenie.runtimes.contestants import Contestant, play_turn
from pocketgenie.runtimes.machine import cores
from pocketgenie.runtimes.reference import reference_world
from pocketgenie.runtimes.table import load_session
from pocketgenie.runtimes.worker import Worker, WorkerFailed

RUNTIME = "ort-cpu"
MASKED_SHARES = (1.0, 0.5, 0.2)
THEIR_FRAMES, OUR_FRAMES, TURN_SECONDS = 2, 40, 120.0

Array = NDArray[Any]


class Theirs:
    """The project's models with a bundle's weights, and its play loop."""

    def __init__(self, checkout: Path, bundle: Bundle) -> None:
        torch.set_num_threads(cores())
        world = reference_world(bundle)
        assert isinstance(world, TinyWorldsWorld)
        self.spec, config = world.spec, world.model.config
        self.temperature = config.temperature
        sys.path.insert(0, str(checkout.resolve()))
        codes = {"latent_dim": config.tokenizer.latent_dim, "num_bins": config.tokenizer.num_bins}
        tokenizer = _given(config.tokenizer.model_dump(), codes)
        dynamics = _given(config.dynamics.model_dump(), codes | {"conditioning_dim": config.lam.action_dim})
        try:
            self.tokenizer = import_module("models.video_tokenizer").VideoTokenizer(**tokenizer)
            self.dynamics = import_module("models.dynamics").DynamicsModel(**dynamics)
            actions = import_module("models.fsq").FiniteScalarQuantizer(config.lam.action_dim, 2)
        except ModuleNotFoundError as error:
            raise UserError(f"TinyWorlds' code needs {error.name}; pip install {error.name}") from None
        except TypeError as error:
            raise UserError(f"{checkout} is of another version: {error}; take one of April 2026") from None
        self.action_vectors = actions.get_latents_from_indices(torch.arange(self.spec.actions))
        for model, own in ((self.tokenizer, world.model.tokenizer), (self.dynamics, world.model.dynamics)):
            found = model.load_state_dict(own.state_dict(), strict=False)
            if lacking := [*found.unexpected_keys, *set(found.missing_keys) - {"quantizer.basis"}]:
                raise UserError(f"{checkout} is of another version: its models differ in {lacking[0]}")
            model.eval()

    def start(self, frames: Array) -> None:
        """A full window: uint8 [W, H, W, 3]; the actions that led there are 0."""
        self.frames = to_float(torch.from_numpy(frames)).movedim(-1, 1)[None]
        self.actions = [0] * len(frames)

    @torch.inference_mode()
    def step(self, action: int) -> Tensor:
        """One turn of their loop -> the window and the new frame, float [1, W + 1, 3, H, W]"""
        self.actions = [*self.actions[1:], action]
        indices = self.tokenizer.tokenize(self.frames)
        decoded: Tensor = self.tokenizer.detokenize(self._draw(indices, self.actions))
        self.frames = torch.cat([self.frames[:, 1:], decoded[:, -1:]], 1)
        return decoded

    def _draw(self, indices: Tensor, actions: list[int]) -> Tensor:
        latents: Tensor = self.dynamics.forward_inference(
            context_latents=self._latents(indices),
            prediction_horizon=1,
            num_steps=self.spec.steps,
            index_to_latents_fn=self._latents,
            conditioning=self.action_vectors[actions][None],
            temperature=self.temperature,
        )
        return latents

    def _latents(self, indices: Tensor) -> Tensor:
        vectors: Tensor = self.tokenizer.quantizer.get_latents_from_indices(indices, dim=-1)
        return vectors

    @torch.inference_mode()
    def read(self) -> Array:
        """Tokens of the window, int32 [W, S]"""
        return np.asarray(self.tokenizer.tokenize(self.frames)[0].int().numpy())

    @torch.inference_mode()
    def logits(self, tokens_WS: Array, masked_S: Array, actions: list[int]) -> Array:
        """One pass over a full window and the next frame, V where masked -> that frame's logits [S, V]"""
        masked = torch.from_numpy(masked_S).long()
        hidden = (masked == self.spec.codebook)[:, None]
        new = torch.where(hidden, self.dynamics.mask_token[0, 0], self._latents(masked * ~hidden[:, 0]))
        window = torch.cat([self._latents(torch.from_numpy(tokens_WS).long()), new[None]])[None]
        passed = self.dynamics(window, training=False, conditioning=self.action_vectors[actions][None])
        return np.asarray(passed[0][0, -1].numpy())

    @torch.inference_mode()
    def likeliest(self, tokens_WS: Array, actions: list[int]) -> tuple[Array, Array, Array]:
        """A frame of their likeliest tokens -> int32 [S]; of each step the logits [N, S, V], and which places
        were open before it, bool [N, S]"""
        steps: list[tuple[Array, Array]] = []
        forward = self.dynamics.forward

        def noted(latents: Tensor, **named: Any) -> Any:
            masked = (latents[0, -1] == self.dynamics.mask_token[0, 0]).all(-1)
            passed = forward(latents, **named)
            steps.append((passed[0][0, -1].numpy(), masked.numpy()))
            return passed

        # At a temperature they have only draws: the likeliest token in a draw's place is our zero noise.
        draws = mock.patch.object(torch.distributions, "Categorical", _Likeliest)
        with draws, mock.patch.object(self.dynamics, "forward", noted):
            latents = self._draw(torch.from_numpy(tokens_WS).long()[None], actions)
        tokens = self.tokenizer.quantizer.get_indices_from_latents(latents)[0, -1]
        logits, masked = zip(*steps, strict=True)
        return np.asarray(tokens.int().numpy()), np.stack(logits), np.stack(masked)

    def turn(self, frames: int) -> list[float]:
        """ms of each frame"""
        return play_turn(self.step, self.spec.actions, frames, TURN_SECONDS)


class _Likeliest:
    def __init__(self, probs: Tensor) -> None:
        self.probs = probs

    def sample(self) -> Tensor:
        return self.probs.argmax(-1)


def _given(sizes: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Sizes as the project's constructors take them."""
    return sizes | {"frame_size": (sizes["frame_size"],) * 2} | more


def their_turns(checkout: Path, folder: Path, frames: Array) -> Theirs:
    """For a process of its own."""
    theirs = Theirs(checkout, load_bundle(folder))
    theirs.start(frames)
    return theirs


def same(theirs: Theirs, bundle: Bundle, frames: Array, say: Callable[[str], None]) -> None:
    """Print how far the bundle is from their code on the same tokens of a full window."""
    spec, rng = theirs.spec, np.random.default_rng(0)
    theirs.start(frames)
    tokens = theirs.read()
    actions = [int(action) for action in rng.integers(0, spec.actions, len(frames))]
    ours = load_session(bundle, RUNTIME)
    read = np.stack([ours.encode(frame) for frame in frames])
    say(f"tokens of {len(frames)} pictures: {np.mean(read == tokens):.2%} equal")

    def observe() -> None:
        ours.reset()
        for frame, led in zip(tokens, [spec.no_action, *actions[:-1]], strict=True):
            ours.observe(frame, led)

    observe()
    places, apart, largest = rng.permutation(spec.tokens), 0.0, 0.0
    for share in MASKED_SHARES:
        masked = np.where(places < np.ceil(share * spec.tokens), spec.codebook, tokens[-1]).astype(np.int32)
        wanted = theirs.logits(tokens, masked, actions)
        apart = max(apart, float(np.abs(ours.logits(masked, actions[-1]) - wanted).max()))
        largest = max(largest, float(np.abs(wanted).max()))
    say(f"logits of {len(MASKED_SHARES)} passes: at most {apart:.1e} apart (the largest is {largest:.1f})")
    observe()
    found, _ = ours.play(actions[-1], np.zeros((spec.steps, spec.tokens), np.int32))
    wanted, logits, masked = theirs.likeliest(tokens, actions)
    say(f"a frame of the likeliest tokens: {np.mean(found == wanted):.2%} of {spec.tokens} equal")
    if (found != wanted).any():
        say(f"  {first_difference(np.flatnonzero(found != wanted), logits, masked, theirs.temperature)}")
    ours.close()


def first_difference(places: Array, logits_NSV: Array, masked_NS: Array, temperature: float) -> str:
    """What their logits say of that of the differing places which they settled first, in words."""
    settled = masked_NS.sum(0) - 1  # the step, from 0
    place = int(places[settled[places].argmin()])
    step = int(settled[place])
    second, best = np.sort(logits_NSV[step, place])[-2:]
    tempered = torch.from_numpy(logits_NSV[step]) / (temperature or 1.0)
    confidence = tempered.softmax(-1).amax(-1).numpy()
    kept, left = confidence[settled == step], confidence[settled > step]
    gaps = f"their two best logits are {best - second:.1e} apart"
    if len(left):
        gaps += f", their last place settled and the next {kept.min() - left.max():.1e} in probability"
    return f"first at place {place}, in step {step + 1} of {len(logits_NSV)}: {gaps}"


def race(checkout: Path, bundle: Bundle, frames: Array, rounds: int, say: Callable[[str], None]) -> None:
    """Print the medians of both and their ratio."""
    spec, folder = bundle.manifest.spec, bundle.folder
    with (
        Worker("TinyWorlds", their_turns, checkout, folder, frames) as theirs,
        Worker(RUNTIME, Contestant, folder, RUNTIME, frames[0], time.time()) as ours,
    ):
        theirs.call("turn", 1)
        ours.call("turn", spec.memories["dynamics"].slots + 1, TURN_SECONDS)  # from here on the window moves
        their_ms: list[float] = []
        our_ms: list[float] = []
        for _ in range(rounds):
            their_ms += theirs.call("turn", THEIR_FRAMES)
            our_ms += ours.call("turn", OUR_FRAMES, TURN_SECONDS)
    for name, timed in (("TinyWorlds", their_ms), (f"this bundle, {RUNTIME}", our_ms)):
        one = float(np.median(timed))
        say(f"{name}: {one:.1f} ms a frame, {1000 / one:.2f} a second (median of {len(timed)})")
    say(f"ratio of the medians: {np.median(their_ms) / np.median(our_ms):.1f}")


def opened(checkout: Path, folder: Path) -> Bundle:
    """The bundle. Raises UserError where the two cannot be compared."""
    if not (checkout / "models" / "dynamics.py").is_file():
        raise UserError(
            f"{checkout} is no checkout of TinyWorlds (it has no models/dynamics.py); "
            "git clone https://github.com/AlmondGod/tinyworlds and name its folder"
        )
    bundle = load_bundle(folder)
    if bundle.manifest.kind != tinyworlds.NAME:
        raise UserError(f"{folder} holds no TinyWorlds; import one and export it (docs/import.md)")
    if bundle.manifest.target != "onnx":
        raise UserError(f"{folder} is exported for {bundle.manifest.target}; export it with --target onnx")
    return bundle


def full_window_of(bundle: Bundle) -> Array:
    """Real frames, uint8 [W, H, W, 3]; those of a short clip again."""
    clips = held_out_clips(bundle, 1)
    if clips is None:
        raise UserError(f"{bundle.folder} has no clips to begin with; export it with --clips FILE.npz")
    return np.asarray(clips[0][np.arange(bundle.manifest.spec.memories["dynamics"].slots) % clips.shape[1]])


def main() -> int:
    """Exit code 0: both ran, whatever was found; 2: they could not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path, metavar="PEER_CHECKOUT", help="TinyWorlds' source, as cloned")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--threads", type=int, default=cores(), help="of each (default: the physical cores)")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each (default: 10)")
    given = parser.parse_args()
    if given.threads < 1 or given.rounds < 1:
        parser.error("--threads and --rounds must be at least 1")
    os.environ["OMP_NUM_THREADS"] = str(given.threads)  # what runtimes.machine.cores reads, in every process

    def say(what: str) -> None:
        print(what, flush=True)

    try:
        bundle = opened(given.checkout, given.bundle)
        spec, frames = bundle.manifest.spec, full_window_of(bundle)
        theirs = Theirs(given.checkout, bundle)
        say(
            f"{spec.name}: {spec.width}x{spec.height}, {spec.tokens} tokens of {spec.codebook}, "
            f"{len(frames)} past frames, {spec.steps} steps; {bundle.manifest.precision}; "
            f"threads: {given.threads}"
        )
        same(theirs, bundle, frames, say)
        race(given.checkout, bundle, frames, given.rounds, say)
    except (UserError, WorkerFailed, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
