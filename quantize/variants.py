"""The same world with other steps or with its teacher's decoder, as bundles to start from."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor

from pocketgenie.export.bundle import Bundle, load_bundle, seal, staged
from pocketgenie.export.manifest import Draft, GraphEntry
from pocketgenie.export.onnx import WEIGHTS, WeightsFile, to_onnx
from pocketgenie.genie.checkpoint import (
    Genie,
    checkpoint_hash,
    load_genie,
    not_the_teacher,
    read_config,
    read_world,
    save_config,
    save_tensors,
)
from pocketgenie.genie.config import GenieConfig
from pocketgenie.genie.graphs import load_world
from pocketgenie.quantize.candidates import Variant

STEPS = (1, 2, 4)
"""Tried beside the checkpoint's own number."""
DECODES = ("latent_in.", "decoder_position", "decoder.", "patch_out.")
"""Tensors of a tokenizer from its codes to its pixels; all others make the codes."""


def variants(checkpoint: Path, teacher: Path | None, steps: Sequence[int]) -> list[Variant]:
    """What may be played, the checkpoint as it is first. `steps`: those to try; empty for its own and STEPS.

    The teacher's decoder takes part where it reads the same codes. Raises UserError.
    """
    config = read_config(checkpoint)
    counts = dict.fromkeys((config.sampling.steps, *(steps or STEPS)))
    possible = [count for count in counts if 0 < count <= config.spec().tokens]
    shared = teacher is not None and shares_codes(load_genie(checkpoint), load_genie(teacher))
    return [
        Variant(steps=count, decoder=decoder)
        for decoder in (("own", "teacher") if shared else ("own",))
        for count in possible
    ]


def usable_teacher(checkpoint: Path, teacher: Path | None) -> Path | None:
    """The folder of the teacher that a distilled checkpoint names, where it is there and unchanged."""
    lineage = read_world(checkpoint).lineage
    return teacher if lineage and not not_the_teacher(lineage, teacher) else None


def shares_codes(own: Genie, teacher: Genie) -> bool:
    """Whether the teacher's decoder reads what this world's dynamics draw, and is another than its own.

    The same codebook is not enough (FSQ has no weights): both must make the same codes of the same pictures.
    """
    if _codes_config(own.config) != _codes_config(teacher.config):
        return False
    ours, theirs = own.tokenizer.state_dict(), teacher.tokenizer.state_dict()
    same_codes = all(
        torch.equal(tensor, theirs[name]) for name, tensor in ours.items() if not name.startswith(DECODES)
    )
    decoders = [_decoder(ours), _decoder(theirs)]
    same_pixels = decoders[0].keys() == decoders[1].keys() and all(
        tensor.shape == decoders[1][name].shape and torch.equal(tensor, decoders[1][name])
        for name, tensor in decoders[0].items()
    )
    return same_codes and not same_pixels


def make_variant(base: Bundle, teacher: Path | None, variant: Variant, folder: Path) -> Bundle:
    """A float32 bundle of a variant at `folder`, from that of the checkpoint itself: torch traces only the
    graphs that differ. Raises UserError."""
    manifest, reference = base.manifest, base.manifest.reference
    assert reference is not None
    with staged(folder) as new:
        for path in manifest.files.keys() - manifest.graph_files(*manifest.graphs):
            (new / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(base.path(path), new / path)
        _change(new / reference, teacher, variant)
        world = load_world(new / reference)
        graphs = world.graphs()
        differ = {"step", "play"} | ({"decode"} if variant.decoder == "teacher" else set())
        entries = {}
        with WeightsFile(new / WEIGHTS) as weights:
            for name, entry in manifest.graphs.items():
                model = to_onnx(graphs[name]) if name in differ else onnx.load(base.path(entry.file))
                weights.take(model)
                (new / entry.file).write_bytes(model.SerializeToString(deterministic=True))
                entries[name] = GraphEntry(
                    file=entry.file, data=(WEIGHTS,), inputs=graphs[name].inputs, outputs=graphs[name].outputs
                )
        draft: dict[str, Any] = {name: getattr(manifest, name) for name in Draft.model_fields}
        draft |= {"spec": world.spec, "graphs": entries, "checkpoint_hash": checkpoint_hash(new / reference)}
        seal(new, Draft(**{**draft, "recipe": manifest.recipe | {"steps": str(variant.steps)}}))
    return load_bundle(folder, only=())


def _change(checkpoint: Path, teacher: Path | None, variant: Variant) -> None:
    """Turn a checkpoint folder into that of a variant."""
    file = read_world(checkpoint)
    sampling = file.config.sampling.model_copy(update={"steps": variant.steps})
    changed: dict[str, Any] = {"sampling": sampling}
    if variant.decoder == "teacher":
        assert teacher is not None
        theirs = load_genie(teacher)
        state = load_genie(checkpoint).tokenizer.state_dict()
        codes = {name: tensor for name, tensor in state.items() if not name.startswith(DECODES)}
        save_tensors(checkpoint / "tokenizer.safetensors", codes | _decoder(theirs.tokenizer.state_dict()))
        decoder = theirs.config.tokenizer.decoder
        changed["tokenizer"] = file.config.tokenizer.model_copy(update={"decoder": decoder})
    save_config(checkpoint, file.config.model_copy(update=changed), file.lineage)


def _codes_config(config: GenieConfig) -> dict[str, object]:
    """All that decides which codes a picture gets."""
    own = config.tokenizer
    return {"size": (config.height, config.width), **own.model_dump(exclude={"decoder"})}


def _decoder(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name.startswith(DECODES)}
