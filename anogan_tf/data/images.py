"""One image file to one array: everything Pillow reads, with one meaning for all."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import re
import sys
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

Crop: TypeAlias = int | tuple[int, int] | str | None  # pixels, (height, width) in pixels, "square", nothing
Picture: TypeAlias = tuple[Image.Image, ...]  # one image, or its red, green and blue

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".apng", ".avif", ".dib", ".gif", ".jfif", ".jpe",
    ".jp2", ".j2k", ".jpf", ".jpx", ".mpo", ".pbm", ".pgm", ".pnm", ".ppm", ".qoi", ".tga",
)  # fmt: skip
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_DEEP_COLOUR = re.compile(r"(RGB|RGBA|RGBX|LA);16[BLN]")  # of which Pillow keeps the upper 8 bits
_NO_LEVELS = re.compile(r"L;8S|I;16[BN]?S|I;32[BN]?S?")  # of which nothing says what is white
_SAMPLE_FORMAT = 339  # of TIFF
_LOSSY = ("JPEG", "MPO", "WEBP", "AVIF", "JPEG2000")
_CLEAR = 32  # the level from which a mask of lossy compression is more than its noise
_SIGNATURES = {  # the first bytes of what is brought as an image, and is none that Pillow reads
    rb"....ftyp(heic|heix|hevc|heim|heis|mif1|msf1)": "HEIC, as phones save photographs",
    rb"....ftypavi[fs]": "AVIF, which this Pillow was built without",
    rb"....ftyp": "a video",
    rb"RIFF....AVI ": "a video",
    rb"\x1aE\xdf\xa3": "a video",
    rb"(\xff\n|\0\0\0\x0cJXL )": "JPEG XL",
    rb"%PDF": "PDF",
    rb"\s*<(\?xml|svg)": "SVG or XML",
    rb"\s*<(!DOCTYPE|html)": "a web page",
    rb"PK\x03\x04": "a ZIP archive",
    rb"\x1f\x8b": "a gzip archive",
    rb"\x93NUMPY": "a NumPy array",
    rb"\x89HDF": "HDF5",
    rb".{128}DICM": "DICOM",
    rb"version https://git-lfs": "a pointer of Git LFS, whose content was not fetched",
    rb"$": "an empty file",
}


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A file that is in memory, read as one on disk is.

    Args:
        content: The bytes of the file.
        name: What to call it in an error.
    """

    content: bytes = dataclasses.field(repr=False)
    name: str = "the picture"

    def open(self, mode: str = "rb") -> io.BytesIO:
        return io.BytesIO(self.content)

    def __str__(self) -> str:
        return self.name


Source: TypeAlias = str | os.PathLike | Encoded | Image.Image | np.ndarray  # the last two are decoded already


def read(
    path: str | os.PathLike | Encoded, image_shape: Sequence[int], *, crop: Crop = None, bits: int = 16
) -> tuple[np.ndarray, tuple[int, int]]:
    """Reads an image, crops its centre, resizes it.

    EXIF orientation is applied, transparency laid on black, colour turned into gray (or gray into colour) as
    `image_shape` asks, and the whole picture is resized, whatever its sides' ratio, by area-weighted filtering.

    Args:
        path: The file, or an `Encoded` one.
        image_shape: `(height, width, channels)` of the result.
        crop: Side in pixels, or (height, width), of the centre crop before resizing; `"square"` for the largest
            square; None for the whole picture.
        bits: Significant bits of 16-bit files: the value 2^bits - 1 is white.

    Returns:
        The image as float32 `image_shape` in [-1, 1], and the `(height, width)` it had in its own pixels after
        cropping.

    Raises:
        ValueError: If the file cannot be read as an image, or is smaller than the crop; it names the file.
    """
    picture = open_cropped(path, crop=crop, bits=bits)
    return fit(picture, image_shape), picture[0].size[::-1]


