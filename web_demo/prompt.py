"""A start picture from words, by any text-to-image model in diffusers' format that lies on this disk.

An exported one (ONNX) runs through optimum.onnxruntime, any other through diffusers. Files only: nothing is
downloaded, no code of the model's folder is run, weights are read from safetensors or ONNX alone.
"""

from __future__ import annotations

import json
import threading
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pocketgenie.errors import UserError
from pocketgenie.runtimes.worker import Worker, WorkerFailed

INDEX = "model_index.json"
MAX_WORDS = 400  # characters
TIMEOUT = 900.0  # seconds; a large model on a CPU
INSTALL = "pip install 'pocketgenie[prompt]'"
HOW = (
    "No text-to-image model is set. Any in diffusers' format will do: a folder with `model_index.json` and "
    "its parts (`unet/`, `vae/`, `text_encoder/`, `tokenizer/`, `scheduler/`), as `hf download` fetches it "
    "or `optimum-cli export onnx` writes it. Put it anywhere on this machine, run "
    f"`{INSTALL}`, and start the demo with `pocketgenie demo --prompt-model FOLDER`."
)


def kind_of(folder: Path) -> Literal["onnx", "torch"]:
    """How the model is stored. Raises UserError for a folder that is no such model."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise UserError(f"{folder} is no model in diffusers' format: it has no readable {INDEX}") from None
    if not isinstance(index, dict) or not isinstance(index.get("_class_name"), str):
        raise UserError(f"{folder / INDEX} names no pipeline; take a model in diffusers' format")
    return "onnx" if any(folder.glob("*/model.onnx")) else "torch"


def what_is_missing(folder: Path | None) -> str:
    """What to put where before words can be drawn; empty when they can."""
    if folder is None:
        return HOW
    try:
        kind = kind_of(folder)
    except UserError as error:
        return f"{error}. {HOW.partition('. ')[2]}"
    needs = ("optimum", "diffusers") if kind == "onnx" else ("torch", "diffusers", "transformers")
    lacking = [name for name in needs if find_spec(name) is None]
    return f"{', '.join(lacking)} is not installed here; {INSTALL}" if lacking else ""


class Drawing:
    """A loaded pipeline, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.pipeline: Any
        if kind_of(folder) == "onnx":
            from optimum.onnxruntime import ORTPipelineForText2Image

            self.pipeline = ORTPipelineForText2Image.from_pretrained(folder, local_files_only=True)
        else:
            import torch

            self.pipeline = import_module("diffusers").AutoPipelineForText2Image.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
            )
            if torch.cuda.is_available():
                self.pipeline = self.pipeline.to("cuda")
        self.pipeline.set_progress_bar_config(disable=True)

    def draw(self, words: str, seed: int, steps: int | None = None) -> NDArray[np.uint8]:
        """uint8 [h, w, 3] in the model's own size"""
        import torch

        how: dict[str, Any] = {} if steps is None else {"num_inference_steps": steps}
        how["generator"] = torch.Generator().manual_seed(seed)
        image = self.pipeline(words, **how).images[0]
        return np.asarray(image.convert("RGB"), np.uint8)


_ONE = threading.Lock()
_LOADED: dict[Path, Worker] = {}
"""The model that drew last stays loaded."""


def draw(folder: Path, words: str, seed: int, steps: int | None = None) -> NDArray[np.uint8]:
    """A picture uint8 [h, w, 3] of `words`. Raises UserError."""
    if not _ONE.acquire(timeout=5):
        raise UserError("the model draws for somebody else; try again in a moment")
    try:
        if folder not in _LOADED:
            close()
            _LOADED[folder] = Worker("the text-to-image model", Drawing, folder, timeout=TIMEOUT)
        picture: NDArray[np.uint8] = _LOADED[folder].call("draw", words[:MAX_WORDS], seed, steps)
        return picture
    except WorkerFailed as failure:
        close()  # a process that failed is not asked again
        raise UserError(f"{failure.who} {failure}") from None
    finally:
        _ONE.release()


def close() -> None:
    """Let go of the model."""
    while _LOADED:
        _LOADED.popitem()[1].close()
