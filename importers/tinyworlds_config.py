"""Sizes of a TinyWorlds model (github.com/AlmondGod/tinyworlds), as its three checkpoints give them."""

from __future__ import annotations

from pydantic import Field, ValidationError, model_validator

from pocketgenie.genie.config import first_error
from pocketgenie.genie.spec import Frozen, MemoryName, MemorySpec, WorldSpec


class TransformerSizes(Frozen):
    """What the three models have in common; names and meanings are the project's."""

    frame_size: int = Field(gt=0, le=4096)
    """Frames are square."""
    patch_size: int = Field(gt=0, le=4096)
    embed_dim: int = Field(gt=0, le=1 << 16)
    num_heads: int = Field(gt=0, le=1 << 10)
    hidden_dim: int = Field(gt=0, le=1 << 18)
    """The feed-forward layer is two thirds as wide."""
    num_blocks: int = Field(gt=0, le=1 << 10)

    @model_validator(mode="after")
    def _even(self) -> TransformerSizes:
        if self.frame_size % self.patch_size:
            raise ValueError(f"patch_size {self.patch_size} does not divide frame_size {self.frame_size}")
        if self.embed_dim % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide embed_dim {self.embed_dim}")
        if self.embed_dim % 2 or min(self.position_dims) < 2:
            raise ValueError(f"embed_dim {self.embed_dim} has no room for three even position vectors")
        return self

    @property
    def position_dims(self) -> tuple[int, int, int]:
        """Channels of the column's, the row's and the time's position vector, in this order."""
        time = self.embed_dim // 3 // 2 * 2
        column = (self.embed_dim - time) // 2 // 2 * 2
        return column, self.embed_dim - time - column, time

    @property
    def side(self) -> int:
        """Patches along a side of the frame; P = side * side."""
        return self.frame_size // self.patch_size

    @property
    def ffn(self) -> int:
        return 2 * self.hidden_dim // 3


class TokenizerSizes(TransformerSizes):
    latent_dim: int = Field(gt=0, le=32)
    num_bins: int = Field(gt=1, le=1 << 16)

    @model_validator(mode="after")
    def _codebook(self) -> TokenizerSizes:
        if self.codebook > 1 << 20:
            raise ValueError(
                f"num_bins {self.num_bins} to the power of latent_dim {self.latent_dim} is too many"
            )
        return self

    @property
    def codebook(self) -> int:
        """V"""
        return int(self.num_bins**self.latent_dim)


class ActionSizes(TransformerSizes):
    n_actions: int = Field(gt=1, le=1 << 16)

    @model_validator(mode="after")
    def _power_of_two(self) -> ActionSizes:
        if self.n_actions != 1 << self.action_dim:
            raise ValueError(f"n_actions {self.n_actions} is no power of two")
        return self

    @property
    def action_dim(self) -> int:
        """A, numbers of -1 or 1 that make an action's vector."""
        return self.n_actions.bit_length() - 1


class DynamicsSizes(TransformerSizes):
    use_moe: bool = False
    num_experts: int = Field(default=4, gt=0, le=1 << 10)
    top_k_experts: int = Field(default=2, gt=0, le=1 << 10)

    @model_validator(mode="after")
    def _experts(self) -> DynamicsSizes:
        if self.top_k_experts > self.num_experts:
            raise ValueError(f"top_k_experts {self.top_k_experts} exceeds num_experts {self.num_experts}")
        return self


class TinyWorldsConfig(Frozen):
    """A whole world, and how it is played."""

    name: str
    tokenizer: TokenizerSizes
    lam: ActionSizes
    dynamics: DynamicsSizes
    context: int = Field(gt=0, le=256)
    """W, past frames of the window that the next frame is drawn in."""
    steps: int = Field(gt=0)
    temperature: float = Field(ge=0)
    fps: float = Field(gt=0)
    keeps: int = Field(ge=0, default=0)
    """Frames that stay when the window moves; 0 for all W, as in the project (WorldSpec.keeps)."""

    @model_validator(mode="after")
    def _agree(self) -> TinyWorldsConfig:
        for key in ("frame_size", "patch_size"):
            sizes = {getattr(self.tokenizer, key), getattr(self.dynamics, key)}
            if len(sizes) > 1:
                raise ValueError(f"{key} of the tokenizer and the dynamics differ: {sorted(sizes)}")
        if self.lam.frame_size != self.tokenizer.frame_size:
            raise ValueError(
                f"frame_size {self.lam.frame_size} of the latent actions is not the tokenizer's "
                f"{self.tokenizer.frame_size}"
            )
        try:
            self.spec()
        except ValidationError as error:
            raise ValueError(first_error(error)) from None
        return self

    def spec(self) -> WorldSpec:
        """The world this configuration makes."""
        tokens = self.tokenizer.side**2

        def memory(sizes: TransformerSizes, prefix: str = "") -> MemorySpec:
            entry = (sizes.num_blocks, 2, tokens, sizes.embed_dim)
            return MemorySpec(slots=self.context, entry=entry, prefix=prefix)

        memories: dict[MemoryName, MemorySpec] = {
            "dynamics": memory(self.dynamics),
            "encoder": memory(self.tokenizer, "encoder_"),
            "decoder": memory(self.tokenizer, "decoder_"),
        }
        return WorldSpec(
            name=self.name,
            height=self.tokenizer.frame_size,
            width=self.tokenizer.frame_size,
            grid=(self.tokenizer.side, self.tokenizer.side),
            codebook=self.tokenizer.codebook,
            actions=self.lam.n_actions,
            steps=self.steps,
            order="own",
            temperature=self.temperature,
            fps=self.fps,
            window="absolute",
            keeps=self.keeps,
            prefill=True,
            memories=memories,
        )
