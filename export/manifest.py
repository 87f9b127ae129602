"""manifest.json: all that a player needs to know of a bundle, and the hash of every file in it. No torch."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from pocketgenie.genie.spec import NATIVE, Frozen, TensorSpec, WorldSpec

SCHEMA: Final = 4
MANIFEST = "manifest.json"
UNSEALED = "0" * 64
KIND = "kind of world"
"""In the recipe, where the world is not a native one."""
Target = Literal["onnx", "tensorrt", "web", "openvino"]
Precision = Literal["fp32", "fp16", "int8", "int4", "mixed"]
"""mixed: chosen for each layer by the precision search."""
Flavor = Literal["rtx", "standard"]


def _relative(path: str) -> str:
    """A posix path inside the bundle on every system: `a/b.onnx`, never `/a`, `../a`, `C:a` or `a\\b`."""
    if not path.isprintable() or "\\" in path or ":" in path:
        raise ValueError(f"{path!r} must be a plain path with forward slashes")
    if PurePosixPath(path).as_posix() != path or path.startswith("/") or {"..", "."} & set(path.split("/")):
        raise ValueError(f"{path!r} leaves the bundle or is not in its shortest form")
    return path


def _utc(time: str) -> str:
    if datetime.fromisoformat(time).utcoffset() != timedelta(0):
        raise ValueError(f"{time!r} is not in UTC")
    return time


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
RelativePath = Annotated[str, AfterValidator(_relative)]
UtcTime = Annotated[str, AfterValidator(_utc)]


class GraphEntry(Frozen):
    """One graph of the world contract: its file, and the files outside it that hold its weights."""

    file: RelativePath
    data: tuple[RelativePath, ...] = ()
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Engine(Frozen):
    """One graph, built for a card."""

    file: RelativePath
    build_seconds: float = Field(ge=0)


class Engines(Frozen):
    """TensorRT engines, built from the bundle's ONNX graphs; what the plain engine files do not say."""

    flavor: Flavor
    """TensorRT for RTX, or the datacentre's TensorRT."""
    library: str
    """Name and version of what built them, like "tensorrt-rtx 1.7.1.116"; no other version loads them."""
    cards: tuple[str, ...]
    """By the names of export/cards.py: rtx30, rtx40, ..."""
    capabilities: tuple[str, ...]
    """CUDA compute capabilities of these cards, like "8.9"; empty for `portable`."""
    graphs: dict[str, Engine]
    runtime_cache: str = ".runtime-cache"
    """What the library compiles at the first start is kept in the folder BUNDLE + this, beside the bundle."""


class FileEntry(Frozen):
    """What a file must be, to the byte."""

    sha256: Sha256
    size: int = Field(ge=0)


class Draft(Frozen):
    """What an exporter says of its bundle; sealing it adds the files and the time."""

    spec: WorldSpec
    target: Target
    precision: Precision
    recipe: dict[str, str]
    """How it was made: steps, opset, passes."""
    graphs: dict[str, GraphEntry]
    """By the names of the world contract: encode, observe, step, decode, play, ..."""
    engines: Engines | None = None
    gallery: tuple[RelativePath, ...] = ()
    """Pictures to start from, PNG."""
    reference: RelativePath | None = None
    """Folder of the checkpoint this was exported from, for `check`."""
    teacher: RelativePath | None = None
    """Folder of the checkpoint that this one was distilled from, to be measured against."""
    clips: RelativePath | None = None
    """Held-out clips, an .npz with `frames` uint8 [N, T, H, W, 3], for `check`."""
    checkpoint_hash: str
    versions: dict[str, str]
    """Of the libraries that made it."""
    licence: str


class Manifest(Draft):
    """manifest.json"""

    schema_version: Literal[1, 2, 3, 4]
    created: UtcTime
    files: dict[RelativePath, FileEntry]
    """Every file of the bundle but manifest.json itself."""
    seal: Sha256 = UNSEALED
    """Of manifest.json itself, with UNSEALED in this place."""

    @model_validator(mode="after")
    def _every_name_is_a_file(self) -> Manifest:
        named = [*self.gallery, *([self.clips] if self.clips else [])]
        for graph in self.graphs.values():
            named += [graph.file, *graph.data]
        if self.engines:
            named += [engine.file for engine in self.engines.graphs.values()]
        if missing := sorted(set(named) - self.files.keys()):
            raise ValueError(f"{missing[0]} is used but not among the files")
        for what, held in (("reference", self.reference), ("teacher", self.teacher)):
            if held and not self.below(held):
                raise ValueError(f"the {what} folder {held} holds no files")
        if MANIFEST in self.files:
            raise ValueError(f"{MANIFEST} cannot hold its own hash")
        return self

    @property
    def kind(self) -> str:
        """Of which kind the world is (importers/kinds.py)."""
        return self.recipe.get(KIND, NATIVE)

    def below(self, folder: str | None) -> set[str]:
        """The files of a folder of the bundle."""
        return {path for path in self.files if path.startswith(f"{folder}/")} if folder else set()

    def graph_files(self, *names: str) -> set[str]:
        """Every file that running these graphs may read. KeyError for a graph the bundle does not have."""
        files = {path for name in names for path in (self.graphs[name].file, *self.graphs[name].data)}
        return files | ({self.engines.graphs[name].file for name in names} if self.engines else set())
