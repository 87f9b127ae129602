"""Checkpoints of 1xGPT ("GENIE" of github.com/1x-technologies/1xgpt) become worlds: the dynamics alone.

A checkpoint is what the Hugging Face hub mixin and the trainer write: a folder with config.json and
model.safetensors (keys of multi-process runs begin with `module.`, of compiled ones with `_orig_mod.`). The
oldest release was one Lightning file: key `state_dict`, names that begin with `model.`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from pocketgenie.errors import UserError
from pocketgenie.genie.checkpoint import load_part
from pocketgenie.genie.config import first_error
from pocketgenie.importers.onexgpt_model import Architecture, Dynamics
from pocketgenie.importers.onexgpt_world import PLAY, Config, OnexWorld
from pocketgenie.importers.reading import INDEX, PICKLES, check_keys, read_json, read_tensors

NAME: Final = "onexgpt"
CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
LIGHTNING: Final = "state_dict"
MARKS: Final = {"pos_embed_TSC", "token_embed.mask_token_embed", "out_x_proj.weight"}
"""Keys that no other project has."""
PLAYED: Final = ("name", "steps", "order", "temperature", "keeps", "fps", "cell")
"""What `--set` may say of the play; whatever else it says is of the architecture."""
UNSEEN: Final = {"num_heads": "its number of attention heads", "use_mup": "whether it was trained with muP"}
"""What only config.json knows, where it is needed: no shape shows it."""


def looks_like(path: Path) -> bool:
    """Whether a folder or file has this project's keys. Raises nothing."""
    try:
        return _has_marks(weights_of(path))
    except (UserError, OSError):
        return False


def convert(path: Path, flags: Mapping[str, str]) -> tuple[Config, dict[str, dict[str, Tensor]]]:
    """A checkpoint's configuration and its weights. Raises UserError."""
    weights = weights_of(path)
    tensors = read_tensors(weights, LIGHTNING)
    if lacking := sorted(MARKS - tensors.keys()):
        raise UserError(f"{weights} lacks {', '.join(lacking)}; it is no checkpoint of 1xGPT's dynamics")
    told = read_json(weights.parent / CONFIG)
    asked = {key: value for key, value in flags.items() if key not in PLAYED}
    if unknown := sorted(asked.keys() - Architecture.model_fields.keys()):
        keys = ", ".join((*PLAYED, *Architecture.model_fields))
        raise UserError(f"--set {unknown[0]} is not known of 1xGPT; there are {keys}")
    shown = shown_by(weights, tensors)
    known = (shown if told is None else _architecture(told)) | asked
    if missing := [key for key in UNSEEN if told is None and key not in known]:
        wanted = ", ".join(f"--set {key}=... ({UNSEEN[key]})" for key in missing)
        raise UserError(
            f"there is no {CONFIG} beside {weights}, and its weights do not show all; give {wanted}"
        )
    if "num_heads" in shown:
        known.setdefault("num_heads", shown["num_heads"])
    played = {"name": path.resolve().stem} | {key: flags[key] for key in PLAYED if key in flags}
    try:
        config = Config.model_validate({**played, "architecture": known})
    except ValidationError as error:
        raise UserError(
            f"{weights.parent / CONFIG}: {first_error(error)}; --set KEY=VALUE mends it"
        ) from None
    with torch.device("meta"):
        model = Dynamics(config.architecture)
    check_keys(weights, tensors, model.state_dict(), f"{CONFIG} must be its own; --set KEY=VALUE mends it")
    return config, {"dynamics": tensors}


def load(folder: Path, config: Config) -> OnexWorld:
    """The world of a checkpoint folder, in eval mode, gradients off. Raises UserError."""
    dynamics = Dynamics(config.architecture)
    load_part(folder, "dynamics", dynamics)
    return OnexWorld(config, dynamics.eval().requires_grad_(False))


def with_steps(config: Config, steps: int) -> Config:
    """The same world in N steps a frame. Raises ValidationError."""
    return Config.model_validate({**config.model_dump(), "steps": steps})


def trained(world: OnexWorld) -> tuple[str, nn.Module]:
    """What distillation of steps trains, and its file's stem."""
    return "dynamics", world.dynamics


def describe(config: Config) -> dict[str, str]:
    """What was found, and what play means for it."""
    sizes = config.architecture
    digits = f"{sizes.num_factored_vocabs} digits of {sizes.values}"
    values, kept = "drawn" if config.temperature else "the likeliest", config.spec().keeps
    return {
        "dynamics": f"{sizes.num_layers} layers of {sizes.d_model}, {sizes.num_heads} heads"
        f"{', muP' if sizes.use_mup else ''}{', q/k norm' if sizes.qk_norm else ''}",
        "tokens": f"{sizes.grid}x{sizes.grid} a frame, {sizes.image_vocab_size} codes as {digits}",
        "sampling": f"{config.steps} steps, {config.order} order, {values} values",
        "window": f"{sizes.T} frames, at which the project ends; here play goes on: {kept} frames stay "
        "and are observed anew, since positions count from the window's first frame",
        "play": PLAY,
    }


def weights_of(path: Path) -> Path:
    """The file, or the index of the files, that holds a checkpoint's weights. Raises UserError."""
    if not path.is_dir():
        return path
    usual = [path / WEIGHTS, path / f"{WEIGHTS}{INDEX}"]
    others = sorted(file for file in path.iterdir() if file.suffix in PICKLES)
    for file in [*usual, *others]:
        if file.is_file() and (file in usual or _has_marks(file)):
            return file
    raise UserError(f"{path} has no {WEIGHTS}; give the folder, or the file, that has the weights")


def _has_marks(file: Path) -> bool:
    try:
        return read_tensors(file, LIGHTNING).keys() >= MARKS
    except UserError:
        return False


def _architecture(keys: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in keys.items() if key in Architecture.model_fields}


def shown_by(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the weights alone say of the architecture. Raises UserError."""
    layer, table = "decoder.layers.0.", "token_embed.factored_embeds."
    try:
        _, frames, tokens, width = tensors["pos_embed_TSC"].shape
        values, hidden = (len(tensors[key]) for key in (f"{table}0.weight", f"{layer}mlp.fc1.weight"))
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} is no whole checkpoint of 1xGPT's dynamics ({error}); copy it again"
        ) from None
    tables = [key for key in tensors if key.startswith(table)]
    shown = {
        "num_layers": len({key.split(".")[2] for key in tensors if key.startswith("decoder.layers.")}),
        "d_model": width,
        "T": frames,
        "S": tokens,
        "image_vocab_size": values ** len(tables),
        "num_factored_vocabs": len(tables),
        "qk_norm": f"{layer}spatial_attn.norm.weight" in tensors,
        "qkv_bias": f"{layer}spatial_attn.qkv.bias" in tensors,
        "proj_bias": f"{layer}spatial_attn.proj.bias" in tensors,
        "mlp_bias": f"{layer}mlp.fc1.bias" in tensors,
        "mlp_ratio": hidden / width,
    }
    if shown["qk_norm"]:
        shown["num_heads"] = width // len(tensors[f"{layer}spatial_attn.norm.weight"])
    return shown
