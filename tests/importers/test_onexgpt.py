"""A 1xGPT checkpoint in every form it is met in becomes a world; what does not fit is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pocketgenie.errors import UserError
from pocketgenie.genie.checkpoint import save_tensors
from pocketgenie.genie.noise import draw_noise
from pocketgenie.importers import onexgpt
from pocketgenie.importers.onexgpt_model import Architecture, Dynamics, all_but_last_digit
from pocketgenie.importers.onexgpt_pictures import TokenPictures
from pocketgenie.importers.onexgpt_world import Config, OnexWorld
from pocketgenie.runtimes.player import Player
from pocketgenie.runtimes.reference import FullWindow, world_session

SIZES = {
    "num_layers": 2,
    "num_heads": 2,
    "d_model": 16,
    "T": 5,
    "S": 9,
    "image_vocab_size": 64,
    "num_factored_vocabs": 2,
    "qk_norm": False,
}


def model(**changes: object) -> Dynamics:
    """A small model with weights large enough that its tokens differ."""
    torch.manual_seed(3)
    made = Dynamics(Architecture.model_validate(SIZES | changes))
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    return made.eval().requires_grad_(False)


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """As the project's trainer leaves it."""
    return saved(tmp_path / "run", model(), SIZES | {"max_corrupt_rate": 0.2, "attn_drop": 0.0})


def saved(folder: Path, made: Dynamics, config: dict | None = None, prefix: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    tensors = {prefix + key: value.clone() for key, value in made.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def imported(path: Path, place: Path, **flags: str) -> OnexWorld:
    """Through a checkpoint folder, as `import` writes it."""
    config, parts = onexgpt.convert(path, flags)
    for stem, tensors in parts.items():
        place.mkdir(exist_ok=True)
        save_tensors(place / f"{stem}.safetensors", tensors)
    return onexgpt.load(place, Config.model_validate_json(config.model_dump_json()))


@pytest.mark.peers
@pytest.mark.parametrize("case", ["", "plain"])
def test_the_reference_checkpoints_are_recognised_and_give_the_golden_logits(peer, case, tmp_path):
    folder = peer("1xgpt") / case
    assert onexgpt.looks_like(folder / "checkpoint")
    world = imported(folder / "checkpoint", tmp_path / "world")
    with np.load(folder / "golden.npz") as golden:
        tokens, logits = (torch.from_numpy(golden[key]).flatten(-2) for key in ("tf_input", "tf_logits"))
    actions = torch.zeros(tokens.shape[1], dtype=torch.int64)
    for row, wanted in zip(tokens, logits, strict=True):
        found = world.full_logits(row, actions)
        assert (found - wanted[:, -1].T).abs().max() < 1e-4


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model."])
def test_prefixes_of_trainers_are_stripped(tmp_path, prefix):
    path = saved(tmp_path / "run", model(), SIZES, prefix)
    _, parts = onexgpt.convert(path, {})
    assert parts["dynamics"].keys() == model().state_dict().keys()


def test_a_lightning_file_with_its_sizes_said(tmp_path):
    file = tmp_path / "last.ckpt"
    state = {f"model.{key}": value for key, value in model().state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3, "global_step": torch.tensor(9)}, file)
    assert onexgpt.looks_like(file)
    with pytest.raises(UserError, match=r"--set num_heads=.*--set use_mup="):
        onexgpt.convert(file, {})
    config, parts = onexgpt.convert(file, {"num_heads": "2", "use_mup": "false"})
    assert config.architecture == Architecture.model_validate(SIZES)
    assert parts["dynamics"].keys() == model().state_dict().keys()


def test_heads_are_read_from_the_norm_of_queries_and_keys(tmp_path):
    path = saved(tmp_path / "run", model(qk_norm=True))
    config, _ = onexgpt.convert(path, {"use_mup": "true"})
    assert config.architecture == Architecture.model_validate(SIZES | {"qk_norm": True, "use_mup": True})


@pytest.mark.parametrize(
    "changes",
    [
        {"qkv_bias": True},
        {"proj_bias": False},
        {"mlp_bias": False},
        {"mlp_ratio": 2.5},
        {"qk_norm": True},
        {"num_factored_vocabs": 1},
        {"num_factored_vocabs": 3},
        {"use_mup": True, "qk_norm": True},
    ],
    ids=str,
)
def test_every_switch_loads_and_its_two_ways_of_playing_agree(tmp_path, changes):
    """Cached play over several windows draws what passes over the whole window draw."""
    path = saved(tmp_path / "run", model(**changes), SIZES | changes)
    world = imported(path, tmp_path / "world", steps="3", temperature="1")
    start = some_picture(world)
    cached, full = Player(world_session(world)), FullWindow(world, world.spec)
    assert np.array_equal(cached.start(start), full.start(start))
    for _ in range(3 * world.spec.memories["dynamics"].slots):
        cached.played = full.drawn + 1  # which numbers the noise
        assert np.array_equal(cached.step(0), full.step(0))


def some_picture(world: OnexWorld) -> np.ndarray:
    tokens = np.random.default_rng(0).integers(0, world.spec.codebook, world.spec.tokens, np.int32)
    picture: np.ndarray = world_session(world).decode(tokens)
    return picture


def test_absent_keys_take_the_projects_defaults(tmp_path):
    lacking = {key: value for key, value in SIZES.items() if key != "qk_norm"}
    path = saved(tmp_path / "run", model(qk_norm=True), lacking)
    config, _ = onexgpt.convert(path, {})
    assert config.architecture.qk_norm and config.architecture.proj_bias
    assert not config.architecture.use_mup and not config.architecture.qkv_bias
    assert (config.steps, config.order, config.temperature) == (2, "random", 0)


def test_keys_that_do_not_fit_are_named_with_the_nearest(checkpoint):
    tensors = load_file(checkpoint / "model.safetensors")
    tensors["decoder.layers.0.norm.weight"] = tensors.pop("decoder.layers.0.norm1.weight")
    tensors["out_x_proj.bias"] = torch.zeros(3)
    save_file(tensors, checkpoint / "model.safetensors")
    with pytest.raises(UserError) as error:
        onexgpt.convert(checkpoint, {})
    told = str(error.value)
    assert "decoder.layers.0.norm1.weight is missing (nearest: decoder.layers.0.norm.weight)" in told
    assert "decoder.layers.0.norm.weight is none of the model's" in told
    assert "out_x_proj.bias is [3], not [16]" in told


def test_a_configuration_of_another_model_is_refused(checkpoint):
    (checkpoint / "config.json").write_text(json.dumps(SIZES | {"num_layers": 3}))
    with pytest.raises(UserError, match=r"decoder\.layers\.2\.mlp\.fc1\.bias is missing.*more"):
        onexgpt.convert(checkpoint, {})
    (checkpoint / "config.json").write_text(json.dumps(SIZES | {"image_vocab_size": 65}))
    with pytest.raises(UserError, match="65 has no whole root"):
        onexgpt.convert(checkpoint, {})


def test_flags_are_checked_by_name(checkpoint):
    with pytest.raises(UserError, match="--set layers is not known"):
        onexgpt.convert(checkpoint, {"layers": "2"})
    with pytest.raises(UserError, match="order"):
        onexgpt.convert(checkpoint, {"order": "spiral"})


def test_sharded_and_bf16_files(checkpoint):
    tensors = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    places: dict[str, str] = {}
    for number, keys in enumerate((list(tensors)[::2], list(tensors)[1::2])):
        name = f"model-{number}.safetensors"
        save_file({key: tensors[key].bfloat16() for key in keys}, checkpoint / name)
        places |= dict.fromkeys(keys, name)
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert onexgpt.looks_like(checkpoint)
    world = imported(checkpoint, checkpoint / "world")
    assert world.dynamics.out_x_proj.weight.dtype == torch.float32
    (checkpoint / "model-1.safetensors").unlink()
    with pytest.raises(UserError, match=r"model-1\.safetensors is missing"):
        onexgpt.convert(checkpoint, {})


def test_an_index_names_files_beside_it_only(checkpoint):
    (checkpoint / "model.safetensors").rename(checkpoint.parent / "model.safetensors")
    places = {"pos_embed_TSC": "../model.safetensors"}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    with pytest.raises(UserError, match="no file beside it"):
        onexgpt.convert(checkpoint, {})


def test_a_pickle_that_would_run_code_is_refused_with_the_way_round(tmp_path):
    file = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}, "hyper_parameters": Path(tmp_path)}, file)
    with pytest.raises(UserError, match=r"nothing of it was run.*save_file"):
        onexgpt.convert(file, {})
    assert not onexgpt.looks_like(file)


