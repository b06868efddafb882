"""What a training step is made of, the same for GANs and encoders: its seed, its gradients, its data."""

import keras
import tensorflow as tf


def step_seed(seed, step, draw):
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


def prepared(optimizer, variables, dtype_policy):
    """The optimizer, with loss scaling where float16 needs it, and its slots made for `variables`."""
    if dtype_policy.name == "mixed_float16" and not hasattr(optimizer, "inner_optimizer"):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)
    return optimizer


def replica_loss(loss, optimizer):
    """The part of the loss that is this replica's, as optimizers sum gradients over replicas, scaled for float16."""
    return optimizer.scale_loss(loss / tf.distribute.get_strategy().num_replicas_in_sync)


def descend(tape, loss, variables, optimizer):
    """One step of `optimizer` on `variables`, down the gradient of a `replica_loss`."""
    optimizer.apply(tape.gradient(loss, [variable.value for variable in variables]), variables)


def check_images(dataset, image_shape):
    """Raises a ValueError if the first batch cannot be images of `image_shape` in [-1, 1]."""
    images, _, _ = keras.utils.unpack_x_y_sample_weight(next(iter(dataset)))
    if tuple(images.shape[1:]) != image_shape:
        raise ValueError(f"The networks take images of shape {image_shape}. Received: batches of shape {images.shape}.")
    low, high = float(tf.reduce_min(images)), float(tf.reduce_max(images))
    if not (-1.0 <= low < 0.0 and high <= 1.0):
        raise ValueError(
            f"Images are floats in [-1, 1], such as image / 127.5 - 1 of bytes. Received: a first batch in [{low:g}, "
            f"{high:g}]."
        )
