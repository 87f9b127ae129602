"""Pixels to patches and back."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from pocketgenie.genie.pixels import patchify, to_float, to_uint8, unpatchify


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9))
def test_unpatchify_is_the_inverse(height, width, patch):
    frames = torch.rand(2, height, width, 3) * 2 - 1
    patches = patchify(frames, patch)
    assert patches.shape == (2, -(-height // patch) * -(-width // patch), patch * patch * 3)
    assert torch.equal(unpatchify(patches, patch, height, width), frames)


def test_the_papers_frame_is_padded_with_black_at_the_bottom():
    patches = patchify(torch.ones(90, 160, 3), 4)
    assert patches.shape == (23 * 40, 48)
    last_row = patches[22 * 40 :].unflatten(-1, (4, 4, 3))
    assert (last_row[:, :2] == 1).all() and (last_row[:, 2:] == -1).all()
    assert (patches[: 22 * 40] == 1).all()


def test_patches_are_squares_row_by_row():
    frame = torch.arange(4 * 6).reshape(4, 6, 1).expand(-1, -1, 3)
    assert patchify(frame, 2)[4].tolist() == [v for v in (14, 15, 20, 21) for _ in range(3)]


def test_every_byte_survives():
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(every)), every)
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]
