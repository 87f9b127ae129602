"""Checkpoints of GenieRedux (INSAIT; the CoinRun release and the later main branch) become worlds.

A model file is nested, `model: {dynamics, latent_action_model}`; guided ones hold `dynamics` alone. Its
tokenizer is a file of its own. Beside the model the main trainer leaves `tokenizer.pt`, a link to it, and a
`config.yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isqrt
from pathlib import Path
from typing import Final

import torch
from pydantic import ValidationError
from torch import Tensor

from pocketgenie.errors import UserError
from pocketgenie.genie.checkpoint import load_part
from pocketgenie.genie.config import first_error
from pocketgenie.importers.genieredux_config import GenieReduxConfig
from pocketgenie.importers.genieredux_dynamics import DynamicsSizes
from pocketgenie.importers.genieredux_sizes import dynamics_sizes, patch_side, places, video_sizes
from pocketgenie.importers.genieredux_world import GenieReduxWorld
from pocketgenie.importers.reading import bare, check_keys, read_saved

NAME: Final = "genieredux"
Config = GenieReduxConfig
Weights = dict[str, Tensor]
FLAGS: Final = (
    *("tokenizer", "image_size", "use_token", "use_action_embeddings", "window", "keeps", "fps", "name"),
)
UNUSED: Final = re.compile(r"\.context_norm\.(gamma|beta)$|\._codebook\.(embed_avg|cluster_size|initted)$")
"""Tensors that no output depends on."""
MASKGIT: Final = "maskgit."
MARK: Final = "to_patch_emb_first_frame.2.weight"
"""A tensor of every tokenizer and latent action model."""
FPS: Final = "10"


def looks_like(path: Path) -> bool:
    """Whether it is, or holds, a model file of GenieRedux. Raises nothing."""
    try:
        return MASKGIT + "pos_emb.weight" in _models(_model_file(path)).get("dynamics", {})
    except (UserError, OSError):
        return False


def convert(path: Path, flags: Mapping[str, str]) -> tuple[GenieReduxConfig, dict[str, Weights]]:
    """Read a model file, or the latest of a folder, and its tokenizer. Raises UserError."""
    if unknown := sorted(flags.keys() - set(FLAGS)):
        raise UserError(f"--set {unknown[0]} is not known of GenieRedux; there are {', '.join(FLAGS)}")
    file = _model_file(path)
    models = _models(file)
    if MARK in models.get("tokenizer", {}):
        raise UserError(f"{file} is a tokenizer; give the model's file, and this by --set tokenizer={file}")
    if "dynamics" not in models:
        raise UserError(f"{file} has no `dynamics`; it is no model of GenieRedux")
    exported = _exported(file.parent / "config.yaml")
    parts = {
        "tokenizer": _needed(_tokenizer(file, flags)),
        "dynamics": {key.removeprefix(MASKGIT): value for key, value in _needed(models["dynamics"]).items()},
    }
    if "latent_action_model" in models:
        parts["lam"] = _needed(models["latent_action_model"])
    try:
        config = _config(file, parts, flags, exported)
    except ValidationError as error:
        raise UserError(f"{file}: {first_error(error)}; --set mends it ({', '.join(FLAGS)})") from None
    with torch.device("meta"):
        world = GenieReduxWorld(config)
    for name, part in world.parts().items():
        check_keys(file, parts[name], part.state_dict(), f"the {name} is damaged or of another version")
    return config, parts


def load(folder: Path, config: GenieReduxConfig) -> GenieReduxWorld:
    """The world of a checkpoint folder, in eval mode, gradients off. Raises UserError."""
    world = GenieReduxWorld(config)
    for name, part in world.parts().items():
        load_part(folder, name, part)
    world.settle()
    return world


def describe(config: GenieReduxConfig) -> dict[str, str]:
    """What was found, and what play means for it."""
    kind = "guided: the game's own actions" if config.dynamics.guided else "latent actions"
    return {
        "world": f"{config.height}x{config.width}, {config.tokens} tokens of {config.dynamics.codes} codes, "
        f"{config.dynamics.actions} actions ({kind})",
        "window": f"{config.window} past frames (the project ends after {config.most_frames}). "
        f"Here play goes on: {config.keeps} stay and are observed anew, as positions count from the first",
        "sampling": "one greedy pass a frame, which is what the project's own samplers come to",
        "frames per second": f"{config.fps:g}; no file shows it (--set fps=...)",
    }


def _model_file(path: Path) -> Path:
    """The file itself, or the one of a folder with the most steps."""
    if not path.is_dir():
        return path
    steps = {
        file: re.fullmatch(r"model-(\d{1,18})\.pt", file.name, re.ASCII) for file in path.glob("model-*.pt")
    }
    found = {file: int(match[1]) for file, match in steps.items() if match}
    if not found:
        raise UserError(f"{path} has no model-STEP.pt; name GenieRedux's model file")
    return max(found, key=lambda file: found[file])


def _models(file: Path) -> dict[str, Weights]:
    """The state dicts of a model file, by name; of a tokenizer file, one by the name `tokenizer`."""
    model = read_saved(file).get("model")
    if not isinstance(model, dict):
        raise UserError(f"{file} has no `model`; it is no checkpoint of GenieRedux")
    if any(isinstance(value, Tensor) for value in model.values()):
        model = {"tokenizer": model}
    parts = {name: bare(weights) for name, weights in model.items() if isinstance(weights, dict)}
    return {name: part for name, part in parts.items() if all(isinstance(v, Tensor) for v in part.values())}


def _tokenizer(file: Path, flags: Mapping[str, str]) -> Weights:
    """That which was named, or which the trainer's link beside the model leads to."""
    path = Path(flags["tokenizer"]) if "tokenizer" in flags else file.parent / "tokenizer.pt"
    if "tokenizer" not in flags and not path.exists():
        raise UserError(
            f"the tokenizer is not in {file}, and there is no tokenizer.pt beside it; name its file: "
            "--set tokenizer=PATH"
        )
    models = _models(_model_file(path))
    if MARK not in models.get("tokenizer", {}):
        raise UserError(f"{path} is no tokenizer of GenieRedux; name its file: --set tokenizer=PATH")
    return models["tokenizer"]


