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
    from pocketgenie.genie.contract import World
    from pocketgenie.genie.spec import WorldSpec

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
            "without pixels, token ids: an .npz or .npy [N, T, S], a .bin."
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
            _take_clips(clips, folder, world.spec)
        swap(folder, out)
    return importer.describe(config), world


def _take_clips(path: Path, folder: Path, spec: WorldSpec) -> None:
    """Put held-out clips into a checkpoint; of tokens, as the pictures that stand in for them."""
    from pocketgenie.export.world import CLIPS
    from pocketgenie.runtimes.token_pictures import holds_tokens, token_clips
    from pocketgenie.training.data import load_clips

    if spec.frames == "tokens" and holds_tokens(path):
        frames = token_clips(path, spec)
    else:
        frames = load_clips(path, (spec.height, spec.width))
    np.savez_compressed(folder / CLIPS, frames=frames)
