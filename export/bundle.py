"""A bundle is a folder, complete or not at all: written beside its place, verified when loaded. No torch.

with staged(destination) as folder:   # fill the folder, then
    seal(folder, draft)               # hash it; leaving the block puts it in the older bundle's place
with amended(destination) as folder:  # further files for a bundle that is there: reports, benchmarks
    ...
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from pocketgenie.errors import UserError
from pocketgenie.export.manifest import MANIFEST, SCHEMA, UNSEALED, Draft, FileEntry, Manifest
from pocketgenie.export.staging import beside, flush_folder, no_space, restore, swap, workspace
from pocketgenie.genie.config import first_error

MANIFEST_LIMIT = 16 << 20  # bytes; a real one has about 20 KB
AGAIN = "export or copy the bundle again"


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle whose manifest is sound and whose files are there in their right sizes."""

    folder: Path
    manifest: Manifest

    def path(self, name: str) -> Path:
        """Where a file of the bundle lies."""
        return self.folder / name

    def verify(self, names: Collection[str]) -> None:
        """Hash these files. Raises UserError for an altered one, KeyError for one that the manifest lacks."""
        for name in names:
            entry, path = self.manifest.files[name], self.path(name)
            try:
                with open(path, "rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise UserError(f"cannot read {path} ({error.strerror}); {AGAIN}") from None
            if found != entry.sha256:
                raise UserError(f"{path} is altered (its sha256 is not the manifest's); {AGAIN}")


def load_bundle(folder: Path, only: Collection[str] | None = None) -> Bundle:
    """A bundle, verified: each file's presence, place and size, and the hashes of all or `only` these files.

    Raises UserError for an unknown schema and for whatever is missing, altered or outside of the folder.
    """
    restore(folder)
    bundle = Bundle(folder=folder, manifest=_read_manifest(folder))
    for name, entry in bundle.manifest.files.items():
        if (size := _size(folder, name)) != entry.size:
            raise UserError(f"{folder / name} is altered ({size} bytes, not {entry.size}); {AGAIN}")
    bundle.verify(bundle.manifest.files if only is None else only)
    return bundle


@contextmanager
def staged(destination: Path, needed: int = 0) -> Iterator[Path]:
    """An empty folder to fill and to seal; leaving the block puts it at `destination`, over an older bundle.

    `needed`: bytes that must be free before anything is done. After an error, a full disk or kill -9 the
    older bundle is whole. Raises UserError when `destination` is no bundle or another process is writing it.
    """
    destination = destination.resolve()
    restore(destination)
    _refuse_others(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    if needed > shutil.disk_usage(destination.parent).free:
        raise no_space(destination.parent, needed)
    with workspace(beside(destination, "part")) as folder:
        yield folder
        assert (folder / MANIFEST).is_file(), "seal the folder before leaving the block"
        _refuse_others(destination)
        swap(folder, destination)


def seal(folder: Path, draft: Draft) -> Manifest:
    """Hash and flush every file of a folder that `staged` gave, and write its manifest."""
    manifest = Manifest(
        **dict(draft),
        schema_version=SCHEMA,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        files=_entries(folder),
    )
    _write_manifest(folder / MANIFEST, manifest)
    _flush_folders(folder)
    return _read_manifest(folder)


@contextmanager
def amended(folder: Path) -> Iterator[Path]:
    """An empty folder for further files of the bundle `folder`; leaving the block moves them into it, hashed.

    Only for files that nothing else in the manifest names. kill -9 at any moment leaves a bundle that loads:
    a file that the manifest does not list is none of the bundle's.
    """
    folder = folder.resolve()
    manifest = load_bundle(folder, only=()).manifest
    with workspace(folder / ".part") as new:
        yield new
        entries = _entries(new)
        others = {name: entry for name, entry in manifest.files.items() if name not in entries}
        without, complete = new.with_name("without"), new.with_name("complete")
        _write_manifest(without, _with_files(manifest, others))
        _write_manifest(complete, _with_files(manifest, others | entries))
        os.replace(without, folder / MANIFEST)
        for name in entries:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(new / name, folder / name)
        _flush_folders(folder)
        os.replace(complete, folder / MANIFEST)
        flush_folder(folder)


def _read_manifest(folder: Path) -> Manifest:
    text = _read_text(folder)
    with suppress(ValueError, RecursionError):
        content = json.loads(text)
        version = content.get("schema_version") if isinstance(content, dict) else None
        if isinstance(version, int) and version > SCHEMA:
            number = str(version)[:20]
            raise UserError(f"{folder} was made by a newer pocketgenie (schema {number}); update pocketgenie")
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"{folder / MANIFEST} is damaged: {first_error(error)}; {AGAIN}") from None
    if hashlib.sha256(_with_seal(text, manifest.seal, UNSEALED)).hexdigest() != manifest.seal:
        raise UserError(f"{folder / MANIFEST} is altered (its seal is not its sha256); {AGAIN}")
    return manifest


def _read_text(folder: Path) -> bytes:
    if not os.path.lexists(folder / MANIFEST):
        raise UserError(f"{folder} is no bundle: it has no {MANIFEST}; make one with `pocketgenie export`")
    if (size := _size(folder, MANIFEST)) > MANIFEST_LIMIT:
        raise UserError(f"{folder / MANIFEST} is no manifest ({size} bytes); {AGAIN}")
    try:
        return (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {folder / MANIFEST} ({error.strerror})") from None


def _size(folder: Path, name: str) -> int:
    """Bytes of a bundle's file. Raises UserError unless it is a file and, links followed, in the folder."""
    path = folder / name
    try:
        found = path.stat()
        inside = path.resolve().is_relative_to(folder.resolve())
    except OSError as error:
        raise UserError(f"{path} is missing ({error.strerror}); {AGAIN}") from None
    if not inside:
        raise UserError(f"{path} is a link that leaves the bundle; {AGAIN}")
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{path} is not a file; {AGAIN}")
    return found.st_size


def _refuse_others(destination: Path) -> None:
    """Only a bundle, an empty folder or nothing may be replaced."""
    if not destination.exists() or (destination.is_dir() and not any(destination.iterdir())):
        return
    with suppress(UserError, ValueError, RecursionError):
        content = json.loads(_read_text(destination))
        if isinstance(content, dict) and {"schema_version", "checkpoint_hash"} <= content.keys():
            return
    raise UserError(f"{destination} exists and is no bundle; choose another folder or remove it")


def _entries(folder: Path) -> dict[str, FileEntry]:
    """Size and hash of every file below a folder but its manifest, each flushed to the disk."""
    entries = {}
    for path in sorted(folder.rglob("*")):
        assert not path.is_symlink(), f"a bundle holds files, not links: {path}"
        if path.is_dir() or path == folder / MANIFEST:
            continue
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if os.name == "posix":
                os.fsync(file.fileno())
            entries[path.relative_to(folder).as_posix()] = FileEntry(sha256=digest, size=file.tell())
    return entries


def _with_files(manifest: Manifest, files: dict[str, FileEntry]) -> Manifest:
    return Manifest.model_validate({**dict(manifest), "files": files, "seal": UNSEALED})


def _write_manifest(path: Path, unsealed: Manifest) -> None:
    text = unsealed.model_dump_json(indent=2).encode() + b"\n"
    with open(path, "wb") as file:
        file.write(_with_seal(text, UNSEALED, hashlib.sha256(text).hexdigest()))
        file.flush()
        os.fsync(file.fileno())


def _with_seal(text: bytes, old: str, new: str) -> bytes:
    return text.replace(f'"seal": "{old}"'.encode(), f'"seal": "{new}"'.encode())


def _flush_folders(folder: Path) -> None:
    """Write the names in a folder and below to the disk."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            flush_folder(path)
