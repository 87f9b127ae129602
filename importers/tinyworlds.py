"""Checkpoints of TinyWorlds (github.com/AlmondGod/tinyworlds) become worlds: three models, in either form.

A model is a directory (`model_state_dict.pt` and `state.pt`) or, until November 2025, one `.pth` file. They
lie in one folder, or under STAGE/checkpoints in a run's results tree; the latest step is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from pocketgenie.errors import UserError
from pocketgenie.genie.checkpoint import Part, load_part
from pocketgenie.genie.config import first_error
from pocketgenie.importers.reading import bare, check_keys, read_saved
from pocketgenie.importers.tinyworlds_config import (
    ActionSizes,
    DynamicsSizes,
    TinyWorldsConfig,
    TokenizerSizes,
    TransformerSizes,
)
from pocketgenie.importers.tinyworlds_model import TinyWorlds
from pocketgenie.importers.tinyworlds_state import read_state
from pocketgenie.importers.tinyworlds_world import TinyWorldsWorld

NAME: Final = "tinyworlds"
Config = TinyWorldsConfig
Parts = dict[str, dict[str, Tensor]]
PARTS: Final[tuple[Part, ...]] = ("tokenizer", "lam", "dynamics")
STAGES: Final = {"tokenizer": "video_tokenizer", "lam": "latent_actions", "dynamics": "dynamics"}
"""File stem here -> the project's name of the model, and the flag that names another place for it."""
SIZES: Final[dict[str, type[TransformerSizes]]] = {
    "tokenizer": TokenizerSizes,
    "lam": ActionSizes,
    "dynamics": DynamicsSizes,
}
STEP: Final = re.compile(r"_step_(\d{1,12})(?:_[0-9_]+)?(?:\.pth)?", re.ASCII)
PLAYED: Final = {"steps": "10", "temperature": "0.5", "fps": "10", "keeps": "0"}
"""What the project's inference script is set to; and frames per second, which a checkpoint does not know."""


def looks_like(path: Path) -> bool:
    """Whether there is one of the three models, or a folder of them. Raises nothing."""
    return any(find(path, part) is not None for part in STAGES)


def find(path: Path, part: str) -> Path | None:
    """The latest checkpoint of one part: `path` itself, inside of it, or beside it."""
    found = [
        (step, place) for place in _places(path, STAGES[part]) if (step := _step(place, STAGES[part])) >= 0
    ]
    if any(place == path for _, place in found):
        return path
    return max(found, default=(0, None))[1]


def _places(path: Path, stage: str) -> Iterator[Path]:
    own = any(_step(path, other) >= 0 for other in STAGES.values())
    for root in [path, path.parent, *path.parents[2:3]] if own else [path]:
        yield root
        for folder in (root, root / stage / "checkpoints"):
            try:
                yield from sorted(folder.iterdir())
            except OSError:  # a file, or none
                continue


def _step(place: Path, stage: str) -> int:
    """The training step that a checkpoint's name gives; -1 where it is no checkpoint of that stage."""
    match = STEP.fullmatch(place.name.removeprefix(stage)) if place.name.startswith(stage) else None
    whole = place.is_file() if place.suffix == ".pth" else (place / "model_state_dict.pt").is_file()
    return int(match[1]) if match and whole else -1


def convert(path: Path, flags: Mapping[str, str]) -> tuple[TinyWorldsConfig, Parts]:
    """The three models' sizes and tensors. Raises UserError.

    `flags`: STAGE=PATH for a model that lies elsewhere; STAGE.KEY=VALUE for what its training configuration
    lacks; context, steps, temperature, fps, name for the play.
    """
    left = {STAGES["tokenizer"] if key == "tokenizer" else key: value for key, value in flags.items()}
    known: dict[str, Any] = {}
    parts: Parts = {}
    sizes: dict[str, TransformerSizes] = {}
    places: dict[str, Path] = {}
    for part, stage in STAGES.items():
        place = Path(left.pop(stage)) if stage in left else find(path, part)
        if place is None:
            raise UserError(f"{path} has no {stage}_step_N; name the checkpoint: --set {stage}=PATH")
        parts[part], trained = read_model(place)
        known |= trained
        given = {key: left.pop(f"{stage}.{key}") for key in _fields(part) if f"{stage}.{key}" in left}
        sizes[part] = _sizes(part, place, trained | given, parts[part])
        places[part] = place
    played = {key: left.pop(key, value) for key, value in PLAYED.items()}
    if "context" in left or "context_length" in known:
        played["context"] = left.pop("context", known.get("context_length", 0) - 1)
    else:
        raise UserError(f"{path} does not say how many past frames it sees; give them: --set context=3")
    name = left.pop("name", path.resolve().name)
    keys = ", ".join((*STAGES.values(), "STAGE.KEY", "context", *PLAYED, "name"))
    if left:
        raise UserError(f"tinyworlds has no {', '.join(sorted(left))}; --set takes {keys}")
    try:
        config = TinyWorldsConfig.model_validate({"name": name, **sizes, **played})
    except ValidationError as error:
        raise UserError(f"{path}: {first_error(error)}; mend it by --set {keys}") from None
    with torch.device("meta"):
        model = TinyWorlds(config)
    for part, tensors in parts.items():
        mend = f"give what it was trained with: --set {STAGES[part]}.KEY=VALUE"
        check_keys(places[part], tensors, model.get_submodule(part).state_dict(), mend)
    return config, parts


