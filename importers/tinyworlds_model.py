"""The three models of TinyWorlds, float32: video tokenizer, latent actions, dynamics.

(github.com/AlmondGod/tinyworlds.) Frames are floats in [-1, 1], [T, H, W, 3]. Time counts from the window's
first frame, so a suffix of a window gives other tokens than the window does. Each method takes the memory of
the frames before, or none for a whole window. Module names are those of the project's state dicts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pocketgenie.importers.tinyworlds_config import (
    ActionSizes,
    DynamicsSizes,
    TinyWorldsConfig,
    TokenizerSizes,
    TransformerSizes,
)
from pocketgenie.importers.tinyworlds_transformer import EPS, Past, Transformer, place_table


def to_float(frames: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1], rounded as the project's loaders round"""
    return (frames.float() / 255 - 0.5) / 0.5


def patchify(frames_THWC: Tensor, patch: int) -> Tensor:
    """[T, H, W, 3] -> [T, P, 3 * patch * patch]: rows of patches; inside one channel, row, column"""
    T, height, width, _ = frames_THWC.shape
    x = frames_THWC.reshape(T, height // patch, patch, width // patch, patch, 3)
    return x.permute(0, 1, 3, 5, 2, 4).reshape(T, -1, 3 * patch * patch)


def unpatchify(patches: Tensor, patch: int, side: int) -> Tensor:
    """The inverse of `patchify` for a grid of side * side patches"""
    x = patches.reshape(len(patches), side, side, 3, patch, patch).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(len(patches), side * patch, side * patch, 3)


class Pointwise(nn.Module):
    """A linear layer that the project keeps as a 1x1 convolution."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(out, into, 1, 1)), nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight[:, :, 0, 0], self.bias)


class Quantizer(nn.Module):
    """Finite scalar quantization (arXiv 2309.15505): n levels in each dimension, the first counts least."""

    def __init__(self, dim: int, bins: int) -> None:
        super().__init__()
        self.bins = bins
        self.register_buffer("basis", bins ** torch.arange(dim), persistent=False)
        self.basis: Tensor

    def ids(self, z: Tensor) -> Tensor:
        """[..., d] before tanh -> int64 [...]"""
        digits = torch.round((torch.tanh(z) + 1) / 2 * (self.bins - 1))
        return (digits.long() * self.basis).sum(-1)

    def vectors(self) -> Tensor:
        """Every code's values in [-1, 1], [V, d]"""
        ids = torch.arange(self.bins ** len(self.basis), device=self.basis.device)
        digits = ids[:, None] // self.basis % self.bins
        return 2 * digits.float() / (self.bins - 1) - 1


class PatchEmbed(nn.Module):
    def __init__(self, sizes: TransformerSizes) -> None:
        super().__init__()
        self.patch = sizes.patch_size
        self.proj = Pointwise(3 * self.patch**2, sizes.embed_dim)
        self.register_buffer("place", place_table(sizes), persistent=False)
        self.place: Tensor

    def forward(self, frames_THWC: Tensor) -> Tensor:
        embedded: Tensor = self.proj(patchify(frames_THWC, self.patch))
        return embedded + self.place


class Encoder(nn.Module):
    def __init__(self, sizes: TransformerSizes, window: int) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(sizes)
        self.transformer = Transformer(sizes, window)


class TokenEncoder(Encoder):
    def __init__(self, sizes: TokenizerSizes, window: int) -> None:
        super().__init__(sizes, window)
        dim = sizes.embed_dim
        self.latent_head = nn.Sequential(nn.LayerNorm(dim, eps=EPS), nn.Linear(dim, sizes.latent_dim))

    def forward(self, frames_THWC: Tensor, past: Past | None = None) -> tuple[Tensor, Tensor]:
        """-> z [T, P, L] before tanh, entries"""
        x, entries = self.transformer(self.patch_embed(frames_THWC), past)
        return self.latent_head(x), entries


class TokenDecoder(nn.Module):
    def __init__(self, sizes: TokenizerSizes, window: int) -> None:
        super().__init__()
        self.patch, self.side = sizes.patch_size, sizes.side
        self.latent_embed = nn.Linear(sizes.latent_dim, sizes.embed_dim)
        self.transformer = Transformer(sizes, window)
        pixels = {"to_pixels": Pointwise(sizes.embed_dim, 3 * self.patch**2)}
        self.frame_head = nn.ModuleDict(pixels)
        self.register_buffer("place", place_table(sizes), persistent=False)
        self.place: Tensor

    def forward(self, embedded_TPE: Tensor, past: Past | None = None) -> tuple[Tensor, Tensor]:
        """Embedded latents -> frames [T, H, W, 3], not clamped, and entries"""
        x, entries = self.transformer(embedded_TPE + self.place, past)
        return unpatchify(self.frame_head["to_pixels"](x), self.patch, self.side), entries


class VideoTokenizer(nn.Module):
    def __init__(self, sizes: TokenizerSizes, window: int) -> None:
        super().__init__()
        self.encoder, self.decoder = TokenEncoder(sizes, window), TokenDecoder(sizes, window)
        self.quantizer = Quantizer(sizes.latent_dim, sizes.num_bins)

    def encode(self, frames_THWC: Tensor, past: Past | None = None) -> tuple[Tensor, Tensor]:
        """-> tokens int64 [T, P], entries"""
        z, entries = self.encoder(frames_THWC, past)
        return self.quantizer.ids(z), entries

    def decode(self, tokens_TP: Tensor, past: Past | None = None) -> tuple[Tensor, Tensor]:
        """-> frames [T, H, W, 3], not clamped, and entries"""
        frames: tuple[Tensor, Tensor] = self.decoder(
            self.decoder.latent_embed(self.quantizer.vectors())[tokens_TP], past
        )
        return frames


class ActionEncoder(Encoder):
    def __init__(self, sizes: ActionSizes, window: int) -> None:
        super().__init__(sizes, window)
        pair, hidden = 2 * sizes.embed_dim, 4 * sizes.action_dim
        self.action_head = nn.Sequential(
            nn.LayerNorm(pair, eps=EPS),
            nn.Linear(pair, hidden),
            nn.GELU(),
            nn.Linear(hidden, sizes.action_dim),
        )

    def forward(self, frames_THWC: Tensor) -> Tensor:
        """A window -> z [T - 1, A] before tanh"""
        means_TE = self.transformer(self.patch_embed(frames_THWC))[0].mean(1)
        z: Tensor = self.action_head(torch.cat([means_TE[:-1], means_TE[1:]], -1))
        return z


class ActionDecoder(nn.Module):
    """Predicts the next frames from the actions: how the latent actions were learned; play does without."""

    def __init__(self, sizes: ActionSizes, window: int) -> None:
        super().__init__()
        dim = sizes.embed_dim
        self.patch, self.side = sizes.patch_size, sizes.side
        self.patch_embed = PatchEmbed(sizes)
        self.transformer = Transformer(sizes, window, sizes.action_dim)
        self.frame_head = nn.Sequential(nn.LayerNorm(dim, eps=EPS), nn.Linear(dim, 3 * self.patch**2))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, 1, dim))  # of training only

    def forward(self, frames_THWC: Tensor, vectors_TA: Tensor) -> Tensor:
        """Frames without the last, and what followed each -> the frames after them, [T, H, W, 3]"""
        modulation = self.transformer.modulation(vectors_TA)
        x, _ = self.transformer(self.patch_embed(frames_THWC), None, modulation)
        return unpatchify(torch.tanh(self.frame_head(x)), self.patch, self.side)


