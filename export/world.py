"""`pocketgenie export`: a checkpoint becomes a bundle that plays without torch and can be checked."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import load_bundle, seal, staged
from pocketgenie.export.cards import parse_cards
from pocketgenie.export.manifest import KIND, MANIFEST, Draft, Flavor, GraphEntry, Manifest, Precision, Target
from pocketgenie.export.onnx import OPSET, export_graphs, outside_files
from pocketgenie.export.ortweb import fetch_package
from pocketgenie.export.tensorrt import build_engines, check_builder
from pocketgenie.export.web import check_web, export_web_graphs, stage_site
from pocketgenie.genie.checkpoint import (
    checkpoint_files,
    checkpoint_hash,
    not_the_teacher,
    read_header,
)
from pocketgenie.genie.contract import GraphDef
from pocketgenie.genie.spec import NATIVE, TensorSpec, WorldSpec
from pocketgenie.importers.kinds import load_world
from pocketgenie.quantize.int8 import Form
from pocketgenie.quantize.recipe import precision_pass
from pocketgenie.runtimes.token_pictures import holds_tokens, token_clips
from pocketgenie.training.data import load_clips

CLIPS = "clips.npz"
TEACHER = "teacher"
MAX_CLIPS = 32
GALLERY = 12
LIBRARIES = ("torch", "onnx", "onnxscript", "numpy")


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    target: Target = "onnx"
    precision: Precision = "fp32"
    cards: str = "rtx30,rtx40,rtx50"
    """For the target tensorrt: names of export/cards.py."""
    flavor: Flavor = "rtx"
    clips: Path | None = None
    """Held-out clips for `check` (of a world of tokens, also token ids); else the checkpoint's own."""
    form: Form | None = None
    """Of int8 and int4 (quantize/int8.py), by default what suits the target."""
    reference: bool = True
    """Put the checkpoint and the clips into the bundle, so that it can be checked anywhere."""
    licence: str = "Apache-2.0"


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is exported: a checkpoint folder, or the one inside a bundle."""

    name: str
    checkpoint: Path
    clips: Path
    """Held-out clips; may be absent."""
    gallery: Path
    """Folder of pictures to start from; may be absent."""
    teacher: Path | None
    """The checkpoint folder that this one was distilled from, as far as it is said; may be absent."""


def open_source(folder: Path) -> Source:
    """A checkpoint folder, or a bundle with its reference inside. Raises UserError for one without."""
    if not (folder / MANIFEST).exists():
        lineage = read_header(folder).lineage
        return Source(
            name=folder.resolve().name,
            checkpoint=folder,
            clips=folder / CLIPS,
            gallery=folder / "gallery",
            teacher=folder / lineage.teacher if lineage else None,
        )
    manifest = load_bundle(folder).manifest
    if manifest.reference is None:
        raise UserError(f"{folder} holds no checkpoint to export again; name the checkpoint it was made from")
    return Source(
        name=manifest.spec.name,
        checkpoint=folder / manifest.reference,
        clips=folder / (manifest.clips or CLIPS),
        gallery=folder / "gallery",
        teacher=folder / manifest.teacher if manifest.teacher else None,
    )


def export_checkpoint(
    checkpoint: Path, destination: Path, options: ExportOptions, report: Callable[[str], None]
) -> Manifest:
    """Export a checkpoint folder, or the one inside a bundle, to a bundle at `destination`, whole or not.

    `report` is told what is being done; why a teacher was left out stands in the manifest's recipe as well.
    Raises UserError.
    """
    source = open_source(checkpoint)
    checkpoint = source.checkpoint
    cards = parse_cards(options.cards) if options.target == "tensorrt" else ()
    if cards:
        check_builder(cards, options.flavor)
    package = fetch_package() if options.target == "web" else None
    world = load_world(checkpoint)
    needed = (6 if cards or package else 3) * sum(
        (checkpoint / name).stat().st_size for name in checkpoint_files(checkpoint)
    )
    needed += (
        sum(path.stat().st_size for path in source.teacher.glob("*.safetensors")) if source.teacher else 0
    )
    with staged(destination, needed=needed) as folder:
        held_out = _clips(source, world.spec, options)
        clips = None if held_out is None else held_out[:MAX_CLIPS]
        gallery = _copy_gallery(source, folder, world.spec, clips)
        if options.reference:
            if clips is not None:
                np.savez_compressed(folder / CLIPS, frames=clips)
            _copy_checkpoint(checkpoint, folder / "reference")
        teacher = _copy_teacher(source, folder, world.spec) if options.reference else {}
        graphs = world.graphs()
        if package:
            check_web(graphs, options.precision)
        report("making the precision")
        seen = _for_calibration(held_out)
        convert, how = precision_pass(options.precision, world, seen, options.target, form=options.form)

        def tell(name: str) -> None:
            report(f"exporting {name}")

        if package:
            files, facts = export_web_graphs(graphs, folder, tell, convert)
            how |= facts
        else:
            files = export_graphs(graphs, folder, tell, convert)
        entries = {name: _entry(graphs[name], folder, file) for name, file in files.items()}
        engines = build_engines(folder, files, cards, options.flavor, report) if cards else None
        steps = {"steps": str(world.spec.steps), "order": world.spec.order}
        if (kind := read_header(checkpoint).kind) != NATIVE:
            steps[KIND] = kind
        draft = Draft(
            spec=_as_played(world.spec, entries),
            target=options.target,
            precision=options.precision,
            recipe={"opset": str(OPSET)} | steps | how | teacher,
            graphs=entries,
            engines=engines,
            gallery=gallery,
            reference="reference" if options.reference else None,
            teacher=TEACHER if (folder / TEACHER).exists() else None,
            clips=CLIPS if (folder / CLIPS).exists() else None,
            checkpoint_hash=checkpoint_hash(checkpoint),
            versions={"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
            licence=options.licence,
        )
        if package:
            report("staging the site")
            stage_site(folder, draft, package, checkpoint / "README.md")
        report("hashing the files")
        return seal(folder, draft)


def _copy_checkpoint(checkpoint: Path, place: Path) -> None:
    place.mkdir()
    for name in checkpoint_files(checkpoint):
        shutil.copyfile(checkpoint / name, place / name)


def _copy_teacher(source: Source, folder: Path, spec: WorldSpec) -> dict[str, str]:
    """Put the teacher into the bundle if it is the one that the checkpoint names -> words for the recipe."""
    lineage = read_header(source.checkpoint).lineage
    if lineage is None:
        return {}
    teacher = source.teacher
    if why := not_the_teacher(lineage, teacher):
        return {TEACHER: f"left out: {why}"}
    assert teacher is not None
    taught = load_world(teacher).spec
    if (taught.frame_shape, taught.actions) != (spec.frame_shape, spec.actions):
        return {TEACHER: f"left out: {lineage.teacher} has other frames or other actions"}
    _copy_checkpoint(teacher, folder / TEACHER)
    return {TEACHER: "included"}


def _entry(graph: GraphDef, folder: Path, file: str) -> GraphEntry:
    """A graph with the types that its file has: a precision pass may have changed those of the memories."""
    model = onnx.load(folder / file, load_external_data=False)
    written = model.graph
    types = {
        value.name: onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name
        for value in (*written.input, *written.output)
    }

    def typed(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec.model_validate({**dict(spec), "dtype": types[spec.name]}) for spec in specs)

    data = tuple((Path(file).parent / name).as_posix() for name in outside_files(model))
    return GraphEntry(file=file, data=data, inputs=typed(graph.inputs), outputs=typed(graph.outputs))


def _as_played(spec: WorldSpec, entries: dict[str, GraphEntry]) -> WorldSpec:
    """The world with the types that its memories have in the exported graphs."""
    types = {tensor.name: tensor.dtype for entry in entries.values() for tensor in entry.inputs}
    memories = {
        name: memory.model_copy(update={"dtype": types[f"{memory.prefix}memory"]})
        for name, memory in spec.memories.items()
    }
    return spec.model_copy(update={"memories": memories})


def _clips(source: Source, spec: WorldSpec, options: ExportOptions) -> NDArray[np.uint8] | None:
    """The held-out clips that were named, or the world's own where it has some."""
    if options.clips is None and not source.clips.exists():
        return None
    path = options.clips or source.clips
    if spec.frames == "tokens" and holds_tokens(path):
        return token_clips(path, spec)
    return load_clips(path, (spec.height, spec.width))


