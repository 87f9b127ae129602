"""A checkpoint is a folder: `world.json` and one safetensors file per part. No pickle is written or read."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final, Literal, TypeVar

import torch
from pydantic import Field, JsonValue, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pocketgenie.errors import UserError
from pocketgenie.genie.config import GenieConfig, first_error
from pocketgenie.genie.dynamics import Dynamics
from pocketgenie.genie.lam import LatentActionModel
from pocketgenie.genie.spec import NATIVE, Frozen
from pocketgenie.genie.tokenizer import Tokenizer

SCHEMA: Final = 1
STORED = (torch.float32, torch.float16, torch.bfloat16)
"""Weights may be stored in any of these; they are played at float32."""
Part = Literal["tokenizer", "lam", "dynamics"]
M = TypeVar("M", bound=Frozen)


FILES = ("world.json", "tokenizer.safetensors", "lam.safetensors", "dynamics.safetensors")


class Lineage(Frozen):
    """Of a distilled world: the teacher that it is measured against, and how each part was made from it."""

    teacher: str
    """Path of the teacher's checkpoint folder, relative to this one, with forward slashes."""
    teacher_hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    """`checkpoint_hash` of that folder."""
    recipe: dict[str, str] = Field(default_factory=dict)
    """Part or `steps` -> how it was distilled, in words."""


class WorldHeader(Frozen):
    """world.json of a world of any kind."""

    schema_version: Literal[1]
    kind: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    """NATIVE, or a row of importers/kinds.py, which knows what `config` means."""
    config: dict[str, JsonValue]
    lineage: Lineage | None = None


class WorldFile(Frozen):
    """world.json of a native world."""

    schema_version: Literal[1]
    kind: Literal["genie"]
    config: GenieConfig
    lineage: Lineage | None = None


class Genie(nn.Module):
    """The three trained parts of a native world."""

    def __init__(self, config: GenieConfig) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = Tokenizer(config)
        self.lam = LatentActionModel(config)
        self.dynamics = Dynamics(config, self.tokenizer.quantizer.features().clone())

    def part(self, name: Part) -> nn.Module:
        """One of the three by name."""
        module = getattr(self, name)
        assert isinstance(module, nn.Module)
        return module


def save_config(folder: Path, config: GenieConfig, lineage: Lineage | None = None) -> None:
    """Write world.json of a native world, whole or not at all."""
    save_header(folder, WorldFile(schema_version=SCHEMA, kind="genie", config=config, lineage=lineage))


def save_header(folder: Path, world: WorldHeader | WorldFile) -> None:
    """Write world.json, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    text = world.model_dump_json(indent=2, exclude_none=True)
    part = folder / "world.json.part"
    part.write_text(text + "\n")
    os.replace(part, folder / "world.json")


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write one safetensors file, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    part.touch()
    mode = part.stat().st_mode  # as the umask says; safetensors writes files that nobody else may read
    save_file(
        {key: value.detach().cpu().contiguous() for key, value in tensors.items()}, part, metadata=metadata
    )
    part.chmod(mode)
    os.replace(part, path)


def save_part(folder: Path, name: str, module: nn.Module) -> None:
    """Write one part's weights."""
    save_tensors(folder / f"{name}.safetensors", module.state_dict())


def checkpoint_files(folder: Path) -> tuple[str, ...]:
    """The files that make a checkpoint folder; of worlds that are not native, all its safetensors. Raises
    UserError without a world.json that can be read."""
    if read_header(folder).kind == NATIVE:
        return FILES
    return ("world.json", *sorted(path.name for path in folder.glob("*.safetensors")))


