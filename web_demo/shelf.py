"""What can be opened here: the bundles in dist/ and on the command line, the checkpoints to export.

A page names an entry of these lists; a name that is not in them is nothing. No user's text becomes a path.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle, load_bundle
from pocketgenie.export.manifest import MANIFEST, Manifest
from pocketgenie.runtimes import machine
from pocketgenie.runtimes.pictures import Picture, load_picture
from pocketgenie.runtimes.table import BROWSER, RUNTIMES, Runtime, own_runtime
from pocketgenie.web_demo.settings import Settings

CHECKPOINT = "world.json"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One bundle: its manifest is sound and its files are there; what is opened is hashed then."""

    name: str
    folder: Path
    manifest: Manifest
    runtimes: tuple[str, ...]
    """That may play it here, its own first."""

    @property
    def words(self) -> str:
        """What it is: target, precision, size."""
        files = self.manifest.graph_files(*self.manifest.graphs)
        size = sum(self.manifest.files[path].size for path in files) / 1e6
        return f"{self.manifest.target}, {self.manifest.precision}, {size:.1f} MB"


@dataclass(frozen=True, kw_only=True)
class Shelf:
    bundles: dict[str, Entry]
    damaged: dict[str, str]
    """Folder name -> what is wrong with it."""


def look(settings: Settings) -> Shelf:
    """All bundles, those of the command line first. Reads manifests, no more."""
    bundles: dict[str, Entry] = {}
    damaged: dict[str, str] = {}
    for folder in _folders(settings):
        name = folder.resolve().name
        while name in bundles or name in damaged:
            name += "'"
        try:
            seen = (folder / MANIFEST).stat()
            manifest = _manifest(folder, seen.st_mtime_ns, seen.st_size)
        except (UserError, OSError) as error:
            damaged[name] = str(error)
            continue
        # One that plays in a browser of its own, unseen, is for `check`; to play a site, open it.
        runtimes = tuple(name for name in measured_in(manifest.target) if RUNTIMES[name].needs != BROWSER)
        bundles[name] = Entry(name=name, folder=folder, manifest=manifest, runtimes=runtimes)
    return Shelf(bundles=bundles, damaged=damaged)


@lru_cache(maxsize=256)
def _manifest(folder: Path, changed: int, size: int) -> Manifest:
    """A sound bundle's manifest; read again when it has changed. Raises UserError."""
    return load_bundle(folder, only=()).manifest


def _folders(settings: Settings) -> Iterator[Path]:
    seen = set()
    found = settings.dist.iterdir() if settings.dist.is_dir() else ()
    for folder in (*settings.bundles, *sorted(path for path in found if (path / MANIFEST).is_file())):
        if (place := folder.resolve()) not in seen and not folder.name.startswith("."):
            seen.add(place)
            yield folder


def measured_in(target: str) -> tuple[str, ...]:
    """Rows that take such a bundle and whose libraries are here. Whether it works shows when it is opened."""
    fit = [row for row in RUNTIMES.values() if target in row.targets and _here(row)]
    try:
        own = own_runtime(target)
    except StopIteration:
        own = ""
    order = {"graphs": 0, "checkpoint": 1}
    return tuple(row.name for row in sorted(fit, key=lambda row: (row.name != own, order.get(row.plays, 2))))


@cache
def _here(row: Runtime) -> bool:
    if row.device not in ("cpu", "cuda") or (row.device == "cuda" and machine.gpu() is None):
        return False
    try:
        return all(find_spec(name) for name in row.needs)
    except ModuleNotFoundError:
        return False


def gallery(entry: Entry) -> list[Picture]:
    """The bundle's own pictures, verified. Raises UserError."""
    bundle = Bundle(folder=entry.folder, manifest=entry.manifest)
    bundle.verify(entry.manifest.gallery)
    return [load_picture(bundle.path(name), entry.manifest.spec) for name in entry.manifest.gallery]


def sources(settings: Settings) -> dict[str, Path]:
    """What the panel Export offers: checkpoint folders, and bundles with their checkpoint inside."""
    found: dict[str, Path] = {}
    for place in settings.checkpoints:
        if place.is_dir():
            for path in sorted(place.glob(f"*/{CHECKPOINT}")):
                found[f"{place.name}/{path.parent.name}"] = path.parent
    for name, entry in look(settings).bundles.items():
        if entry.manifest.reference:
            found[f"bundle {name}"] = entry.folder
    return found
