"""Pictures in and out: any user's image becomes a world's frame; frames become GIFs, pairs and strips."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

from pocketgenie.errors import UserError
from pocketgenie.genie.spec import WorldSpec
from pocketgenie.runtimes import token_pictures

Frame = NDArray[np.uint8]
"""Pixels uint8 [H, W, 3] in [0, 255], RGB."""

MAX_MEGAPIXELS = 64
"""A larger picture is refused by its header, before a pixel is decoded: 64 megapixels are 256 MB as RGBA."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
"""What is read. Pillow's other readers are left out: one of them (EPS) runs another program on the file."""

PAPER, INK = (13, 17, 23), (230, 237, 243)
GAP, CAPTION = 8, 20  # pixels


@dataclass(frozen=True)
class Picture:
    """A user's image as a world sees it."""

    name: str
    """Of its file."""
    frame: Frame
    done: str
    """What was done to it, in words: "cropped 1920x1080 to 1080x1080, scaled to 64x64"."""


def load_picture(path: Path, spec: WorldSpec) -> Picture:
    """Any image as a frame of the world: upright, opaque, cropped around its centre, scaled without aliasing.

    A world of tokens alone also takes a file of token ids (runtimes/token_pictures.py).
    Raises `UserError` for what is missing, no picture, damaged, or larger than `MAX_MEGAPIXELS`.
    """
    if not path.is_file():
        why = "that is a folder" if path.is_dir() else "no such file"
        raise UserError(f"no picture at {path} ({why}); name a picture file")
    if spec.frames == "tokens" and path.suffix in token_pictures.SUFFIXES:
        tokens = token_pictures.read_tokens(path, spec).reshape(-1, spec.tokens)
        return Picture(path.name, token_pictures.draw(tokens[0], spec), f"the first of {len(tokens)} frames")
    done: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own, milder size check, and remarks about odd metadata
            with Image.open(path, formats=FORMATS) as image:
                _refuse_bomb(path, image.size)
                upright = _upright_rgb(image, done)
    except (UserError, PermissionError):
        raise
    except Image.DecompressionBombError:
        raise UserError(_too_large(path, "far more")) from None
    except UnidentifiedImageError:
        raise UserError(f"{path} is no picture that can be read; use one of {', '.join(FORMATS)}") from None
    except Exception as error:  # a damaged file makes Pillow's readers raise nearly anything
        why = str(error).strip() or type(error).__name__
        raise UserError(f"{path} is damaged ({why}); save it again") from None
    frame = _fit(upright, spec.width, spec.height, done)
    if spec.frames == "tokens" and not token_pictures.is_token_picture(frame, spec):
        done.append("it is no token picture: the tokens that its colours stand for mean nothing")
    return Picture(path.name, frame, ", ".join(done))


