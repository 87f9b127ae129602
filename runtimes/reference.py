"""Runtime `reference`: PyTorch eager at float32, cached (`load`) and as the paper plays it (`FullWindow`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle
from pocketgenie.genie.contract import GraphDef, World, sampler_of
from pocketgenie.genie.noise import draw_noise
from pocketgenie.genie.sampler import Sampler
from pocketgenie.genie.spec import NATIVE, MemoryName, MemorySpec, WorldSpec
from pocketgenie.importers.kinds import load_world
from pocketgenie.runtimes.ring import Ring, Window
from pocketgenie.runtimes.session import Array, GraphSession
from pocketgenie.runtimes.ties import OwnDraw

Forward = Callable[..., tuple[Tensor, ...]]
PAPER_STEPS = 25


class TorchBackend:
    """Runs a world's modules; `wrap` may compile them."""

    def __init__(
        self,
        graphs: Mapping[str, GraphDef],
        wrap: Callable[[str, torch.nn.Module], Forward] = lambda name, module: module,
    ) -> None:
        self.graphs = graphs
        self.forwards = {name: wrap(name, graph.module) for name, graph in graphs.items()}

    def memory(self, spec: MemorySpec) -> Array:
        return np.zeros((spec.slots, *spec.entry), spec.dtype)

    @torch.inference_mode()
    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        definition = self.graphs[graph]
        tensors = (torch.from_numpy(inputs[spec.name]) for spec in definition.inputs)
        outputs = self.forwards[graph](*tensors)
        return {spec.name: value.numpy() for spec, value in zip(definition.outputs, outputs, strict=True)}

    def close(self) -> None:
        pass


def reference_world(bundle: Bundle) -> World:
    """The checkpoint that travels with a bundle. Raises UserError where it was left out."""
    if bundle.manifest.reference is None:
        raise UserError(
            f"{bundle.folder} was exported without its reference; export it again without --no-reference"
        )
    return load_world(bundle.folder / bundle.manifest.reference)


def teacher_world(bundle: Bundle) -> World:
    """The checkpoint that this one was distilled from. Raises UserError where the bundle has none."""
    if bundle.manifest.teacher is None:
        why = bundle.manifest.recipe.get("teacher", "the world was not distilled")
        raise UserError(
            f"{bundle.folder} has no teacher ({why}); export a distilled world beside its teacher"
        )
    return load_world(bundle.folder / bundle.manifest.teacher)


def as_the_paper(spec: WorldSpec, steps: int = PAPER_STEPS) -> WorldSpec:
    """A world played with the paper's sampling: 25 steps, the most confident tokens first."""
    return spec.model_copy(update={"steps": min(steps, spec.tokens), "order": "confidence"})


def full_window(bundle: Bundle) -> FullWindow:
    """The way without a memory that a bundle is measured against, of the teacher where it has one: a native
    world as the paper samples, any other with its own sampler and steps, as its project plays it."""
    world = teacher_world(bundle) if bundle.manifest.teacher else reference_world(bundle)
    return FullWindow(world, as_the_paper(world.spec) if bundle.manifest.kind == NATIVE else world.spec)


def load_teacher(bundle: Bundle) -> GraphSession:
    """The teacher as `teacher_session` plays it."""
    return teacher_session(teacher_world(bundle), bundle.manifest.kind)


def teacher_session(world: World, kind: str) -> GraphSession:
    """What a student is measured against: a native world with the paper's sampling, any other as its project
    plays it. Cached: the full window's frames without recomputing it."""
    return paper_session(world) if kind == NATIVE else world_session(world)


def paper_session(world: World) -> GraphSession:
    """A world with the paper's sampling, cached."""
    world.spec = as_the_paper(world.spec)
    return world_session(world)


def world_session(world: World) -> GraphSession:
    """Play a world as it is, eager and cached."""
    return GraphSession(world.spec, TorchBackend(world.graphs()))


def load(bundle: Bundle) -> GraphSession:
    return world_session(reference_world(bundle))


def probe() -> str:
    """Which torch, for `doctor`."""
    return f"torch {torch.__version__}"


class FullWindow:
    """Playing without a memory: every refinement pass over the whole window, as in the paper and by others.

    (arXiv 2402.15391, section 2.2: 25 MaskGIT steps a frame; MaskGIT, arXiv 2202.04200, keeps the most
    confident tokens of each step.) The window holds W past frames and the next one. Where the decoder has a
    memory, the whole window is decoded for its last frame.
    """

    def __init__(self, world: World, spec: WorldSpec, seed: int = 0) -> None:
        """`spec`: the world's own, or that with another sampling (`as_the_paper`)."""
        self.world, self.spec, self.seed = world, spec, seed
        self.sampler = sampler_of(world) if spec.order == "own" else Sampler(spec)
        graphs = world.graphs()
        self.encode, self.decode = graphs["encode"].module, graphs["decode"].module
        self.window: Window[tuple[Tensor, int]] = Window(spec)
        """Tokens of the past frames, and the action that led to each."""
        self.drawn = 0

    @torch.inference_mode()
    def start(self, frame: Array) -> Array:
        """Take the first frame -> the tokenizer's view of it."""
        tokens = self.encode(torch.from_numpy(frame), *_inputs(self._ring("encoder")))[0].long()
        self.window, self.drawn = Window(self.spec), 0
        self.window.add((tokens, self.spec.no_action))
        return self._picture([tokens])

    @torch.inference_mode()
    def step(self, action: int) -> Array:
        """Draw the next frame, uint8 [H, W, 3]."""
        self.window.move()
        past = [tokens for tokens, _ in self.window.past]
        led_by = [led for _, led in self.window.past]
        if self.spec.window == "absolute":
            led_by[0] = self.spec.no_action
        actions = torch.tensor([*led_by, action])
        self.drawn += 1
        noise = torch.from_numpy(draw_noise(self.spec, self.seed, self.drawn))

        def hidden(masked: Tensor) -> Tensor:
            return self.world.full_logits(torch.stack([*past, masked]), actions)

        tokens = self.sampler(hidden, lambda logits: logits, noise)
        self.window.add((tokens, action))
        return self._picture([*past, tokens])

    def _picture(self, window: Sequence[Tensor]) -> Array:
        ring = self._ring("decoder")
        for tokens in window if ring else window[-1:]:
            frame, *entry = self.decode(tokens.int(), *_inputs(ring))
            if ring and not ring.full:
                ring.push(entry[0].numpy())
        picture: Array = frame.numpy()
        return picture

    def _ring(self, name: MemoryName) -> Ring | None:
        """An empty memory, where the world has one of this name."""
        memory = self.spec.memories.get(name)
        return Ring(memory, np.zeros((memory.slots, *memory.entry), memory.dtype)) if memory else None


def _inputs(ring: Ring | None) -> list[Tensor]:
    return [torch.from_numpy(array) for array in ring.inputs().values()] if ring else []


def own_draw(world: World) -> OwnDraw:
    """The sampler of a world of its own order, on arrays (runtimes/ties.py)."""
    sampler = sampler_of(world)

    @torch.inference_mode()
    def draw(logits_of: Callable[[Array], Array], noise_NS: Array) -> Array:
        def hidden(tokens: Tensor) -> Tensor:
            return torch.from_numpy(logits_of(tokens.numpy().astype(np.int32)))

        drawn: Array = sampler(hidden, lambda logits: logits, torch.from_numpy(noise_NS)).numpy()
        return drawn

    return draw
