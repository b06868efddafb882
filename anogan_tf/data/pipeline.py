"""Samples to `tf.data`: shuffled batches to train on, ordered batches to score."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf


def training(samples, preprocessing, batch_size, seed):
    """(image, label) batches, in an order that is a function of (seed, epoch).

    The epoch is the Variable `dataset.epoch`; a GAN's `fit` sets it, and every pass counts it up, so that other
    loops see another order each time too. A last batch that is not full is left out, as batch normalisation over a
    few images harms; images that are left out differ from epoch to epoch.
    """
    n = len(samples)
    batch_size = min(batch_size, n)
    epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch")

    def order(_):
        shuffled = tf.random.experimental.stateless_shuffle(tf.range(n), tf.stack([seed, epoch.read_value()]))
        with tf.control_dependencies([shuffled]):
            epoch.assign_add(1)
        return tf.data.Dataset.from_tensor_slices(shuffled)

    def read(indices):
        return _read_batch(samples, preprocessing, indices)[0]

    def load(indices):
        images = tf.numpy_function(read, [indices], tf.float32)
        images = tf.ensure_shape(images, (batch_size, *preprocessing.image_shape))
        return images, tf.zeros((batch_size,), tf.int64)

    dataset = tf.data.Dataset.range(1).flat_map(order).batch(batch_size, drop_remainder=True)
    dataset = dataset.map(load, num_parallel_calls=2, deterministic=True)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(n // batch_size)).prefetch(tf.data.AUTOTUNE)
    dataset.epoch = epoch
    return dataset


def ordered(samples, preprocessing, batch_size):
    """Batches as dicts, in order: `image`, `label`, `id`, `height`, `width`, and some where the source has them.

    These are `mask`, and `file` and `bits`, from which the picture itself can be read again.
    """
    names = ("image", "height", "width", "mask")[: 3 if samples.masks is None else 4]
    types = (tf.float32, tf.int64, tf.int64, tf.bool)[: len(names)]
    columns = {"label": samples.labels, "id": np.array([os.fsencode(name) for name in samples.ids])}
    if samples.files is not None:
        columns["file"] = np.array([os.fsencode(file) for file in samples.files])
        columns["bits"] = np.full(len(samples), preprocessing.bits)

    def read(indices):
        images, sizes = _read_batch(samples, preprocessing, indices)
        heights, widths = np.transpose(sizes).astype(np.int64)
        if samples.masks is None:
            return images, heights, widths
        return images, heights, widths, _read_masks(samples, preprocessing, indices, sizes)

    def load(indices):
        batch = dict(zip(names, tf.numpy_function(read, [indices], types), strict=True))
        batch["image"] = tf.ensure_shape(batch["image"], (None, *preprocessing.image_shape))
        return batch | {name: tf.gather(column, indices) for name, column in columns.items()}

    dataset = tf.data.Dataset.range(len(samples)).batch(batch_size)
    return dataset.map(load, num_parallel_calls=2, deterministic=True).prefetch(1)


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
    """Masks `(batch, height, width)`, padded with False to the largest of the batch."""
    masks = np.zeros((len(indices), *np.max(sizes, axis=0)), bool)
    for row, (index, size) in enumerate(zip(indices, sizes, strict=True)):
        mask = samples.mask(index, size, preprocessing)
        masks[row, : mask.shape[0], : mask.shape[1]] = mask
    return masks
