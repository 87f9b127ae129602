"""`pocketgenie distill`: the same world from fewer weights and in fewer steps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from pocketgenie.errors import UserError

WISHES: tuple[Literal["data", "frames", "remask"], ...] = ("data", "frames", "remask")
Size = Annotated[int | None, typer.Option(min=1, show_default="as the teacher")]


def distill(
    what: Annotated[
        Literal["tokenizer", "lam", "dynamics", "steps"],
        typer.Argument(help="The part to make smaller; steps: dynamics that need fewer refinement steps."),
    ],
    checkpoint: Annotated[Path, typer.Argument(help="The teacher: a checkpoint folder.")],
    clips: Annotated[
        Path,
        typer.Option(
            help="Clips to learn on: an .npz with `frames` uint8 [N, T, H, W, 3]; token ids for a world "
            "without pixels, as of `import`."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The student's checkpoint folder; a run begun there goes on.")
    ],
    updates: Annotated[int, typer.Option(min=1, help="Optimizer steps in all.")],
    steps: Annotated[
        int | None, typer.Option(min=1, help="steps: refinement steps N a frame, like 4, 2 or 1.")
    ] = None,
    order: Annotated[
        Literal["halton", "confidence"] | None,
        typer.Option(help="steps: which tokens come first; of native worlds.", show_default="as the teacher"),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            min=0, help="steps: of the student's own play; of native worlds.", show_default="as the teacher"
        ),
    ] = None,
    wishes: Annotated[
        str,
        typer.Option(
            help="steps: what is learned from, a comma between. data: real clips. In the student's own "
            "roll-outs: frames: the teacher's, drawn in 25 steps (an imported one's in its own); remask: the "
            "teacher's choices, given a part of the student's frame."
        ),
    ] = "data,frames,remask",
    layers: Size = None,
    dim: Size = None,
    heads: Size = None,
    head_dim: Size = None,
    ffn: Size = None,
    encoder_layers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="tokenizer: of the encoder; the sizes above are the decoder's, which is paid every frame.",
            show_default="as the teacher",
        ),
    ] = None,
    batch: Annotated[
        int, typer.Option(min=1, help="Clips (or frames, for a per-frame tokenizer) per process.")
    ] = 8,
    learning_rate: Annotated[float, typer.Option(min=0.0)] = 5e-4,
    optimizer: Annotated[Literal["muon", "adamw"], typer.Option(help="As of `train`.")] = "muon",
    mixed_precision: Annotated[Literal["auto", "no", "bf16", "fp16"], typer.Option()] = "auto",
    save_every: Annotated[int, typer.Option(min=1, help="Updates between resumable states.")] = 100,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Make one part of a world smaller, or quicker. Also runs under `accelerate launch -m pocketgenie`. Of
    imported worlds, and of your own, the steps.

    The student is a whole checkpoint that knows its teacher; distil it again for the next part. Like:

    pocketgenie distill tokenizer assets/coinrun --layers 2 --clips train.npz -o runs/a --updates 1000

    pocketgenie distill dynamics runs/a --layers 3 --clips train.npz -o runs/b --updates 600

    pocketgenie distill steps runs/b --steps 2 --clips train.npz -o runs/c --updates 400
    """
    if what == "steps" and steps is None:
        raise UserError("name the number of refinement steps: distill steps CHECKPOINT --steps 2")
    for name, value in (("--steps", steps), ("--order", order), ("--temperature", temperature)):
        if what != "steps" and value is not None:
            raise UserError(f"{name} belongs to `distill steps`; `distill {what}` changes sizes only")
    if what != "tokenizer" and encoder_layers is not None:
        raise UserError("--encoder-layers belongs to `distill tokenizer`")
    asked = [wish.strip() for wish in wishes.split(",")]
    if unknown := [wish for wish in asked if wish not in WISHES]:
        raise UserError(f"--wishes {unknown[0]!r} is unknown; choose of {', '.join(WISHES)}")

    from accelerate import PartialState

    from pocketgenie.quantize.distill import DistillOptions
    from pocketgenie.quantize.distill import distill as run
    from pocketgenie.quantize.students import Refinement, Shape
    from pocketgenie.training.loop import TrainOptions

    options = DistillOptions(
        shape=Shape(layers=layers, dim=dim, heads=heads, head_dim=head_dim, ffn=ffn),
        encoder=Shape(layers=encoder_layers),
        refinement=Refinement(steps=steps, order=order, temperature=temperature),
        wishes=tuple(wish for wish in WISHES if wish in asked),
    )
    training = TrainOptions(
        steps=updates,
        batch=batch,
        learning_rate=learning_rate,
        optimizer=optimizer,
        mixed_precision=mixed_precision,
        save_every=save_every,
        seed=seed,
    )
    try:
        run(what, checkpoint, clips, out, options, training)
    finally:
        PartialState().destroy_process_group()  # its threads must not outlive the interpreter
