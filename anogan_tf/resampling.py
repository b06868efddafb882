"""Pictures and maps at other sizes, as Pillow and SciPy make them, in TensorFlow operations that every format has."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import PIL
import tensorflow as tf

Length = int | tf.Tensor
HALF_BITS = 2.0**11  # Pillow's weights are whole numbers of 22 bits; halves of these are summed without rounding
ROWS_MAY_BE_FIRST = int(PIL.__version__.partition(".")[0]) >= 13  # where they shrink most, which saves it work
LUMINANCE = (19595.0, 38470.0, 7471.0)  # of red, green and blue, of 2^16


def cropped(pictures: tf.Tensor, crop: str | int | Sequence[int] | None) -> tf.Tensor:
    """The centres of pictures `(n, height, width, channels)`, see `data.images.crop_box`."""
    if crop is None:
        return pictures
    height, width = tf.shape(pictures)[1], tf.shape(pictures)[2]
    square = tf.minimum(height, width)
    rows, columns = (square, square) if crop == "square" else (crop, crop) if isinstance(crop, int) else crop
    top, left = (height - rows) // 2, (width - columns) // 2
    return pictures[:, top : top + rows, left : left + columns]


def gray(pictures: tf.Tensor) -> tf.Tensor:
    """The luminance `(n, height, width, 1)` of pictures in levels from 0 to 255, in whole levels, as Pillow's."""
    sums = tf.reduce_sum(pictures * tf.constant(LUMINANCE), axis=-1, keepdims=True)  # below 2^24, so exact
    return tf.floor((sums + 2.0**15) / 2.0**16)


def resized(pictures: tf.Tensor, size: Sequence[Length]) -> tf.Tensor:
    """Pictures in whole levels from 0 to 255 at another `(height, width)`, by Pillow's `BILINEAR`, level for level.

    Pillow weighs with whole numbers and rounds twice, after the columns and after the rows; so does this, in sums of
    whole numbers that float32 holds. Sides that shrink by more than 16 times may differ by a level in a few pixels.

    Args:
        pictures: float32 `(n, height, width, channels)`.
        size: Of the result; ints, or scalar tensors.
    """
    old, new = tf.shape(pictures)[1:3], tf.stack(size)
    return tf.cond(tf.reduce_all(old == new), lambda: pictures, lambda: _resized(pictures, old, new))


def resized_maps(maps: tf.Tensor, size: Sequence[Length]) -> tf.Tensor:
    """Maps `(n, rows, columns)` at another `(height, width)`: bilinear, averaged where they shrink."""
    columns, rows = (_weights(side, length) for side, length in zip(size[::-1], _sides(maps)[::-1], strict=True))
    for axis, weights in ((-1, columns), (-2, rows)):
        maps = weighed(maps, weights / tf.reduce_sum(weights, axis=1, keepdims=True), axis)
    return maps


def bilinear(maps: np.ndarray | tf.Tensor, size: Sequence[int]) -> tf.Tensor:
    """Maps `(n, rows, columns)` at another `(height, width)`, by `tf.image.resize`."""
    return tf.squeeze(tf.image.resize(tf.expand_dims(maps, -1), size), -1)  # [..., 0] would copy


def smoothed(maps: tf.Tensor, sigma: float) -> tf.Tensor:
    """Maps `(n, rows, columns)` under a Gaussian of σ pixels, mirrored at the border, as `scipy.ndimage` has it."""
    if not sigma:
        return maps
    reach = int(4.0 * sigma + 0.5)
    kernel = np.exp(-0.5 / sigma**2 * np.arange(-reach, reach + 1) ** 2)
    kernel = tf.constant((kernel / kernel.sum())[None, :, None, None], tf.float32)
    for _ in range(2):  # along the columns, then along the rows: oneDNN overruns its memory by kernels of over 150 rows
        maps = tf.gather(maps, _mirrored(_sides(maps)[1], reach), axis=2)
        maps = tf.squeeze(tf.nn.conv2d(tf.expand_dims(maps, -1), kernel, 1, "VALID"), -1)
        maps = tf.transpose(maps, (0, 2, 1))
    return maps


def weighed(planes: tf.Tensor, weights: tf.Tensor, axis: int) -> tf.Tensor:
    """Sums of planes `(n, rows, columns)` along an axis, -1 or -2, by weights `(size, length)`.

    Of one more axis, such as channels, the products overran their memory in oneDNN, where processors have AVX-512.
    """
    return tf.matmul(planes, weights, transpose_b=True) if axis == -1 else tf.matmul(weights, planes)


def _resized(pictures, old, new):
    def along(side, planes):
        weights = _whole_weights(new[side], old[side])
        return [_rounded(*(weighed(plane, part, side - 2) for part in weights)) for plane in planes]

    planes = tf.unstack(pictures, axis=3)  # of each channel, (n, height, width)
    rows, columns = (functools.partial(along, side) for side in (0, 1))
    fewer = old - new
    rows_first = ROWS_MAY_BE_FIRST & (fewer[0] > 0) & (2 * fewer[1] < fewer[0])
    return tf.stack(tf.cond(rows_first, lambda: columns(rows(planes)), lambda: rows(columns(planes))), axis=3)


def _sides(maps):
    """`(rows, columns)` of maps, as ints where they are known."""
    return [known or tf.shape(maps)[axis] for axis, known in ((1, maps.shape[1]), (2, maps.shape[2]))]


def _mirrored(length, reach):
    """The numbers of what lies at each place from `-reach` to `length + reach`."""
    period = 2 * length
    places = (tf.range(length + 2 * reach) + reach * (period - 1)) % period  # formats differ about what is below 0
    return tf.minimum(places, period - 1 - places)


def _weights(size, length):
    """How much each of `length` pixels counts for each of `size` new ones, `(size, length)`, in whole numbers.

    The weight falls linearly from a new pixel's middle to that of the next one, or of the next old one if these are
    farther apart.
    """
    new, old = (2 * tf.range(side) + 1 for side in (size, length))
    apart = tf.abs(old[None, :] * size - new[:, None] * length)
    return tf.cast(tf.maximum(2 * tf.maximum(size, length) - apart, 0), tf.float32)


def _whole_weights(size, length):
    """Pillow's weights `(size, length)`, of 2^22, as u and l of 2^11 u + l, both whole."""
    weights = _weights(size, length)
    total = tf.reduce_sum(weights, axis=1, keepdims=True)
    upper = tf.floor(weights * HALF_BITS / total)
    rest = tf.cast(weights, tf.int32) * int(HALF_BITS) - tf.cast(upper, tf.int32) * tf.cast(total, tf.int32)
    return upper, tf.floor(tf.cast(rest, tf.float32) * HALF_BITS / total + 0.5)


def _rounded(upper, lower):
    """2^11 u + l, of 2^22, rounded to whole levels; u and l are whole."""
    carried = upper + tf.floor(lower / HALF_BITS)
    return tf.clip_by_value(tf.floor((carried + HALF_BITS / 2) / HALF_BITS), 0.0, 255.0)
