"""The latent search: for each image the z whose G(z) is closest to it, by gradient descent with Adam."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7  # of Keras' Adam


class LatentSearch:
    """Minimises a loss over many z at once, each on its own.

    z is a `tf.Variable` of fixed shape, and the search one `tf.function` whose graph loop runs any number of steps;
    everything between two calls lives in Variables, so a search can be watched, interrupted, and used again without
    another trace. The loss of row i depends on row i alone and Adam is element-wise, hence so is the result.

    Args:
        loss: Function of z `(rows, latent_dim)` and of `context` to the loss of each row `(rows,)`.
        rows: Number of z searched at once.
        latent_dim: Dimension of z.
        learning_rate: A float or a `keras.optimizers.schedules.LearningRateSchedule`, of Adam.

    References:
        Schlegl et al., "Unsupervised Anomaly Detection with Generative Adversarial Networks to Guide Marker
        Discovery", arXiv 1703.05921, section 2.2.
    """

    def __init__(
        self,
        loss: Callable[[tf.Tensor, Any], tf.Tensor],
        rows: int,
        latent_dim: int,
        *,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    ) -> None:
        self.loss = loss
        self.z = tf.Variable(tf.zeros((rows, latent_dim)), trainable=True, name="z")
        self.best_z = tf.Variable(tf.zeros((rows, latent_dim)), trainable=False, name="best_z")
        self.best_loss = tf.Variable(tf.fill((rows,), float("inf")), trainable=False, name="best_loss")
        self.optimizer = keras.optimizers.Adam(learning_rate)
        self.optimizer.build([self.z])
        self._initial = [tf.identity(variable.value) for variable in self.optimizer.variables]

    def start(self, z0: tf.Tensor) -> None:
        """Begins anew from `z0`, `(rows, latent_dim)`; nothing of an earlier search is left."""
        self.z.assign(z0)
        self.best_z.assign(z0)
        self.best_loss.assign(tf.fill(self.best_loss.shape, float("inf")))
        for variable, value in zip(self.optimizer.variables, self._initial, strict=True):
            variable.assign(value)

    @tf.function(autograph=False, reduce_retracing=True)
    def advance(self, context: Any, steps: tf.Tensor) -> tf.Tensor:
        """Takes `steps` (a scalar tensor) steps of Adam, and returns the loss at the z reached, `(rows,)`."""

        def step(done):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(self.z)
                loss = self.loss(self.z, context)
            self._keep_best(loss)
            self.optimizer.apply([tape.gradient(loss, self.z)], [self.z])
            return (done + 1,)

        tf.while_loop(lambda done: done < steps, step, (tf.constant(0),))
        loss = self.loss(self.z, context)
        self._keep_best(loss)
        return loss

    def _keep_best(self, loss):
        better = loss < self.best_loss
        self.best_z.assign(tf.where(better[:, None], self.z, self.best_z))
        self.best_loss.assign(tf.where(better, loss, self.best_loss))


def minimised(
    loss: Callable[[tf.Tensor], tf.Tensor],
    z0: tf.Tensor,
    steps: int,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The search of a `LatentSearch` as a function without state, for what is saved: Adam is in the loop.

    Args:
        loss: Function of z `(rows, latent_dim)` to the loss of each row `(rows,)`.
        z0: Where each row begins, `(rows, latent_dim)`.
        steps: How many to take.
        learning_rate: As of a `LatentSearch`.

    Returns:
        The z with the lowest loss of each row, and that loss.

    References:
        Kingma and Ba, "Adam", arXiv 1412.6980, the last lines of section 2.
    """
    if steps == 0:  # without gradients, which not all formats have
        return z0, loss(z0)
    is_schedule = isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule)
    with tf.init_scope():  # numbers, also while a graph is traced
        rates = [float(learning_rate(step)) if is_schedule else learning_rate for step in range(steps)]
    counts = np.arange(1, steps + 1)
    sizes = tf.constant(rates * np.sqrt(1.0 - BETA_2**counts) / (1.0 - BETA_1**counts), tf.float32)  # (steps,)

    def better(z, value, best_z, best):
        return tf.where((value < best)[:, None], z, best_z), tf.minimum(value, best)

    def step(done, z, mean, square, best_z, best):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(z)
            value = loss(z)
        best_z, best = better(z, value, best_z, best)
        slope = tape.gradient(value, z)
        mean += (slope - mean) * (1.0 - BETA_1)
        square += (tf.square(slope) - square) * (1.0 - BETA_2)
        z -= sizes[done] * mean / (tf.sqrt(square) + EPSILON)
        return done + 1, z, mean, square, best_z, best

    none = tf.zeros_like(z0)
    start = (tf.constant(0), z0, none, none, z0, tf.fill(tf.shape(z0)[:1], float("inf")))
    _, z, _, _, best_z, best = tf.while_loop(lambda done, *_: done < steps, step, start)
    return better(z, loss(z), best_z, best)


def initial_z(
    rows: int | tf.Tensor, latent_dim: int, *, restarts: int = 1, prior: str = "normal", seed: int = 0
) -> tf.Tensor:
    """The starting points: restart r of every image starts at the same z, a function of `(seed, r)` alone.

    Args:
        rows: Number of images.
        latent_dim: Dimension of z.
        restarts: Starts for each image.
        prior: `"normal"` for N(0, 1), `"uniform"` for uniform(-1, 1).
        seed: Any integer.

    Returns:
        `(rows * restarts, latent_dim)`, the restarts of one image next to each other.
    """
    with tf.init_scope():  # numbers, also while a graph is traced
        starts = tf.stack([sample_prior((latent_dim,), prior, (seed, r)) for r in range(restarts)])
    return tf.tile(starts, (rows, 1))  # (rows * restarts, latent_dim)


def sample_prior(shape: Sequence[int | tf.Tensor], prior: str, seed: Sequence[int] | tf.Tensor) -> tf.Tensor:
    """Draws z from its prior, as a function of the `seed` of two integers."""
    if prior == "normal":
        return tf.random.stateless_normal(shape, seed)
    return tf.random.stateless_uniform(shape, seed, minval=-1.0, maxval=1.0)
