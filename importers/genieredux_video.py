"""GenieRedux's tokenizer and latent action model: one body, two uses, with the project's key names."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pocketgenie.genie.spec import Frozen
from pocketgenie.importers.genieredux_blocks import Transformer
from pocketgenie.importers.genieredux_parts import PositionBias, Sizes


class VideoSizes(Frozen):
    """Of a tokenizer or a latent action model, as the weights show them."""

    codes: int = Field(gt=1)
    code_dim: int = Field(gt=0)
    projected: bool
    """Whether linear maps lead to the codebook's width and back; absent where it is the model's own."""
    encoder: Sizes
    decoder: Sizes


class Codebook(nn.Module):
    """The rows as stored; their lengths count when a code is chosen."""

    def __init__(self, codes: int, code_dim: int) -> None:
        super().__init__()
        self.embed = nn.Parameter(torch.zeros(1, codes, code_dim))


class VQ(nn.Module):
    """A code is chosen by its dot product with the input's direction."""

    def __init__(self, sizes: VideoSizes) -> None:
        super().__init__()
        self.project_in: nn.Module = nn.Identity()
        self.project_out: nn.Module = nn.Identity()
        if sizes.projected:
            self.project_in = nn.Linear(sizes.encoder.dim, sizes.code_dim)
            self.project_out = nn.Linear(sizes.code_dim, sizes.decoder.dim)
        self._codebook = Codebook(sizes.codes, sizes.code_dim)

    def likeness(self, x: Tensor) -> Tensor:
        """[..., D] -> dot products with all codes, [..., V]"""
        products: Tensor = F.normalize(self.project_in(x), dim=-1) @ self._codebook.embed[0].T
        return products

    def ids(self, x: Tensor) -> Tensor:
        """[..., D] -> int64 [...] (ties: lowest id)"""
        return self.likeness(x).argmax(-1)

    def codes(self) -> Tensor:
        """What every code stands for, [V, D]"""
        rows: Tensor = self.project_out(self._codebook.embed[0])
        return rows


class VideoModel(nn.Module):
    """Patches to a transformer, codes, and back. A window's first frame has patch layers of its own."""

    def __init__(self, sizes: VideoSizes, grid: tuple[int, int], patch: int) -> None:
        super().__init__()
        self.grid, self.patch = grid, patch
        dim, pixels = sizes.encoder.dim, 3 * patch * patch
        self.spatial_rel_pos_bias = PositionBias(dim, sizes.encoder.heads, grid)
        self.to_patch_emb_first_frame = _patch_layers(pixels, dim)
        self.to_patch_emb = _patch_layers(pixels, dim)
        self.encoder = Transformer(sizes.encoder, grid, "st")
        self.vq = VQ(sizes)
        self.decoder = Transformer(sizes.decoder, grid, "ts")
        self.to_pixels_first_frame = nn.Sequential(nn.Linear(dim, pixels))
        self.to_pixels = nn.Sequential(nn.Linear(dim, pixels))

    def settle(self) -> None:
        """Make the table of position biases, once the weights are there."""
        self.spatial_rel_pos_bias.settle()

    def embed(self, frames_BTHWC: Tensor) -> Tensor:
        """uint8 windows -> patch embeddings [B, T, S, D]"""
        patches = patchify(frames_BTHWC, self.patch)
        return torch.cat(
            [self.to_patch_emb_first_frame(patches[:, :1]), self.to_patch_emb(patches[:, 1:])], 1
        )

    def hidden(self, embedded_BTSD: Tensor) -> Tensor:
        """Patch embeddings -> encoder output [B, T, S, D]"""
        encoded: Tensor = self.encoder(embedded_BTSD, self.spatial_rel_pos_bias.table)
        return encoded

    def pixels(self, codes_BTSD: Tensor) -> Tensor:
        """Decoder input -> float frames [B, T, H, W, 3], about [0, 1]"""
        x = self.decoder(codes_BTSD, self.spatial_rel_pos_bias.table)
        patches = torch.cat([self.to_pixels_first_frame(x[:, :1]), self.to_pixels(x[:, 1:])], 1)
        return unpatchify(patches, self.grid, self.patch)

    def hidden_step(self, frame_HWC: Tensor, *ring: Tensor) -> tuple[Tensor, Tensor]:
        """One frame uint8 after those of the ring -> encoder output [S, D], memory entry"""
        memory, ages, filled = ring
        patches = patchify(frame_HWC, self.patch)
        x = torch.where(filled == 0, self.to_patch_emb_first_frame(patches), self.to_patch_emb(patches))
        past = self.encoder.past(memory, ages, filled)
        return self.encoder.step(x, self.spatial_rel_pos_bias.table, past)

    def pixels_step(self, codes_SD: Tensor, *ring: Tensor) -> tuple[Tensor, Tensor]:
        """One frame's decoder input -> float frame [H, W, 3], memory entry"""
        memory, ages, filled = ring
        past = self.decoder.past(memory, ages, filled)
        x, entry = self.decoder.step(codes_SD, self.spatial_rel_pos_bias.table, past)
        patches = torch.where(filled == 0, self.to_pixels_first_frame(x), self.to_pixels(x))
        return unpatchify(patches, self.grid, self.patch), entry