def small(path: str | os.PathLike, longest: int, *, crop: Crop = None, bits: int = 16) -> np.ndarray:
    """Reads an image for a look at it: as `read`, in its own shape, its longer side of at most `longest` pixels.

    JPEG is decoded at a part of its size where that is enough, which takes a fraction of the time.

    Returns:
        float32 `(height, width, 3)` in [-1, 1].

    Raises:
        ValueError: As `read`.
    """
    near = longest if crop in (None, "square") else None  # a crop in pixels is of the file's own
    picture = open_cropped(path, crop=crop, bits=bits, near=near)
    width, height = picture[0].size
    scale = min(1.0, longest / max(width, height))
    return fit(picture, (max(1, round(height * scale)), max(1, round(width * scale)), 3))


def read_mask(*paths: str | os.PathLike, size: Sequence[int] | None = None, crop: Crop = None) -> np.ndarray:
    """Reads a mask: `(height, width)` in its own pixels after cropping, True where the image is anomalous.

    What is not black is True, whether 1 or 255, and what is transparent is not; a mask that was painted in black on a
    transparent ground is where it is opaque. Of lossy compression it is what is brighter than half of the brightest.

    Args:
        *paths: The mask's file; of several the union.
        size: `(height, width)` that each is resized to, by nearest neighbour, before it is cropped; None for its own.
        crop: As in `read`.
    """
    mask = np.logical_or.reduce([_resized_mask(_marked(path), size) for path in paths])
    left, upper, right, lower = crop_box(mask.shape, crop, paths[0])
    return mask[upper:lower, left:right]


def _marked(path):
    """Where a mask file marks its image, in the file's own pixels."""
    file, _ = _decoded(path)
    if file.has_transparency_data:
        layers = np.asarray(file.convert("RGBA"))
        coloured = (layers[..., :3].max(axis=-1) > 0) & (layers[..., 3] > 0)
        return coloured if coloured.any() or layers[..., 3].min() > 0 else layers[..., 3] > 0
    values = np.asarray(file if file.mode in (*_SIXTEEN_BIT, "1", "L", "F") else file.convert("RGB"))
    values = values.max(axis=-1) if values.ndim == 3 else values
    return values > (values.max() / 2 if _is_noisy(path, values) else 0)


def _is_noisy(path, values):
    """Whether a mask has levels that lossy compression added, now or before it was saved again."""
    if values.dtype != np.uint8 or values.max() < _CLEAR:
        return False
    with Image.open(path) as file:
        lossy = file.format in _LOSSY
    nearly_black, nearly_white = (values > 0) & (values < _CLEAR), (values < 255) & (values > 255 - _CLEAR)
    return lossy or bool(nearly_black.any() and nearly_white.any())


def _resized_mask(mask, size):
    if size is None or mask.shape == tuple(size):
        return mask
    return np.asarray(Image.fromarray(mask).resize(tuple(size)[::-1], Image.Resampling.NEAREST))


def open_cropped(path: Source, *, crop: Crop = None, bits: int = 16, near: int | None = None) -> Picture:
    """The centre crop of the picture as `open_picture` gives it."""
    planes = open_picture(path, bits=bits, near=near)
    box = crop_box(planes[0].size[::-1], crop, name_of(path))
    return tuple(plane.crop(box) for plane in planes)


