"""Worlds of every kind: which module loads a checkpoint folder, and which reads another project's files.

One row per kind. An installed package adds its own by an entry point of the group `pocketgenie.worlds`
(docs/import.md): nothing is imported or run that was not installed, and nothing that no world asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pydantic import ValidationError
from torch import Tensor, nn

from pocketgenie.errors import UserError
from pocketgenie.genie import graphs
from pocketgenie.genie.checkpoint import read_header
from pocketgenie.genie.config import first_error
from pocketgenie.genie.contract import World, signatures
from pocketgenie.genie.spec import NATIVE, Frozen

PLUGINS = "pocketgenie.worlds"
KINDS = {
    "tinyworlds": "pocketgenie.importers.tinyworlds",
    "onexgpt": "pocketgenie.importers.onexgpt",
    "genieredux": "pocketgenie.importers.genieredux",
}
Parts = dict[str, dict[str, Tensor]]
"""File stem -> its tensors, by the foreign names without prefixes."""


@runtime_checkable
class Kind(Protocol):
    """A module that makes a world of a checkpoint folder: world.json names it in `kind`."""

    Config: type[Frozen]
    """The `config` of its world.json."""

    def load(self, folder: Path, config: Any) -> World:
        """The world that meets the contract, in eval mode, gradients off. Raises UserError."""
        ...


@runtime_checkable
class Importer(Kind, Protocol):
    """A kind that also reads the files of the project it comes from."""

    def looks_like(self, path: Path) -> bool:
        """Whether a file or folder is that project's, from names and keys alone. Raises nothing."""
        ...

    def convert(self, path: Path, flags: Mapping[str, str]) -> tuple[Frozen, Parts]:
        """Its configuration and tensors. `flags`: what `--set key=value` gave, for what the files do not
        show. Raises UserError, which names the flag."""
        ...

    def describe(self, config: Any) -> Mapping[str, str]:
        """For a person: what was found, and what play means for this world. Topic -> words."""
        ...


@runtime_checkable
class Distillable(Kind, Protocol):
    """A kind whose worlds can be played, and taught to play, in fewer refinement steps (quantize/)."""

    def with_steps(self, config: Any, steps: int) -> Frozen:
        """The same world in N steps a frame. Raises ValidationError where it cannot be."""
        ...

    def trained(self, world: Any) -> tuple[str, nn.Module]:
        """What `distill steps` trains: the stem of a safetensors file of the folder, and the module whose
        state dict that is. The world's graphs and its `full_logits` read its weights at every call, on
        whatever device they are; what is made of them once, at loading, would stay the teacher's."""
        ...


def load_world(folder: Path) -> World:
    """A checkpoint folder of any kind as a world. Raises UserError."""
    kind, config = read_kind(folder)
    world = kind.load(folder, config)
    if lacking := _lacking(world):
        raise UserError(
            f"the world {read_header(folder).kind!r} has no {', '.join(lacking)}; see docs/import.md"
        )
    return world


def read_kind(folder: Path) -> tuple[Kind, Frozen]:
    """The module that plays a checkpoint folder, and the folder's configuration. Raises UserError."""
    header = read_header(folder)
    kind = find_kind(header.kind)
    try:
        return kind, kind.Config.model_validate(header.config)
    except ValidationError as error:
        raise UserError(f"{folder / 'world.json'}: config.{first_error(error)}") from None


def _lacking(world: World) -> list[str]:
    """What the contract asks for and a world has not."""
    members = [name for name in ("spec", "graphs", "full_logits") if not hasattr(world, name)]
    return members or sorted(signatures(world.spec).keys() - world.graphs().keys())


def find_kind(name: str) -> Kind:
    """The module of a kind of world. Raises UserError for one that nothing here knows."""
    plugins, rows = installed(), {NATIVE: graphs.__name__, **KINDS}
    if name not in rows and name not in plugins:
        known = ", ".join((*rows, *plugins))
        raise UserError(
            f"no kind of world {name!r}; there are {known}; install the package that plays it "
            f"(entry points {PLUGINS})"
        )
    module = import_module(rows[name]) if name in rows else _load(plugins[name])
    if not isinstance(module, Kind):
        raise UserError(f"the world {name!r} has no Config and load; its package is no world of pocketgenie")
    return module


def find_importer(name: str) -> Importer:
    """The importer of a name. Raises UserError for one that does not read foreign files."""
    kind = find_kind(name)
    if not isinstance(kind, Importer):
        raise UserError(f"{name} plays checkpoint folders and imports none; export its folder as it is")
    return kind


def installed() -> dict[str, EntryPoint]:
    """The kinds that installed packages add; the ones of this table come first."""
    return {point.name: point for point in entry_points(group=PLUGINS) if point.name not in KINDS}


def _load(point: EntryPoint) -> object:
    try:
        return point.load()
    except Exception as error:  # whatever that package does
        raise UserError(
            f"the package of the world {point.name!r} does not load ({point.value}: {error})"
        ) from error