class LatentActions(nn.Module):
    def __init__(self, sizes: ActionSizes, window: int) -> None:
        super().__init__()
        self.encoder, self.decoder = ActionEncoder(sizes, window), ActionDecoder(sizes, window)
        self.quantizer = Quantizer(sizes.action_dim, 2)


class Dynamics(nn.Module):
    def __init__(
        self, sizes: DynamicsSizes, tokenizer: TokenizerSizes, actions: Quantizer, window: int
    ) -> None:
        super().__init__()
        codes = Quantizer(tokenizer.latent_dim, tokenizer.num_bins)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, 1, tokenizer.latent_dim))
        self.latent_embed = nn.Linear(tokenizer.latent_dim, sizes.embed_dim)
        self.transformer = Transformer(sizes, window, len(actions.basis))
        self.output_mlp = nn.Linear(sizes.embed_dim, tokenizer.codebook)
        self.register_buffer("place", place_table(sizes), persistent=False)
        self.register_buffer("codes", codes.vectors(), persistent=False)
        self.register_buffer("action_vectors", actions.vectors(), persistent=False)
        self.place: Tensor
        self.codes: Tensor
        self.action_vectors: Tensor

    def embed(self, tokens_TP: Tensor) -> Tensor:
        """tokens in [0, V], V is the mask, which stands in for a latent -> [T, P, E]"""
        table: Tensor = self.latent_embed(torch.cat([self.codes, self.mask_token[0, 0]]))
        return table[tokens_TP] + self.place

    def modulation(self, actions_T: Tensor) -> Tensor:
        """actions in [0, A], A is none: no scaling and no shift at all -> [T, L, 3, 2, E]"""
        led = self.transformer.modulation(self.action_vectors)
        none = torch.stack([torch.ones_like(led[0, ..., 0, :]), torch.zeros_like(led[0, ..., 0, :])], -2)
        return torch.cat([led, none[None]])[actions_T]

    def hidden(
        self, embedded_TPE: Tensor, actions_T: Tensor, past: Past | None = None
    ) -> tuple[Tensor, Tensor]:
        """-> hidden states [T, P, E], entries"""
        out: tuple[Tensor, Tensor] = self.transformer(embedded_TPE, past, self.modulation(actions_T))
        return out

    def forward(self, tokens_TP: Tensor, actions_T: Tensor) -> Tensor:
        """A whole window -> logits [T, P, V]; actions[t] leads to frame t"""
        logits: Tensor = self.output_mlp(self.hidden(self.embed(tokens_TP), actions_T)[0])
        return logits


class TinyWorlds(nn.Module):
    """The three trained parts of a world; a window is the W frames of the memory and one more."""

    def __init__(self, config: TinyWorldsConfig, window: int | None = None) -> None:
        super().__init__()
        self.config = config
        window = window or config.context + 1
        self.tokenizer = VideoTokenizer(config.tokenizer, window)
        self.lam = LatentActions(config.lam, window)
        self.dynamics = Dynamics(config.dynamics, config.tokenizer, self.lam.quantizer, window)