def open_picture(path: Source, *, bits: int = 16, near: int | None = None) -> Picture:
    """The picture, upright: one Pillow image of mode `"L"`, `"RGB"`, or `"F"` (0 to 255, from 16 bits), or three `"F"`.

    Three are the red, green and blue of colour in 16 bits. An array is `(height, width)` or `(height, width, channels)`
    of 1 channel, or of red, green, blue and perhaps opacity, as unsigned integers of 8 or 16 bits. With `near` a JPEG
    file may come smaller, with at least so many pixels a side.

    Raises:
        ValueError: If the file cannot be read, or nothing says which of its values are black and white.
    """
    if isinstance(path, np.ndarray) and path.ndim == 3 and path.shape[2] > 1 and path.dtype == np.uint16:
        return tuple(map(Image.fromarray, _laid_on_black(path.astype(np.float32), bits)))
    file, raw_mode = _decoded(path, near=near)
    if _DEEP_COLOUR.fullmatch(raw_mode):
        return tuple(map(Image.fromarray, _laid_on_black(_deep_levels(path, file, raw_mode), bits)))
    _check_levels(path, file, raw_mode)
    if file.mode in _SIXTEEN_BIT:
        return (Image.fromarray(_on_bytes(np.asarray(file).astype(np.float32), bits)),)
    if file.mode == "F":
        raise ValueError(f"{path}: a floating-point image has no known range; save it with 8 or 16 bits.")
    if file.has_transparency_data:
        file = file.convert("RGBA")
        return (Image.alpha_composite(Image.new("RGBA", file.size, "black"), file).convert("RGB"),)
    return (file.convert("L" if file.mode in ("1", "L") else "RGB"),)


def _on_bytes(levels, bits):
    """Levels of `bits` bits as floats in [0, 255]."""
    return np.clip(levels * np.float32(255.0 / (2**bits - 1)), 0.0, 255.0)


def _deep_levels(path, upper, raw_mode):
    """The 16-bit levels `(height, width, 3 or 4)` of a colour file of which Pillow decodes the `upper` 8 bits.

    The others come of reading it once more with the bytes of each pixel in another order.
    """
    if raw_mode.startswith("LA"):
        gray, gray_low, alpha, alpha_low = np.moveaxis(np.asarray(_decoded(path, "RGBA")[0], np.float32), -1, 0)
        return np.stack([gray * 256 + gray_low] * 3 + [alpha * 256 + alpha_low], axis=-1)
    little = raw_mode[-1] == "L" or (raw_mode[-1] == "N" and sys.byteorder == "little")
    lower, _ = _decoded(path, raw_mode[:-1] + ("B" if little else "L"))
    return np.asarray(upper, np.float32) * 256.0 + np.asarray(lower, np.float32)


def _laid_on_black(levels, bits):
    """Red, green and blue `(3, height, width)` in [0, 255] of 16-bit levels, of which a fourth is opacity."""
    colour = _on_bytes(levels[..., :3], bits)
    if levels.shape[-1] == 4:
        colour = colour * (levels[..., 3:] / np.float32(65535.0))
    return np.ascontiguousarray(np.moveaxis(colour, -1, 0))


def _raw_mode_of(file):
    if file.mode == "L" and 2 in getattr(file, "tag_v2", {}).get(_SAMPLE_FORMAT, ()):
        return "L;8S"  # which Pillow takes for unsigned
    arguments = file.tile[0][3] if getattr(file, "tile", None) else None
    arguments = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return arguments if isinstance(arguments, str) else ""


def _read_as(file, raw_mode):
    """Makes Pillow unpack the pixels of an open file as those of another raw mode of the same size."""
    for number, (decoder, box, offset, arguments) in enumerate(file.tile):
        arguments = (raw_mode, *arguments[1:]) if isinstance(arguments, tuple) else raw_mode
        file.tile[number] = type(file.tile[number])(decoder, box, offset, arguments)


def _check_levels(path, file, raw):
    """Raises a ValueError for levels that are no 16 unsigned bits: those of signed or of 32-bit TIFF."""
    if not _NO_LEVELS.fullmatch(raw):
        return
    signed, bits = "S" in raw, int(re.search(r"\d+", raw)[0])
    levels = np.asarray(file)
    levels = levels.view(np.int8) if bits == 8 else levels if signed else levels.view(np.uint32)
    stored = f"{'signed' if signed else 'unsigned'} {bits} bits"
    raise ValueError(
        f"{path}: {stored}, values from {levels.min()} to {levels.max()}, of which nothing says what is black and what "
        "is white. Rescale all images alike to unsigned 16 bits, such as (values - black) / (white - black) * 65535."
    )