def _refuse_bomb(path: Path, size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_MEGAPIXELS * 1_000_000:
        raise UserError(_too_large(path, f"{size[0]}x{size[1]}, {size[0] * size[1] / 1e6:,.0f}"))


def _too_large(path: Path, what: str) -> str:
    return f"{path} is too large ({what} megapixels; at most {MAX_MEGAPIXELS} are read); scale it down"


def _upright_rgb(image: Image.Image, done: list[str]) -> Image.Image:
    """The first frame as its author sees it, RGB. Appends to `done` what a person would not expect."""
    if getattr(image, "is_animated", False):
        done.append("took the first frame of several")
    image.seek(0)
    if image.getexif().get(ExifTags.Base.Orientation, 1) > 1:
        done.append("turned upright")
    turned = ImageOps.exif_transpose(image)  # decodes
    if turned.mode[0] in "IF":
        done.append("brought its brightness to 8 bits")
        return _eight_bits(turned)
    if not turned.has_transparency_data:
        return turned.convert("RGB")
    seen = turned.convert("RGBA")
    if seen.getchannel("A").getextrema() != (255, 255):
        done.append("put on black where it was transparent")
    opaque = Image.new("RGBA", seen.size, "black")
    opaque.alpha_composite(seen)
    return opaque.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """16 bit, 32 bit and float grey -> RGB: 16 bit by its range, the others by their extremes"""
    grey = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = (0.0, 65535.0) if image.mode.startswith("I;16") else (grey.min(), grey.max())
    scaled = (grey - low) / max(high - low, 1e-12) * 255
    return Image.fromarray(np.rint(scaled).astype(np.uint8)).convert("RGB")


def _fit(image: Image.Image, width: int, height: int, done: list[str]) -> Frame:
    """Centre crop to the aspect of width x height, then scale to it."""
    w, h = image.size
    scale = min(w / width, h / height)
    crop = min(w, max(1, round(width * scale))), min(h, max(1, round(height * scale)))
    left, top = (w - crop[0]) // 2, (h - crop[1]) // 2
    if crop != (w, h):
        done.append(f"cropped {w}x{h} to {crop[0]}x{crop[1]}")
    image = image.crop((left, top, left + crop[0], top + crop[1]))
    if crop != (width, height):
        done.append(f"scaled {'' if crop != (w, h) else f'{w}x{h} '}to {width}x{height}")
        # An enlarged frame (a screenshot of this player) comes back exact: the mean of whole blocks.
        whole = crop[0] % width == 0 and crop[1] % height == 0
        image = image.resize((width, height), Image.Resampling.BOX if whole else Image.Resampling.LANCZOS)
    if not done:
        done.append(f"{width}x{height}, used as it is")
    return np.array(image, np.uint8)


def enlarge(frame: Frame, scale: int) -> Frame:
    """Whole pixels, no smoothing: [..., H, W, C] -> [..., H * scale, W * scale, C]"""
    return frame.repeat(scale, -3).repeat(scale, -2)


def write_gif(frames: Sequence[Frame], path: Path, fps: float, scale: int = 1) -> None:
    """Write a GIF (see `encode_gif`), complete or not at all.

    Raises `UserError` for a name that does not end in .gif, `OSError` as the disk does.
    """
    check_gif_name(path)
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(encode_gif(frames, fps, scale))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def encode_gif(frames: Sequence[Frame], fps: float, scale: int = 1) -> bytes:
    """An endless GIF: 256 colours for all frames, whole-pixel enlargement.

    A GIF counts time in hundredths of a second; frames are timed so that the rounding does not add up.
    """
    palette = Image.fromarray(np.concatenate(_spread(frames, 32))).quantize(256, Image.Quantize.MEDIANCUT)
    images = []
    for frame in frames:
        indexed = Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
        size = indexed.width * scale, indexed.height * scale
        images.append(indexed.resize(size, Image.Resampling.NEAREST))
    ends = [round(100 / fps * (t + 1)) * 10 for t in range(len(images))]  # milliseconds
    durations = [max(20, end - start) for start, end in zip([0, *ends], ends, strict=False)]
    file = io.BytesIO()
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0)
    return file.getvalue()


def check_gif_name(path: Path) -> None:
    """Raises `UserError` for a name that promises another format."""
    if path.suffix.lower() != ".gif":
        raise UserError(f"{path} would be a GIF; give it a name that ends in .gif")


def _spread(frames: Sequence[Frame], count: int) -> list[Frame]:
    """At most `count` frames, evenly over the sequence."""
    return [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, count).round().astype(int))]


def difference(reference: Frame, target: Frame, amplify: float) -> Frame:
    """|reference - target| * amplify, clipped to [0, 255]: uint8, any common shape"""
    apart = np.abs(reference.astype(np.int16) - target.astype(np.int16))
    return np.minimum(apart * amplify, 255).astype(np.uint8)


def side_by_side(
    reference: Sequence[Frame],
    target: Sequence[Frame],
    names: tuple[str, str],
    notes: Sequence[str],
    scale: int = 1,
    amplify: float = 8,
) -> list[Frame]:
    """Captioned frames `reference | target | difference x amplify`, one per pair, a note below each."""
    captions = (*names, f"difference x{amplify:g}")
    return [
        strip((a, b, difference(a, b, amplify)), captions, scale, note)
        for a, b, note in zip(reference, target, notes, strict=True)
    ]


def strip(
    images: Sequence[Frame],
    captions: Sequence[str],
    scale: int = 1,
    note: str = "",
    columns: int | None = None,
) -> Frame:
    """Images of one size, each under its caption, in whole enlarged pixels, a note below: one RGB image"""
    font = ImageFont.load_default(13)
    columns = columns or len(images)
    height, width = images[0].shape[0] * scale, images[0].shape[1] * scale
    rows = -(-len(images) // columns)
    size = GAP + (width + GAP) * columns, (CAPTION + height) * rows + (CAPTION if note else GAP)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left = GAP + (width + GAP) * (number % columns)
        top = (CAPTION + height) * (number // columns)
        draw.text((left + width / 2, top + CAPTION / 2), caption, INK, font, anchor="mm")
        sheet.paste(Image.fromarray(enlarge(image, scale)), (left, top + CAPTION))
    draw.text((GAP, sheet.height - CAPTION / 2), note, INK, font, anchor="lm")
    return np.array(sheet)
