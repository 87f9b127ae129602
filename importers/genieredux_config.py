"""Sizes of a GenieRedux world: what the weights show, and what had to be said."""

from __future__ import annotations

from pydantic import Field, model_validator

from pocketgenie.genie.spec import Frozen, MemoryName, MemorySpec, WorldSpec
from pocketgenie.importers.genieredux_dynamics import DynamicsSizes
from pocketgenie.importers.genieredux_parts import Sizes
from pocketgenie.importers.genieredux_video import VideoSizes


class GenieReduxConfig(Frozen):
    """A whole world, and how it is played."""

    name: str = Field(min_length=1)
    height: int = Field(gt=0, le=4096)
    width: int = Field(gt=0, le=4096)
    patch: int = Field(gt=0, le=4096)
    tokenizer: VideoSizes
    lam: VideoSizes | None
    """Absent of a guided world, whose actions are the game's own."""
    dynamics: DynamicsSizes
    use_token: bool
    """Whether the tokenizer's codes are added to the embeddings of the dynamics."""
    window: int = Field(ge=2, le=4096)
    """W, the most past frames that the next one is drawn from."""
    keeps: int = Field(ge=1)
    """How many frames stay when a full window moves; the project ends there."""
    fps: float = Field(gt=0)

    @model_validator(mode="after")
    def _agree(self) -> GenieReduxConfig:
        if self.height % self.patch or self.width % self.patch:
            raise ValueError(f"patches of {self.patch} do not divide an image of {self.height}x{self.width}")
        if self.tokenizer.codes != self.dynamics.codes:
            raise ValueError(
                f"the tokenizer has {self.tokenizer.codes} codes and the dynamics {self.dynamics.codes}"
            )
        if (self.lam is None) != self.dynamics.guided:
            raise ValueError("a world has a latent action model or is guided, never both")
        if self.window > self.most_frames:
            raise ValueError(
                f"a window of {self.window} frames is longer than the {self.most_frames} that the position "
                "embedding has room for"
            )
        if self.keeps > self.window:
            raise ValueError(f"a window of {self.window} frames cannot keep {self.keeps}")
        if self.use_token and self.tokenizer.decoder.dim != self.dynamics.embedding:
            raise ValueError("use_token needs a tokenizer as wide as the embedding of the dynamics")
        if self.lam and (self.lam.codes, self.lam.decoder.dim) != (
            self.dynamics.actions,
            self.dynamics.embedding,
        ):
            raise ValueError("the codes of the latent action model do not fit the dynamics")
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """Token rows and columns"""
        return self.height // self.patch, self.width // self.patch

    @property
    def tokens(self) -> int:
        """S"""
        return self.grid[0] * self.grid[1]

    @property
    def most_frames(self) -> int:
        """Frames that have positions."""
        return self.dynamics.positions // self.tokens

    def spec(self) -> WorldSpec:
        """The world this configuration makes: one greedy pass a frame (genieredux_sampler)."""

        def memory(sizes: Sizes, prefix: str, more: int = 0) -> MemorySpec:
            return MemorySpec(slots=self.window, entry=(sizes.entry(self.tokens) + more,), prefix=prefix)

        memories: dict[MemoryName, MemorySpec] = {
            "dynamics": memory(self.dynamics.transformer, "", 2 * self.tokens),
            "encoder": memory(self.tokenizer.encoder, "encoder_"),
            "decoder": memory(self.tokenizer.decoder, "decoder_"),
        }
        return WorldSpec(
            name=self.name,
            height=self.height,
            width=self.width,
            grid=self.grid,
            codebook=self.dynamics.codes,
            actions=self.dynamics.actions,
            steps=1,
            temperature=0,
            fps=self.fps,
            action_frames=2 if self.lam else 0,
            window="absolute",
            keeps=self.keeps,
            memories=memories,
        )