def _config(
    file: Path, parts: dict[str, Weights], flags: Mapping[str, str], exported: Mapping[str, str]
) -> GenieReduxConfig:
    """From the weights, then from flags, then from config.yaml. Raises UserError and ValidationError."""
    lam = video_sizes(parts["lam"]) if "lam" in parts else None
    tokenizer = video_sizes(parts["tokenizer"])
    dynamics = dynamics_sizes(parts["dynamics"], lam.codes if lam else None)
    patch = patch_side(parts["tokenizer"])

    def said(flag: str, key: str) -> str | None:
        return flags.get(flag, exported.get(key))

    _refuse_lost_table(dynamics, said("use_action_embeddings", "dynamics.use_action_embeddings"))
    height, width = _image(said("image_size", "tokenizer.image_size"), parts, patch)
    tokens = (height // patch) * (width // patch)
    use_token = said("use_token", "dynamics.use_token")
    if tokenizer.decoder.dim != dynamics.embedding:
        use_token = "false"  # it could not be on
    if use_token is None:
        raise UserError(
            f"{file} does not show whether use_token was on, and has no config.yaml beside it; say so: "
            "--set use_token=false (the CoinRun release has no such option) or --set use_token=true"
        )
    window = flags.get("window", str(_window(dynamics.positions // max(1, tokens), exported)))
    keeps = str(max(1, int(window) // 2)) if re.fullmatch(r"\d{1,4}", window, re.ASCII) else window
    return GenieReduxConfig.model_validate(
        {
            "name": flags.get("name", file.resolve().parent.name),
            "height": height,
            "width": width,
            "patch": patch,
            "tokenizer": tokenizer,
            "lam": lam,
            "dynamics": dynamics,
            "use_token": use_token,
            "window": window,
            "keeps": flags.get("keeps", keeps),
            "fps": flags.get("fps", FPS),
        }
    )


def _window(longest: int, exported: Mapping[str, str]) -> int:
    """Past frames of the clips that the model was trained on, where that is known (later positions were never
    trained), else as many as have positions."""
    frames = exported.get("train.num_frames", "")
    return min(longest, max(2, int(frames) - 1)) if re.fullmatch(r"\d{1,6}", frames, re.ASCII) else longest


def _refuse_lost_table(dynamics: DynamicsSizes, said: str | None) -> None:
    """`use_action_embeddings` draws a table of actions anew in every process and stores it nowhere."""
    if dynamics.guided and dynamics.actions == dynamics.embedding and said != "false":
        raise UserError(
            "this guided model was trained with use_action_embeddings, whose table GenieRedux neither trains "
            "nor saves: nobody can play it as it was trained; train it with use_action_embeddings: false (if "
            f"it was, and it has {dynamics.actions} actions: --set use_action_embeddings=false)"
        )


def _image(said: str | None, parts: Mapping[str, Weights], patch: int) -> tuple[int, int]:
    """Height and width: as said, or of a square with as many patches as the latent action model has."""
    shown = places(parts["lam"]) if "lam" in parts else None
    if said is None and shown and isqrt(shown) ** 2 == shown:
        return isqrt(shown) * patch, isqrt(shown) * patch
    if said is None:
        raise UserError(
            "the weights do not show the image's size; say it: --set image_size=64 (or HEIGHTxWIDTH)"
        )
    match = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", said, re.ASCII)
    if not match:
        raise UserError(f"image_size {said!r} is no size; write 64 or HEIGHTxWIDTH")
    height, width = int(match[1]), int(match[2] or match[1])
    if shown not in (None, (height // patch) * (width // patch)):
        raise UserError(
            f"image_size {said} has not the {shown} patches of the latent action model; say the right one"
        )
    return height, width


def _exported(path: Path) -> dict[str, str]:
    """`section.key` -> value of the main trainer's config.yaml, as it writes it: sections of plain values."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    found: dict[str, str] = {}
    section = ""
    for line in lines:
        if match := re.fullmatch(r"(\w+):\s*", line):
            section = match[1]
        elif match := re.fullmatch(r"  (\w+): (\S+)", line):
            found[f"{section}.{match[1]}"] = match[2]
    return found


def _needed(weights: Weights) -> Weights:
    return {key: value for key, value in weights.items() if not UNUSED.search(key)}
