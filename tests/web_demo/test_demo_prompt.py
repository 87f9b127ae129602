"""A start picture from words, by a tiny random pipeline: through diffusers, and exported, through optimum."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pocketgenie.errors import UserError
from pocketgenie.web_demo.prompt import draw, kind_of, what_is_missing


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stable Diffusion's parts with some thousand random weights: 32x32 pictures."""
    diffusers = pytest.importorskip("diffusers", reason="the extra `prompt` is not installed")
    transformers = pytest.importorskip("transformers", reason="the extra `prompt` is not installed")
    import torch

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("prompt")
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16
    )
    text = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=32,
            intermediate_size=37,
            num_attention_heads=4,
            num_hidden_layers=2,
            max_position_embeddings=16,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        norm_num_groups=4,
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    )
    made = diffusers.StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.save_pretrained(folder / "tiny")
    return folder / "tiny"


@pytest.mark.slow
def test_words_become_a_picture_and_the_seed_decides(pipeline: Path) -> None:
    assert kind_of(pipeline) == "torch" and what_is_missing(pipeline) == ""
    one = draw(pipeline, "green hills", seed=1, steps=2)
    assert one.dtype == np.uint8 and one.shape == (32, 32, 3)
    assert (one == draw(pipeline, "green hills", seed=1, steps=2)).all()
    assert (one != draw(pipeline, "green hills", seed=2, steps=2)).any()


@pytest.mark.slow
def test_an_exported_model_draws_through_onnxruntime(pipeline: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("optimum.exporters.onnx", reason="the extra `prompt` is not installed")
    onnx.main_export(str(pipeline), tmp_path / "exported", task="text-to-image", library_name="diffusers")
    assert kind_of(tmp_path / "exported") == "onnx" and what_is_missing(tmp_path / "exported") == ""
    picture = draw(tmp_path / "exported", "green hills", seed=1, steps=2)
    assert picture.dtype == np.uint8 and picture.shape == (32, 32, 3)


def test_without_a_model_the_words_say_what_to_put_where(tmp_path: Path) -> None:
    assert "--prompt-model" in what_is_missing(None) and "pocketgenie[prompt]" in what_is_missing(None)
    assert "model_index.json" in what_is_missing(tmp_path)


@pytest.mark.parametrize("index", ["", "{", "[]", "{}", '{"_class_name": 3}'])
def test_what_is_no_model(tmp_path: Path, index: str) -> None:
    (tmp_path / "model_index.json").write_text(index)
    with pytest.raises(UserError, match=r"model_index\.json"):
        kind_of(tmp_path)


@pytest.mark.slow
def test_pickled_weights_and_code_are_not_loaded(pipeline: Path, tmp_path: Path) -> None:
    """Only safetensors are read: a folder with .bin weights instead is refused, whatever they would do."""
    folder = tmp_path / "pickled"
    shutil.copytree(pipeline, folder)
    for path in folder.rglob("*.safetensors"):
        path.rename(path.with_suffix(".bin"))
    with pytest.raises(UserError):
        draw(folder, "hills", seed=0, steps=1)
