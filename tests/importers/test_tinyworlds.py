"""Checkpoints of TinyWorlds, read in every form and refused in every other."""

from __future__ import annotations

import io
import pickle
import shutil
import zipfile
from collections import OrderedDict
from datetime import date
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pocketgenie.errors import UserError
from pocketgenie.genie.checkpoint import save_tensors
from pocketgenie.importers.tinyworlds import convert, load, looks_like
from pocketgenie.importers.tinyworlds_state import FOREIGN, plain_values, read_state

PEERS = pytest.mark.peers
OLD = {
    "video_tokenizer": "video_tokenizer_step_2500_2026_11_22_15_04_41.pth",
    "latent_actions": "latent_actions_step_2500_2026_11_22_15_04_41.pth",
}


@pytest.fixture(scope="module")
def theirs(peer):
    return peer("tinyworlds")


@pytest.fixture
def copy(theirs, tmp_path):
    """The three directories, to be changed."""
    for name in ("video_tokenizer_step_2", "latent_actions_step_2", "dynamics_step_2"):
        shutil.copytree(theirs / name, tmp_path / "run" / name, copy_function=shutil.copyfile)
    return tmp_path / "run"


def same(found, wanted) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)


def weights(run: Path, stage: str) -> Path:
    return run / f"{stage}_step_2" / "model_state_dict.pt"


@PEERS
def test_both_forms_hold_the_same_model(theirs):
    config, parts = convert(theirs, {})
    elsewhere = {stage: str(theirs / "legacy" / name) for stage, name in OLD.items()}
    older, older_parts = convert(theirs, elsewhere)
    assert older == config
    assert all(same(older_parts[part], parts[part]) for part in parts)
    assert (config.context, config.tokenizer.num_bins, config.lam.n_actions, config.dynamics.num_heads) == (
        3,
        4,
        4,
        4,
    )


@PEERS
def test_the_parts_are_found_in_a_results_tree_and_the_latest_is_taken(theirs, tmp_path):
    for stage in ("video_tokenizer", "latent_actions", "dynamics"):
        for step in (2, 10):
            place = tmp_path / "2026" / stage / "checkpoints" / f"{stage}_step_{step}"
            shutil.copytree(theirs / f"{stage}_step_2", place, copy_function=shutil.copyfile)
    shutil.copyfile(
        theirs / "moe" / "dynamics_step_2" / "model_state_dict.pt",
        tmp_path / "2026" / "dynamics" / "checkpoints" / "dynamics_step_2" / "model_state_dict.pt",
    )
    run = tmp_path / "2026"
    assert looks_like(run) and same(convert(run, {})[1]["dynamics"], convert(theirs, {})[1]["dynamics"])
    one = run / "dynamics" / "checkpoints" / "dynamics_step_10"
    assert looks_like(one) and convert(one, {"name": "2026"})[0] == convert(run, {})[0]


@PEERS
def test_a_mixture_of_experts_is_seen(theirs):
    config, _ = convert(theirs, {"dynamics": str(theirs / "moe" / "dynamics_step_2")})
    assert (config.dynamics.use_moe, config.dynamics.num_experts, config.dynamics.top_k_experts) == (
        True,
        4,
        2,
    )


@PEERS
def test_a_checkpoint_folder_plays_what_was_imported(theirs, tmp_path):
    config, parts = convert(theirs, {"temperature": "0"})
    for part, tensors in parts.items():
        save_tensors(tmp_path / f"{part}.safetensors", tensors)
    world = load(tmp_path, config)
    assert world.spec.window == "absolute" and world.spec.temperature == 0
    assert same(world.model.dynamics.state_dict(), parts["dynamics"])


@PEERS
def test_names_of_compiled_runs_are_read(theirs, copy):
    path = weights(copy, "dynamics")
    saved = torch.load(path, weights_only=True)
    torch.save({f"_orig_mod.{key}": value for key, value in saved.items()}, path)
    assert same(convert(copy, {})[1]["dynamics"], convert(theirs, {})[1]["dynamics"])


