"""Differentiable augmentation of what a discriminator sees, so that few images do not let it learn them by heart."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import tensorflow as tf

POLICIES = ("translation", "color", "cutout")
TRANSLATION = 1 / 8  # of the side, at most
CUTOUT = 1 / 2  # of the side


def check_policies(policies: str | Iterable[str]) -> tuple[str, ...]:
    """The policies as a tuple without repetitions, in the order of `POLICIES`, or a ValueError."""
    policies = (policies,) if isinstance(policies, str) else tuple(policies)
    unknown = [policy for policy in policies if policy not in POLICIES]
    if unknown or not policies:
        raise ValueError(f"augment is None or one or several of {POLICIES}. Received: {policies}.")
    return tuple(policy for policy in POLICIES if policy in policies)


def augmented(images: tf.Tensor, policies: Iterable[str], seed: tf.Tensor) -> tf.Tensor:
    """T(x): each image changed by chance, in a way that a gradient passes.

    `"translation"` moves it by up to an eighth of each side, and repeats its edge where nothing moves in; `"color"`
    changes brightness, saturation and contrast; `"cutout"` covers a square of half the side with 0, mid gray.

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


def _translated(images, seed):
    batch, height, width, channels = _sizes(images)
    rows, columns = (
        tf.clip_by_value(tf.range(side) + _shifts(seed + i, batch, round(side * TRANSLATION)), 0, side - 1)
        for i, side in enumerate((height, width))
    )  # (batch, height), (batch, width)
    flat = tf.reshape(images, (batch, height * width, channels))
    moved = tf.gather(flat, rows[:, :, None] * width + columns[:, None, :], batch_dims=1)
    return tf.ensure_shape(moved, images.shape)


def _shifts(seed, batch, most):
    return tf.random.stateless_uniform((batch, 1), seed, -most, most + 1, dtype=tf.int32)


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


_CHANGES: dict[str, Callable] = {"translation": _translated, "color": _recoloured, "cutout": _cut_out}
