"""The sweep's PyTorch players of one world, on one device: they share one set of random weights."""

from __future__ import annotations

import gc
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketgenie.errors import UserError
from pocketgenie.genie.graphs import GenieWorld
from pocketgenie.genie.noise import draw_noise
from pocketgenie.genie.sampler import Sampler
from pocketgenie.genie.spec import WorldSpec
from pocketgenie.runtimes.sweep_plan import MAX_COMPILED, MAX_WHOLE, configuration, unrolled_layers
from pocketgenie.runtimes.sweep_players import Built, Players, Plays, SessionPlays, median_ms
from pocketgenie.runtimes.torch_cuda import Compiled, Runtime, open_world, random_world

Array = NDArray[Any]


class PaperWay:
    """As the paper plays: N passes over the whole window of frames, and no memory, on any device.

    (arXiv 2402.15391, section 2.2. FullWindow in runtimes/reference.py is the same on the CPU, for a world
    whose tokenizer sees single frames.)
    """

    def __init__(self, world: GenieWorld, device: torch.device) -> None:
        self.world, self.spec, self.device = world, world.spec, device
        self.sampler = Sampler(world.spec).to(device)
        frames = world.spec.memories["dynamics"].slots + 1
        self.tokens_TS = torch.zeros(frames, world.spec.tokens, dtype=torch.int64, device=device)
        self.actions_T = torch.zeros(frames, dtype=torch.int64, device=device)

    @torch.inference_mode()
    def frame(self, action: int, number: int) -> Array:
        noise_NS = torch.from_numpy(draw_noise(self.spec, 0, number)).to(self.device)
        self.tokens_TS, self.actions_T = self.tokens_TS.roll(-1, 0), self.actions_T.roll(-1)
        self.actions_T[-1] = action

        def hidden(masked_S: Tensor) -> Tensor:
            self.tokens_TS[-1] = masked_S
            return self.world.full_logits(self.tokens_TS, self.actions_T)

        self.tokens_TS[-1] = self.sampler(hidden, lambda logits: logits, noise_NS)
        return self.decoded()

    @torch.inference_mode()
    def decoded(self) -> Array:
        seen_TS = self.tokens_TS if "decoder" in self.spec.memories else self.tokens_TS[-1:]
        pixels: Array = self.world.genie.tokenizer.decode(seen_TS[None])[0, -1].cpu().numpy()
        return pixels

    def close(self) -> None:
        pass


class WorldPlayers(Players):
    """One world's random weights, on "cuda" or "cpu"; `alone` names the only player of a process."""

    def __init__(self, world: str, dtype: str, device: str, quick: bool, alone: str = "") -> None:
        super().__init__()
        self.device, self.dtype = torch.device(device), getattr(torch, dtype)
        self.cuda = self.device.type == "cuda"
        self.config = configuration(world, quick)
        self.world = random_world(self.config, self.device, self.dtype)
        self.weights = self._allocated()

    def prepare(self, steps: int, dtype: str, player: str) -> Built:
        self._tidy()  # what a player that failed has left
        before = self._allocated()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        built = super().prepare(steps, dtype, player)
        if not self.cuda:
            return built
        peak = self.weights + torch.cuda.max_memory_allocated(self.device) - before
        return Built(ready_s=built.ready_s, device_mb=peak / 1e6)

    def build(self, steps: int, dtype: str, player: str) -> Plays:
        world = GenieWorld(self.world.genie)
        world.spec = world.spec.model_copy(update={"steps": steps})
        if player == "paper-way":
            return PaperWay(world, self.device)
        layers = unrolled_layers(self.config, steps)
        if player == "cuda-compiled" and layers > MAX_COMPILED:
            raise UserError(
                f"{layers} layers unrolled in one program, more than {MAX_COMPILED}, take Inductor minutes"
            )
        how: Compiled = "whole" if layers <= MAX_WHOLE else "layers"
        return SessionPlays(
            open_world(
                world,
                cast(Runtime, player),
                device=self.device,
                dtype=self.dtype,
                compiled=how,
                float8=dtype == "float8",
            )
        )

    def copies_ms(self, spec: WorldSpec) -> float:
        noise_NS = torch.zeros(spec.steps, spec.tokens, dtype=torch.int32)

        def send() -> None:
            noise_NS.to(self.device)
            if self.cuda:
                torch.cuda.synchronize(self.device)

        return median_ms(send) + self.picture_ms(spec)

    def picture_ms(self, spec: WorldSpec) -> float:
        picture = torch.zeros(spec.frame_shape, dtype=torch.uint8, device=self.device)
        return median_ms(lambda: np.array(picture.cpu()))

    def drop(self) -> None:
        super().drop()
        self._tidy()

    def _tidy(self) -> None:
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()

    def _allocated(self) -> int:
        return torch.cuda.memory_allocated(self.device) if self.cuda else 0
