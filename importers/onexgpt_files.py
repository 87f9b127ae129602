"""The files of a 1xGPT checkpoint: safetensors, one or several with an index, or a Lightning file; JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pocketgenie.errors import UserError

WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
PICKLES: Final = (".ckpt", ".pt", ".pth", ".bin")
PREFIXES: Final = ("module.", "_orig_mod.", "model.")
"""Of multi-process, compiled and Lightning runs; no key of the model itself begins with one."""
LARGEST: Final = 1 << 24
"""Bytes of a JSON file; a configuration has 400, an index some 10 KB."""
SHOWN: Final = 4


def weights_of(path: Path) -> Path:
    """The file, or the index of the files, that holds a checkpoint's weights. Raises UserError."""
    if path.is_file():
        return path
    found = [path / name for name in (WEIGHTS, INDEX) if (path / name).is_file()]
    if path.is_dir() and not found:
        found = [file for file in sorted(path.iterdir()) if file.suffix in PICKLES and _holds_a_model(file)]
    if not found:
        raise UserError(f"{path} has no {WEIGHTS}; give the folder, or the file, that has the weights")
    return found[0]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of the file or index, by their bare names; mapped, not copied. Raises UserError."""
    bare: dict[str, Tensor] = {}
    for key, tensor in _raw(path).items():
        name = key
        while name.startswith(PREFIXES):
            name = name.split(".", 1)[1]
        if name in bare:
            raise UserError(f"{path} has {name} twice, with prefixes and without; keep one of the two")
        bare[name] = tensor
    return bare


def read_json(path: Path) -> dict[str, Any] | None:
    """The keys of a JSON file; None where there is none. Raises UserError."""
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path} is too large to be a configuration; is it another file?")
        keys = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON ({_line(error)}); copy it again") from None
    if not isinstance(keys, dict):
        raise UserError(f"{path} is no configuration: it holds no keys; copy it again")
    return keys


def check_keys(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Every tensor that the model has, in its shape, and no other. Raises UserError with their names."""
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    wrong = [key for key in sorted(wanted.keys() & found.keys()) if found[key].shape != wanted[key].shape]
    faults = [f"{key} is missing{_near(key, extra)}" for key in missing]
    faults += [f"{key} is none of the model's{_near(key, missing)}" for key in extra]
    faults += [f"{key} is {[*found[key].shape]}, not {[*wanted[key].shape]}" for key in wrong]
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise UserError(
            f"{path} and its configuration disagree: {'; '.join(faults[:SHOWN])}{more}; "
            "give the config.json that it was trained with, or --set KEY=VALUE"
        )


def _near(name: str, others: list[str]) -> str:
    near = get_close_matches(name, others, 1, 0.8)
    return f" (nearest: {near[0]})" if near else ""


def _raw(path: Path) -> dict[str, Tensor]:
    if path.suffix in PICKLES:
        return _unpickled(path)
    if path.name.endswith(".index.json"):
        places = (read_json(path) or {}).get("weight_map")
        if not isinstance(places, dict) or not all(_plain(name) for name in places.values()):
            raise UserError(f"{path} is no index of safetensors files; copy the checkpoint again")
        files = [path.parent / name for name in sorted(set(places.values()))]
    else:
        files = [path]
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            with safe_open(file, "pt") as opened:
                tensors |= {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(
                f"{file} is missing, damaged or no safetensors file ({_line(error)}); copy it again"
            ) from None
    return tensors


def _plain(name: object) -> bool:
    """Whether it is the name of a file in the same folder."""
    return isinstance(name, str) and Path(name).name == name and name not in ("", "..")


def _holds_a_model(path: Path) -> bool:
    try:
        return any(key.endswith("pos_embed_TSC") for key in _unpickled(path))
    except UserError:
        return False


def _unpickled(path: Path) -> dict[str, Tensor]:
    """A state dict, or the one under `state_dict` as Lightning saves it; nothing in the file is executed."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever a damaged file makes it raise
        raise UserError(
            f"{path} cannot be read without running code in it ({_line(error)[:200]}); where you trust it, "
            'save torch.load(FILE, weights_only=False)["state_dict"] alone, by safetensors.torch.save_file'
        ) from None
    saved = saved.get("state_dict", saved) if isinstance(saved, dict) else {}
    return {key: value for key, value in saved.items() if isinstance(value, Tensor)}


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
