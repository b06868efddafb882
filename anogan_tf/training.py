"""What a training is made of, the same for GANs and encoders: its data and options, its seeds, its gradients."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from anogan_tf.callbacks import DataOrder

UNUSED = ("validation_data", "validation_split", "class_weight", "sample_weight")  # of Keras' fit


def step_seed(seed: int, step: tf.Tensor, draw: int) -> tf.Tensor:
    """The seed of one random draw of one step on this replica, a function of nothing else.

    So an interrupted and resumed training draws what an unbroken one draws, and no two replicas draw the same.

    Args:
        seed: The model's.
        step: Number of the step, a scalar integer tensor.
        draw: Number of the draw within the step.

    Returns:
        Two int64, for `tf.random.stateless_*`.
    """
    folded = tf.constant([seed, 0], tf.int64)
    for number in (step, draw, tf.distribute.get_replica_context().replica_id_in_sync_group):
        folded = tf.random.experimental.stateless_fold_in(folded, tf.cast(number, tf.int64))
    return folded


def optimizer(identifier: str | dict | keras.Optimizer, name: str) -> keras.Optimizer:
    """The Keras 3 optimizer of an argument called `name`, which may be given by its name; else a ValueError."""
    try:
        return keras.optimizers.get(identifier)
    except ValueError:
        raise ValueError(
            f'{name} is an optimizer of Keras 3, such as keras.optimizers.Adam(1e-4), or its name, such as "adam". '
            f"Received: {name}={identifier!r} of {type(identifier).__module__}."
        ) from None


def prepared(
    optimizer: keras.Optimizer, variables: Sequence[keras.Variable], dtype_policy: keras.DTypePolicy
) -> keras.Optimizer:
    """The optimizer, with loss scaling where float16 needs it, and its slots made for `variables`."""
    if dtype_policy.name == "mixed_float16" and not hasattr(optimizer, "inner_optimizer"):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)
    return optimizer


def check_compile(options: dict[str, Any], optimizers: str) -> None:
    """Raises a ValueError if `compile` is given what Keras' own takes and ours does not, such as a loss."""
    unused = sorted({"optimizer", "loss", "loss_weights", "metrics", "weighted_metrics"} & set(options))
    if unused:
        raise ValueError(
            f"The losses and metrics are those of the paper: compile takes {optimizers}. Received: {', '.join(unused)}."
        )


def replica_loss(loss: tf.Tensor, optimizer: keras.Optimizer) -> tf.Tensor:
    """The part of the loss that is this replica's, as optimizers sum gradients over replicas, scaled for float16."""
    return optimizer.scale_loss(loss / tf.distribute.get_strategy().num_replicas_in_sync)


def descend(
    tape: tf.GradientTape, loss: tf.Tensor, variables: Sequence[keras.Variable], optimizer: keras.Optimizer
) -> None:
    """One step of `optimizer` on `variables`, down the gradient of a `replica_loss`."""
    optimizer.apply(tape.gradient(loss, [variable.value for variable in variables]), variables)


def results(metrics: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """What a training step returns of its metrics; among several workers of one number each, `(1,)`.

    Keras takes their mean over workers along an axis, which a scalar has not (its issue 20585).
    """
    if not isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy):
        return metrics
    return {name: tf.reshape(value, (1,)) for name, value in metrics.items()}


def images_of(data: Any) -> tf.Tensor:
    """The images of one batch of a training step, in float32 under any policy; labels are left out."""
    images, _, _ = keras.utils.unpack_x_y_sample_weight(data)
    return tf.cast(images, tf.float32)


