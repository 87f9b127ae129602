"""`pocketgenie distill tokenizer|lam|dynamics|steps`: a checkpoint in, a smaller or quicker one out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pocketgenie.errors import UserError
from pocketgenie.genie.checkpoint import Genie, Part, load_genie, read_header, save_part
from pocketgenie.genie.config import GenieConfig, SamplingConfig
from pocketgenie.genie.dynamics import Dynamics
from pocketgenie.genie.spec import NATIVE
from pocketgenie.quantize.distill_losses import (
    DynamicsDistillation,
    LamDistillation,
    StepsDistillation,
    TokenizerDistillation,
)
from pocketgenie.quantize.distill_worlds import distill_steps
from pocketgenie.quantize.streams import Streams
from pocketgenie.quantize.students import (
    Refinement,
    Shape,
    What,
    Wish,
    inherit,
    prepare,
    student_config,
    teacher_folder,
)
from pocketgenie.runtimes.reference import PAPER_STEPS
from pocketgenie.training.data import Frames, crop_batch, load_clips
from pocketgenie.training.loop import Batch, TrainOptions, fit, make_accelerator
from pocketgenie.training.train import label_clips


@dataclass(frozen=True, kw_only=True)
class DistillOptions:
    """What the student is, and what `steps` wishes for in the student's own histories."""

    shape: Shape = field(default_factory=Shape)
    encoder: Shape = field(default_factory=Shape)
    """Of a tokenizer."""
    refinement: Refinement = field(default_factory=Refinement)
    wishes: tuple[Wish, ...] = ("data", "frames", "remask")
    """data: the frame that really came, after real frames. After the student's own: frames: the teacher's,
    drawn in 25 steps; remask: the teacher's distribution, given a part of the student's frame. Each clip of a
    batch is given one, drawn at random."""


def distill(
    what: What, source: Path, clips: Path, out: Path, options: DistillOptions, training: TrainOptions
) -> None:
    """Make the checkpoint folder `out` from `source`, with one part distilled (gone on with if begun).
    Raises UserError."""
    if read_header(source).kind != NATIVE:
        steps = _steps_alone(what, source, options)
        distill_steps(source, clips, out, steps, options.wishes, training)
        return
    own = load_genie(source)
    config = student_config(own.config, what, options.shape, options.encoder, options.refinement)
    frames = load_clips(clips, (config.height, config.width))
    accelerator = make_accelerator(training)
    part: Part = "dynamics" if what == "steps" else what
    with accelerator.main_process_first():
        prepare(source, out, config, part, what, in_words(what, own.config, config, options, training))
    torch.manual_seed(training.seed)
    student = Genie(config)
    for name in ("tokenizer", "lam", "dynamics"):
        inherit(student.part(name), own.part(name))
    student.dynamics.features.copy_(own.dynamics.features)
    work = out / "training" / what
    if part == "dynamics":
        loss, batch = _on_tokens(what, source, own, student, frames, options, training, accelerator, work)
    else:
        loss, batch = _on_pixels(what, own.to(accelerator.device), student, frames, training)

    def save(loss: nn.Module) -> None:
        assert isinstance(loss.model, nn.Module)
        save_part(out, part, loss.model)

    fit(accelerator, loss, batch, training, work, save, f"distil {what}")


def _steps_alone(what: What, source: Path, options: DistillOptions) -> int:
    """What can be asked of worlds that are not native. Raises UserError."""
    asked = options.refinement
    sized = (options.shape, options.encoder) != (Shape(), Shape())
    if what != "steps" or asked.steps is None or sized or (asked.order, asked.temperature) != (None, None):
        raise UserError(
            f"{source} is a world of the kind {read_header(source).kind}, of which only the steps can be "
            "distilled (distill steps --steps N): sizes, --order and --temperature are those of native worlds"
        )
    return asked.steps


def _on_pixels(
    what: What, teacher: Genie, student: Genie, frames: Frames, training: TrainOptions
) -> tuple[nn.Module, Batch]:
    """The tokenizer and the action model learn on frames."""
    config = student.config
    length = config.tokenizer.window + 1 if what == "tokenizer" else config.lam.frames
    if frames.shape[1] < length:
        raise UserError(
            f"the clips have {frames.shape[1]} frames, this world needs {length}; cut longer clips"
        )

    def batch(rng: np.random.Generator) -> tuple[Tensor, ...]:
        return (torch.from_numpy(crop_batch(frames, training.batch, length, rng)),)

    if what == "lam":
        return LamDistillation(student.lam, teacher.lam), batch
    encoder = config.tokenizer.encoder != teacher.config.tokenizer.encoder
    return TokenizerDistillation(student.tokenizer, teacher.tokenizer, encoder), batch


