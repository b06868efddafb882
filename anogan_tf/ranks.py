"""What stands at a rank among numbers, in TensorFlow operations that every format of exports has.

Nothing is sorted, which for the median of a map takes twice as long in TensorFlow: the interval that holds what is
looked for is halved until no number of float32 lies between its ends, so that the answer is exact (below 1e-30: to
1e-38).
"""

from __future__ import annotations

import tensorflow as tf

Rank = int | tf.Tensor


def ranked(values: tf.Tensor, rank: Rank) -> tf.Tensor:
    """The value at a rank of each row, 1 for the highest.

    Args:
        values: float32 `(n, m)`.
        rank: From 1 to m.

    Returns:
        `(n, 1)`.
    """

    def halved(low, high, _):
        middle = low + (high - low) / 2.0
        enough = _count(values > middle) >= rank
        between = tf.reduce_any((low < middle) & (middle < high))
        return tf.where(enough, middle, low), tf.where(enough, high, middle), between

    least, most = (reduce(values, axis=1, keepdims=True) for reduce in (tf.reduce_min, tf.reduce_max))
    below_all = least - tf.abs(least) - 1.0
    return tf.while_loop(lambda _low, _high, between: between, halved, (below_all, most, True))[1]


def ranked_pair(values: tf.Tensor, rank: Rank) -> tuple[tf.Tensor, tf.Tensor]:
    """The value at a rank of each row and the next one, each `(n, 1)`; twice the last one at the last rank."""
    higher = ranked(values, rank)
    least = tf.reduce_min(values, axis=1, keepdims=True)
    lower = tf.reduce_max(tf.where(values < higher, values, least), axis=1, keepdims=True)
    return higher, tf.where(_count(values >= higher) > rank, higher, lower)


def median(values: tf.Tensor) -> tf.Tensor:
    """The median of each row of `(n, m)`, `(n,)`."""
    m = values.shape[1]
    pair = ranked_pair(values, (m + 1) // 2)
    return (pair[0] if m % 2 else (pair[0] + pair[1]) / 2.0)[:, 0]


def _count(flags):
    return tf.reduce_sum(tf.cast(flags, tf.int32), axis=1, keepdims=True)
