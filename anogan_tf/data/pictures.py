"""Pictures as people hold them: files, folders, files in memory, images of Pillow, arrays of 8 or 16 bits, several."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from anogan_tf.data.images import Encoded, Source


def are_pictures(things: Any) -> bool:
    """Whether something is a picture, a folder of pictures, several of these, or an array of several.

    Several are a list, a tuple, or an array of paths.
    """
    if _are_several(things):
        return len(things) > 0 and all(map(are_pictures, things))
    return isinstance(things, (str, os.PathLike, Encoded, Image.Image)) or _has_levels(things)


def each(things: Any) -> Iterator[Source]:
    """Each picture of what `are_pictures` takes, one after the other; folders stay folders.

    Raises:
        ValueError: For an array of another shape than `(height, width)`, `(height, width, channels)` of 1, 3 or 4
            channels, or `(n, height, width, channels)`, or without a pixel.
    """
    if _are_several(things) or (_has_levels(things) and things.ndim == 4):
        for thing in things:
            yield from each(thing)
        return
    if _has_levels(things) and things.ndim == 3 and things.shape[2] not in (1, 3, 4):
        raise ValueError(
            "A picture is (height, width) or (height, width, 1, 3 or 4 channels), several are (n, height, width, "
            f"channels), or a list. Received: an array of shape {things.shape}."
        )
    if _has_levels(things) and 0 in things.shape:
        raise ValueError(f"A picture has pixels. Received: an array of shape {things.shape}.")
    yield things


def _are_several(things):
    return isinstance(things, (list, tuple)) or (isinstance(things, np.ndarray) and things.dtype.kind == "U")


def _has_levels(thing):
    return isinstance(thing, np.ndarray) and thing.dtype in (np.uint8, np.uint16) and 2 <= thing.ndim <= 4
