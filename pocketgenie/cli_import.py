"""`pocketgenie import`: another project's checkpoint becomes a checkpoint folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.markup import escape

from pocketgenie.errors import UserError
from pocketgenie.screen import console

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pocketgenie.genie.contract import World

Told = Callable[[str], None]


def import_(
    path: Annotated[Path, typer.Argument(help="The file or folder that the project wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Checkpoint folder to write; must not exist.")],
    project: Annotated[
        str | None,
        typer.Option("--from", help="tinyworlds, onexgpt, genieredux or an installed one; else recognised."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="What the files do not show; several times."),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="The tokenizer's file, where it is apart: --set tokenizer=PATH.")
    ] = None,
    clips: Annotated[
        Path | None,
        typer.Option(
            help="Held-out clips for `check`: an .npz with `frames` uint8 [N, T, H, W, 3], or, for a world "
            "without pixels, `tokens` [N, T, S]."
        ),
    ] = None,
) -> None:
    """Read a checkpoint of TinyWorlds, 1xGPT, GenieRedux or an installed package. Then export it, check it
    and play it like any other. Nothing in its files is executed."""
    flags = parse_settings(settings or (), tokenizer)
    with console.status("loading torch") as status:
        from pocketgenie.importers.recognise import recognise

        status.update(f"looking at {path}")
        name = recognise(path, project)
        words, world = import_checkpoint(path, out, name, flags, clips, status.update)
    spec = world.spec
    lines = {"project": name, **words}
    width = max(map(len, lines))
    for topic, said in lines.items():
        console.print(f"[dim]{topic:>{width}}[/]  {escape(said)}", highlight=False, soft_wrap=True)
    sizes = f"{spec.width}x{spec.height}, {spec.tokens} tokens of {spec.codebook}, {spec.actions} actions"
    played = f"{spec.memories['dynamics'].slots} past frames, {spec.steps} steps a frame, {spec.fps:g} fps"
    typer.echo(f"{out}: {sizes}, {played}")
    typer.echo(f"next: pocketgenie export {out} --precision fp32 --check")


def parse_settings(settings: Sequence[str], tokenizer: Path | None = None) -> dict[str, str]:
    """KEY=VALUE, each key once. Raises UserError."""
    flags: dict[str, str] = {}
    for setting in (*settings, *([f"tokenizer={tokenizer}"] if tokenizer else [])):
        key, equals, value = setting.partition("=")
        if not key.strip() or not equals:
            raise UserError(f"--set {setting!r}: write KEY=VALUE, like --set image_size=64")
        if key.strip() in flags:
            raise UserError(f"{key.strip()} is set twice; once is enough")
        flags[key.strip()] = value
    return flags


def import_checkpoint(
    path: Path, out: Path, name: str, flags: Mapping[str, str], clips: Path | None, tell: Told
) -> tuple[Mapping[str, str], World]:
    """Write the folder `out`, whole or not at all -> what was found, in words, and the world.

    It was loaded from the folder before the folder is put there. Raises UserError.
    """
    from pocketgenie.export.staging import beside, swap, workspace
    from pocketgenie.genie.checkpoint import SCHEMA, WorldHeader, save_header, save_tensors
    from pocketgenie.importers.kinds import find_importer, load_world

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists; choose another folder or remove it")
    importer = find_importer(name)
    tell(f"reading {path}")
    config, parts = importer.convert(path, flags)
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with workspace(beside(out, "part")) as folder:
        for stem, tensors in parts.items():
            tell(f"writing {stem}.safetensors")
            save_tensors(folder / f"{stem}.safetensors", tensors)
        document = config.model_dump(mode="json")
        save_header(folder, WorldHeader(schema_version=SCHEMA, kind=name, config=document))
        tell("loading the world")
        world = load_world(folder)
        if clips:
            _take_clips(clips, folder, world)
        swap(folder, out)
    return importer.describe(config), world


def _take_clips(path: Path, folder: Path, world: World) -> None:
    """Put held-out clips into a checkpoint; of tokens, as the pictures that stand in for them."""
    from pocketgenie.export.world import CLIPS
    from pocketgenie.training.data import load_clips

    size = world.spec.height, world.spec.width
    frames = _drawn(path, world) if world.spec.frames == "tokens" else None
    np.savez_compressed(folder / CLIPS, frames=load_clips(path, size) if frames is None else frames)


def _drawn(path: Path, world: World) -> NDArray[np.uint8] | None:
    """uint8 [N, T, H, W, 3] of a file's `tokens`; None where it has none."""
    import torch

    spec = world.spec
    try:
        with np.load(path, allow_pickle=False) as file:
            tokens = file.get("tokens")
    except Exception:  # load_clips says what is wrong with it
        return None
    if tokens is None:
        return None
    if tokens.dtype.kind not in "iu" or tokens.ndim < 3 or not tokens.size:
        raise UserError(f"{path}: tokens is {tokens.dtype} {list(tokens.shape)}, not integers [N, T, S]")
    clips = tokens.reshape(*tokens.shape[:2], -1).astype(np.int64)
    if clips.shape[2] != spec.tokens or clips.shape[1] < 2 or clips.min() < 0 or clips.max() >= spec.codebook:
        found = f"{list(tokens.shape)} of {clips.min()}..{clips.max()}"
        wanted = f"[N, T >= 2, {spec.tokens}] of 0..{spec.codebook - 1}"
        raise UserError(f"{path}: tokens is {found}, not {wanted}")
    decode = world.graphs()["decode"].module
    with torch.inference_mode():
        return np.array([[decode(torch.from_numpy(one).int())[0].numpy() for one in clip] for clip in clips])
