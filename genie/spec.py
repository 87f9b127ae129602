"""What every part agrees on about a world: pure data, no torch.

Shape letters used as suffixes of tensor names everywhere: T frames, W memory slots, S tokens per frame,
V codebook size, A actions, N refinement steps, L layers, h heads, k head dim, D model width, H W C pixels.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

NATIVE: Final = "genie"
"""The kind of worlds that are trained here; importers/kinds.py has the others."""
DType = Literal["uint8", "int32", "float32", "float16"]
Arrow = Literal["left", "right", "up", "down"]
MemoryName = Literal["dynamics", "encoder", "decoder"]


class Frozen(BaseModel):
    """A pydantic model that cannot be changed and refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def whole_root(number: int, degree: int) -> int:
    """The nearest whole number to a root."""
    return round(float(number ** (1 / degree)))


class TensorSpec(Frozen):
    """One input or output of a graph: name, dtype, static shape and what it means."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    meaning: str


class MemorySpec(Frozen):
    """A ring of the last `slots` frames' entries, each one contiguous block of `entry` floats."""

    slots: int = Field(gt=0)
    entry: tuple[int, ...]
    dtype: Literal["float32", "float16"] = "float32"
    prefix: str = ""
    """Put before the tensor names `memory`, `ages`, `filled` and `entry`: "", "encoder_" or "decoder_"."""

    def inputs(self) -> tuple[TensorSpec, ...]:
        """The ring as a graph reads it: memory [slots, *entry], ages [slots], filled [1]."""
        return (
            TensorSpec(
                name=f"{self.prefix}memory",
                dtype=self.dtype,
                shape=(self.slots, *self.entry),
                meaning="keys and values of the last frames, slot first",
            ),
            TensorSpec(
                name=f"{self.prefix}ages",
                dtype="int32",
                shape=(self.slots,),
                meaning="how many frames ago a slot was written; 1 is the frame before this one",
            ),
            TensorSpec(
                name=f"{self.prefix}filled",
                dtype="int32",
                shape=(1,),
                meaning="how many slots hold a frame; a slot counts when its age <= filled",
            ),
        )

    def output(self) -> TensorSpec:
        """The new frame's entry, which the runtime writes into the oldest slot."""
        return TensorSpec(
            name=f"{self.prefix}entry",
            dtype=self.dtype,
            shape=self.entry,
            meaning="this frame's keys and values",
        )


class WorldSpec(Frozen):
    """A playable world, as far as anybody outside the model needs to know it."""

    name: str
    height: int = Field(gt=0, le=4096)
    width: int = Field(gt=0, le=4096)
    grid: tuple[int, int]
    """Token rows and columns of a frame; S = rows * columns."""
    codebook: int = Field(gt=1)
    factors: int = Field(gt=0, default=1)
    """F: a token is F digits of V^(1/F) values each, the least significant first, and its logits are those of
    the digits side by side: F * V^(1/F) numbers in place of V."""
    actions: int = Field(gt=0)
    steps: int = Field(gt=0)
    """N, the MaskGIT refinement steps per frame."""
    order: Literal["halton", "confidence", "own"] = "halton"
    """In which tokens become final; `own`: the world brings a sampler (genie/contract.py)."""
    temperature: float = Field(ge=0)
    """Multiplies the Gumbel noise; 0 always plays the likeliest token."""
    fps: float = Field(gt=0)
    """Frames per second of the video the world was learned from."""
    action_frames: int = Field(ge=0, default=2)
    """How many consecutive frames `infer_action` looks at; 0: the world has no action model."""
    frames: Literal["pixels", "tokens"] = "pixels"
    """tokens: the world has no pictures; its frames draw each token as a square of one colour."""
    window: Literal["relative", "absolute"] = "relative"
    """absolute: positions count from the window's first frame (`filled` says a graph where it is), so the
    memory holds until the window of W + 1 frames moves; a session then observes those again that stay."""
    keeps: int = Field(ge=0, default=0)
    """How many frames stay in an absolute window that is full when it moves, 1..W; 0 for W. A project that
    slides its window by a frame keeps W; fewer are quicker: each that stays is observed again."""
    prefill: bool = False
    """Whether the world has the graph `prefill`, which observes all frames that stay in one call."""
    arrows: dict[Arrow, int] = {}
    """Which actions move the view left, right, up and down, as far as is known: a player's default keys."""
    memories: dict[MemoryName, MemorySpec]

    @model_validator(mode="after")
    def _consistent(self) -> WorldSpec:
        if self.steps > self.tokens:
            raise ValueError(f"steps {self.steps} exceeds the {self.tokens} tokens of a frame")
        if self.digit_values**self.factors != self.codebook:
            raise ValueError(
                f"codebook {self.codebook} is no whole number to the power of factors {self.factors}"
            )
        if any(not 0 <= action < self.actions for action in self.arrows.values()):
            raise ValueError(f"arrows name actions that are not among the {self.actions}")
        if self.action_frames == 1:
            raise ValueError("action_frames must be 0 or at least 2: an action lies between two frames")
        if "dynamics" not in self.memories:
            raise ValueError("a world needs a dynamics memory")
        if self.window == "absolute" and len({memory.slots for memory in self.memories.values()}) > 1:
            raise ValueError("in an absolute window all memories have the same number of slots")
        if self.prefill and self.window == "relative":
            raise ValueError("a relative window is never observed again: it has no use for prefill")
        if self.keeps > (0 if self.window == "relative" else self.memories["dynamics"].slots):
            raise ValueError(f"an absolute window of {self.memories['dynamics'].slots} keeps at most as many")
        return self

    @property
    def tokens(self) -> int:
        """S, tokens per frame."""
        return self.grid[0] * self.grid[1]

    @property
    def kept(self) -> int:
        """K, frames that stay when an absolute window moves."""
        return self.keeps or self.memories["dynamics"].slots

    @property
    def digit_values(self) -> int:
        """How many values each of a token's `factors` has; V where there is one."""
        return whole_root(self.codebook, self.factors)

    @property
    def logits(self) -> int:
        """Logits of one token, and Gumbel variates that draw it: V, or those of its digits side by side."""
        return self.factors * self.digit_values

    @property
    def no_action(self) -> int:
        """The action id that stands for "none": a history's first frame follows no action."""
        return self.actions

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """[H, W, 3]"""
        return (self.height, self.width, 3)
