"""`--fallback`: where a bundle's engines cannot play, its ONNX does; never without a word."""

from __future__ import annotations

from pathlib import Path

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle, load_bundle
from pocketgenie.runtimes.session import Session
from pocketgenie.runtimes.table import RUNTIMES, load_session

FALLBACKS = ("ort-cuda", "ort-cpu")
"""What plays the ONNX of every bundle, the fastest first."""


def load_with_fallback(bundle: Path | Bundle, runtime: str) -> tuple[Session, str | None]:
    """Open a bundle in `runtime`, or in the first fallback that works -> the session, and what to say aloud.

    The words are None when `runtime` itself plays. Raises UserError as `load_session` does: for a damaged
    bundle or an unknown runtime at once, else `runtime`'s own error when nothing plays.
    """
    opened = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
    if runtime not in RUNTIMES:
        return load_session(opened, runtime), None
    try:
        return load_session(opened, runtime), None
    except UserError as error:
        first = error
    for name in FALLBACKS:
        if name != runtime:
            try:
                session = load_session(opened, name)
            except UserError:
                continue
            reason = str(first).partition(";")[0]
            return session, f"{runtime}: {reason}; playing the same bundle's ONNX on {name}"
    raise first
