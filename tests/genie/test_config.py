"""The configurations that ship, and what a wrong one says."""

from __future__ import annotations

import json

import pytest
import torch

from pocketgenie.errors import UserError
from pocketgenie.genie.checkpoint import Genie
from pocketgenie.genie.config import load_config, shipped_configs


def parameters(name: str) -> dict[str, float]:
    """Millions of parameters of each part, counted without the memory for them."""
    with torch.device("meta"):
        genie = Genie(load_config(name))
    parts = {name: genie.part(name) for name in ("tokenizer", "lam", "dynamics")}
    return {name: sum(weight.numel() for weight in part.parameters()) / 1e6 for name, part in parts.items()}


def test_three_configurations_ship():
    assert shipped_configs() == ["coinrun", "paper_10b", "paper_coinrun"]
    for name in shipped_configs():
        config = load_config(name)
        spec = config.spec()
        assert config.name == spec.name == name
        assert spec.memories["dynamics"].entry[2] == spec.tokens


def test_the_papers_parameter_counts():
    """arXiv 2402.15391, appendix: tokenizer 200M, latent action model 300M, dynamics 10.1B."""
    assert parameters("paper_10b") == pytest.approx(
        {"tokenizer": 200, "lam": 300, "dynamics": 10_100}, rel=0.03
    )


def test_the_papers_worlds_see_sixteen_frames():
    for name in ("paper_10b", "paper_coinrun"):
        config = load_config(name)
        assert config.dynamics.window + 1 == config.tokenizer.window + 1 == config.lam.frames == 16
        assert (config.sampling.steps, config.sampling.order, config.fps) == (25, "confidence", 10)
    assert load_config("paper_10b").grid == (23, 40)
    assert load_config("paper_10b").spec().actions == 8
    assert load_config("paper_coinrun").spec().actions == 6


@pytest.mark.parametrize("name", ["coinrun", "paper_coinrun"])
def test_meta_and_real_models_have_the_same_tensors(name):
    with torch.device("meta"):
        meta = Genie(load_config(name)).state_dict()
    real = Genie(load_config(name)).state_dict()
    assert {key: value.shape for key, value in meta.items()} == {
        key: value.shape for key, value in real.items()
    }


def test_a_path_works_like_a_name(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(load_config("coinrun").model_dump_json())
    assert load_config(path) == load_config("coinrun")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"height": 0}, "height: Input should be greater than 0"),
        ({"height": 5000}, "height: Input should be less than or equal to 4096"),
        ({"colour": "blue"}, "colour: Extra inputs are not permitted"),
        ({"lam": None}, "lam: Input should be"),
        ({"sampling": {"steps": 65, "temperature": 1}}, "steps 65 exceeds the 64 tokens"),
        ({"sampling": {"steps": 2, "temperature": float("nan")}}, "sampling.temperature: "),
        ({"sampling": {"steps": 2, "order": "random", "temperature": 1}}, "sampling.order: "),
    ],
)
def test_a_wrong_configuration_is_one_line(change, says, tmp_path):
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(json.loads(load_config("coinrun").model_dump_json()) | change))
    with pytest.raises(UserError) as error:
        load_config(path)
    assert says in str(error.value) and "wrong.json" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00", b"null"])
def test_garbage_is_one_line(content, tmp_path):
    path = tmp_path / "garbage.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        load_config(path)
    assert "\n" not in str(error.value)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match="one of: coinrun, paper_10b, paper_coinrun"):
        load_config("atari")


@pytest.mark.parametrize(
    "quantizer",
    [
        {"kind": "vq", "codes": 1, "dim": 4},
        {"kind": "vq", "codes": 8, "dim": 4, "levels": [2]},
        {"kind": "fsq"},
        {"kind": "fsq", "levels": [1, 4]},
        {"kind": "fsq", "levels": [4], "codes": 4},
    ],
)
def test_a_quantizer_is_of_one_kind(quantizer, small_config):
    with pytest.raises(ValueError, match=r"(vq|fsq) takes"):
        small_config(quantizer=quantizer)