def load(folder: Path, config: TinyWorldsConfig) -> TinyWorldsWorld:
    """The world of a checkpoint folder. Raises UserError."""
    model = TinyWorlds(config)
    for part in PARTS:
        load_part(folder, part, model.get_submodule(part))
    return TinyWorldsWorld(model.eval().requires_grad_(False))


def with_steps(config: TinyWorldsConfig, steps: int) -> TinyWorldsConfig:
    """The same world in at most N steps a frame. Raises ValidationError."""
    return TinyWorldsConfig.model_validate({**config.model_dump(), "steps": steps})


def trained(world: TinyWorldsWorld) -> tuple[str, nn.Module]:
    """What distillation of steps trains, and its file's stem."""
    return "dynamics", world.model.dynamics


def describe(config: TinyWorldsConfig) -> dict[str, str]:
    """What was found, and what play means for it."""
    tokenizer, dynamics = config.tokenizer, config.dynamics
    experts = f", {dynamics.top_k_experts} of {dynamics.num_experts} experts" if dynamics.use_moe else ""
    drawn = f"drawn at temperature {config.temperature:g}" if config.temperature else "the likeliest tokens"
    return {
        "tokenizer": f"{tokenizer.num_blocks} + {tokenizer.num_blocks} blocks of {tokenizer.embed_dim}, "
        f"{tokenizer.side}x{tokenizer.side} tokens a frame, {tokenizer.codebook} codes",
        "actions": f"{config.lam.n_actions}, of unknown meaning",
        "dynamics": f"{dynamics.num_blocks} blocks of {dynamics.embed_dim}{experts}",
        "sampling": f"at most {config.steps} steps, the most confident places first, {drawn}",
        "window": f"{config.context} past frames; places count from the first, so a window that moves is "
        "observed again",
        "play": "tokens are carried from frame to frame; the project's loop reads its own pictures instead",
    }


def read_model(place: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """One checkpoint -> its tensors, its training configuration (or nothing). Raises UserError."""
    if place.suffix == ".pth":
        saved = read_saved(place)
        tensors, trained = saved.get("model"), saved.get("config")
    else:
        tensors, state = read_saved(place / "model_state_dict.pt"), place / "state.pt"
        trained = read_state(state).get("config") if state.is_file() else {}
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise UserError(f"{place} has no model; is it a checkpoint of TinyWorlds?")
    found = bare(tensors)
    found.pop("quantizer.basis", None)  # computed from the sizes
    return found, trained if isinstance(trained, dict) else {}


def _sizes(
    part: str, place: Path, found: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> TransformerSizes:
    """What a training configuration and the tensors say; the rest is asked for."""
    kind, stage = SIZES[part], STAGES[part]
    values = {key: found[key] for key in _fields(part) if found.get(key) is not None}
    for key in _fields(part):
        if key not in values and kind.model_fields[key].is_required():
            raise UserError(f"{place} does not say its {key}; give it: --set {stage}.{key}=NUMBER")
    if part == "dynamics":
        routers = [value for key, value in tensors.items() if key.endswith("ffn.router.weight")]
        values |= {"use_moe": bool(routers)}
        if routers and "top_k_experts" not in values:
            raise UserError(f"{place} does not say its top_k_experts; give it: --set {stage}.top_k_experts=2")
        values |= {"num_experts": len(routers[0])} if routers else {}
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{place}: {first_error(error)}; mend it: --set {stage}.KEY=VALUE") from None


def _fields(part: str) -> list[str]:
    return list(SIZES[part].model_fields)
