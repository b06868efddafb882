"""What an alarm outlines, in TensorFlow operations that every format of exports has; `metrics` has it in NumPy."""

from __future__ import annotations

import tensorflow as tf

from anogan_tf.metrics import STRONGEST
from anogan_tf.ranks import ranked_pair


def masks(maps: tf.Tensor, threshold: float, alarms: tf.Tensor) -> tf.Tensor:
    """Where maps exceed a threshold, and the strongest region of an alarm's map that nowhere does.

    Args:
        maps: float32 `(n, height, width)`.
        threshold: The pixel threshold.
        alarms: `(n,)`, whether the picture is above the threshold of scores.

    Returns:
        uint8 `(n, height, width)`, as of `metrics.region_mask`.
    """
    above = maps > threshold
    lacking = alarms & ~tf.reduce_any(above, axis=(1, 2))
    strongest = tf.cond(tf.reduce_any(lacking), lambda: _strongest(maps), lambda: tf.zeros_like(above))
    return tf.cast(above | (strongest & lacking[:, None, None]), tf.uint8)


def _strongest(maps):
    """The region around each map's largest value, as `metrics.strongest_region`.

    Its pixels and those that are as high elsewhere are numbered. Each takes the least number among its neighbours', and
    then the number of the one that it took, until none changes: then each region has one number.
    """
    n, height, width = tf.unstack(tf.shape(maps))
    levels = tf.reshape(maps, (n, height * width))
    high = (levels > _quantile(levels)) | (levels >= tf.reduce_max(levels, axis=1, keepdims=True))
    places = tf.cast(tf.where(tf.reshape(high, [-1]))[:, 0], tf.int32)
    none = tf.size(places)
    near = _neighbours(places, height, width, n)

    def joined(numbers, _):
        least = tf.concat([tf.reduce_min(tf.gather(numbers, near), axis=1), [none]], axis=0)
        least = tf.gather(least, least)
        return least, tf.reduce_any(least < numbers)

    numbers, _ = tf.while_loop(lambda _, changed: changed, joined, (tf.range(none + 1), True))
    numbered = _scattered(numbers[:-1], places, n * height * width, none)
    peaks = tf.range(n) * height * width + tf.argmax(levels, axis=1, output_type=tf.int32)
    own = tf.reshape(tf.gather(numbered, peaks), (n, 1, 1))
    return tf.reshape(numbered, (n, height, width)) == own


def _neighbours(places, height, width, n):
    """The numbers of the places `(m,)` at and around each, `(m, 9)`; m where there is none."""
    row = width + 2  # with a frame of a pixel
    rows = places // width
    framed = rows // height * (height + 2) * row + (rows % height + 1) * row + places % width + 1
    m = tf.size(places)
    numbered = _scattered(tf.range(m), framed, n * (height + 2) * row, m)
    around = tf.reshape(tf.range(-1, 2)[:, None] * row + tf.range(-1, 2), [-1])
    return tf.gather(numbered, framed[:, None] + around)


def _scattered(values, places, size, elsewhere):
    """Values at places, and another value elsewhere, `(size,)`."""
    return tf.tensor_scatter_nd_update(tf.fill([size], elsewhere), places[:, None], values)


def _quantile(levels):
    """What all but the `STRONGEST` part of the pixels do not exceed, `(n, 1)`, as `numpy.quantile` has it."""
    parts, last = round(1 / STRONGEST), tf.shape(levels)[1] - 1
    higher, lower = ranked_pair(levels, last // parts + 1)
    return lower + (higher - lower) * (1.0 - tf.cast(last % parts, tf.float32) / parts)
