"""Foreign weight files: what is damaged or hostile is one line, and nothing in it runs."""

import json
import os
import pickle
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from pocketgenie.errors import UserError
from pocketgenie.importers.reading import bare, check_keys, read_json, read_saved, read_tensors

FEW = settings(max_examples=60, deadline=None)
WEIGHTS = {"layer.weight": torch.arange(6.0).view(2, 3), "layer.bias": torch.ones(2)}


def write(path, tensors):
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for key, tensor in wanted.items():
        assert found[key].dtype == tensor.dtype
        torch.testing.assert_close(found[key], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth", "w.bin", "w.ckpt"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_kind_of_file_is_read_in_its_own_type(tmp_path, name, dtype):
    tensors = {key: value.to(dtype) for key, value in WEIGHTS.items()}
    same(read_tensors(write(tmp_path / name, tensors)), tensors)


def test_files_of_old_torch_are_read_without_mapping(tmp_path):
    path = tmp_path / "old.pt"
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)
    same(read_tensors(path), WEIGHTS)


def test_shards_are_put_together(tmp_path):
    places = {}
    for number, (key, tensor) in enumerate(WEIGHTS.items()):
        places[key] = write(tmp_path / f"model-{number}.safetensors", {key: tensor}).name
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    same(read_tensors(index), WEIGHTS)
    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(UserError, match=r"model-1\.safetensors is missing"):
        read_tensors(index)


@pytest.mark.parametrize("place", ["../w.safetensors", "/etc/passwd", "a/b", "", ".."])
def test_an_index_names_only_files_beside_it(tmp_path, place):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": place}}))
    with pytest.raises(UserError, match="no file beside it"):
        read_tensors(index)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}', "{" * 100_000])
def test_what_is_no_index_is_one_line(tmp_path, text):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(UserError, match=r"index\.json"):
        read_tensors(index)


def test_a_state_dict_inside_of_others_is_found(tmp_path):
    path = write(tmp_path / "w.pt", {"step": 3, "model": WEIGHTS, "optim": {"state": {}}})
    same(read_tensors(path, "state_dict", "model"), WEIGHTS)
    with pytest.raises(UserError, match="holds no tensors"):
        read_tensors(path, "state_dict")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "model.module."])
def test_what_wrappers_put_before_every_name_is_taken_off(prefix):
    same(bare({prefix + key: value for key, value in WEIGHTS.items()}), WEIGHTS)


def test_a_prefix_of_some_names_is_part_of_them():
    mixed = {"model.layer": torch.ones(1), "head": torch.ones(1)}
    same(bare(mixed), mixed)


class Hostile:
    """Would make a file named `ran` if it were unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return (open, (str(self.place), "w"))


@pytest.mark.parametrize("new", [True, False], ids=["zip", "old"])
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path, new):
    path, ran = tmp_path / "w.pt", tmp_path / "ran"
    torch.save({"w": torch.ones(2), "x": Hostile(ran)}, path, _use_new_zipfile_serialization=new)
    with pytest.raises(UserError, match="nothing of it was run") as refused:
        read_tensors(path)
    assert not ran.exists() and "\n" not in str(refused.value)
    path.write_bytes(pickle.dumps(Hostile(ran)))
    with pytest.raises(UserError):
        read_tensors(path)
    assert not ran.exists()


def test_what_is_not_there_is_said(tmp_path):
    for name in ("w.pt", "w.safetensors"):
        with pytest.raises(UserError, match=f"{name}"):
            read_saved(tmp_path / name)


@pytest.mark.parametrize("content", [[1, 2], "text", torch.ones(2)])
def test_what_is_no_dict_is_said(tmp_path, content):
    path = tmp_path / "w.pt"
    torch.save(content, path)
    with pytest.raises(UserError, match="not a dict"):
        read_saved(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of the same weights in each form, and a place to write."""
    place = tmp_path_factory.mktemp("whole")
    names = ("w.safetensors", "w.pt", "old.pt")
    for name in names:
        write(place / name, WEIGHTS)
    torch.save(WEIGHTS, place / "old.pt", _use_new_zipfile_serialization=False)
    return place, {name: (place / name).read_bytes() for name in names}


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "old.pt"])
@FEW
@given(data=st.data())
def test_truncated_and_altered_files_are_one_line_or_tensors(whole, name, data):
    place, contents = whole
    content = bytearray(contents[name])
    if data.draw(st.booleans(), "truncated"):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    for _ in range(data.draw(st.integers(0, 4), "altered")):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = place / f"fuzzed.{name}"
    path.write_bytes(content)
    try:
        tensors = read_tensors(path)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "model.safetensors.index.json"])
