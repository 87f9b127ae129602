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
    read_header,
    read_world,
    save_config,
    save_header,
    save_tensors,
)
from pocketgenie.genie.config import GenieConfig
from pocketgenie.genie.spec import NATIVE
from pocketgenie.importers.kinds import Distillable, load_world, read_kind
from pocketgenie.quantize.candidates import Variant

STEPS = (1, 2, 4)
"""Tried beside the checkpoint's own number."""
DECODES = ("latent_in.", "decoder_position", "decoder.", "patch_out.")
"""Tensors of a tokenizer from its codes to its pixels; all others make the codes."""


def variants(checkpoint: Path, teacher: Path | None, steps: Sequence[int]) -> list[Variant]:
    """What may be played, the checkpoint as it is first. `steps`: those to try; empty for its own and STEPS.

    Other steps where the kind of world says how (importers/kinds.py); the teacher's decoder of a native world
    where it reads the same codes (`distill steps`, all that other kinds have, leaves the decoder as it is).
    Raises UserError.
    """
    kind, _ = read_kind(checkpoint)
    spec = load_world(checkpoint).spec
    more = (steps or STEPS) if isinstance(kind, Distillable) else ()
    possible = [count for count in dict.fromkeys((spec.steps, *more)) if 0 < count <= spec.tokens]
    native = read_header(checkpoint).kind == NATIVE
    shared = teacher is not None and native and shares_codes(load_genie(checkpoint), load_genie(teacher))
    return [
        Variant(steps=count, decoder=decoder)
        for decoder in (("own", "teacher") if shared else ("own",))
        for count in possible
    ]


def usable_teacher(checkpoint: Path, teacher: Path | None) -> Path | None:
    """The folder of the teacher that a distilled checkpoint names, where it is there and unchanged."""
    lineage = read_header(checkpoint).lineage
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
    if variant.decoder == "teacher":
        assert teacher is not None
        file = read_world(checkpoint)
        theirs = load_genie(teacher)
        state = load_genie(checkpoint).tokenizer.state_dict()
        codes = {name: tensor for name, tensor in state.items() if not name.startswith(DECODES)}
        save_tensors(checkpoint / "tokenizer.safetensors", codes | _decoder(theirs.tokenizer.state_dict()))
        decoder = theirs.config.tokenizer.decoder
        tokenizer = file.config.tokenizer.model_copy(update={"decoder": decoder})
        save_config(checkpoint, file.config.model_copy(update={"tokenizer": tokenizer}), file.lineage)
    header, (kind, config) = read_header(checkpoint), read_kind(checkpoint)
    if isinstance(kind, Distillable):
        document = kind.with_steps(config, variant.steps).model_dump(mode="json")
        save_header(checkpoint, header.model_copy(update={"config": document}))


def _codes_config(config: GenieConfig) -> dict[str, object]:
    """All that decides which codes a picture gets."""
    own = config.tokenizer
    return {"size": (config.height, config.width), **own.model_dump(exclude={"decoder"})}


def _decoder(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name.startswith(DECODES)}
