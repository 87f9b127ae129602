"""`distill steps` for worlds of any kind, by the world contract: the same world in fewer refinement steps.

One history at a time, and of each its last frame alone: the histories are drawn with the cached graphs, the
loss is taken on `full_logits`, which needs no memory and has gradients. Nothing here knows a world's layers,
its sampler or its order: which tokens are masked before a step, and which it draws, is read off the
student's own sampler while it draws a frame. (Native worlds have a way for many histories at once:
quantize/distill.py.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pocketgenie.errors import UserError
from pocketgenie.genie.checkpoint import save_part
from pocketgenie.genie.contract import World, sampler_of
from pocketgenie.genie.noise import draw_noise
from pocketgenie.genie.spec import WorldSpec
from pocketgenie.importers.kinds import Distillable, load_world, read_kind
from pocketgenie.quantize.histories import Clips, read_clips
from pocketgenie.quantize.students import Wish, prepare, teacher_folder
from pocketgenie.runtimes.session import GraphSession
from pocketgenie.runtimes.torch_backend import TorchDeviceBackend
from pocketgenie.training.loop import TrainOptions, fit, make_accelerator
from pocketgenie.training.losses import Figures


def distill_steps(
    source: Path, clips: Path, out: Path, steps: int, wishes: Sequence[Wish], training: TrainOptions
) -> None:
    """Make the checkpoint folder `out`: the world of `source` in `steps` steps (gone on with if begun).
    Raises UserError."""
    kind, config = read_kind(source)
    teacher = load_world(teacher_folder(source))
    if steps >= teacher.spec.steps:
        raise UserError(_nothing_to_do(source, teacher.spec.steps, steps))
    if not isinstance(kind, Distillable):
        raise UserError(
            f"{source} cannot be distilled: its kind of world has no with_steps and trained "
            "(docs/import.md); `export --precision int8` takes any world"
        )
    student_config = kind.with_steps(config, steps)
    student = kind.load(source, student_config)
    stem, module = kind.trained(student)
    wishes = possible_wishes(student.spec, wishes)
    accelerator = make_accelerator(training)
    how = f"{teacher.spec.steps} to {steps} steps, from {', '.join(wishes)}; "
    how += f"{training.steps} updates of {training.batch}"
    work = out / "training" / "steps"
    with accelerator.main_process_first():  # the others read what it wrote
        given = read_clips(source, clips, work / "labels.npz", accelerator.is_main_process)
        prepare(source, out, student_config, stem, "steps", how)
    loss = WorldDistillation(student, module, teacher, accelerator.device)
    histories = Histories(
        Play(student, accelerator.device), Play(teacher, accelerator.device), given, wishes, training.batch
    )
    module.requires_grad_(True)
    if not freeze_idle(loss, histories.batch(np.random.default_rng(training.seed)), accelerator.device):
        raise UserError(f"{source} cannot be distilled: full_logits has no gradient for its {stem}")

    def save(_: nn.Module) -> None:
        save_part(out, stem, module)

    fit(accelerator, loss, histories.batch, training, work, save, "distil steps")


def _nothing_to_do(source: Path, has: int, asked: int) -> str:
    if has == 1:
        return f"{source} draws a frame in one pass already: there are no steps to distil; export it as it is"
    return f"{source} is of a world of {has} steps: {asked} are no fewer; give --steps {has - 1} or less"


def possible_wishes(spec: WorldSpec, wishes: Sequence[Wish]) -> list[Wish]:
    """Without an action model nobody knows which action led to a real frame, unless there is but one: then
    actions are drawn at random and only the teacher says what they lead to. Raises UserError."""
    known = spec.action_frames or spec.actions == 1
    left = [wish for wish in wishes if known or wish != "data"]
    if not left:
        raise UserError(
            f"the world {spec.name} has no action model to name the actions of real clips; give --wishes "
            "frames,remask"
        )
    return left


class Play:
    """A world's cached passes over one history, with its weights as they are at the moment."""

    def __init__(self, world: World, device: torch.device) -> None:
        spec, graphs = world.spec, world.graphs()
        alone = {"memories": {"dynamics": spec.memories["dynamics"]}, "prefill": False}  # no pixels are drawn
        self.spec = spec.model_copy(update=alone)
        backend = TorchDeviceBackend({name: graphs[name] for name in ("observe", "logits")}, device)
        self.session = GraphSession(self.spec, backend)
        self.sampler = sampler_of(world)

    def observe(self, tokens_S: Tensor, action: int) -> None:
        """Take a frame into the history."""
        self.session.observe(tokens_S.numpy(), action)

    @torch.no_grad()
    def draw(self, action: int, seed: int, frame: int) -> tuple[Tensor, list[Tensor]]:
        """The next frame, tokens int64 [S], and before each step what was settled, V where masked; the
        history stays."""
        states: list[Tensor] = []

        def hidden(tokens_S: Tensor) -> Tensor:
            states.append(tokens_S)
            return torch.from_numpy(self.session.logits(tokens_S.numpy(), action))

        noise = torch.from_numpy(draw_noise(self.spec, seed, frame))
        return self.sampler(hidden, lambda logits: logits, noise), states


