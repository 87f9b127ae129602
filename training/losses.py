"""What each part is trained on: a module per part that turns a batch into the loss and its figures."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketgenie.genie.dynamics import Dynamics
from pocketgenie.genie.lam import LatentActionModel
from pocketgenie.genie.pixels import to_float
from pocketgenie.genie.tokenizer import Tokenizer

Figures = dict[str, Tensor]


def psnr_db(mse: Tensor, peak: float = 2.0) -> Tensor:
    """dB of a mean squared error on a [-1, 1] scale."""
    return -10 * torch.log10(mse.detach().clamp_min(1e-10) / peak**2)


def perplexity(ids: Tensor, size: int) -> Tensor:
    """exp of the entropy of code usage: 1 (one code) .. size (all alike)"""
    share = torch.bincount(ids.flatten(), minlength=size).float()
    share = share / share.sum()
    return torch.exp(-(share * share.clamp_min(1e-12).log()).sum())


class TokenizerLoss(nn.Module):
    """Mean squared error of the reconstruction, plus the codebook's own loss."""

    def __init__(self, model: Tokenizer) -> None:
        super().__init__()
        self.model = model

    def forward(self, frames_BTHWC: Tensor) -> tuple[Tensor, Figures]:
        drawn, tokens, codebook_loss = self.model(frames_BTHWC)
        mse = F.mse_loss(drawn.float(), to_float(frames_BTHWC))
        used = perplexity(tokens, len(self.model.quantizer.codebook()))
        return mse + codebook_loss, {"recon_psnr_db": psnr_db(mse), "codebook_perplexity": used}


class LamLoss(nn.Module):
    """Mean squared error of the predicted next frame, less a bonus for using all actions alike (entropy)."""

    def __init__(self, model: LatentActionModel, entropy_bonus: float = 0.002) -> None:
        super().__init__()
        self.model, self.entropy_bonus = model, entropy_bonus

    def forward(self, frames_BTHWC: Tensor) -> tuple[Tensor, Figures]:
        predicted, wanted, probabilities, codebook_loss = self.model(frames_BTHWC)
        mse = F.mse_loss(predicted.float(), wanted)
        share = probabilities.float().flatten(0, -2).mean(0)
        entropy = -(share * share.clamp_min(1e-9).log()).sum()
        copied = F.mse_loss(to_float(frames_BTHWC[:, :-1]), to_float(frames_BTHWC[:, 1:]))
        figures = {
            "next_frame_psnr_db": psnr_db(mse),
            "copy_last_psnr_db": psnr_db(copied),
            "action_perplexity": perplexity(probabilities.argmax(-1), probabilities.shape[-1]),
        }
        return mse + codebook_loss - self.entropy_bonus * entropy, figures


class DynamicsLoss(nn.Module):
    """Cross-entropy of masked tokens (arXiv 2402.15391, section 2.1: masking rate U(0.5, 1)).

    A share `all_masked` of the frames is masked whole, since that is what the first refinement step of play
    sees, and a share `corrupt` of the context tokens is replaced at random, so that a roll-out's own mistakes
    do not throw it off. The loss is taken on a share `judged` of the masked tokens: a softmax over thousands
    of codes costs more than it tells.
    """

    def __init__(
        self, model: Dynamics, all_masked: float = 0.4, corrupt: float = 0.03, judged: float = 0.5
    ) -> None:
        super().__init__()
        self.model, self.all_masked, self.corrupt, self.judged = model, all_masked, corrupt, judged

    def forward(self, tokens_BTS: Tensor, actions_BT: Tensor) -> tuple[Tensor, Figures]:
        B, T, S = tokens_BTS.shape
        device = tokens_BTS.device
        rate = 0.5 + 0.5 * torch.rand(B, T, 1, device=device)
        rate = torch.where(torch.rand(B, T, 1, device=device) < self.all_masked, 1.0, rate)
        mask = torch.rand(B, T, S, device=device) < rate
        mask[:, 0] = False  # a history's first frame is given
        random = torch.randint(self.model.mask_id, tokens_BTS.shape, device=device)
        context = torch.where(torch.rand(B, T, S, device=device) < self.corrupt, random, tokens_BTS)
        masked = tokens_BTS.masked_fill(mask, self.model.mask_id)
        hidden = self.model.forward_training(context, masked, actions_BT)
        judged = mask & (torch.rand(B, T, S, device=device) < self.judged)
        logits = self.model.head(hidden[judged])
        wanted = tokens_BTS[judged]
        loss = F.cross_entropy(logits.float(), wanted)
        right = (logits.detach().argmax(-1) == wanted).float().mean()
        return loss, {"token_accuracy": right, "bits_per_token": loss.detach() / math.log(2)}