@PEERS
def test_what_does_not_fit_is_named_with_the_nearest(copy):
    path = weights(copy, "dynamics")
    saved = torch.load(path, weights_only=True)
    saved["transformer.blocks.0.ffn.w_x.bias"] = saved.pop("transformer.blocks.0.ffn.w_v.bias")
    saved["mask_token"] = saved["mask_token"][..., :2]
    torch.save(saved, path)
    with pytest.raises(UserError) as raised:
        convert(copy, {})
    said = str(raised.value)
    assert r"w_v.bias is missing (nearest: transformer.blocks.0.ffn.w_x.bias)" in said
    assert "mask_token is [1, 1, 1, 2], not [1, 1, 1, 3]" in said and "\n" not in said


@PEERS
def test_what_a_file_does_not_say_is_asked_for(theirs, copy):
    for stage in ("video_tokenizer", "latent_actions", "dynamics"):
        (copy / f"{stage}_step_2" / "state.pt").unlink()
    flags: dict[str, str] = {}
    whole = convert(theirs, {"name": "run"})[0]
    for _ in range(40):
        try:
            found, _ = convert(copy, flags)
            break
        except UserError as error:
            key = str(error).partition("--set ")[2].partition("=")[0]
            assert key and key not in flags, error
            stage, _, field = key.partition(".")
            part = {"video_tokenizer": "tokenizer", "latent_actions": "lam"}.get(stage, stage)
            flags[key] = str(getattr(getattr(whole, part), field)) if field else str(whole.context)
    assert found == whole


@PEERS
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"depth": "3"}, "no depth"),
        ({"dynamics.num_heads": "3"}, "num_heads 3 does not divide embed_dim 56"),
        ({"dynamics.embed_dim": "many"}, "embed_dim"),
        ({"dynamics": "nowhere"}, "nowhere"),
        ({"context": "0"}, "context"),
        ({"steps": "100"}, "steps 100 exceeds"),
    ],
)
def test_wrong_flags_are_one_line(theirs, flags, said):
    with pytest.raises(UserError, match=said) as raised:
        convert(theirs, flags)
    assert "\n" not in str(raised.value)


def test_other_folders_are_none_of_its(tmp_path, tiny_checkpoint):
    (tmp_path / "dynamics_step_x").mkdir()
    for path in (tmp_path, tmp_path / "absent", tiny_checkpoint, tiny_checkpoint / "world.json"):
        assert not looks_like(path)


@PEERS
def test_a_state_file_is_read_without_its_project(theirs):
    config = read_state(theirs / "dynamics_step_2" / "state.pt")["config"]
    assert (config["embed_dim"], config["num_heads"], config["distributed"]) == (56, 4, FOREIGN)


class Trap:
    """Unpickling it would raise."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
        max_leaves=12,
    ),
    st.sampled_from([2, 4]),
)
def test_plain_values_are_what_pickle_reads(value, protocol):
    assert plain_values(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", [2, 4])
def test_classes_are_left_out_and_not_called(protocol):
    value = {"a": Trap(), "when": date(2025, 1, 2), "sorted": OrderedDict(b=1), "last": [1, {"x": 2.5}]}
    found = plain_values(pickle.dumps(value, protocol))
    assert found == {"a": FOREIGN, "when": FOREIGN, "sorted": FOREIGN, "last": [1, {"x": 2.5}]}


@given(st.binary(max_size=200) | st.binary(max_size=40).map(lambda tail: b"\x80\x02}q\x00(" + tail))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("state") / "state.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("state/data.pkl", data)
    try:
        assert isinstance(read_state(path), dict)
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", io.BytesIO().getvalue(), b"x" * 1000])
def test_a_file_that_is_no_archive_is_refused(tmp_path, data):
    (tmp_path / "state.pt").write_bytes(data)
    with pytest.raises(UserError, match=r"state\.pt"):
        read_state(tmp_path / "state.pt")