def is_black_and_white(path: str | os.PathLike) -> bool:
    """Whether a file has at most two levels, one of them black, as masks have; not if it is broken."""
    try:
        levels = np.unique(np.asarray(_decoded(path)[0].convert("L")))
    except ValueError:
        return False
    return len(levels) <= 2 and levels[0] == 0


def is_gray(path: str | os.PathLike) -> bool:
    """Whether a picture has no colour: one channel, or three that are equal; so is a file that cannot be read."""
    try:
        picture = open_picture(path, near=1)
    except ValueError:  # which is said when it is read
        return True
    planes = [np.asarray(plane) for plane in picture]
    channels = planes if planes[0].ndim == 2 else np.moveaxis(planes[0], -1, 0)
    return all(np.array_equal(channels[0], other) for other in channels[1:])


def is_sixteen_bit(path: str | os.PathLike) -> bool:
    """Whether a file has more than 8 bits a channel that are kept; reads the header only."""
    try:
        with _stream(path) as stream, Image.open(stream) as file:
            return file.mode in _SIXTEEN_BIT or bool(_DEEP_COLOUR.fullmatch(_raw_mode_of(file)))
    except Exception:  # what is wrong with it is said when it is read
        return False


def largest_level(path: str | os.PathLike) -> int:
    """The largest value in a file of more than 8 bits a channel."""
    file, raw_mode = _decoded(path)
    if _DEEP_COLOUR.fullmatch(raw_mode):
        return int(_deep_levels(path, file, raw_mode)[..., :3].max())
    return int(np.asarray(file).max())


def header(path: str | os.PathLike | Encoded) -> dict[str, int] | None:
    """What of a file is not taken, by its header: `pages` after the first, and whether it is `transparent`.

    None for a broken file. Previews beside a JPEG's picture, as some phones and cameras save them, are no pages.
    """
    try:
        with _stream(path) as stream, Image.open(stream) as file:
            pages = 0 if file.format == "MPO" else getattr(file, "n_frames", 1) - 1
            return {"pages": pages, "transparent": int(file.has_transparency_data)}
    except Exception:  # what is wrong with it is said when it is read
        return None


def size_of(path: str | os.PathLike) -> tuple[int, int]:
    """The `(height, width)` of the upright picture, by the header."""
    with _stream(path) as stream, Image.open(stream) as file:
        width, height = file.size
        return (width, height) if file.getexif().get(0x0112, 1) in (5, 6, 7, 8) else (height, width)


def content_hash(path: str | os.PathLike) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with _stream(path) as stream:
        return hashlib.sha256(stream.read()).hexdigest()


def fit(picture: Image.Image | Picture, image_shape: Sequence[int]) -> np.ndarray:
    """A Pillow image, or a picture as `open_picture` gives it, resized to float32 `image_shape` in [-1, 1]."""
    height, width, channels = image_shape
    planes = picture if isinstance(picture, tuple) else (picture,)
    if len(planes) == 3:
        planes = planes if channels == 3 else (_luminance(planes),)
        return np.concatenate([fit(plane, (height, width, 1)) for plane in planes], axis=-1)
    (picture,) = planes
    if picture.mode == "RGB" and channels == 1:
        picture = picture.convert("L")
    elif picture.mode == "L" and channels == 3:
        picture = picture.convert("RGB")
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    array = np.asarray(picture, np.float32) / 127.5 - 1.0
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], channels, axis=2)
    return np.clip(array, -1.0, 1.0)


def _luminance(planes):
    weighted = (np.asarray(plane) * np.float32(w) for plane, w in zip(planes, (0.299, 0.587, 0.114), strict=True))
    return Image.fromarray(sum(weighted))