def fit_arguments(x: Any, image_shape: tuple[int, int, int], callbacks: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of Keras' `fit` for training on images alone.

    Args:
        x: Images `(n, height, width, channels)` in [-1, 1] as an array; or batches of them, or of (images, labels), as
            a `tf.data.Dataset`, a `keras.utils.PyDataset`, or any iterator.
        image_shape: What the networks take.
        callbacks: Those of the user.
        options: All else.

    Raises:
        ValueError: If the first batch has values outside [-1, 1], or in [0, 1], or another shape; or for an option
            that has no meaning here.
    """
    unused = [name for name in UNUSED if _given(options.pop(name, None))]
    if unused:
        raise ValueError(
            "Training knows no validation, and weighs all images alike: score held-out images instead. Received: "
            f"{', '.join(unused)}."
        )
    options.setdefault("shuffle", _is_array(x))  # Keras warns of it where it shuffles nothing
    own = [DataOrder(x), *keras.tree.flatten(callbacks or [])]
    return {"x": _checked(x, image_shape), "callbacks": own, **options}


def check_images(images: Any, image_shape: tuple[int, int, int], what: str, *, read_here: bool = False) -> None:
    """Raises a ValueError if a batch of images, called `what`, is not of the shape, or its values are not in [-1, 1].

    Images in [0, 1] are told from bright ones in [-1, 1]; where they cannot be, and were not `read_here`, it warns.
    """
    shape = tuple(images.shape)
    if shape == image_shape:
        raise ValueError(
            f"The networks take batches of images, (batch, {', '.join(map(str, shape))}): of a tf.data.Dataset "
            f".batch(32) is missing. Received: {what} of shape {shape}."
        )
    if shape[1:] != image_shape or not shape[0]:
        raise ValueError(f"The networks take images of shape {image_shape}. Received: {what} of shape {shape}.")
    low, high = float(np.min(images)), float(np.max(images))
    told = f"Images are floats in [-1, 1], such as image / 127.5 - 1 of bytes. Received: {what} in [{low:g}, {high:g}]"
    if not (low >= -1.0 and high <= 1.0):
        raise ValueError(f"{told}.")
    if low < 0.0:
        return
    levels = np.asarray(images, np.float64) * 255.0
    of_bytes = np.abs(levels - np.rint(levels)).max() < 1e-3  # in [-1, 1] these are odd numbers of 255ths, and never 0
    if low == 0.0 or (of_bytes and (np.rint(levels) % 2 == 0).any()):
        raise ValueError(f"{told}.")
    if not (of_bytes or read_here):
        warnings.warn(f"{told}; unless these are bright all over, they are in another range.", stacklevel=2)


def _checked(x, image_shape):
    """`x` as Keras takes it, after a look at all images of an array, else at the first batch, which is not lost."""
    if _is_array(x):
        images = np.asarray(x)
        check_images(images, image_shape, "images")
        return images
    batches = iter(x)
    first = next(batches, None)
    if first is None:
        raise ValueError("There is nothing to train on. Received: no batch of images.")
    check_images(_images(first), image_shape, "a first batch", read_here=hasattr(x, "epoch"))  # as those of `data` have
    if batches is x:
        return ((_images(batch),) for batch in itertools.chain([first], batches))  # Keras takes generators of tuples
    if isinstance(x, tf.data.Dataset):
        if x.cardinality() == tf.data.UNKNOWN_CARDINALITY and not tf.distribute.has_strategy():
            x = _gone_on_with(x, first, batches)
        return x.map(lambda *batch: tf.ensure_shape(batch[0], (None, *image_shape)))
    return x


def _gone_on_with(dataset, first, batches):
    """A data set whose first pass is the one that was begun: one of a generator may give its batches only once."""
    passes = iter([itertools.chain([first], batches)])
    return tf.data.Dataset.from_generator(lambda: next(passes, dataset), output_signature=dataset.element_spec)


def _given(option):
    return option is not None and not (isinstance(option, float) and option == 0.0)  # Keras' own defaults


def _is_array(x):
    return isinstance(x, list) or hasattr(x, "__array__")


def _images(batch):
    images, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
    if not hasattr(images, "shape"):
        raise ValueError(f"Batches are of images or of (images, labels). Received: a batch of {type(images).__name__}.")
    return images