def _for_calibration(held_out: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
    """Clips that `check` will not judge by, where there are more than those."""
    if held_out is None or len(held_out) <= MAX_CLIPS:
        return held_out
    return held_out[MAX_CLIPS:]


def _copy_gallery(
    source: Source, folder: Path, spec: WorldSpec, clips: NDArray[np.uint8] | None
) -> tuple[str, ...]:
    """The world's own pictures, or the first frames of its clips."""
    pictures = sorted(source.gallery.glob("*.png"))
    frames: dict[str, Image.Image] = {}
    for path in pictures[:GALLERY]:
        try:
            with Image.open(path) as opened:
                if opened.size != (spec.width, spec.height):
                    found = "x".join(map(str, opened.size))
                    raise UserError(f"{path} is {found}, the world {spec.width}x{spec.height}")
                frames[path.stem] = opened.convert("RGB")
        except UnidentifiedImageError:
            raise UserError(f"{path} is no picture; remove it from the gallery") from None
    if not frames and clips is not None:
        frames = {f"clip-{number}": Image.fromarray(clip[0]) for number, clip in enumerate(clips[:GALLERY])}
    (folder / "gallery").mkdir()
    for name, picture in frames.items():
        picture.save(folder / "gallery" / f"{name}.png")
    return tuple(f"gallery/{name}.png" for name in frames)
