"""What TensorRT compiles for this card at first, kept beside the bundle; losing it costs only time."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from pocketgenie.export.bundle import Bundle

DIGEST = 32  # bytes of sha256 before the content: a library need not survive a file that was cut off


class EngineCache:
    """One file, for one bundle on one card with one driver and library. Nothing here is ever an error."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.held = b""
        """What the file holds, as far as known."""

    def read(self) -> bytes:
        """What was kept; empty when there is nothing, or it is damaged."""
        with suppress(OSError):
            blob = self.path.read_bytes()
            if hashlib.sha256(blob[DIGEST:]).digest() == blob[:DIGEST]:
                self.held = blob[DIGEST:]
        return self.held

    def write(self, content: bytes) -> None:
        """Keep this, whole or not at all; where the folder cannot be written, nothing is kept."""
        if content == self.held:
            return
        part = self.path.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            self.path.parent.mkdir(exist_ok=True)
            part.write_bytes(hashlib.sha256(content).digest() + content)
            os.replace(part, self.path)
            self.held = content
        with suppress(OSError):
            part.unlink()


def cache_for(bundle: Bundle, library: str, card: str, driver: str) -> EngineCache:
    """The cache of these engines (by their hashes) on this card. What no longer fits is never read."""
    engines = bundle.manifest.engines
    assert engines is not None
    hashes = [bundle.manifest.files[engine.file].sha256 for engine in engines.graphs.values()]
    key = "\n".join((*sorted(hashes), library, card, driver))
    folder = bundle.folder.resolve()
    beside = folder.with_name(folder.name + engines.runtime_cache)
    return EngineCache(beside / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.cache")
