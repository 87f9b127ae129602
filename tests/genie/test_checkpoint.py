"""A checkpoint folder comes back as it went, and nothing else is let in."""

from __future__ import annotations

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from pocketgenie.errors import UserError
from pocketgenie.genie.checkpoint import Genie, Part, load_genie, read_config, save_config, save_part

PARTS: tuple[Part, ...] = ("tokenizer", "lam", "dynamics")


@pytest.fixture
def folder(small_config, randomised, tmp_path):
    """A checkpoint whose tokenizer is VQ, so that the dynamics' code features come out of its weights."""
    config = small_config(quantizer={"kind": "vq", "codes": 24, "dim": 3})
    genie = randomised(Genie(config))
    save_config(tmp_path, config)
    for name in PARTS:
        save_part(tmp_path, name, genie.part(name))
    return tmp_path


def refusal(folder) -> str:
    """The one line that loading says."""
    with pytest.raises(UserError) as error:
        load_genie(folder)
    message = str(error.value)
    assert message and "\n" not in message and str(folder) in message
    return message


def edit(path, change):
    """Rewrite a safetensors file."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_round_trip(folder):
    genie = load_genie(folder)
    for name in PARTS:
        saved = load_file(folder / f"{name}.safetensors")
        held = genie.part(name).state_dict()
        assert saved.keys() == held.keys()
        assert all(torch.equal(saved[key], held[key]) for key in saved)
    assert torch.equal(genie.dynamics.features, genie.tokenizer.quantizer.codebook())
    assert not genie.training and not any(weight.requires_grad for weight in genie.parameters())
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"{name}.safetensors" for name in sorted(PARTS)),
        "world.json",
    ]


def test_saving_again_replaces_the_file_and_leaves_nothing_behind(folder):
    genie = load_genie(folder)
    genie.lam.patch_in.bias.fill_(7)
    save_part(folder, "lam", genie.lam)
    assert (load_genie(folder).lam.patch_in.bias == 7).all()
    assert not list(folder.glob("*.part"))


def test_no_such_folder(tmp_path):
    assert "world.json" in refusal(tmp_path / "nowhere")


def test_a_file_is_no_folder(folder):
    assert "no checkpoint" in refusal(folder / "world.json")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "Invalid JSON"),
        (b"garbage", "Invalid JSON"),
        (b"\x80\x04\xff", "not text"),
        (b"[1]", "should be an object"),
        (b"{}", "schema_version"),
    ],
)
def test_garbage_in_world_json(content, says, folder):
    (folder / "world.json").write_bytes(content)
    assert says in refusal(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"kind": "oasis"}, "kind"),
        ({"author": "me"}, "author: Extra inputs"),
        ({"two\nlines": 1}, "two lines: Extra inputs"),
        ({"config": {}}, "config.name: Field required"),
    ],
)
def test_a_world_json_that_is_not_ours(change, says, folder):
    path = folder / "world.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert says in refusal(folder)


def test_world_json_that_is_a_folder(folder):
    (folder / "world.json").unlink()
    (folder / "world.json").mkdir()
    assert "cannot read" in refusal(folder)


@pytest.mark.parametrize("name", PARTS)
def test_a_missing_part_says_how_to_train_it(name, folder):
    (folder / f"{name}.safetensors").unlink()
    assert f"pocketgenie train {name}" in refusal(folder)
    if name != "tokenizer":
        assert load_genie(folder, parts=("tokenizer",)).tokenizer is not None


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_a_truncated_part(keep, folder):
    path = folder / "dynamics.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert "damaged" in refusal(folder)


def test_a_header_that_lies_about_its_length(folder):
    path = folder / "dynamics.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + path.read_bytes()[8:])
    assert "damaged" in refusal(folder)


def test_a_part_that_is_a_folder(folder):
    (folder / "lam.safetensors").unlink()
    (folder / "lam.safetensors").mkdir()
    assert "lam.safetensors" in refusal(folder)


def test_a_missing_tensor(folder):
    edit(folder / "dynamics.safetensors", lambda tensors: tensors.pop("position"))
    assert "lacks position" in refusal(folder)


def test_a_renamed_tensor(folder):
    edit(folder / "lam.safetensors", lambda tensors: tensors.update(extra=tensors.pop("patch_in.bias")))
    assert "lacks patch_in.bias" in refusal(folder)


def test_tensors_too_many(folder):
    spare = {f"spare.{i}": torch.zeros(1) for i in range(9)}
    edit(folder / "lam.safetensors", lambda tensors: tensors.update(spare))
    assert "unknown tensors spare.0, spare.1, spare.2 and 6 more" in refusal(folder)


def test_a_tensor_of_another_shape(folder):
    edit(
        folder / "tokenizer.safetensors",
        lambda t: t.update({"patch_in.bias": t["patch_in.bias"][:-1].clone()}),
    )
    assert "patch_in.bias is [23], world.json asks for [24]" in refusal(folder)


def test_a_tensor_that_is_no_float(folder):
    edit(folder / "tokenizer.safetensors", lambda t: t.update({"patch_in.bias": t["patch_in.bias"].int()}))
    assert "int32, not a float" in refusal(folder)


def test_half_precision_weights_are_played_at_float32(folder):
    before = load_genie(folder).tokenizer.patch_in.weight
    edit(
        folder / "tokenizer.safetensors", lambda t: t.update({key: value.half() for key, value in t.items()})
    )
    after = load_genie(folder).tokenizer.patch_in.weight
    assert after.dtype == before.dtype
    assert torch.equal(after, before.half().float())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_tensor_that_is_not_finite(value, folder):
    edit(folder / "dynamics.safetensors", lambda tensors: tensors["code_in"][3].fill_(value))
    assert "code_in holds values that are not finite" in refusal(folder)


def test_the_weights_of_another_part(folder):
    (folder / "lam.safetensors").write_bytes((folder / "tokenizer.safetensors").read_bytes())
    assert "does not belong" in refusal(folder)


def test_a_pickle_in_disguise_is_not_run(folder):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(folder / "it ran"),)

    for name, content in (("plain", pickle.dumps(Hostile())), ("torch", None)):
        path = folder / "dynamics.safetensors"
        if content is None:
            torch.save(Hostile(), path)
        else:
            path.write_bytes(content)
        assert "damaged or no safetensors" in refusal(folder), name
    assert not (folder / "it ran").exists()


def test_reading_the_configuration_needs_no_weights(folder, small_config):
    for name in PARTS:
        (folder / f"{name}.safetensors").unlink()
    assert read_config(folder) == small_config(quantizer={"kind": "vq", "codes": 24, "dim": 3})
