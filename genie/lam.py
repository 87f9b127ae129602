"""The latent action model: names the transition between two frames with one of A codes, without any labels.

(arXiv 2402.15391, section 2.1.) The encoder sees the frames up to and including the next one; the decoder
must draw the next frame from the past and the code alone, so the code has to say what changed. Only the
encoder is kept for play.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pocketgenie.genie.config import GenieConfig
from pocketgenie.genie.pixels import patchify, to_float
from pocketgenie.genie.quantizer import build_quantizer
from pocketgenie.genie.transformer import STTransformer


class LatentActionModel(nn.Module):
    def __init__(self, config: GenieConfig) -> None:
        super().__init__()
        own = config.lam
        self.frames, self.patch = own.frames, own.patch
        grid = -(-config.height // own.patch), -(-config.width // own.patch)
        tokens, pixels = grid[0] * grid[1], own.patch**2 * 3
        self.quantizer = build_quantizer(own.quantizer)
        latent = own.quantizer.latent_dim
        self.patch_in = nn.Linear(pixels, own.encoder.dim)
        self.encoder_position = nn.Parameter(torch.randn(tokens, own.encoder.dim) * 0.02)
        self.encoder = STTransformer(own.encoder, grid, own.frames - 1)
        self.latent_out = nn.Linear(own.encoder.dim, latent)
        self.decoder_patch_in = nn.Linear(pixels, own.decoder.dim)
        self.decoder_position = nn.Parameter(torch.randn(tokens, own.decoder.dim) * 0.02)
        self.latent_in = nn.Linear(latent, own.decoder.dim)
        self.decoder = STTransformer(own.decoder, grid, own.frames - 1)
        self.patch_out = nn.Linear(own.decoder.dim, pixels)
        nn.init.zeros_(self.patch_out.weight)  # starts by repeating the last frame

    def latents(self, frames_BTHWC: Tensor) -> Tensor:
        """uint8 clips of `frames` frames -> latents of each transition [B, T - 1, d]"""
        patches = patchify(to_float(frames_BTHWC), self.patch)
        x = self.patch_in(patches.to(self.patch_in.weight.dtype)) + self.encoder_position
        latents: Tensor = self.latent_out(self.encoder(x)[:, 1:].mean(-2))
        return latents

    def infer(self, frames_BTHWC: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 clips of `frames` frames -> the last transition's action int64 [B], code distances [B, A]"""
        z = self.latents(frames_BTHWC)[:, -1].float()
        return self.quantizer.ids(z), self.quantizer.distances(z)

    def forward(self, frames_BTHWC: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """uint8 clips -> predicted patches of frames 1.. and the true ones [B, T - 1, S, P], soft code
        probabilities [B, T - 1, A], the quantizer's loss"""
        z = self.latents(frames_BTHWC)
        latents, _, loss = self.quantizer(z)
        patches = patchify(to_float(frames_BTHWC), self.patch)
        x = (
            self.decoder_patch_in(patches[:, :-1])
            + self.decoder_position
            + self.latent_in(latents).unsqueeze(-2)
        )
        predicted = patches[:, :-1] + self.patch_out(self.decoder(x))
        return predicted, patches[:, 1:], (-self.quantizer.distances(z)).softmax(-1), loss
