"""What an alarm outlines, in TensorFlow operations that every format of exports has; `metrics` has it in NumPy."""

from __future__ import annotations

import tensorflow as tf

from anogan_tf.metrics import STRONGEST


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

    Its pixels and those that are as high elsewhere are numbered, the highest first. Each takes the least number among
    its neighbours', and then the number of the one that it took, until none changes: 0 is at the peak.
    """
    n, height, width = tf.unstack(tf.shape(maps))
    levels = tf.reshape(maps, (n, height * width))
    high = (levels > _quantile(levels)) | (levels >= tf.reduce_max(levels, axis=1, keepdims=True))
    counts = tf.reduce_sum(tf.cast(high, tf.int32), axis=1, keepdims=True)
    most = tf.reduce_max(counts)
    places = tf.math.top_k(levels, most).indices  # (n, most)
    is_high = tf.range(most) < counts
    first = tf.range(n)[:, None] * most  # each picture's own 0
    near = _neighbours(places, tf.where(is_high, first + tf.range(most), n * most), n, height, width)

    def joined(numbers, _):
        least = tf.concat([tf.reshape(tf.reduce_min(tf.gather(numbers, near), axis=2), [-1]), [n * most]], axis=0)
        least = tf.gather(least, least)
        return least, tf.reduce_any(least < numbers)

    numbers, _ = tf.while_loop(lambda _, changed: changed, joined, (tf.range(n * most + 1), True))
    inside = is_high & (tf.reshape(numbers[:-1], (n, most)) == first)
    places += tf.range(n)[:, None] * height * width
    found = tf.tensor_scatter_nd_update(
        tf.zeros(n * height * width, tf.int32), places[..., None], tf.cast(inside, tf.int32)
    )
    return tf.reshape(found, (n, height, width)) > 0


def _neighbours(places, numbers, n, height, width):
    """The numbers at and around places `(n, most)`, `(n, most, 9)`; where there is none, the one after the last."""
    row = width + 2  # with a frame of a pixel
    framed = tf.range(n)[:, None] * (height + 2) * row + (places // width + 1) * row + places % width + 1
    none = tf.fill([n * (height + 2) * row], tf.size(numbers))
    numbered = tf.tensor_scatter_nd_update(none, framed[..., None], numbers)
    around = tf.reshape(tf.range(-1, 2)[:, None] * row + tf.range(-1, 2), [-1])
    return tf.gather(numbered, framed[..., None] + around)


def _quantile(levels):
    """What all but the `STRONGEST` part of the pixels do not exceed, `(n, 1)`, as `numpy.quantile` has it."""
    parts, last = round(1 / STRONGEST), tf.shape(levels)[1] - 1
    highest, _ = tf.math.top_k(levels, tf.minimum(last // parts + 2, last + 1))
    higher = highest[:, last // parts, None]
    lower = highest[:, tf.minimum(last // parts + 1, last), None]
    return lower + (higher - lower) * (1.0 - tf.cast(last % parts, tf.float32) / parts)