def _on_tokens(
    what: What,
    source: Path,
    own: Genie,
    student: Genie,
    frames: Frames,
    options: DistillOptions,
    training: TrainOptions,
    accelerator: Accelerator,
    work: Path,
) -> tuple[nn.Module, Batch]:
    """The dynamics learn on what the source's tokenizer and action model say of the clips."""
    config = student.config
    with accelerator.main_process_first():  # the others read what it wrote
        made = sorted(source.glob("training/*/labels.npz"))
        if made and not (work / "labels.npz").exists():  # used only if they are of these clips
            work.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(made[0], work / "labels.npz")
        tokens, actions = label_clips(own, frames, work / "labels.npz")
    both = np.concatenate([tokens, actions[..., None]], -1)
    length = min(config.dynamics.window + 2, frames.shape[1])

    def real(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        crop = torch.from_numpy(crop_batch(both, training.batch, length, rng)).long()
        led_by = crop[..., -1]
        led_by[:, 0] = own.dynamics.no_action  # the first frame of a history follows nothing
        return crop[..., :-1], led_by

    if what == "dynamics":
        return DynamicsDistillation(student.dynamics, own.to(accelerator.device).dynamics), real
    teacher, sampling = first_of_line(source, own).to(accelerator.device), config.sampling
    loss = StepsDistillation(student.dynamics, teacher.dynamics, config.grid, sampling.steps, sampling.order)
    histories = Histories(
        student.dynamics, teacher.dynamics, config, options.wishes, accelerator.autocast, accelerator.device
    )
    return loss, lambda rng: histories.batch(*real(rng), rng)


@dataclass
class Histories:
    """Batches for `StepsDistillation`: real clips whose later frames the student draws itself
    (self-forcing, arXiv 2506.08009, without its gradient through the roll-out)."""

    student: Dynamics
    teacher: Dynamics
    config: GenieConfig
    wishes: tuple[Wish, ...]
    autocast: Callable[[], AbstractContextManager[None]]
    device: torch.device

    @torch.no_grad()
    def batch(self, tokens_BTS: Tensor, actions_BT: Tensor, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """Real tokens and actions -> histories, wanted frames (-1 where none is known), actions."""
        tokens, actions = tokens_BTS.to(self.device), actions_BT.to(self.device)
        length, sampling = tokens.shape[1], self.config.sampling
        given = int(rng.integers(1, max(2, length // 2)))
        number = int(rng.integers(given, length))
        wishes = np.array(self.wishes)[rng.integers(len(self.wishes), size=len(tokens))]
        history, wanted = tokens.clone(), tokens.clone()
        with self.autocast():
            if (rows := torch.from_numpy(wishes != "data")).any():
                own = Streams(self.student, self.config.grid)
                for t in range(length):
                    if t >= given:
                        history[rows, t] = own.draw(actions[rows, t], sampling)
                    if t < length - 1:
                        own.observe(history[rows, t], actions[rows, t])
                wanted[rows, given:] = -1
            if (rows := torch.from_numpy(wishes == "frames")).any():
                theirs = Streams(self.teacher, self.config.grid)
                for t in range(number):
                    theirs.observe(history[rows, t], actions[rows, t])
                asked = as_the_paper(sampling, tokens.shape[-1])
                wanted[rows, number] = theirs.draw(actions[rows, number], asked)
        return history, wanted, actions


def as_the_paper(sampling: SamplingConfig, tokens: int) -> SamplingConfig:
    """The same order and temperature in as many steps as the paper takes."""
    return sampling.model_copy(update={"steps": min(PAPER_STEPS, tokens)})


def first_of_line(source: Path, own: Genie) -> Genie:
    """The teacher's teacher, where it is there and speaks of the same codes and actions; else the source."""
    folder = teacher_folder(source)
    if folder == source:
        return own
    first = load_genie(folder)
    same = first.config.tokenizer.quantizer == own.config.tokenizer.quantizer
    return first if same and first.config.lam.quantizer == own.config.lam.quantizer else own


def in_words(
    what: What, teacher: GenieConfig, student: GenieConfig, options: DistillOptions, training: TrainOptions
) -> str:
    """How a part was made, for its lineage and model card."""
    if what == "steps":
        size = f"{student.sampling.steps} steps, {student.sampling.order}, from {', '.join(options.wishes)}"
    else:
        pair = {
            "tokenizer": (teacher.tokenizer.decoder, student.tokenizer.decoder),
            "lam": (teacher.lam.encoder, student.lam.encoder),
            "dynamics": (teacher.dynamics.transformer, student.dynamics.transformer),
        }[what]
        size = " to ".join(f"{shape.layers} x {shape.dim}" for shape in pair)
    return f"{size}; {training.steps} updates of {training.batch}"
