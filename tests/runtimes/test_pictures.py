"""Any file a user names becomes a frame or one clear error; GIFs are written whole and exact."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from pocketgenie.errors import UserError
from pocketgenie.genie.spec import MemorySpec, WorldSpec
from pocketgenie.runtimes.pictures import (
    MAX_MEGAPIXELS,
    difference,
    enlarge,
    load_picture,
    side_by_side,
    strip,
    write_gif,
)


def world(height=64, width=64):
    return WorldSpec(
        name="w",
        height=height,
        width=width,
        grid=(4, 4),
        codebook=8,
        actions=8,
        steps=2,
        temperature=1,
        fps=15,
        memories={"dynamics": MemorySpec(slots=1, entry=(1,))},
    )


def smooth(height, width, seed=0):
    """A picture with structure, so that scaling and compression can be judged."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return np.array(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def encoded(pixels, suffix, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, suffix, **options)
    return file.getvalue()


def png_of_size(width, height):
    """A PNG that claims this size and holds next to nothing."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, content in (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(1000))),
        (b"IEND", b""),
    ):
        parts += [
            struct.pack(">I", len(content)),
            kind,
            content,
            struct.pack(">I", zlib.crc32(kind + content)),
        ]
    return b"".join(parts)


@pytest.mark.parametrize(
    ("size", "target", "done"),
    [
        ((1920, 1080), (64, 64), "cropped 1920x1080 to 1080x1080, scaled to 64x64"),
        ((1080, 1920), (90, 160), "cropped 1080x1920 to 1080x608, scaled to 160x90"),
        ((640, 640), (64, 64), "scaled 640x640 to 64x64"),
        ((64, 64), (64, 64), "64x64, used as it is"),
        ((100, 64), (64, 64), "cropped 100x64 to 64x64"),
        ((1, 3000), (64, 64), "cropped 1x3000 to 1x1, scaled to 64x64"),
        ((7, 5), (64, 64), "cropped 7x5 to 5x5, scaled to 64x64"),
    ],
)
def test_what_was_done_is_said(tmp_path, size, target, done):
    Image.new("RGB", size, "teal").save(tmp_path / "a.png")
    picture = load_picture(tmp_path / "a.png", world(*target))
    assert picture.done == done
    assert picture.frame.shape == (*target, 3)
    assert picture.frame.dtype == np.uint8
    assert (picture.frame == (0, 128, 128)).all()


def test_the_centre_is_kept_and_scaling_does_not_alias(tmp_path):
    pixels = np.zeros((300, 500, 3), np.uint8)
    pixels[:, 100:400] = (
        255 * (np.indices((300, 300)).sum(0) % 2)[..., None]
    )  # a checkerboard, one pixel wide
    pixels[:, :100] = (255, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    frame = load_picture(tmp_path / "a.png", world()).frame.astype(int)
    assert abs(frame - 127).max() <= 12  # grey all over: neither the red edges nor a moire


def test_an_enlarged_frame_comes_back_exact(tmp_path):
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(enlarge(frame, 6)).save(tmp_path / "a.png")
    assert (load_picture(tmp_path / "a.png", world()).frame == frame).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_picture_upright(tmp_path, orientation):
    upright = Image.fromarray(smooth(64, 64))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    picture = load_picture(tmp_path / "a.png", world())
    assert (picture.frame == np.asarray(upright)).all()
    assert picture.done == ("turned upright" if orientation > 1 else "64x64, used as it is")


def test_transparent_parts_are_black(tmp_path):
    pixels = np.full((64, 64, 4), 255, np.uint8)
    pixels[:32, :, 3] = 0
    pixels[32:48, :, 3] = 128
    Image.fromarray(pixels).save(tmp_path / "a.png")
    picture = load_picture(tmp_path / "a.png", world())
    assert picture.frame[[0, 40, 60], 0, 0].tolist() == [0, 128, 255]
    assert picture.done == "put on black where it was transparent"


def test_palettes_greys_cmyk_and_sixteen_bits(tmp_path):
    original = smooth(64, 64)
    picture = Image.fromarray(original)
    picture.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=98)
    assert abs(load_picture(tmp_path / "cmyk.jpg", world()).frame.astype(int) - original).mean() < 4
    few = picture.quantize(200)
    few.save(tmp_path / "palette.png")
    assert (load_picture(tmp_path / "palette.png", world()).frame == np.asarray(few.convert("RGB"))).all()
    grey = np.asarray(picture.convert("L"))
    for name, pixels in {
        "grey.png": grey,
        "deep.png": grey.astype(np.uint16) * 257,
        "deep.tiff": grey.astype(np.uint16) * 257,
    }.items():
        Image.fromarray(pixels).save(tmp_path / name)
        frame = load_picture(tmp_path / name, world()).frame
        assert (frame == grey[..., None]).all(), name
    Image.fromarray(grey / np.float32(255)).save(tmp_path / "float.tiff")
    frame = load_picture(tmp_path / "float.tiff", world()).frame.astype(int)
    low, high = int(grey.min()), int(grey.max())
    assert abs(frame - ((grey - low) / (high - low) * 255)[..., None]).max() <= 1


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_the_first_frame_of_an_animation(tmp_path, suffix):
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(
        tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], duration=100, lossless=True
    )
    picture = load_picture(tmp_path / f"a.{suffix}", world())
    assert (picture.frame == (255, 0, 0)).all()
    assert picture.done == "took the first frame of several"


@pytest.mark.parametrize(
    ("width", "height"), [(50_000, 50_000), (9000, 9000), (2**31 - 1, 2**31 - 1), (64_000_001, 1)]
)
def test_a_bomb_is_refused_by_its_header(tmp_path, width, height):
    (tmp_path / "bomb.png").write_bytes(png_of_size(width, height))
    with pytest.raises(UserError, match=rf"too large .*at most {MAX_MEGAPIXELS}"):
        load_picture(tmp_path / "bomb.png", world())


def test_what_is_no_picture(tmp_path):
    with pytest.raises(UserError, match="that is a folder"):
        load_picture(tmp_path, world())
    with pytest.raises(UserError, match="no such file"):
        load_picture(tmp_path / "missing.png", world())
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    (tmp_path / "program.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    for name in ("text.png", "empty.png", "program.png"):
        with pytest.raises(UserError, match="no picture that can be read"):
            load_picture(tmp_path / name, world())
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for ever
        with pytest.raises(UserError, match="no picture"):
            load_picture(tmp_path / "pipe.png", world())


PLAIN = smooth(40, 50)
VALID = {
    "png": encoded(PLAIN, "PNG"),
    "jpeg": encoded(PLAIN, "JPEG"),
    "progressive": encoded(PLAIN, "JPEG", progressive=True),
    "gif": encoded(PLAIN, "GIF"),
    "webp": encoded(PLAIN, "WEBP"),
    "bmp": encoded(PLAIN, "BMP"),
    "tiff": encoded(PLAIN, "TIFF", compression="tiff_lzw"),
    "ppm": encoded(PLAIN, "PPM"),
}
FUZZ = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(path, content):
    """A whole frame or a one-line UserError, nothing else."""
    path.write_bytes(content)
    try:
        frame = load_picture(path, world()).frame
    except UserError as error:
        assert "\n" not in str(error)
        return False
    assert frame.shape == (64, 64, 3)
    return True


@FUZZ
@given(content=st.binary(max_size=400), start=st.sampled_from([b"", *(data[:12] for data in VALID.values())]))
def test_random_bytes(tmp_path, content, start):
    read(tmp_path / "a", start + content)


@FUZZ
@given(name=st.sampled_from(sorted(VALID)), share=st.floats(0, 0.999))
def test_truncated_files_never_pass_as_whole(tmp_path, name, share):
    content = VALID[name]
    whole = read(tmp_path / "a", content[: int(len(content) * share)])
    assert not whole or share > 0.95  # the last bytes may be no pixels


@FUZZ
@given(name=st.sampled_from(sorted(VALID)), place=st.floats(0, 0.999), byte=st.integers(0, 255))
def test_one_altered_byte(tmp_path, name, place, byte):
    content = bytearray(VALID[name])
    content[int(len(content) * place)] = byte
    read(tmp_path / "a", bytes(content))


def gif_frames(path):
    """RGB frames and durations in ms, one per displayed frame."""
    with Image.open(path) as image:
        frames, durations = [], []
        for frame in ImageSequence.Iterator(image):
            frames.append(np.asarray(frame.convert("RGB")))
            durations.append(frame.info["duration"])
    return frames, durations


def test_a_gif_holds_the_frames_enlarged(tmp_path):
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (200, 3), np.uint8)  # as many as a palette holds
    frames = list(colours[rng.integers(0, 200, (5, 16, 16))])
    write_gif(frames, tmp_path / "a.gif", fps=15, scale=3)
    read_back, durations = gif_frames(tmp_path / "a.gif")
    assert len(read_back) == 5
    for frame, back in zip(frames, read_back, strict=True):
        assert abs(enlarge(frame, 3).astype(int) - back).max() <= 8
    assert sum(durations) == 330  # 5 / 15 s in hundredths: the rounding does not add up
    assert os.listdir(tmp_path) == ["a.gif"]


def test_a_gif_of_many_colours_stays_close(tmp_path):
    frames = [smooth(64, 64, seed) for seed in range(8)]
    write_gif(frames, tmp_path / "a.gif", fps=10)
    for frame, back in zip(frames, gif_frames(tmp_path / "a.gif")[0], strict=True):
        assert abs(frame.astype(int) - back).mean() < 12


def test_a_gif_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    frames = [smooth(16, 16)]
    (tmp_path / "a.gif").write_bytes(b"older")
    monkeypatch.setattr(
        os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(OSError, match="No space"):
        write_gif(frames, tmp_path / "a.gif", 10)
    assert (tmp_path / "a.gif").read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["a.gif"]
    with pytest.raises(UserError, match=r"ends in \.gif"):
        write_gif(frames, tmp_path / "a.mp4", 10)


def test_side_by_side_shows_both_and_their_amplified_difference():
    a, b = smooth(16, 16, 1), smooth(16, 16, 1)
    b[4, 5] = np.minimum(a[4, 5].astype(int) + 5, 255)
    assert difference(a, b, 8).max() == 8 * (b.astype(int) - a).max()
    assert (difference(a, b, 8) > 0).any(-1).sum() == 1
    (sheet,) = side_by_side([a], [b], ("reference", "ort-cpu"), ["frame 1"], scale=4)
    # The panels stand below their captions, 8 pixels apart.
    panels = [sheet[20:84, 8 + 72 * column :][:, :64] for column in range(3)]
    for panel, expected in zip(panels, (a, b, difference(a, b, 8)), strict=True):
        assert (panel == enlarge(expected, 4)).all()
    assert sheet[:20].std() > 0  # something is written there
    assert strip([a, b, a, b], "wxyz").shape == (20 + 16 + 8, 4 * 24 + 8, 3)
