"""What a student looks like, and what it inherits: a distilled part begins with the teacher's own weights."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from pocketgenie.errors import UserError
from pocketgenie.genie.checkpoint import (
    FILES,
    SCHEMA,
    Lineage,
    WorldHeader,
    checkpoint_files,
    checkpoint_hash,
    not_the_teacher,
    read_header,
    save_header,
)
from pocketgenie.genie.config import GenieConfig, TransformerConfig, first_error
from pocketgenie.genie.spec import Frozen
from pocketgenie.genie.transformer import Attention, STTransformer

What = Literal["tokenizer", "lam", "dynamics", "steps"]
Wish = Literal["data", "frames", "remask"]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a student's transformer; None keeps the teacher's."""

    layers: int | None = None
    dim: int | None = None
    heads: int | None = None
    head_dim: int | None = None
    ffn: int | None = None

    def of(self, teacher: TransformerConfig) -> TransformerConfig:
        """The student's transformer. Raises UserError where it would be larger than the teacher's."""
        wanted = {name: value for name, value in vars(self).items() if value is not None}
        for name, value in wanted.items():
            if value > getattr(teacher, name):
                raise UserError(
                    f"--{name.replace('_', '-')} {value} is more than the teacher's {getattr(teacher, name)}"
                )
        return TransformerConfig.model_validate({**teacher.model_dump(), **wanted})


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """How a student of `distill steps` is played; None keeps the teacher's."""

    steps: int | None = None
    order: Literal["halton", "confidence"] | None = None
    temperature: float | None = None


def student_config(
    teacher: GenieConfig, what: What, shape: Shape, encoder: Shape, refinement: Refinement
) -> GenieConfig:
    """The teacher's configuration with a smaller part. Of a tokenizer `shape` is the decoder's, of an action
    model the encoder's, which is all that is played. Raises UserError."""
    document = teacher.model_dump()
    if what == "tokenizer":
        document["tokenizer"]["decoder"] = shape.of(teacher.tokenizer.decoder).model_dump()
        document["tokenizer"]["encoder"] = encoder.of(teacher.tokenizer.encoder).model_dump()
    elif what == "lam":
        document["lam"]["encoder"] = shape.of(teacher.lam.encoder).model_dump()
    else:
        transformer = shape.of(teacher.dynamics.transformer)
        document["dynamics"]["transformer"] = transformer.model_dump()
    if what == "steps":
        asked = {name: value for name, value in vars(refinement).items() if value is not None}
        document["sampling"] |= asked
    try:
        return GenieConfig.model_validate(document)
    except ValidationError as error:
        raise UserError(f"the student: {first_error(error)}") from None


def kept_layers(teacher: int, student: int) -> list[int]:
    """The teacher's layers that a student begins with: evenly spread, the last among them."""
    return [(number + 1) * teacher // student - 1 for number in range(student)]


def inherit(student: nn.Module, teacher: nn.Module) -> None:
    """Begin with the teacher's own weights: of its layers those that `kept_layers` counts, of its heads and
    channels as many as there is room for, evenly spread (uniform selection, arXiv 2311.18823)."""
    theirs = dict(teacher.named_parameters()) | dict(teacher.named_buffers())
    depth = {
        name: len(module.blocks)
        for name, module in teacher.named_modules()
        if isinstance(module, STTransformer)
    }
    own = dict(student.named_parameters()) | dict(student.named_buffers())
    layers = {
        f"{name}.blocks.{number}.": f"{name}.blocks.{kept}."
        for name, module in student.named_modules()
        if isinstance(module, STTransformer)
        for number, kept in enumerate(kept_layers(depth[name], len(module.blocks)))
    }
    heads = [_heads(module) for module in (student, teacher)]
    for name, weight in own.items():
        prefix = next((prefix for prefix in layers if name.startswith(prefix)), "")
        origin = layers.get(prefix, "") + name.removeprefix(prefix)
        source, place = by_head(origin, theirs[origin], heads[1]), by_head(name, weight, heads[0])
        for axis, size in enumerate(place.shape):
            kept = torch.arange(size, device=source.device) * source.shape[axis] // size
            source = source.index_select(axis, kept)
        place.data.copy_(source.data)


def _heads(model: nn.Module) -> dict[str, int]:
    """Name of each attention's projections -> its number of heads."""
    return {
        f"{name}.{product}.weight": module.heads
        for name, module in model.named_modules()
        if isinstance(module, Attention)
        for product in ("qkv", "out")
    }


def by_head(name: str, weight: Tensor, heads: Mapping[str, int]) -> Tensor:
    """A view of a weight in which heads and their channels are axes of their own: [3, h, k, D] of the
    projections in, [D, h, k] of those out; other weights as they are."""
    if name not in heads:
        return weight
    inward = name.endswith("qkv.weight")
    view: Tensor = weight.unflatten(*((0, (3, heads[name], -1)) if inward else (1, (heads[name], -1))))
    return view


def teacher_folder(source: Path) -> Path:
    """The first teacher of a checkpoint's line, where it is there and unchanged; else the checkpoint itself.
    Raises UserError."""
    lineage = read_header(source).lineage
    if lineage is None:
        return source
    folder = Path(os.path.normpath(source / lineage.teacher))
    return source if not_the_teacher(lineage, folder) else folder


def prepare(source: Path, out: Path, config: Frozen, stem: str, key: What, how: str) -> None:
    """Make the student's checkpoint folder `out`, of a world of any kind: world.json with its lineage, and
    all files but `stem`.safetensors as they are. A folder that was begun for the same student is gone on
    with. Raises UserError for any other."""
    world = read_header(source)
    if world.lineage:
        root = Path(os.path.normpath(source / world.lineage.teacher))
        known, recipe = world.lineage.teacher_hash, world.lineage.recipe
    else:
        root, known, recipe = source, checkpoint_hash(source), {}
    place = Path(os.path.relpath(root.resolve(), out.resolve())).as_posix()
    lineage = Lineage(teacher=place, teacher_hash=known, recipe={**recipe, key: how})
    document = config.model_dump(mode="json")
    student = WorldHeader(schema_version=SCHEMA, kind=world.kind, config=document, lineage=lineage)
    if (out / FILES[0]).exists():
        begun = read_header(out)
        same = begun.kind == world.kind and _reads_as(begun, config)
        if not same or begun.lineage is None or begun.lineage.teacher_hash != known:
            raise UserError(f"{out} holds another world; name another folder, or remove it to start again")
        save_header(out, student)  # it may go on for longer or shorter than was meant
        return
    out.mkdir(parents=True, exist_ok=True)
    for name in checkpoint_files(source)[1:]:
        if name != f"{stem}.safetensors":
            _copy(source / name, out / name)
    for name in ("clips.npz", "gallery"):
        if (source / name).is_file():
            _copy(source / name, out / name)
        elif (source / name).is_dir():
            shutil.copytree(source / name, out / name, dirs_exist_ok=True)
    save_header(out, student)


def _reads_as(header: WorldHeader, config: Frozen) -> bool:
    try:
        return type(config).model_validate(header.config) == config
    except ValidationError:
        return False


def _copy(source: Path, destination: Path) -> None:
    part = destination.with_name(destination.name + ".part")
    shutil.copyfile(source, part)
    os.replace(part, destination)