class Tokenizer(VideoModel):
    """Frames to S tokens each and back; causal in time, and a window's first frame is known as such."""

    def encode(self, frames_BTHWC: Tensor) -> Tensor:
        """uint8 windows -> tokens int64 [B, T, S]"""
        return self.vq.ids(self.hidden(self.embed(frames_BTHWC)))

    def decode(self, tokens_BTS: Tensor) -> Tensor:
        """Windows of tokens -> float frames [B, T, H, W, 3], not clamped"""
        return self.pixels(self.vq.codes()[tokens_BTS])

    def encode_step(self, frame_HWC: Tensor, *ring: Tensor) -> tuple[Tensor, Tensor]:
        """-> tokens int64 [S], memory entry"""
        hidden, entry = self.hidden_step(frame_HWC, *ring)
        return self.vq.ids(hidden), entry

    def decode_step(self, tokens_S: Tensor, *ring: Tensor) -> tuple[Tensor, Tensor]:
        """-> float frame [H, W, 3], not clamped; memory entry"""
        return self.pixels_step(self.vq.codes()[tokens_S], *ring)


class LatentActionModel(VideoModel):
    """One code per transition, from what the encoder makes of the later frame and its past."""

    def __init__(self, sizes: VideoSizes, grid: tuple[int, int], patch: int) -> None:
        super().__init__(sizes, grid, patch)
        dim = sizes.encoder.dim
        self.to_action_emb = nn.Sequential(
            nn.Identity(), nn.Linear(dim * grid[0] * grid[1], dim), nn.LayerNorm(dim)
        )

    def action(self, hidden_SD: Tensor) -> Tensor:
        """A later frame's encoder output [..., S, D] -> [..., D], which `vq` quantises"""
        embedded: Tensor = self.to_action_emb(hidden_SD.flatten(-2))
        return embedded

    def infer(self, frames_BTHWC: Tensor) -> Tensor:
        """uint8 windows -> actions int64 [B, T - 1]"""
        return self.vq.ids(self.action(self.hidden(self.embed(frames_BTHWC))[:, 1:]))

    def reconstruct(self, frames_BTHWC: Tensor) -> Tensor:
        """uint8 windows -> each next frame as the actions describe it, float [B, T - 1, H, W, 3]"""
        codes = self.vq.codes()[self.infer(frames_BTHWC)]
        return self.pixels(self.embed(frames_BTHWC)[:, :-1] + codes.unsqueeze(-2))


def patchify(frames_HWC: Tensor, patch: int) -> Tensor:
    """uint8 [..., H, W, 3] -> float [..., S, 3 * patch * patch] in [0, 1]; in a patch channel, row, column"""
    rows, columns = frames_HWC.shape[-3] // patch, frames_HWC.shape[-2] // patch
    x: Tensor = (frames_HWC.float() / 255).unflatten(-2, (columns, patch)).unflatten(-4, (rows, patch))
    return x.transpose(-4, -3).movedim(-1, -3).flatten(-3).flatten(-3, -2)


def unpatchify(patches: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """The inverse, of floats: [..., S, 3 * patch * patch] -> [..., H, W, 3]"""
    x: Tensor = patches.unflatten(-1, (3, patch, patch)).unflatten(-4, grid)
    return x.movedim(-3, -1).transpose(-4, -3).flatten(-5, -4).flatten(-3, -2)


def _patch_layers(pixels: int, dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Identity(), nn.LayerNorm(pixels), nn.Linear(pixels, dim), nn.LayerNorm(dim)
    )  # the project's first layer only reshapes
