"""The target `web`: a folder `site/` inside the bundle that any static server can publish as it is.

What playing needs comes first and lies apart from what only `check` and the curious ask for, so that a first
visit loads no more than it plays. The bundle's own graphs are those of wasm; WebGPU has its own beside them
(export/webgpu.py), which share their weights.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final

import onnx

from pocketgenie.errors import UserError
from pocketgenie.export.lint_web import placed_on_cpu
from pocketgenie.export.manifest import Draft, GraphEntry
from pocketgenie.export.onnx import WEIGHTS, Convert, WeightsFile, outside_files, traced, write_graph
from pocketgenie.export.ortweb import FILES, unpack
from pocketgenie.export.wasm import for_wasm
from pocketgenie.export.webgpu import for_webgpu
from pocketgenie.genie.contract import GraphDef
from pocketgenie.genie.noise import ROW, TABLE_OFFSETS, rows_for

SCHEMA: Final = 1
SITE: Final = "site"
WORLD: Final = f"{SITE}/world"
FIRST: Final = ("play", "encode", "observe", "decode")
"""Graphs that playing needs; the page loads them before it starts (site/engine/loading.js: playing)."""
MOVES: Final = "prefill"
"""Playing needs it too where a world has it: it moves an absolute window."""
REST: Final = "weights-rest.bin"
GPU: Final = ".webgpu.onnx"
NOT_PUBLISHED: Final = (
    "node_modules",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "vendor",
    "world",
)
PRECISIONS: Final = ("fp32", "int8", "int4", "mixed")


def check_web(graphs: dict[str, GraphDef], precision: str) -> None:
    """Refuse what no browser can play. Raises UserError."""
    if precision not in PRECISIONS:
        raise UserError(f"browsers do not compute in {precision}; export with --precision int8 or fp32")
    if lacking := [name for name in FIRST if name not in graphs]:
        raise UserError(
            f"this world has no graph `{lacking[0]}`, which the page plays; export it --target onnx"
        )


def export_web_graphs(
    graphs: dict[str, GraphDef], folder: Path, report: Callable[[str], None], convert: Convert
) -> tuple[dict[str, str], dict[str, str]]:
    """Write every graph, for wasm and for WebGPU, into site/world of `folder` -> {graph: file of the bundle},
    and facts for the manifest's recipe."""
    place = folder / WORLD
    place.mkdir(parents=True)
    first: dict[str, GraphDef] = {name: graphs[name] for name in (*FIRST, MOVES) if name in graphs}
    written: dict[str, str] = {}
    on_cpu: list[str] = []

    def write(chosen: dict[str, GraphDef], weights: WeightsFile) -> None:
        with weights:
            for name, model in traced(chosen, report, convert):
                gpu = for_webgpu(model)
                on_cpu.extend(f"{name}: {finding}" for finding in placed_on_cpu(gpu))
                write_graph(gpu, place / f"{name}{GPU}", weights)
                file = write_graph(for_wasm(model), place / f"{name}.onnx", weights)
                written[name] = f"{WORLD}/{file.name}"

    write(first, weights := WeightsFile(place / WEIGHTS))
    write(
        {name: graph for name, graph in graphs.items() if name not in first},
        WeightsFile(place / REST, after=weights),
    )
    if not (place / REST).stat().st_size:
        (place / REST).unlink()
    return written, {"webgpu": "; ".join(on_cpu) or "every node on the GPU"}


def stage_site(folder: Path, draft: Draft, package: Path, card: Path) -> None:
    """Put the page, ONNX Runtime Web and world.json into the site of a bundle that is being made.

    draft: what will be sealed; its graphs lie in site/world already. package: see ortweb.fetch_package.
    card: the world's README.md; may be absent.
    """
    site, world = folder / SITE, folder / WORLD
    with as_file(files("pocketgenie.web_demo") / SITE) as source:
        shutil.copytree(source, site, ignore=shutil.ignore_patterns(*NOT_PUBLISHED), dirs_exist_ok=True)
    unpack(package, site / "vendor" / "ort")
    (world / "gallery").mkdir()
    for picture in draft.gallery:
        shutil.copyfile(folder / picture, world / picture)
    described = _describe(folder, draft)
    if card.is_file():
        described["card"] = card.read_text(encoding="utf-8")
    (world / "world.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")


def _describe(folder: Path, draft: Draft) -> dict[str, Any]:
    """world.json (web_demo/site/engine/types.js)"""
    world = folder / WORLD
    graphs = {name: _entry(folder / entry.file, entry) for name, entry in draft.graphs.items()}
    gpu = {
        name: _entry((folder / entry.file).with_suffix(GPU), entry) for name, entry in draft.graphs.items()
    }
    options = {}
    if draft.recipe.get("form") == "qdq":  # or ONNX Runtime makes Gemms of what it should multiply in int8
        options["session_options"] = {"optimization": {"disable_specified_optimizers": "MatMulAddFusion"}}
    vendor = folder / SITE / "vendor" / "ort"
    return {
        "schema_version": SCHEMA,
        "name": draft.spec.name,
        "world": draft.checkpoint_hash,
        "spec": draft.spec.model_dump(mode="json"),
        "precision": draft.precision,
        "graphs": graphs,
        "webgpu": gpu,
        "gallery": list(draft.gallery),
        "files": _hashes(world),
        "runtime": {device: _hashes(vendor / device) for device in FILES},
        **options,
        "noise": {
            "row": ROW,
            "table_offsets": TABLE_OFFSETS,
            "first": rows_for(draft.spec.logits + 1),
        },
        "licence": draft.licence,
    }


def _entry(path: Path, entry: GraphEntry) -> dict[str, Any]:
    data = outside_files(onnx.load(path, load_external_data=False))
    return entry.model_dump(mode="json") | {"file": path.name, "data": list(data)}


def _hashes(folder: Path) -> dict[str, dict[str, Any]]:
    """Of every file below a folder, by its path there."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            entry = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            found[path.relative_to(folder).as_posix()] = entry
    return found
