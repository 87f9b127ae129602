"""Whose checkpoint is it? Every importer is asked, those of this package before those that were installed."""

from __future__ import annotations

from pathlib import Path

from pocketgenie.errors import UserError
from pocketgenie.importers.kinds import KINDS, PLUGINS, Importer, find_kind, installed


def recognise(path: Path, name: str | None = None) -> str:
    """The name of the importer of a file or folder: the one that was named, or the only one that knows it.

    Raises UserError where there is nothing at `path`, where nobody knows it, and where several do.
    """
    if not path.exists():
        raise UserError(f"there is nothing at {path}")
    if (path / "world.json").is_file():
        raise UserError(f"{path} is a checkpoint already; export it: pocketgenie export {path}")
    if name:
        return name
    for names in (tuple(KINDS), tuple(installed())):
        kinds = {name: find_kind(name) for name in names}
        readers = {name: kind for name, kind in kinds.items() if isinstance(kind, Importer)}
        found = [name for name, importer in readers.items() if importer.looks_like(path)]
        if len(found) > 1:
            raise UserError(f"{path} looks like {' and '.join(found)}; say which with --from NAME")
        if found:
            return found[0]
    raise UserError(
        f"{path} is no checkpoint of {', '.join(KINDS)}, or a damaged one; name its project with --from, or "
        f"bring your own world as a package with the entry point {PLUGINS} (docs/import.md)"
    )
