"""One image file to one array: everything Pillow reads, with one meaning for all."""

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def read(path, image_shape, *, crop=None, bits=16):
    """Reads an image, crops its centre, resizes it.

    EXIF orientation is applied, transparency laid on black, colour turned into gray (or gray into colour) as
    `image_shape` asks, and the whole picture is resized, whatever its sides' ratio, by area-weighted filtering.

    Args:
        path: The file.
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
    return fit(picture, image_shape), picture.size[::-1]


def read_mask(path, *, crop=None):
    """Reads a mask: `(height, width)` in its own pixels after cropping, True where the image is anomalous."""
    mask = _decoded(path)
    mask = mask if mask.mode in _SIXTEEN_BIT else mask.convert("L")
    return np.asarray(mask.crop(crop_box(mask.size[::-1], crop, path))) > 0


def open_cropped(path, *, crop=None, bits=16):
    """The centre crop of the picture as `open_picture` gives it."""
    picture = open_picture(path, bits=bits)
    return picture.crop(crop_box(picture.size[::-1], crop, path))


def open_picture(path, *, bits=16):
    """The picture as a Pillow image of mode `"L"`, `"RGB"`, or `"F"` (0 to 255, from 16 bits), upright."""
    file = _decoded(path)
    if file.mode in _SIXTEEN_BIT:
        levels = np.asarray(file).astype(np.float32)
        if not 0 <= levels.min() <= levels.max() < 2**16:
            raise ValueError(f"{path}: values from {levels.min():g} to {levels.max():g}, which 16 bits do not hold.")
        return Image.fromarray(np.clip(levels * (255.0 / (2**bits - 1)), 0.0, 255.0))
    if file.mode == "F":
        raise ValueError(f"{path}: a floating-point image has no known range; save it with 8 or 16 bits.")
    if file.has_transparency_data:
        file = file.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", file.size, "black"), file).convert("RGB")
    return file.convert("L" if file.mode in ("1", "L") else "RGB")


def is_sixteen_bit(path):
    """Whether a file has more than 8 bits a channel that are kept; reads the header only."""
    try:
        with Image.open(path) as file:
            return file.mode in _SIXTEEN_BIT
    except Exception:  # what is wrong with it is said when it is read
        return False


def largest_level(path):
    """The largest value in a file."""
    return int(np.asarray(_decoded(path)).max())


def fit(picture, image_shape):
    """A Pillow image resized to float32 `image_shape` in [-1, 1]."""
    height, width, channels = image_shape
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


def crop_box(size, crop, name="the image"):
    """The centre crop of a picture of `(height, width)`, as Pillow's (left, upper, right, lower)."""
    height, width = size
    if crop is None:
        return 0, 0, width, height
    rows, columns = (min(size),) * 2 if crop == "square" else (crop, crop) if isinstance(crop, int) else crop
    if rows > height or columns > width:
        raise ValueError(f"{name}: of {height}×{width} pixels, smaller than the crop of {rows}×{columns}.")
    top, left = (height - rows) // 2, (width - columns) // 2
    return left, top, left + columns, top + rows


def check_patch(size, patch, name):
    """Raises a ValueError if an image of `(height, width)` is smaller than a patch of `(height, width, ...)`."""
    if size[0] < patch[0] or size[1] < patch[1]:
        raise ValueError(
            f"{name}: of {size[0]}×{size[1]} pixels, smaller than the patch of {patch[0]}×{patch[1]} that the networks "
            "take. Leave it out, take it in a larger size, or train on smaller patches (image_shape, --size)."
        )


def _decoded(path):
    """The picture as a Pillow image, decoded and upright; whatever goes wrong with that is a ValueError with its name.

    Pillow refuses more than twice `Image.MAX_IMAGE_PIXELS`, 179 million pixels, by the size that the file declares.
    """
    try:
        # Not by name: of named files Pillow 13 maps gray TIFF into memory with the sides of its turned picture.
        with open(path, "rb") as stream, Image.open(stream) as file:
            file.load()
            return ImageOps.exif_transpose(file)
    except UnidentifiedImageError as error:
        raise ValueError(f"{path}: not a readable image (none of a known format).") from error
    except Exception as error:  # decoders raise anything: struct.error, IndexError, MemoryError
        raise ValueError(f"{path}: not a readable image ({type(error).__name__}: {error}).") from error
