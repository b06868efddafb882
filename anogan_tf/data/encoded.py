"""Pictures as encoded bytes in memory, from whoever sends them: what they claim to be is looked at before decoding."""

from __future__ import annotations

import functools

from PIL import Image

from anogan_tf.data.images import SUFFIXES, Encoded


class TooLargeError(ValueError):
    """More pixels than are taken."""


def check(picture: Encoded, most_pixels: int) -> None:
    """Looks at the header alone, and refuses what would cost too much, or start a program, to decode.

    Pillow knows more formats than those of `images.SUFFIXES`; one of them, EPS, is a program that Ghostscript runs.
    What Pillow knows nothing of passes: reading says what it is.

    Raises:
        TooLargeError: If the header tells of more pixels than `most_pixels`.
        ValueError: For a format that files are not read in.
    """
    try:
        with Image.open(picture.open()) as file:
            (width, height), kind = file.size, file.format
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large("too many", most_pixels) from None
    except Exception:  # decoders raise anything; what is wrong is said when the picture is read
        return
    if width * height > most_pixels:
        raise _too_large(f"{width}×{height}", most_pixels)
    if kind not in _formats():
        raise ValueError(f"{picture}: {kind} is not read; save it as PNG or JPEG.")


def _too_large(size, most):
    return TooLargeError(f"the picture: of {size} pixels, and at most {most} are taken.")


@functools.cache
def _formats():
    """Pillow's names of the formats that files are read in."""
    known = Image.registered_extensions()
    return {known[suffix] for suffix in SUFFIXES if suffix in known} | {"MPO"}