def test_other_files_and_folders_are_not_taken_for_it(tmp_path, tiny_checkpoint):
    assert not onexgpt.looks_like(tmp_path)
    assert not onexgpt.looks_like(tmp_path / "absent")
    assert not onexgpt.looks_like(tiny_checkpoint)
    assert not onexgpt.looks_like(tiny_checkpoint / "dynamics.safetensors")


@pytest.mark.parametrize("codebook", [2, 64, 1000, 1024, 1 << 18])
def test_a_token_picture_gives_its_tokens_back(codebook):
    pictures = TokenPictures((4, 6), codebook, 8)
    rng = np.random.default_rng(0)
    for _ in range(50):
        tokens = torch.from_numpy(rng.integers(0, codebook, 24))
        frame, _ = pictures.decode_step(tokens, None)
        assert frame.shape == (32, 48, 3) and frame.dtype == torch.uint8
        assert torch.equal(pictures.encode_step(frame, None)[0], tokens)


def test_any_picture_has_tokens():
    frame = torch.full((16, 16, 3), 255, dtype=torch.uint8)
    assert (TokenPictures((2, 2), 70, 8).encode_step(frame, None)[0] == 69).all()


def test_digits_split_as_integers_do():
    numbers = torch.arange(1 << 22)
    for base in (3, 11, 32, 162, 512, 1000):
        assert torch.equal(all_but_last_digit(numbers, base), numbers // base)


def test_a_large_codebook_has_logits_and_noise_of_its_digits(tmp_path):
    changes = {"image_vocab_size": 1 << 18, "num_factored_vocabs": 2}
    world = imported(saved(tmp_path / "run", model(**changes), SIZES | changes), tmp_path / "world")
    graphs = world.graphs()
    assert graphs["logits"].outputs[0].shape == (9, 1024)
    noise = draw_noise(world.spec, 0, 0)
    session = world_session(world)
    session.observe(np.full(9, 262143, np.int32), world.spec.no_action)
    tokens, frame = session.play(0, noise)
    assert tokens.max() > 512 and frame.shape == (24, 24, 3)
    assert "262144 codes as 2 digits of 512" in onexgpt.describe(world.config)["tokens"]
