"""Real videos, made here, become clips; what is no video becomes one line."""

from __future__ import annotations

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from pocketgenie.cli import app
from pocketgenie.errors import UserError
from pocketgenie.training.data import load_clips
from pocketgenie.training.video import ClipOptions, make_clips, parse_size, read_frames, resample

CODECS = {"mp4": "libx264", "webm": "libvpx-vp9", "mkv": "libx264", "mov": "mpeg4", "gif": "gif"}


def grey(frame: int) -> int:
    """The brightness that tells which frame this is."""
    return (frame * 3) % 256


def make_video(path, *, frames=60, fps=30, size=(64, 48), draw=None, times=None, **options):
    """A video whose every frame is one brightness; `times` replaces the even timing (in 1/100 s)."""
    codec = CODECS[path.suffix[1:]]
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=fps)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for number in range(frames):
            picture = np.full((size[1], size[0], 3), grey(number), np.uint8)
            if draw:
                draw(picture)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times:
                frame.pts, frame.time_base = times[number], Fraction(1, 100)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def cut(source, out, **options):
    plain = {"width": 16, "height": 16, "fps": 10, "length": 8}
    return make_clips(source, out, ClipOptions(**(plain | options)))


def brightness(clips):
    """[N, T], the middle of each frame"""
    return clips[:, :, 4:12, 4:12].mean((2, 3, 4))


