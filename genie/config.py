"""Every size of a native Genie is configuration; three configurations ship in genie/configs."""

from __future__ import annotations

from importlib import resources
from math import prod
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from pocketgenie.errors import UserError
from pocketgenie.genie.spec import Arrow, Frozen, MemoryName, MemorySpec, WorldSpec


class TransformerConfig(Frozen):
    """An ST-transformer (arXiv 2402.15391, section 2.1)."""

    layers: int = Field(gt=0)
    dim: int = Field(gt=0)
    heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    """heads * head_dim need not equal dim."""
    ffn: int = Field(gt=0)
    """Hidden width of the feed-forward layer."""
    relative_bias: bool = False
    """A learned spatial attention bias by 2-D offset, per head: cheap on small grids."""


class QuantizerConfig(Frozen):
    """The discrete bottleneck: `vq` with `codes` vectors of `dim`, or `fsq` with `levels` per dimension."""

    kind: Literal["vq", "fsq"]
    codes: int = 0
    dim: int = 0
    levels: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _one_kind(self) -> QuantizerConfig:
        if self.kind == "vq" and (self.codes < 2 or self.dim < 1 or self.levels):
            raise ValueError("vq takes `codes` >= 2 and `dim` >= 1, no `levels`")
        if self.kind == "fsq" and (not self.levels or min(self.levels) < 2 or self.codes or self.dim):
            raise ValueError("fsq takes `levels`, each >= 2, no `codes` or `dim`")
        return self

    @property
    def size(self) -> int:
        """V"""
        return self.codes if self.kind == "vq" else prod(self.levels)

    @property
    def latent_dim(self) -> int:
        return self.dim if self.kind == "vq" else len(self.levels)


class TokenizerConfig(Frozen):
    patch: int = Field(gt=0)
    window: int = Field(ge=0)
    """Past frames seen by temporal attention; 0 makes a per-frame tokenizer without memory."""
    encoder: TransformerConfig
    decoder: TransformerConfig
    quantizer: QuantizerConfig


class LamConfig(Frozen):
    patch: int = Field(gt=0)
    frames: int = Field(ge=2)
    """Length of the clip the encoder sees; its last two frames are the transition that is named."""
    encoder: TransformerConfig
    decoder: TransformerConfig
    quantizer: QuantizerConfig


class DynamicsConfig(Frozen):
    window: int = Field(gt=0)
    """W, past frames each temporal attention layer sees."""
    transformer: TransformerConfig


class SamplingConfig(Frozen):
    steps: int = Field(gt=0)
    order: Literal["halton", "confidence"] = "halton"
    temperature: float = Field(ge=0)


class GenieConfig(Frozen):
    name: str
    height: int = Field(gt=0, le=4096)
    width: int = Field(gt=0, le=4096)
    fps: float = Field(gt=0)
    tokenizer: TokenizerConfig
    lam: LamConfig
    dynamics: DynamicsConfig
    sampling: SamplingConfig
    arrows: dict[Arrow, int] = Field(default_factory=dict)
    """Found out after training (scripts/pack_world.py); see WorldSpec.arrows."""

    @model_validator(mode="after")
    def _makes_a_world(self) -> GenieConfig:
        try:
            self.spec()
        except ValidationError as error:
            raise ValueError(first_error(error)) from None
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """Token rows and columns; frames are padded at the bottom and right to whole patches."""
        patch = self.tokenizer.patch
        return -(-self.height // patch), -(-self.width // patch)

    def spec(self) -> WorldSpec:
        """The world this configuration makes."""
        tokens = self.grid[0] * self.grid[1]

        def memory(config: TransformerConfig, slots: int, prefix: str = "") -> MemorySpec:
            entry = (config.layers, 2, tokens, config.heads, config.head_dim)
            return MemorySpec(slots=slots, entry=entry, prefix=prefix)

        memories: dict[MemoryName, MemorySpec] = {}
        memories["dynamics"] = memory(self.dynamics.transformer, self.dynamics.window)
        if window := self.tokenizer.window:
            memories["encoder"] = memory(self.tokenizer.encoder, window, "encoder_")
            memories["decoder"] = memory(self.tokenizer.decoder, window, "decoder_")
        return WorldSpec(
            name=self.name,
            height=self.height,
            width=self.width,
            grid=self.grid,
            codebook=self.tokenizer.quantizer.size,
            actions=self.lam.quantizer.size,
            fps=self.fps,
            action_frames=self.lam.frames,
            memories=memories,
            arrows=self.arrows,
            **self.sampling.model_dump(),
        )


def shipped_configs() -> list[str]:
    """Names that `load_config` knows."""
    folder = resources.files("pocketgenie.genie") / "configs"
    return sorted(
        entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json")
    )


def load_config(name_or_path: str | Path) -> GenieConfig:
    """A shipped configuration by name, or a JSON file. Raises UserError."""
    path = Path(name_or_path)
    if path.suffix != ".json" and str(name_or_path) in shipped_configs():
        text = (resources.files("pocketgenie.genie") / "configs" / f"{name_or_path}.json").read_text()
    else:
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            raise UserError(f"configuration {name_or_path} is not text; give a JSON file") from None
        except OSError as error:
            known = ", ".join(shipped_configs())
            raise UserError(
                f"no configuration {name_or_path}: {error.strerror or error}; "
                f"give a JSON file or one of: {known}"
            ) from None
    try:
        return GenieConfig.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"configuration {name_or_path}: {first_error(error)}") from None


def first_error(error: ValidationError) -> str:
    """The first complaint of pydantic on one line: `where: what`."""
    first = error.errors()[0]
    where, what = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
    return " ".join((f"{where}: {what}" if where else what).split())
