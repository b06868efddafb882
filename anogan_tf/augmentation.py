"""Differentiable augmentation of what a discriminator sees, so that few images do not let it learn them by heart."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf

POLICIES = ("translation", "mirror", "color", "cutout")
TRANSLATION = 1 / 8  # of the side, at most
CUTOUT = 1 / 2  # of the side
MOVES = (1 / 8, 1 / 16, 1 / 32)  # of the side


def check_policies(policies: str | Iterable[str]) -> tuple[str, ...]:
    """The policies as a tuple without repetitions, in the order of `POLICIES`, or a ValueError."""
    policies = (policies,) if isinstance(policies, str) else tuple(policies)
    unknown = [policy for policy in policies if policy not in POLICIES]
    if unknown or not policies:
        raise ValueError(f"augment is None or one or several of {POLICIES}. Received: {policies}.")
    return tuple(policy for policy in POLICIES if policy in policies)


def augmented(images: tf.Tensor, policies: Iterable[str], seed: tf.Tensor) -> tf.Tensor:
    """T(x): each image changed by chance, in a way that a gradient passes.

    `"translation"` moves it by up to an eighth of each side, `"mirror"` turns half of them left to right, `"color"`
    changes brightness, saturation and contrast, `"cutout"` covers a square of half the side; what is uncovered or
    covered so is 0, mid gray. It shows how far an image was moved, so that a generator does not learn to draw moved
    ones; that some are mirrored nothing shows, so it draws such, too.

    Args:
        images: `(batch, height, width, channels)` in [-1, 1], real or generated.
        policies: Names out of `POLICIES`.
        seed: Two integers; the change is a function of them.

    Returns:
        The images' shape; colours may leave [-1, 1].

    References:
        Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", arXiv 2006.10738, eq. 4 and 5.
    """
    for policy in policies:
        seed = tf.random.experimental.stateless_fold_in(seed, 1)
        images = _CHANGES[policy](images, seed)
    return images


def moved(images: tf.Tensor, most: float, seed: tf.Tensor) -> tf.Tensor:
    """Each image moved by chance, by up to `most` of each side; its edge is repeated where nothing moves in."""
    return _translated(images, seed, most, "edge")


def widest_move(images: np.ndarray) -> float:
    """The largest of `MOVES` by which images `moved` differ less than twice as much from each other as they do; or 0.

    Parts that are always seen at the same place must not be moved: what is drawn would lie anywhere. Where they move
    anyway, a few of them stand for many when they are.
    """
    batch = tf.constant(images)
    spread = np.mean(np.var(images, axis=0))
    seed = tf.constant([0, 0], tf.int64)
    return next((most for most in MOVES if np.mean(np.var(moved(batch, most, seed), axis=0)) < 2 * spread), 0.0)


def _translated(images, seed, most=TRANSLATION, beyond="zeros"):
    batch, height, width, channels = _sizes(images)
    rows, columns = (
        tf.range(side) + _shifts(seed + i, batch, round(side * most)) for i, side in enumerate((height, width))
    )  # (batch, height), (batch, width)
    inside = [(where >= 0) & (where < side) for where, side in ((rows, height), (columns, width))]
    rows, columns = tf.clip_by_value(rows, 0, height - 1), tf.clip_by_value(columns, 0, width - 1)
    flat = tf.reshape(images, (batch, height * width, channels))
    found = tf.gather(flat, rows[:, :, None] * width + columns[:, None, :], batch_dims=1)
    if beyond == "zeros":
        found *= tf.cast(inside[0][:, :, None] & inside[1][:, None, :], images.dtype)[..., None]
    return tf.ensure_shape(found, images.shape)


def _shifts(seed, batch, most):
    return tf.random.stateless_uniform((batch, 1), seed, -most, most + 1, dtype=tf.int32)


def _mirrored(images, seed):
    chosen = tf.random.stateless_uniform((tf.shape(images)[0], 1, 1, 1), seed) < 0.5
    return tf.where(chosen, tf.reverse(images, [2]), images)


def _recoloured(images, seed):
    batch = tf.shape(images)[0]
    brightness, saturation, contrast = tf.unstack(tf.random.stateless_uniform((3, batch, 1, 1, 1), seed))
    images += brightness - 0.5
    images = _stretched(images, axes=(3,), factor=2.0 * saturation)
    return _stretched(images, axes=(1, 2, 3), factor=0.5 + contrast)


def _stretched(images, axes, factor):
    mean = tf.reduce_mean(images, axes, keepdims=True)
    return mean + factor * (images - mean)


def _cut_out(images, seed):
    batch, height, width, _ = _sizes(images)
    kept = []
    for i, side in enumerate((height, width)):
        centre = tf.random.stateless_uniform((batch, 1), seed + i, maxval=side + 1, dtype=tf.int32)
        kept.append(tf.abs(2 * tf.range(side) + 1 - 2 * centre) > round(side * CUTOUT))
    outside = kept[0][:, :, None] | kept[1][:, None, :]
    return images * tf.cast(outside, images.dtype)[..., None]


def _sizes(images):
    return tf.shape(images)[0], *images.shape[1:]


_CHANGES: dict[str, Callable] = {
    "translation": _translated,
    "mirror": _mirrored,
    "color": _recoloured,
    "cutout": _cut_out,
}
