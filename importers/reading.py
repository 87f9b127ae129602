"""Foreign weight files: nothing in them is executed, nothing is read twice, what is wrong is said by name.

safetensors files are mapped, and so are pickles, which torch's `weights_only` reads: a tensor is in memory as
pages of its file. Types stay as they are (bf16 files make bf16 checkpoints, which are played at float32).
"""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pocketgenie.errors import UserError
from pocketgenie.genie.checkpoint import unplayable

PICKLES: Final = (".pt", ".pth", ".ckpt", ".bin")
INDEX: Final = ".index.json"
PREFIXES: Final = ("module.", "_orig_mod.", "model.")
"""What wrappers put before every name: several processes, torch.compile, Lightning."""
LARGEST_JSON: Final = 1 << 24
"""Bytes; a configuration has some hundred, an index of shards some 10 KB."""
SHOWN: Final = 4


def read_saved(path: Path) -> dict[str, Any]:
    """The dict in a file of `torch.save`, or the tensors of a safetensors file or an index of several.

    Raises UserError.
    """
    _refuse_other_than_files(path)
    if path.name.endswith(INDEX):
        tensors: dict[str, Any] = {}
        for file in _shards(path):
            tensors |= _mapped(file)
        return tensors
    return _unpickled(path) if path.suffix in PICKLES else _mapped(path)


def read_tensors(path: Path, *keys: str) -> dict[str, Tensor]:
    """A state dict, by its names without prefixes: the file's own, or the one under the first of `keys` that
    it has. Raises UserError."""
    saved = read_saved(path)
    inside = next((saved[key] for key in keys if isinstance(saved.get(key), dict)), saved)
    tensors = {key: value for key, value in inside.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{path} holds no tensors; give the file that has the weights")
    return bare(tensors)


def bare(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by their names without the PREFIXES that all of them share."""
    found = dict(tensors)
    while prefix := next((p for p in PREFIXES if found and all(key.startswith(p) for key in found)), None):
        found = {key.removeprefix(prefix): tensor for key, tensor in found.items()}
    return found


def read_json(path: Path) -> dict[str, Any] | None:
    """The keys of a JSON file; None where there is none. Raises UserError."""
    _refuse_other_than_files(path)
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise UserError(f"{path} is too large for a configuration; is it another file?")
        keys = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON ({_line(error)}); copy it again") from None
    if not isinstance(keys, dict):
        raise UserError(f"{path} holds no keys; copy it again")
    return keys


def check_keys(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], mend: str) -> None:
    """Every tensor of the model, in its shape, and no other, of values that can be played. Raises UserError
    with their names, the nearest of the others beside each, and `mend`: how to mend it."""
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    faults = [f"{key} is missing{_nearest(key, extra)}" for key in missing]
    faults += [f"{_shown(key)} is none of the model's{_nearest(key, missing)}" for key in extra]
    faults += [
        f"{key} is {list(found[key].shape)}, not {list(wanted[key].shape)}"
        for key in sorted(wanted.keys() & found.keys())
        if found[key].shape != wanted[key].shape
    ]
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise UserError(f"{path}: {'; '.join(faults[:SHOWN])}{more}; {mend}")
    for key, tensor in found.items():
        if fault := unplayable(tensor):
            raise UserError(f"{path}: {key} {fault}")


def _shards(path: Path) -> list[Path]:
    """The files that an index names; they lie beside it."""
    places = (read_json(path) or {}).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise UserError(f"{path} names no files (weight_map); copy the checkpoint again")
    names = set(map(str, places.values()))
    if odd := sorted(name for name in names if name in ("", ".", "..") or Path(name).name != name):
        raise UserError(
            f"{path} names {_shown(repr(odd[0]))}, which is no file beside it; copy the checkpoint again"
        )
    return [path.parent / name for name in sorted(names)]


def _refuse_other_than_files(path: Path) -> None:
    """A pipe or a device would be waited for, or never end."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no file; give the one that has the weights")


def _refuse_compressed(path: Path, file: IO[bytes]) -> None:
    """torch maps what lies in its zip as it lies there: compressed weights would be read as noise, and a
    small file could fill the memory."""
    with zipfile.ZipFile(file) as archive:
        if any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist()):
            raise UserError(f"{path} is compressed, which torch.save never does; copy the file that it wrote")


def _mapped(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path} is missing, damaged or no safetensors file ({_line(error)}); copy it again"
        ) from None


def _unpickled(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            mapped = zipfile.is_zipfile(file)  # files of torch before 1.6 are none, and cannot be mapped
            if mapped:
                _refuse_compressed(path, file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols
            saved = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or _line(error)}") from None
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors and plain values, or is damaged; nothing of it was run "
            f"({_why(error)}). Where you trust it, save the weights alone with its project: "
            "safetensors.torch.save_file(model.state_dict(), FILE)"
        ) from None
    except Exception as error:  # zip, pickle and torch raise what they like on damaged bytes
        raise UserError(f"{path} is damaged or no PyTorch file ({_line(error)}); copy it again") from None
    if not isinstance(saved, dict):
        raise UserError(
            f"{path} holds a {type(saved).__name__}, not a dict; give the file that has the weights"
        )
    return {str(key): value for key, value in saved.items()}


def _nearest(name: str, others: Sequence[str]) -> str:
    near = get_close_matches(name, others, 1, 0.8)
    return f" (nearest: {_shown(near[0])})" if near else ""


def _why(error: pickle.UnpicklingError) -> str:
    """What torch met, without its advice on how to run it all the same."""
    told = str(error).partition("WeightsUnpickler error:")[2].strip()
    return _shown(told.splitlines()[0]) if told else _line(error)


def _line(error: BaseException) -> str:
    """What an exception says, on one short line."""
    return _shown(str(error)) or type(error).__name__


def _shown(text: str) -> str:
    """Words of a foreign file on one short line, without what would steer a terminal."""
    said = "".join(mark if mark.isprintable() else "?" for mark in " ".join(text.split()))
    return said if len(said) <= 120 else f"{said[:120]}…"
