"""Samples to `tf.data`: shuffled batches to train on, ordered batches to score."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from anogan_tf.data.samples import Preprocessing, Samples


def training(samples: Samples, preprocessing: Preprocessing, batch_size: int, seed: int) -> tf.data.Dataset:
    """(image, label) batches, in an order that is a function of (seed, epoch).

    With a scale in `preprocessing` they are of random patches: an epoch takes as many of each image as would cover it
    once, each at a place of its own, uniform over the image and a function of (seed, epoch) too.

    The epoch is the Variable `dataset.epoch`; a GAN's `fit` sets it, and every pass counts it up, so that other
    loops see another order each time too. A last batch that is not full is left out, as batch normalisation over a
    few images harms; images that are left out differ from epoch to epoch.
    """
    owners = np.arange(len(samples)) if preprocessing.scale is None else _patch_owners(samples, preprocessing)
    n = len(owners)
    batch_size = min(batch_size, n)
    epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch")

    def order(_):
        state = tf.stack([seed, epoch.read_value()])
        shuffled = tf.random.experimental.stateless_shuffle(owners, state)
        places = tf.random.stateless_uniform((n, 2), tf.random.experimental.stateless_fold_in(state, 1))
        with tf.control_dependencies([shuffled, places]):
            epoch.assign_add(1)
        return tf.data.Dataset.from_tensor_slices((shuffled, places))

    def read(indices, places):
        if preprocessing.scale is None:
            return _read_batch(samples, preprocessing, indices)[0]
        return _read_patches(samples, preprocessing, indices, places)

    def load(indices, places):
        images = tf.numpy_function(read, [indices, places], tf.float32)
        images = tf.ensure_shape(images, (batch_size, *preprocessing.image_shape))
        return images, tf.zeros((batch_size,), tf.int64)

    dataset = tf.data.Dataset.range(1).flat_map(order).batch(batch_size, drop_remainder=True)
    dataset = dataset.map(load, num_parallel_calls=2, deterministic=True)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(n // batch_size)).prefetch(tf.data.AUTOTUNE)
    dataset.epoch = epoch
    return dataset


def ordered(samples: Samples, preprocessing: Preprocessing, batch_size: int) -> tf.data.Dataset:
    """Batches as dicts, in order: `image`, `label`, `id`, `height`, `width`, and some where the source has them.

    These are `mask` with `has_mask`, whether it is known, and `file` and `bits`, from which the picture itself can be
    read again. With a scale in `preprocessing` an image a batch, as each may have a size of its own. `dataset.images`
    is their number.
    """
    names = ("image", "height", "width", "mask")[: 3 if samples.masks is None else 4]
    types = (tf.float32, tf.int64, tf.int64, tf.bool)[: len(names)]
    columns = {"label": samples.labels, "id": np.array([os.fsencode(name) for name in samples.ids])}
    if samples.files is not None:
        columns["file"] = np.array([os.fsencode(file) for file in samples.files])
        columns["bits"] = np.full(len(samples), preprocessing.bits)
    if samples.masks is not None:
        columns["has_mask"] = samples.have_masks

    def read(indices):
        images, sizes = _read_batch(samples, preprocessing, indices)
        heights, widths = np.transpose(sizes).astype(np.int64)
        if samples.masks is None:
            return images, heights, widths
        return images, heights, widths, _read_masks(samples, preprocessing, indices, sizes)

    def load(indices):
        batch = dict(zip(names, tf.numpy_function(read, [indices], types), strict=True))
        batch["image"] = tf.ensure_shape(batch["image"], (None, *preprocessing.common_shape))
        return batch | {name: tf.gather(column, indices) for name, column in columns.items()}

    dataset = tf.data.Dataset.range(len(samples)).batch(batch_size if preprocessing.scale is None else 1)
    dataset = dataset.map(load, num_parallel_calls=2, deterministic=True).prefetch(1)
    dataset.images = len(samples)
    return dataset


def _patch_owners(samples, preprocessing):
    """For each patch of an epoch the image it is of: an image's area over that of a patch, rounded, times."""
    height, width, _ = preprocessing.image_shape
    areas = samples.shapes(preprocessing)[:, :2].prod(axis=1)
    return np.repeat(np.arange(len(samples)), np.rint(areas / (height * width)).astype(int))


def _read_patches(samples, preprocessing, indices, places):
    """Patches of the images at `indices`, `(batch, height, width, channels)`, at `places`, see `Samples.read_patch`."""
    pairs = zip(indices, places, strict=True)
    if samples.are_files:
        with ThreadPoolExecutor() as pool:
            return np.stack(list(pool.map(lambda pair: samples.read_patch(*pair, preprocessing), pairs)))
    return np.stack([samples.read_patch(*pair, preprocessing) for pair in pairs])


def _read_batch(samples, preprocessing, indices):
    """The images at `indices`, `(batch, height, width, channels)`, and the sizes of their pictures."""
    if samples.are_files:
        with ThreadPoolExecutor() as pool:
            read = list(pool.map(lambda index: samples.read(index, preprocessing), indices))
    else:
        read = [samples.read(index, preprocessing) for index in indices]
    images, sizes = zip(*read, strict=True)
    return np.stack(images).astype(np.float32), sizes


def _read_masks(samples, preprocessing, indices, sizes):
    """Masks `(batch, height, width)`, padded with False to the largest of the batch; False where there is none."""
    masks = np.zeros((len(indices), *np.max(sizes, axis=0)), bool)
    for row, (index, size) in enumerate(zip(indices, sizes, strict=True)):
        mask = samples.mask(index, preprocessing)
        if mask is not None:
            masks[row, : size[0], : size[1]] = mask
    return masks