def crop_box(size: Sequence[int], crop: Crop, name: object = "the image") -> tuple[int, int, int, int]:
    """The centre crop of a picture of `(height, width)`, as Pillow's (left, upper, right, lower).

    Raises:
        ValueError: If the picture, which `name` names, is smaller than the crop.
    """
    height, width = size
    if crop is None:
        return 0, 0, width, height
    rows, columns = (min(size),) * 2 if crop == "square" else (crop, crop) if isinstance(crop, int) else crop
    if rows > height or columns > width:
        raise ValueError(f"{name}: of {height}×{width} pixels, smaller than the crop of {rows}×{columns}.")
    top, left = (height - rows) // 2, (width - columns) // 2
    return left, top, left + columns, top + rows


def check_patch(size: Sequence[int], patch: Sequence[int], name: object) -> None:
    """Raises a ValueError if an image of `(height, width)` is smaller than a patch of `(height, width, ...)`."""
    if size[0] < patch[0] or size[1] < patch[1]:
        raise ValueError(
            f"{name}: of {size[0]}×{size[1]} pixels, smaller than the patch of {patch[0]}×{patch[1]} that the networks "
            "take. Leave it out, take it in a larger size, or train on smaller patches (image_shape, --size)."
        )


def name_of(source: Source) -> object:
    """What to call a picture in an error: its file's name, where it has one."""
    return "the picture" if isinstance(source, (np.ndarray, Image.Image)) else source


def _stream(path):
    """The bytes of a file, or of what opens itself: a record, or a file in memory."""
    # Not by name: of named files Pillow 13 maps gray TIFF into memory with the sides of its turned picture.
    return path.open("rb") if hasattr(path, "open") else open(path, "rb")


def _decoded(path, raw_mode=None, near=None):
    """The picture as a Pillow image, decoded and upright, and how the file keeps a pixel, such as `"RGB;16B"`.

    Whatever goes wrong with that is a ValueError with the file's name.

    What is no file is decoded already. Pillow refuses more than twice `Image.MAX_IMAGE_PIXELS`, 179 million pixels, by
    the size that the file declares.

    Args:
        path: The file.
        raw_mode: What to take it for instead, of the same size.
        near: Pixels a side that are enough; None for all that there are.
    """
    if isinstance(path, np.ndarray):
        path = Image.fromarray(path[..., 0] if path.ndim == 3 and path.shape[2] == 1 else path)
    if isinstance(path, Image.Image):
        if path.mode == "I" and path.format is None:
            raise ValueError(
                "An image of Pillow of mode I has 32 bits, of which nothing says what is white: convert it to L, or to "
                "I;16 of 16 bits. Received: such an image."
            )
        return ImageOps.exif_transpose(path), _raw_mode_of(path)
    try:
        with _stream(path) as stream, Image.open(stream) as file:
            if raw_mode:
                _read_as(file, raw_mode)
            elif file.format == "PNG":
                _check_sums(path)
            raw_mode = _raw_mode_of(file)
            if near:
                file.draft(None, (near, near))
            file.load()
            return ImageOps.exif_transpose(file), raw_mode
    except UnidentifiedImageError as error:
        raise ValueError(f"{path}: not a readable image ({_format_of(path)}).") from error
    except Exception as error:  # decoders raise anything: struct.error, IndexError, MemoryError
        raise ValueError(f"{path}: not a readable image ({type(error).__name__}: {error}).") from error


def _check_sums(path):
    """Raises an error if the sums of a PNG file are not those of its bytes: Pillow decodes damaged pixels otherwise."""
    with _stream(path) as stream, Image.open(stream) as file:
        file.verify()


def _format_of(path):
    """What a file is that is no image, by its first bytes."""
    with _stream(path) as stream:
        start = stream.read(256)
    name = next((name for first, name in _SIGNATURES.items() if re.match(first, start, re.DOTALL)), None)
    return f"it is {name}: save it as PNG or JPEG" if name else "none of a known format"
