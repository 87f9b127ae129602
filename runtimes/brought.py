"""What a bundle brings to its own check: facts, held-out clips, a picture to start from."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle
from pocketgenie.runtimes.pictures import load_picture
from pocketgenie.runtimes.results import BundleFacts

Array = NDArray[Any]


def facts(bundle: Bundle) -> BundleFacts:
    manifest = bundle.manifest
    played = manifest.graph_files(*manifest.graphs)
    others = {*manifest.gallery, *([manifest.clips] if manifest.clips else [])}
    checkpoints = manifest.below(manifest.reference) | manifest.below(manifest.teacher)
    digest = hashlib.sha256()
    for path in sorted(played | others | checkpoints):
        digest.update(f"{manifest.files[path].sha256}  {path}\n".encode())
    return BundleFacts(
        name=bundle.folder.resolve().name,
        world=manifest.spec.name,
        target=manifest.target,
        precision=manifest.precision,
        sha256=digest.hexdigest(),
        checkpoint_sha256=manifest.checkpoint_hash,
        size_mb=sum(manifest.files[path].size for path in played) / 1e6,
    )


def held_out_clips(bundle: Bundle, count: int) -> Array | None:
    """At most `count` of the held-out clips, evenly spread: uint8 [N, T, H, W, 3]"""
    if bundle.manifest.clips is None:
        return None
    path = bundle.path(bundle.manifest.clips)
    try:
        with np.load(path, allow_pickle=False) as file:
            frames = file["frames"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(f"{path} holds no clips ({error}); export the bundle again") from None
    wanted = bundle.manifest.spec.frame_shape
    if frames.dtype != np.uint8 or frames.ndim != 5 or not frames.size or frames.shape[2:] != wanted:
        raise UserError(f"{path}: frames are {frames.dtype} {frames.shape}, not uint8 [N, T, {wanted}]")
    spread = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    return np.asarray(frames[spread])


def start_picture(bundle: Bundle, clips: Array | None) -> Array:
    """A real frame where the bundle has one: of its clips or its gallery; else mid-grey."""
    spec = bundle.manifest.spec
    if clips is not None:
        return np.asarray(clips[0, 0])
    if bundle.manifest.gallery:
        return load_picture(bundle.path(bundle.manifest.gallery[0]), spec).frame
    return np.full(spec.frame_shape, 127, np.uint8)