def checkpoint_hash(folder: Path) -> str:
    """sha256 over a checkpoint's files, in order."""
    digest = hashlib.sha256()
    for name in checkpoint_files(folder):
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def not_the_teacher(lineage: Lineage, folder: Path | None) -> str | None:
    """Why a folder is not the teacher that a lineage names, in words; None where it is."""
    try:
        whole = folder is not None and all((folder / name).is_file() for name in checkpoint_files(folder))
    except UserError:
        whole = False
    if folder is None or not whole:
        return f"{lineage.teacher} is not there"
    if checkpoint_hash(folder) != lineage.teacher_hash:
        return f"{lineage.teacher} is not the one it was distilled from (its hash differs)"
    return None


def read_config(folder: Path) -> GenieConfig:
    """The configuration of a native checkpoint folder. Raises UserError."""
    return read_world(folder).config


def read_world(folder: Path) -> WorldFile:
    """world.json of a native checkpoint folder. Raises UserError."""
    if (kind := read_header(folder).kind) != NATIVE:
        raise UserError(
            f"{folder} is a world of the kind {kind}; this takes a world apart by its layers, and knows only "
            "those of native worlds; `export`, `check` and `distill steps` take any"
        )
    return _read(folder, WorldFile)


def read_header(folder: Path) -> WorldHeader:
    """world.json of a checkpoint folder of any kind. Raises UserError."""
    return _read(folder, WorldHeader)


def _read(folder: Path, kind: type[M]) -> M:
    path = folder / "world.json"
    try:
        return kind.model_validate_json(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{folder} is no checkpoint: it has no world.json; give a folder written by `train` or `import`"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not text; the file is damaged") from None
    except ValidationError as error:
        raise UserError(f"{path}: {first_error(error)}") from None


def load_part(folder: Path, name: str, module: nn.Module) -> None:
    """Load one part's weights after checking every name, shape and dtype. Raises UserError."""
    path = folder / f"{name}.safetensors"
    wanted = module.state_dict()
    try:
        with safe_open(path, "pt") as file:
            found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        mend = f"run `pocketgenie train {name} -o {folder}`" if path.name in FILES else "copy all of it"
        raise UserError(f"{folder} has no {path.name}; {mend}") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path} is damaged or no safetensors file ({error}); copy or train it again"
        ) from None
    if missing := sorted(wanted.keys() - found.keys()):
        raise UserError(f"{path} lacks {_some(missing)}; it does not belong to this world.json")
    if extra := sorted(found.keys() - wanted.keys()):
        raise UserError(f"{path} has unknown tensors {_some(extra)}; it does not belong to this world.json")
    for key, tensor in found.items():
        if tensor.shape != wanted[key].shape:
            raise UserError(
                f"{path}: {key} is {list(tensor.shape)}, world.json asks for {list(wanted[key].shape)}; "
                "use the world.json that the weights were trained with"
            )
        if fault := unplayable(tensor):
            raise UserError(f"{path}: {key} {fault}")
    module.load_state_dict(found)


def unplayable(tensor: Tensor) -> str | None:
    """Why a tensor cannot be a world's weight, and how to mend it, to be said after its name; None where it
    can."""
    if tensor.dtype not in STORED:
        kinds = ", ".join(str(dtype).removeprefix("torch.") for dtype in STORED)
        return f"is {str(tensor.dtype).removeprefix('torch.')}, not a float of {kinds}; convert it"
    if tensor.is_meta or tensor.layout is not torch.strided:
        return "has no plain values (it is sparse, or on no device); save it dense, on the CPU"
    if tensor.nbytes > tensor.untyped_storage().nbytes():
        return "has more numbers than are stored (it was expanded); save it by .contiguous()"
    if not torch.isfinite(tensor).all():
        return "holds values that are not finite; the training diverged, train it again"
    return None


def load_genie(folder: Path, parts: tuple[Part, ...] = ("tokenizer", "lam", "dynamics")) -> Genie:
    """A native world in eval mode, gradients off. Raises UserError for anything wrong with the folder."""
    genie = Genie(read_config(folder))
    for name in parts:
        load_part(folder, name, genie.part(name))
    genie.dynamics.features.copy_(genie.tokenizer.quantizer.features())
    return genie.eval().requires_grad_(False)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
