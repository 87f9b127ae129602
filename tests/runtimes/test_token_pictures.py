"""Token pictures drawn without torch are those of the graphs; files of token ids are read or refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pocketgenie.errors import UserError
from pocketgenie.genie.spec import MemorySpec, WorldSpec
from pocketgenie.importers.onexgpt_pictures import TokenPictures
from pocketgenie.runtimes.pictures import load_picture
from pocketgenie.runtimes.token_pictures import (
    draw,
    holds_tokens,
    is_token_picture,
    read_tokens,
    token_clips,
)


def spec(codebook: int = 1000) -> WorldSpec:
    return WorldSpec(
        name="tokens",
        height=24,
        width=32,
        grid=(3, 4),
        codebook=codebook,
        actions=1,
        steps=2,
        temperature=1,
        fps=2,
        action_frames=0,
        frames="tokens",
        memories={"dynamics": MemorySpec(slots=3, entry=(1,))},
    )


@pytest.fixture
def tokens() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1000, (5, 12), np.int64)


@pytest.mark.parametrize("codebook", [2, 64, 1000, 1 << 18])
def test_both_ways_of_drawing_agree(codebook):
    world, rng = spec(codebook), np.random.default_rng(0)
    graphs = TokenPictures(world.grid, codebook, 8)
    for ids in rng.integers(0, codebook, (50, 12)):
        drawn, _ = graphs.decode_step(torch.from_numpy(ids), None)
        assert np.array_equal(draw(ids, world), drawn.numpy())
        assert is_token_picture(draw(ids, world), world)


def test_a_photo_is_no_token_picture(tmp_path, tokens):
    photo = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    assert not is_token_picture(photo, spec())
    Image.fromarray(photo).save(tmp_path / "photo.png")
    assert "no token picture" in load_picture(tmp_path / "photo.png", spec()).done
    Image.fromarray(draw(tokens[0], spec())).resize((320, 240), 0).save(tmp_path / "tokens.png")
    opened = load_picture(tmp_path / "tokens.png", spec())
    assert "no token picture" not in opened.done and np.array_equal(opened.frame, draw(tokens[0], spec()))


@pytest.mark.parametrize("shape", [(5, 12), (5, 3, 4), (1, 5, 12)], ids=str)
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".bin"])
def test_files_of_token_ids_start_a_world_and_make_clips(tmp_path, tokens, shape, suffix):
    path = tmp_path / f"video{suffix}"
    if suffix == ".bin":
        tokens.astype("<u4").tofile(path)
    elif suffix == ".npy":
        np.save(path, tokens.reshape(shape).astype(np.uint32))
    else:
        np.savez(path, tokens=tokens.reshape(shape), other=np.zeros(3))
    assert holds_tokens(path)
    opened = load_picture(path, spec())
    assert np.array_equal(opened.frame, draw(tokens[0], spec())) and opened.done == "the first of 5 frames"
    assert np.array_equal(token_clips(path, spec()), draw(tokens[None], spec()))


def test_clips_of_pictures_are_not_taken_for_tokens(tmp_path):
    np.savez(tmp_path / "clips.npz", frames=np.zeros((1, 2, 24, 32, 3), np.uint8))
    assert not holds_tokens(tmp_path / "clips.npz")
    assert not holds_tokens(tmp_path / "clips.png")


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.zeros((2, 11), np.int32), r"int32 \[2, 11\].*\[frames, 12\]"),
        (np.zeros((2, 12)), "whole numbers"),
        (np.full((1, 12), 1000), "0 to 999"),
        (np.full((1, 12), -1), "from -1"),
        (np.zeros((0, 12), np.int32), "whole numbers"),
        (np.int32(3), "token ids"),
        (np.array([{}]), "no file of token ids"),
    ],
)
def test_other_arrays_are_refused_in_a_line(tmp_path, array, told):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match=told):
        read_tokens(tmp_path / "a.npy", spec())


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300), suffix=st.sampled_from([".npy", ".npz", ".bin"]))
def test_foreign_bytes_are_one_line_of_error_at_most(tmp_path_factory, data, suffix):
    path = tmp_path_factory.mktemp("fuzz") / f"a{suffix}"
    path.write_bytes(data)
    try:
        assert read_tokens(path, spec()).shape[-1] == 12
    except UserError as error:
        assert "\n" not in str(error)