@dataclass
class Histories:
    """Batches for `WorldDistillation`, each history by its own wish (quantize/distill.py's Histories)."""

    student: Play
    teacher: Play
    clips: Clips
    wishes: Sequence[Wish]
    count: int

    def batch(self, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """See `WorldDistillation.forward`, and the argument for it."""
        rows = [self._one(rng) for _ in range(self.count)]
        return tuple(torch.stack(column) for column in zip(*rows, strict=True))

    def _one(self, rng: np.random.Generator) -> tuple[Tensor, ...]:
        spec = self.student.spec
        tokens_TS, actions = self.clips.draw(rng)
        length = len(tokens_TS)
        given = int(rng.integers(1, max(2, length // 2)))
        last, seed = int(rng.integers(given, length)), int(rng.integers(2**31))
        wish = self.wishes[int(rng.integers(len(self.wishes)))]
        history_TS = tokens_TS.clone()
        self.student.session.reset()
        for t in range(last):
            if wish != "data" and t >= given:
                history_TS[t], _ = self.student.draw(actions[t], seed, t)
            self.student.observe(history_TS[t], actions[t])
        own_S, states = self.student.draw(actions[last], seed, last)
        shown_S = {"data": tokens_TS[last], "remask": own_S}.get(wish)
        if shown_S is None:
            shown_S = self._teachers(history_TS[:last], actions, seed)
        step = int(rng.integers(len(states)))
        masked_S = states[step] == spec.codebook
        drawn_S = masked_S & ([*states, own_S][step + 1] != spec.codebook)
        again_S = torch.from_numpy(rng.random(spec.tokens) < rng.random())
        if not (again_S & drawn_S).any():
            again_S |= drawn_S
        history_TS[last] = shown_S.masked_fill(masked_S, spec.codebook)
        told_S = shown_S.masked_fill(again_S, spec.codebook)
        nothing_S = torch.zeros_like(drawn_S)
        hard_S, soft_S = (nothing_S, drawn_S & again_S) if wish == "remask" else (drawn_S, nothing_S)
        return history_TS, torch.tensor(actions), torch.tensor(last), shown_S, hard_S, told_S, soft_S

    def _teachers(self, history_TS: Tensor, actions: Sequence[int], seed: int) -> Tensor:
        """What the teacher draws after a history, in all its steps."""
        self.teacher.session.reset()
        for tokens_S, action in zip(history_TS, actions, strict=False):
            self.teacher.observe(tokens_S, action)
        return self.teacher.draw(actions[len(history_TS)], seed, len(history_TS))[0]


class WorldDistillation(nn.Module):
    """The loss of one frame each: the code that was wished for where there is one, else the teacher's
    distribution given another part of the frame (arXiv 2503.15457, section 3). Tokens of several digits are
    judged digit by digit: their distribution is the product of the digits'."""

    def __init__(self, student: World, trained: nn.Module, teacher: World, device: torch.device) -> None:
        super().__init__()
        self.model = trained
        self._worlds = (student, teacher)  # no part of what is trained, saved or wrapped
        self.device, self.spec = device, student.spec

    def train(self, mode: bool = True) -> WorldDistillation:
        """A world is distilled as it is played, and stays in evaluation mode."""
        return super().train(False)

    def forward(
        self,
        history_BTS: Tensor,
        actions_BT: Tensor,
        last_B: Tensor,
        wanted_BS: Tensor,
        hard_BS: Tensor,
        told_BS: Tensor,
        soft_BS: Tensor,
    ) -> tuple[Tensor, Figures]:
        """history [b, last[b]] is the frame to draw, V where masked; later ones do not count. hard: where
        `wanted` is wished for; soft: where the teacher is asked, who sees `told` of the frame."""
        student, teacher = self._worlds
        hard: list[Tensor] = []
        soft: list[Tensor] = []
        same: list[Tensor] = []
        for b, last in enumerate(last_B.tolist()):
            tokens_TS, actions_T = history_BTS[b, : last + 1], actions_BT[b, : last + 1]
            with self.device:  # where a world makes its constants
                logits_SFV = self._digits(student.full_logits(tokens_TS, actions_T))
            if (rows := hard_BS[b]).any():
                wanted_NF = digits_of(wanted_BS[b][rows], self.spec)
                logits_NFV = logits_SFV[rows]
                hard.append(-logits_NFV.log_softmax(-1).gather(-1, wanted_NF[..., None]).sum((1, 2)))
                same.append((logits_NFV.argmax(-1) == wanted_NF).all(-1))
            if (rows := soft_BS[b]).any():
                with torch.no_grad(), self.device:
                    told_TS = torch.cat([tokens_TS[:-1], told_BS[b][None]])
                    theirs = self._digits(teacher.full_logits(told_TS, actions_T))[rows].log_softmax(-1)
                ours = logits_SFV[rows].log_softmax(-1)
                soft.append((theirs.exp() * (theirs - ours)).sum((1, 2)))
        judged = torch.cat([*hard, *soft])
        figures: Figures = {}
        if hard:
            figures["same_choice"] = torch.cat(same).float().mean()
            figures["bits_per_token"] = torch.cat(hard).detach().mean() / math.log(2)
        if soft:
            figures["kl_nats"] = torch.cat(soft).detach().mean()
        return judged.mean(), figures

    def _digits(self, logits: Tensor) -> Tensor:
        """[S, F * V] -> float32 [S, F, V]"""
        return logits.float().view(-1, self.spec.factors, self.spec.digit_values)


def digits_of(tokens_N: Tensor, spec: WorldSpec) -> Tensor:
    """Tokens int64 [N] -> their digits [N, F], the least significant first."""
    places = torch.tensor([spec.digit_values**f for f in range(spec.factors)], device=tokens_N.device)
    digits: Tensor = tokens_N[:, None] // places % spec.digit_values
    return digits


def freeze_idle(loss: nn.Module, batch: Sequence[Tensor], device: torch.device) -> int:
    """Turn gradients off for weights that no logit depends on, which several processes would wait for ->
    how many weights are left."""
    loss(*(tensor.to(device) for tensor in batch))[0].backward()
    for weight in loss.parameters():
        weight.requires_grad_(weight.grad is not None)
        weight.grad = None
    return sum(weight.requires_grad for weight in loss.parameters())
