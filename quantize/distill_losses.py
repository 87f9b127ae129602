"""What a student is trained on: its teacher's features, its teacher's choices, and the data itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketgenie.genie.dynamics import Dynamics
from pocketgenie.genie.lam import LatentActionModel
from pocketgenie.genie.noise import halton_order, unmask_counts
from pocketgenie.genie.pixels import to_float
from pocketgenie.genie.quantizer import Quantizer
from pocketgenie.genie.tokenizer import Tokenizer
from pocketgenie.genie.transformer import STTransformer
from pocketgenie.quantize.students import kept_layers
from pocketgenie.training.losses import Figures, psnr_db

FEATURES = 0.1
"""Weight of the features' error, which is about 0 (alike) to 2 (unrelated) for each layer."""


class Distillation(nn.Module):
    """Base of the losses: the teacher is used but is no part of what is trained, saved or wrapped."""

    def __init__(self, model: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._teacher = (teacher.eval().requires_grad_(False),)


class Features(nn.Module):
    """How far a student's layers are from the teacher's that they stand for (FitNets, arXiv 1412.6550): mean
    squared error of normalised hidden states, through a linear map where the widths differ."""

    def __init__(self, student: STTransformer, teacher: STTransformer) -> None:
        super().__init__()
        self.kept = kept_layers(len(teacher.blocks), len(student.blocks))
        widths = len(student.norm.weight), len(teacher.norm.weight)
        same = widths[0] == widths[1]
        self.maps = nn.ModuleList(nn.Identity() if same else nn.Linear(*widths) for _ in self.kept)

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Hidden states [..., D] after every block -> their mean error."""
        errors = []
        for mapped, hidden, number in zip(self.maps, student, self.kept, strict=True):
            own, wanted = mapped(hidden), teacher[number]
            errors.append(F.mse_loss(_normal(own), _normal(wanted)))
        return torch.stack(errors).mean()


def _normal(hidden: Tensor) -> Tensor:
    return F.layer_norm(hidden.float(), hidden.shape[-1:])


class TokenizerDistillation(Distillation):
    """A decoder that draws the teacher's codes as the teacher and the data do, and, where the encoder is
    another, an encoder that gives the teacher's codes."""

    model: Tokenizer

    def __init__(self, model: Tokenizer, teacher: Tokenizer, encoder: bool) -> None:
        super().__init__(model, teacher)
        self.features = Features(model.decoder, teacher.decoder)
        self.encoder_features = Features(model.encoder, teacher.encoder) if encoder else None
        trained = ("decoder", "latent_in", "patch_out") + (
            ("encoder", "patch_in", "latent_out") if encoder else ()
        )
        for name, weight in model.named_parameters():
            weight.requires_grad_(name.startswith(trained))

    def forward(self, frames_BTHWC: Tensor) -> tuple[Tensor, Figures]:
        (teacher,) = self._teacher
        assert isinstance(teacher, Tokenizer)
        theirs: list[Tensor] = []
        encoded: list[Tensor] = []
        with torch.no_grad():
            hidden = teacher.encoder(teacher.embed_frames(frames_BTHWC), seen=encoded)
            wanted_z = teacher.latent_out(hidden).float()
            codes = teacher.quantizer.ids(wanted_z)
            latents = teacher.quantizer.codebook()[codes]
            wanted = teacher.pixels(teacher.decoder(teacher.embed_codes(latents), seen=theirs)).float()
        ours: list[Tensor] = []
        drawn = self.model.pixels(self.model.decoder(self.model.embed_codes(latents), seen=ours)).float()
        truth = to_float(frames_BTHWC)
        mse, loyal = F.mse_loss(drawn, truth), F.mse_loss(drawn, wanted)
        loss = mse + loyal + FEATURES * 0.1 * self.features(ours, theirs)
        figures = {"recon_psnr_db": psnr_db(mse), "teacher_psnr_db": psnr_db(F.mse_loss(wanted, truth))}
        if self.encoder_features is not None:
            seen: list[Tensor] = []
            z = self.model.latent_out(
                self.model.encoder(self.model.embed_frames(frames_BTHWC), seen=seen)
            ).float()
            loss = loss + _latent_error(self.model.quantizer, z, wanted_z)
            loss = loss + FEATURES * self.encoder_features(seen, encoded)
            figures["same_tokens"] = (self.model.quantizer.ids(z) == codes).float().mean()
        return loss, figures


class LamDistillation(Distillation):
    """An action model that names what the teacher names, from latents that lie where the teacher's do."""

    model: LatentActionModel

    def __init__(self, model: LatentActionModel, teacher: LatentActionModel) -> None:
        super().__init__(model, teacher)
        for name, weight in model.named_parameters():
            weight.requires_grad_(name.startswith(("patch_in", "encoder", "latent_out")))

    def forward(self, frames_BTHWC: Tensor) -> tuple[Tensor, Figures]:
        (teacher,) = self._teacher
        assert isinstance(teacher, LatentActionModel)
        with torch.no_grad():
            wanted = teacher.latents(frames_BTHWC).float()
        z = self.model.latents(frames_BTHWC).float()
        same = (teacher.quantizer.ids(z) == teacher.quantizer.ids(wanted)).float().mean()
        return _latent_error(teacher.quantizer, z, wanted), {"same_actions": same}


def _latent_error(quantizer: Quantizer, z: Tensor, wanted: Tensor) -> Tensor:
    """Of latents before they are quantized, relative to how far the teacher's spread."""
    own, theirs = quantizer.bound(z), quantizer.bound(wanted)
    return F.mse_loss(own, theirs) / theirs.var().clamp_min(1e-6)


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) in nats, mean over [..., V] logits (arXiv 1503.02531, at temperature 1)."""
    own, theirs = student.float().log_softmax(-1), teacher.float().log_softmax(-1)
    return (theirs.exp() * (theirs - own)).sum(-1).mean()


class DynamicsDistillation(Distillation):
    """Masked frames of real clips: the teacher's distribution over codes, its features, and the real code.

    Masking rate as in training (arXiv 2402.15391, section 2.1: U(0.5, 1)); a share of frames is masked whole.
    """

    model: Dynamics

    def __init__(
        self, model: Dynamics, teacher: Dynamics, all_masked: float = 0.4, judged: float = 0.5
    ) -> None:
        super().__init__(model, teacher)
        self.features = Features(model.transformer, teacher.transformer)
        self.all_masked, self.judged = all_masked, judged

    def forward(self, tokens_BTS: Tensor, actions_BT: Tensor) -> tuple[Tensor, Figures]:
        (teacher,) = self._teacher
        assert isinstance(teacher, Dynamics)
        B, T, S = tokens_BTS.shape
        device = tokens_BTS.device
        rate = 0.5 + 0.5 * torch.rand(B, T, 1, device=device)
        rate = torch.where(torch.rand(B, T, 1, device=device) < self.all_masked, 1.0, rate)
        mask = torch.rand(B, T, S, device=device) < rate
        mask[:, 0] = False  # a history's first frame is given
        masked = tokens_BTS.masked_fill(mask, self.model.mask_id)
        judged = mask & (torch.rand(B, T, S, device=device) < self.judged)
        ours: list[Tensor] = []
        theirs: list[Tensor] = []
        with torch.no_grad():
            hidden = teacher.forward_training(tokens_BTS, masked, actions_BT, theirs)
            wanted = teacher.head(hidden[judged])
        logits = self.model.head(self.model.forward_training(tokens_BTS, masked, actions_BT, ours)[judged])
        real = F.cross_entropy(logits.float(), tokens_BTS[judged])
        kl = divergence(logits, wanted)
        same = (logits.argmax(-1) == wanted.argmax(-1)).float().mean()
        loss = 0.5 * real + kl + FEATURES * self.features(ours, theirs)
        return loss, {"kl_nats": kl.detach(), "same_choice": same, "bits_per_token": real.detach() / 0.6931}


class StepsDistillation(Distillation):
    """Frames as play meets them: the histories are the student's own, each frame is masked as it is before
    one of the student's own N steps, and only the codes drawn in that step count.

    forward takes histories int64 [B, T, S] (real frames, then the student's), the wanted frames int64
    [B, T, S] with -1 where there is no wish, and actions [B, T]. Where there is no wish the teacher's own
    distribution is wanted, given a random part of the frame that the student drew: what Di[M]O
    (arXiv 2503.15457, section 3) asks its teacher.
    """

    model: Dynamics

    def __init__(
        self, model: Dynamics, teacher: Dynamics, grid: tuple[int, int], steps: int, order: str
    ) -> None:
        super().__init__(model, teacher)
        self.order, self.size = order, grid[0] * grid[1]
        self.places = torch.from_numpy(halton_order(*grid)).long().argsort()
        self.ends = torch.tensor([0, *unmask_counts(self.size, steps)])

    def forward(self, history_BTS: Tensor, wanted_BTS: Tensor, actions_BT: Tensor) -> tuple[Tensor, Figures]:
        (teacher,) = self._teacher
        assert isinstance(teacher, Dynamics)
        B, T, S = history_BTS.shape
        device = history_BTS.device
        places = self.places.to(device).expand(B, T, S)
        if self.order == "confidence":  # any order may come
            places = torch.rand(B, T, S, device=device).argsort(-1)
        step = torch.randint(len(self.ends) - 1, (B, T, 1), device=device)
        ends = self.ends.to(device)
        begin, end = ends[step], ends[step + 1]
        wish = wanted_BTS >= 0
        shown = torch.where(wish, wanted_BTS, history_BTS)
        masked = shown.masked_fill(places >= begin, self.model.mask_id)
        drawn = (places >= begin) & (places < end)
        drawn[:, 0] = False
        logits_of = self.model.forward_training(history_BTS, masked, actions_BT)
        hard = drawn & wish
        losses: list[Tensor] = []
        figures: Figures = {}
        if hard.any():
            logits = self.model.head(logits_of[hard]).float()
            loss = F.cross_entropy(logits, shown[hard])
            losses.append(loss * hard.sum() / drawn.sum())
            figures["same_choice"] = (logits.argmax(-1) == shown[hard]).float().mean()
            figures["bits_per_token"] = loss.detach() / 0.6931
        soft = drawn & ~wish
        if soft.any():
            rate = torch.rand(B, T, 1, device=device)
            again = torch.rand(B, T, S, device=device) < rate
            with torch.no_grad():
                hidden = teacher.forward_training(
                    history_BTS, shown.masked_fill(again, self.model.mask_id), actions_BT
                )
                soft = soft & again
                wanted = teacher.head(hidden[soft])
            kl = divergence(self.model.head(logits_of[soft]), wanted)
            losses.append(kl * soft.sum() / drawn.sum())
            figures["kl_nats"] = kl.detach()
        return torch.stack(losses).sum(), figures