@FEW
@given(content=st.binary(max_size=300))
def test_any_bytes_are_one_line(tmp_path_factory, name, content):
    path = tmp_path_factory.mktemp("any") / name
    path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        read_tensors(path)
    assert "\n" not in str(refused.value)


def test_a_zip_that_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(UserError, match="damaged or no PyTorch file"):
        read_tensors(path)


@FEW
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_json_is_a_dict_or_one_line(tmp_path_factory, document):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(document))
    if isinstance(document, dict):
        assert (read_json(path) or {}).keys() == document.keys()
    else:
        with pytest.raises(UserError, match="holds no keys"):
            read_json(path)


def test_no_json_is_none(tmp_path):
    assert read_json(tmp_path / "config.json") is None


def test_missing_extra_and_misshapen_tensors_are_named_with_the_nearest(tmp_path):
    wanted = {"encoder.layer.0.weight": torch.ones(2, 3), "head.bias": torch.ones(4), "mask": torch.ones(1)}
    found = {"encoder.layers.0.weight": torch.ones(2, 3), "head.bias": torch.ones(5), "other": torch.ones(1)}
    with pytest.raises(UserError) as told:
        check_keys(tmp_path, found, wanted, "copy it again")
    said = str(told.value)
    assert "encoder.layer.0.weight is missing (nearest: encoder.layers.0.weight)" in said
    assert "mask is missing;" in said
    assert "other is none of the model's" in said
    assert said.endswith("and 1 more; copy it again")
    check_keys(tmp_path, wanted, wanted, "")
    with pytest.raises(UserError, match=r"head.bias is \[5\], not \[4\]"):
        check_keys(tmp_path, wanted | {"head.bias": torch.ones(5)}, wanted, "")


ODD = {
    "int32": torch.ones(2, 3, dtype=torch.int32),
    "complex64": torch.ones(2, 3, dtype=torch.complex64),
    "no plain values": torch.ones(2, 3, device="meta"),
    "(it is sparse": torch.ones(2, 3).to_sparse(),
    "it was expanded": torch.ones(1).expand(2, 3),
    "not finite": torch.full((2, 3), float("nan")),
}


@pytest.mark.parametrize("said", ODD)
def test_values_that_no_world_can_have_are_said_with_their_name_and_file(tmp_path, said):
    path = write(tmp_path / "w.pt", {"w": ODD[said]})
    with pytest.raises(UserError) as told:
        check_keys(path, read_tensors(path), {"w": torch.ones(2, 3)}, "")
    assert str(told.value).startswith(f"{path}: w ") and said in str(told.value)


def test_a_compressed_zip_is_neither_read_as_noise_nor_unpacked(tmp_path):
    path = write(tmp_path / "w.pt", WEIGHTS)
    with zipfile.ZipFile(path) as archive:
        contents = {item.filename: archive.read(item) for item in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    with pytest.raises(UserError, match=r"w\.pt is compressed"):
        read_tensors(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors", "model.safetensors.index.json"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match="is no file"):
        read_tensors(tmp_path / name)


def test_foreign_names_stay_on_one_short_line(tmp_path):
    found = {"w": torch.ones(1), "a\nb\x1b[2J": torch.ones(1), "x" * 10_000: torch.ones(1)}
    with pytest.raises(UserError) as told:
        check_keys(tmp_path, found, {"w": torch.ones(1)}, "copy it again")
    assert str(told.value).isprintable() and len(str(told.value)) < 600
