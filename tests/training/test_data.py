"""Clips in, or one line that says why not."""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pocketgenie.errors import UserError
from pocketgenie.training.data import crop_batch, load_clips

GOOD = np.arange(2 * 3 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 3, 4, 5, 3)


def npz(compressed=False, **arrays) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def refusal(path, size=None) -> str:
    with pytest.raises(UserError) as error:
        load_clips(path, size)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("compressed", [True, False])
def test_clips_come_back(compressed, tmp_path):
    (tmp_path / "a.npz").write_bytes(npz(compressed, frames=GOOD, levels=np.arange(2)))
    assert np.array_equal(load_clips(tmp_path / "a.npz", (4, 5)), GOOD)


@pytest.mark.parametrize(
    "frames",
    [
        GOOD.astype(np.float32),
        GOOD[0],
        GOOD[..., :2],
        GOOD[:, :1],
        GOOD[:0],
        GOOD[:, :, :0],
        np.uint8(3),
        np.array("text"),
    ],
)
def test_arrays_that_are_no_clips(frames, tmp_path):
    (tmp_path / "a.npz").write_bytes(npz(frames=frames))
    assert "not uint8 [N, T >= 2, H, W, 3]" in refusal(tmp_path / "a.npz")


def test_the_size_of_another_world(tmp_path):
    (tmp_path / "a.npz").write_bytes(npz(frames=GOOD))
    assert "frames are 5x4, this world is 64x48" in refusal(tmp_path / "a.npz", (48, 64))


def test_no_such_file_another_array_a_folder_or_an_npy(tmp_path):
    assert "no file" in refusal(tmp_path / "nowhere.npz")
    (tmp_path / "other.npz").write_bytes(npz(video=GOOD))
    assert "no array `frames`" in refusal(tmp_path / "other.npz")
    assert "not a readable .npz" in refusal(tmp_path)
    np.save(tmp_path / "a.npy", GOOD)
    assert "not a readable .npz" in refusal(tmp_path / "a.npy")


def test_a_video_is_not_taken_for_clips(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(100))
    assert "not a readable .npz" in refusal(tmp_path / "a.mp4")


def test_a_member_that_is_no_array(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("frames.npy", b"just bytes")
    assert "frames is" in refusal(tmp_path / "a.npz")


def test_pickles_are_not_run(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (tmp_path / "it ran").mkdir, ()

    hostile = np.array([Hostile()], object)
    for content in (pickle.dumps(Hostile()), npz(frames=hostile)):
        (tmp_path / "a.npz").write_bytes(content)
        refusal(tmp_path / "a.npz")
    assert not (tmp_path / "it ran").exists()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_give_clips_or_one_line(data, tmp_path):
    content = bytearray(npz(data.draw(st.booleans()), frames=GOOD))
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.npz"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        clips = load_clips(path)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert clips.dtype == np.uint8 and clips.ndim == 5


@given(st.integers(2, 9), st.integers(1, 20), st.integers(0, 99))
def test_crops_are_runs_of_a_clip_and_the_seed_decides(length, count, seed):
    clips = np.stack([np.arange(9), 100 + np.arange(9)])[..., None]
    batch = crop_batch(clips, count, length, np.random.default_rng(seed))
    assert batch.shape == (count, length, 1)
    assert (np.diff(batch[..., 0]) == 1).all()
    assert np.array_equal(batch, crop_batch(clips, count, length, np.random.default_rng(seed)))


def test_every_crop_is_drawn():
    clips = np.arange(6)[None, :, None]
    batch = crop_batch(clips, 200, 4, np.random.default_rng(0))
    assert set(batch[:, 0, 0]) == {0, 1, 2}
