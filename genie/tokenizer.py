"""The video tokenizer: frames to S discrete tokens and back (arXiv 2402.15391, section 2.1: ST-ViViT)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pocketgenie.genie.config import GenieConfig
from pocketgenie.genie.pixels import patchify, to_float, to_uint8, unpatchify
from pocketgenie.genie.quantizer import build_quantizer
from pocketgenie.genie.transformer import Past, STTransformer


class Tokenizer(nn.Module):
    """Encoder and decoder are causal in time, so a token never depends on later frames.

    Pixels and codes stay float32 where the weights are played at less.
    """

    def __init__(self, config: GenieConfig) -> None:
        super().__init__()
        own = config.tokenizer
        self.patch, self.height, self.width = own.patch, config.height, config.width
        tokens, pixels = config.grid[0] * config.grid[1], own.patch**2 * 3
        self.quantizer = build_quantizer(own.quantizer)
        latent = own.quantizer.latent_dim
        self.patch_in = nn.Linear(pixels, own.encoder.dim)
        self.encoder_position = nn.Parameter(torch.randn(tokens, own.encoder.dim) * 0.02)
        self.encoder = STTransformer(own.encoder, config.grid, own.window)
        self.latent_out = nn.Linear(own.encoder.dim, latent)
        self.latent_in = nn.Linear(latent, own.decoder.dim)
        self.decoder_position = nn.Parameter(torch.randn(tokens, own.decoder.dim) * 0.02)
        self.decoder = STTransformer(own.decoder, config.grid, own.window)
        self.patch_out = nn.Linear(own.decoder.dim, pixels)

    def embed_frames(self, frames_HWC: Tensor) -> Tensor:
        """uint8 [..., H, W, 3] -> encoder input [..., S, D]"""
        patches = patchify(to_float(frames_HWC), self.patch)
        embedded: Tensor = self.patch_in(patches.to(self.patch_in.weight.dtype))
        return embedded + self.encoder_position

    def embed_codes(self, latents: Tensor) -> Tensor:
        """codebook vectors [..., S, d] -> decoder input [..., S, D]"""
        embedded: Tensor = self.latent_in(latents.to(self.latent_in.weight.dtype))
        return embedded + self.decoder_position

    def pixels(self, decoded: Tensor) -> Tensor:
        """decoder output [..., S, D] -> float frames [..., H, W, 3], about [-1, 1]"""
        return unpatchify(self.patch_out(decoded), self.patch, self.height, self.width)

    def encode(self, frames_BTHWC: Tensor) -> Tensor:
        """uint8 clips -> tokens int64 [B, T, S]"""
        return self.quantizer.ids(self.latent_out(self.encoder(self.embed_frames(frames_BTHWC))))

    def decode(self, tokens_BTS: Tensor) -> Tensor:
        """tokens -> uint8 [B, T, H, W, 3]"""
        return to_uint8(self.pixels(self.decoder(self.embed_codes(self.quantizer.codebook()[tokens_BTS]))))

    def forward(self, frames_BTHWC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 clips -> float reconstruction in about [-1, 1], tokens, the quantizer's loss"""
        latents, tokens, loss = self.quantizer(self.latent_out(self.encoder(self.embed_frames(frames_BTHWC))))
        return self.pixels(self.decoder(self.embed_codes(latents))), tokens, loss

    def encode_step(self, frame_HWC: Tensor, past: Past | None) -> tuple[Tensor, Tensor | None]:
        """One uint8 frame and the encoder memory -> tokens [S], the encoder's entry"""
        encoded, entry = self.encoder.step(self.embed_frames(frame_HWC), past)
        return self.quantizer.ids(self.latent_out(encoded).float()), entry

    def decode_step(self, tokens_S: Tensor, past: Past | None) -> tuple[Tensor, Tensor | None]:
        """Tokens of one frame and the decoder memory -> uint8 [H, W, 3], the decoder's entry"""
        decoded, entry = self.decoder.step(self.embed_codes(self.quantizer.codebook()[tokens_S]), past)
        return to_uint8(self.pixels(decoded)), entry