@pytest.mark.parametrize("suffix", sorted(CODECS))
def test_every_format_is_resampled_to_the_worlds_rate(suffix, tmp_path):
    fps = 20 if suffix == "gif" else 30  # a gif counts in hundredths of a second
    made = cut(make_video(tmp_path / f"a.{suffix}", frames=2 * fps, fps=fps), tmp_path / "clips.npz")
    clips = load_clips(tmp_path / "clips.npz", (16, 16))
    assert made.clips == {tmp_path / "clips.npz": 2} and clips.shape == (2, 8, 16, 16, 3)
    wanted = [grey(t * fps // 10) for t in range(16)]
    assert np.abs(brightness(clips).ravel() - wanted).max() <= (20 if suffix == "gif" else 4)


def test_a_slower_video_repeats_its_frames(tmp_path):
    cut(make_video(tmp_path / "slow.mp4", frames=13, fps=5), tmp_path / "clips.npz")
    shown = brightness(load_clips(tmp_path / "clips.npz")).ravel()
    assert len(shown) == 24
    assert np.abs(shown - [grey((t + 1) // 2) for t in range(24)]).max() <= 3


def test_a_long_pause_is_a_cut(tmp_path):
    """No clip reaches across: 10 frames, then nothing for 5 seconds, then 9 frames."""
    times = [10 * t for t in range(10)] + [590 + 10 * t for t in range(9)]
    made = cut(make_video(tmp_path / "cut.mkv", frames=19, times=times, fps=10), tmp_path / "clips.npz")
    shown = brightness(load_clips(tmp_path / "clips.npz"))
    assert sum(made.clips.values()) == 2
    assert np.abs(shown - [[grey(t) for t in range(8)], [grey(t) for t in range(10, 18)]]).max() <= 3


def test_frames_are_cropped_around_the_centre(tmp_path):
    def draw(picture):
        picture[:] = (0, 0, 255)
        picture[:, 32:96] = (255, 0, 0)
        picture[16:48, 48:80] = (0, 255, 0)

    make_video(tmp_path / "wide.mkv", size=(128, 64), draw=draw)
    cut(tmp_path / "wide.mkv", tmp_path / "clips.npz")
    frame = load_clips(tmp_path / "clips.npz")[0, 0].astype(int)
    assert (frame[..., 2] < 60).all(), "the sides are gone"
    assert (frame[5:11, 5:11, 1] > 200).all() and (frame[:3, :, 0] > 200).all()


def test_a_phones_video_is_turned_upright(tmp_path):
    """The rotation is a matrix in the track's header, as telephones write it."""

    def draw(picture):
        picture[:] = 0
        picture[:, :32] = (255, 0, 0)  # left as stored: on top once it is turned clockwise

    path = make_video(tmp_path / "phone.mp4", size=(64, 64), draw=draw)
    content = path.read_bytes()
    upright = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    track = content.index(b"tkhd")
    path.write_bytes(content[:track] + content[track:].replace(upright, turned, 1))
    cut(path, tmp_path / "clips.npz")
    frame = load_clips(tmp_path / "clips.npz")[0, 0].astype(int)
    assert (frame[:7, :, 0] > 200).all() and (frame[9:, :, 0] < 60).all()


def test_pixel_art_in_a_gif_comes_back_exact(tmp_path):
    """Pictures of 16x16 enlarged four times, in colours that the format holds."""
    pictures = np.random.default_rng(0).integers(0, 2, (8, 16, 16, 3), np.uint8) * 255
    large = [Image.fromarray(picture.repeat(4, 0).repeat(4, 1)) for picture in pictures]
    large[0].save(tmp_path / "art.gif", save_all=True, append_images=large[1:], duration=100, loop=0)
    cut(tmp_path / "art.gif", tmp_path / "clips.npz")
    assert np.array_equal(load_clips(tmp_path / "clips.npz")[0], pictures)


@pytest.mark.parametrize(("videos", "frames", "files"), [(1, 80, [8, 2]), (6, 16, [9, 3])])
def test_held_out_clips_are_the_ends(videos, frames, files, tmp_path):
    """A share of each long video's end, or whole short videos; no clip is in both files, none is lost."""
    for number in range(videos):
        make_video(tmp_path / f"{number}.mp4", frames=frames, fps=10)
    made = cut(tmp_path, tmp_path / "clips.npz", hold_out=0.25)
    train, held = (load_clips(path) for path in (tmp_path / "clips.npz", tmp_path / "clips-heldout.npz"))
    assert list(made.clips.values()) == [len(train), len(held)] == files
    if videos == 1:
        assert brightness(held).min() > brightness(train).max()


def test_too_few_clips_to_hold_some_out(tmp_path):
    make_video(tmp_path / "a.mp4", frames=20, fps=10)
    with pytest.raises(UserError, match="2 clips are too few to hold out"):
        cut(tmp_path / "a.mp4", tmp_path / "clips.npz", hold_out=0.1)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_bad_files_of_a_folder_are_skipped_and_counted(tmp_path, capsys):
    (tmp_path / "below").mkdir()
    make_video(tmp_path / "below" / "GOOD.MP4".lower(), frames=30, fps=10)
    make_video(tmp_path / "short.gif", frames=3, fps=10)
    (tmp_path / "text[1].webm").write_text("no video")
    (tmp_path / "notes.txt").write_text("not looked at")
    made = cut(tmp_path, tmp_path / "out" / "clips.npz")
    assert (made.videos, made.skipped, sum(made.clips.values())) == (1, 2, 3)
    said = capsys.readouterr().out
    assert "text[1].webm is no video" in said and "short.gif is too short: 3 frames" in said
    assert "notes" not in said
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clips.npz"]


def refusal(source, tmp_path) -> str:
    """The one line that cutting says; an older file stays."""
    out = tmp_path / "older.npz"
    out.write_bytes(b"older")
    with pytest.raises(UserError) as error:
        cut(source, out)
    assert out.read_bytes() == b"older" and not list(tmp_path.glob("*.part"))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_no_such_file(tmp_path):
    assert "no file or folder" in refusal(tmp_path / "nowhere.mp4", tmp_path)


def test_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "holds no video" in refusal(tmp_path / "empty", tmp_path)


def test_a_folder_of_nothing_usable(tmp_path):
    (tmp_path / "bad").mkdir()
    for name in ("a.mp4", "b.gif"):
        (tmp_path / "bad" / name).write_bytes(b"nothing")
    assert "none of the 2 videos" in refusal(tmp_path / "bad", tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        b"\x00" * 5000,
        b"#EXTM3U\n#EXTINF:10,\nfile:///etc/hostname\n",
        b"ffconcat version 1.0\n",
    ],
)
def test_a_file_that_is_no_video(content, tmp_path):
    """A playlist in disguise is not followed."""
    (tmp_path / "a.mp4").write_bytes(content)
    assert "a.mp4 is no video or is damaged" in refusal(tmp_path / "a.mp4", tmp_path)


def test_sound_alone(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame) + stream.encode())
    assert "holds no pictures" in refusal(tmp_path / "a.mp4", tmp_path)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm"])
@pytest.mark.parametrize("keep", [0.1, 0.4])
def test_a_truncated_video(suffix, keep, tmp_path):
    path = make_video(tmp_path / f"a.{suffix}", frames=150)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    said = refusal(path, tmp_path)
    assert "damaged" in said or "breaks off" in said


@pytest.mark.parametrize("side", [9000, 65535])
def test_absurd_dimensions(side, tmp_path):
    screen = b"GIF89a" + struct.pack("<HH", side, side) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    picture = b"," + struct.pack("<HHHH", 0, 0, 4, 4) + b"\0" + b"\x02\x03\x44\x34\x05\0"
    (tmp_path / "a.gif").write_bytes(screen + picture * 3 + b";")
    said = refusal(tmp_path / "a.gif", tmp_path)
    assert "too large" in said or "damaged" in said


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    return [
        make_video(folder / f"a.{suffix}", frames=12, fps=10, size=(32, 32)).read_bytes() for suffix in CODECS
    ]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_damaged_bytes_give_frames_or_one_line(data, originals, tmp_path):
    content = bytearray(data.draw(st.sampled_from(originals)))
    for _ in range(data.draw(st.integers(0, 12))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "a").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        frames = [frame for _, frame in read_frames(tmp_path / "a")]
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert 0 < len(frames) <= 100


@given(st.lists(st.integers(0, 30), min_size=1, max_size=30), st.sampled_from([5, 10, 15, 24, 30]))
def test_resampling_takes_the_nearest_in_time(steps, fps):
    """Against a search over all frames, wherever no cut falls."""
    times = [Fraction(int(total), 100) for total in np.cumsum([0, *steps])]
    taken = list(resample([(time, time) for time in times], Fraction(fps), Fraction(10)))
    assert taken[0] in [time for time in times if time == 0]
    for number, time in enumerate(taken):
        at = Fraction(number, fps)
        assert time is not None
        assert abs(time - at) == min(abs(other - at) for other in times)
    assert abs(len(taken) - 1 - times[-1] * fps) <= 1 + Fraction(fps, 2) * max(steps, default=0) / 100


def test_time_that_steps_back_is_a_cut():
    timed = [(Fraction(n, 10), n) for n in (50, 51, 52, 3, 4)]
    assert list(resample(timed, Fraction(10), Fraction(1))) == [50, 51, 52, None, 3, 4]


@pytest.mark.parametrize(
    "text", ["64", "64x", "0x64", "64x5000", "-1x4", "64X64", "\u0661x\u0661", "1e3x4", ""]
)
def test_a_size_that_is_none(text):
    with pytest.raises(UserError, match="is no size"):
        parse_size(text)


def test_the_command(tmp_path):
    make_video(tmp_path / "a.mp4", frames=100, fps=10)
    out = tmp_path / "clips.npz"
    arguments = ["clips", str(tmp_path / "a.mp4"), "-o", str(out), "--size", "32x24", "--length", "9"]
    done = CliRunner().invoke(app, [*arguments, "--hold-out", "0.3", "--fps", "10"])
    assert done.exit_code == 0, done.output
    assert f"{out}: 8 clips of 9 frames, 32x24 at 10 FPS" in done.output
    assert load_clips(out, (24, 32)).shape == (8, 9, 24, 32, 3)
    assert load_clips(tmp_path / "clips-heldout.npz", (24, 32)).shape == (3, 9, 24, 32, 3)
