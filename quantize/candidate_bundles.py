"""A float32 bundle's graphs through a precision pass: torch traces a variant once for all its precisions."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from pocketgenie.export.bundle import Bundle, load_bundle, seal, staged
from pocketgenie.export.manifest import Draft
from pocketgenie.export.onnx import WEIGHTS, WeightsFile
from pocketgenie.genie.contract import World
from pocketgenie.quantize.candidates import Candidate
from pocketgenie.quantize.recipe import precision_pass

PLAYED = ("spec", "target", "graphs", "checkpoint_hash", "versions", "licence")
"""What the manifest of a bundle that only plays says."""


def make_candidate(base: Bundle, world: World, candidate: Candidate, folder: Path) -> Bundle:
    """A bundle that plays and no more (no reference, no clips) at `folder`. Raises UserError."""
    mixed = candidate.precision == "mixed"
    convert, how = precision_pass(
        candidate.precision, world, None, assignment=candidate.bits if mixed else None
    )
    manifest = base.manifest
    with staged(folder) as new:
        graphs = {}
        with WeightsFile(new / WEIGHTS) as weights:
            for name, entry in manifest.graphs.items():
                model = convert(name, onnx.load(base.path(entry.file)))
                weights.take(model)
                (new / entry.file).write_bytes(model.SerializeToString(deterministic=True))
                onnx.checker.check_model(str(new / entry.file))
                graphs[name] = entry.model_copy(update={"data": (WEIGHTS,)})
        kept: dict[str, Any] = {name: getattr(manifest, name) for name in PLAYED}
        recipe = manifest.recipe | how
        seal(new, Draft(**{**kept, "graphs": graphs, "precision": candidate.precision, "recipe": recipe}))
    return load_bundle(folder, only=())


def finish(
    base: Bundle,
    chosen: Bundle,
    destination: Path,
    *,
    recipe: dict[str, str],
    further: Mapping[str, str],
    reference: bool,
) -> None:
    """The chosen candidate, byte for byte, with all that its float32 bundle brings for `check`.

    further: name -> text of files beside it; reference: whether the checkpoint and the clips come along.
    Raises UserError as `staged` does.
    """
    brought = base.manifest.files.keys() - base.manifest.graph_files(*base.manifest.graphs)
    if not reference:
        brought = {*base.manifest.gallery}
    sources = {path: base.path(path) for path in brought}
    sources |= {path: chosen.path(path) for path in chosen.manifest.files}
    with staged(destination, needed=sum(path.stat().st_size for path in sources.values())) as new:
        for name, path in sources.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, new / name)
        for name, text in further.items():
            (new / name).write_text(text)
        draft = {name: getattr(base.manifest, name) for name in Draft.model_fields}
        draft |= {name: getattr(chosen.manifest, name) for name in ("graphs", "precision")}
        draft |= {} if reference else dict.fromkeys(("reference", "teacher", "clips"))
        seal(new, Draft(**{**draft, "recipe": chosen.manifest.recipe | recipe}))
