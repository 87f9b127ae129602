"""1xGPT's dynamics as a world: tokens only, one action that does nothing, token pictures for frames."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pocketgenie.genie.contract import GraphDef, signatures
from pocketgenie.genie.graphs import Decode, Encode, Logits, Observe, Play, Step
from pocketgenie.genie.spec import Frozen, MemorySpec, WorldSpec
from pocketgenie.importers.onexgpt_model import Architecture, Dynamics
from pocketgenie.importers.onexgpt_pictures import TokenPictures
from pocketgenie.importers.onexgpt_sampler import MaskGit

PLAY: Final = (
    "it has tokens and no pixels, and no actions: frames are token pictures (a colour for each token), and "
    "the one action does nothing"
)


class Config(Frozen):
    """The architecture, and how it is played."""

    name: str
    architecture: Architecture
    steps: int = Field(default=2, gt=0)
    """N; the project's scripts take 2."""
    order: Literal["random", "greedy"] = "random"
    """Which places a step settles: any, or the most confident ones."""
    temperature: float = Field(default=0.0, ge=0)
    """0: the likeliest values. Above 0: drawn from their distribution, whatever the number, as the project
    does."""
    keeps: int = Field(default=0, ge=0)
    """Frames that stay when the full window moves on, which it never does in the project; 0 for half."""
    fps: float = Field(default=2.0, gt=0, le=1000)
    """Of the video it was trained on; the released models saw 2 frames a second."""
    cell: int = Field(default=8, gt=0, le=256)
    """Pixels along the side of a token's square in token pictures."""

    def spec(self) -> WorldSpec:
        """The world this configuration makes."""
        sizes = self.architecture
        head_dim = sizes.d_model // sizes.num_heads
        entry = (sizes.num_layers, 2, sizes.S, sizes.num_heads, head_dim)
        noisy = self.temperature > 0 or self.order == "random"
        return WorldSpec(
            name=self.name,
            height=sizes.grid * self.cell,
            width=sizes.grid * self.cell,
            grid=(sizes.grid, sizes.grid),
            codebook=sizes.image_vocab_size,
            factors=sizes.num_factored_vocabs,
            actions=1,
            steps=self.steps,
            order="own",
            temperature=float(noisy),  # of the noise: whether values are drawn by it is the sampler's matter
            fps=self.fps,
            action_frames=0,
            frames="tokens",
            window="absolute",
            keeps=self.keeps or max(1, (sizes.T - 1) // 2),
            memories={"dynamics": MemorySpec(slots=sizes.T - 1, entry=entry)},
        )


class OnexWorld:
    """Meets the world contract (pocketgenie.genie.contract.World)."""

    def __init__(self, config: Config, dynamics: Dynamics) -> None:
        self.config, self.dynamics = config, dynamics
        self.spec = config.spec()

    def sampler(self) -> MaskGit:
        """As the project draws a frame, in `spec.steps` steps."""
        config = self.config
        return MaskGit(self.spec, draws=config.temperature > 0, greedy=config.order == "greedy")

    def graphs(self) -> dict[str, GraphDef]:
        """All but `infer_action`: there is no action model."""
        pictures = TokenPictures(self.spec.grid, self.spec.codebook, self.config.cell)
        step, decode = Step(self.dynamics, self.sampler()), Decode(pictures)
        modules: dict[str, nn.Module] = {
            "encode": Encode(pictures),
            "observe": Observe(self.dynamics),
            "step": step,
            "decode": decode,
            "play": Play(step, decode),
            "logits": Logits(self.dynamics),
        }
        shapes = signatures(self.spec)
        return {name: GraphDef(module.eval(), *shapes[name]) for name, module in modules.items()}

    def full_logits(self, tokens_TS: Tensor, actions_T: Tensor) -> Tensor:
        """The last frame of at most T. Always one pass over T frames, those to come masked: that is the only
        way the project has, and what `check` measures against."""
        last, frames = len(tokens_TS) - 1, self.config.architecture.T
        window = F.pad(tokens_TS, (0, 0, 0, frames - 1 - last), value=self.spec.codebook)
        return self.dynamics.head(self.dynamics(window[None])[0])[last]
