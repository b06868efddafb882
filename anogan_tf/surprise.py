"""How badly a self-supervised discriminator does its tasks, weighed as normal images tell."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from anogan_tf.learned import Learned, check_enough

SURE = (0.4, 0.5)  # shares of what was done to normal images that D tells, between which β grows from 0 to 1
LEAST = 1e-6  # deviation


class Surprise(Learned):
    """How unlikely D finds what was done to an image, task by task.

    The score is Σ w_k E_t[(1 - p_k^β) / β], over the tasks k and the transformations t, with the probability p_k that D
    gives to what task k did in t; for β = 0 that is E_t[-log p_k] (with another sign the Box-Cox transform of p_k). The
    weights are inverse to the deviation over normal images, with a mean of 1: a task at which D does badly anyway is to
    count for less. Where D is sure, one transformation in which it is wrong outweighs all others by its logarithm; so
    there probabilities decide, and β = 1.

    Args:
        weights: w_k, `(tasks,)`.
        power: β, from 0 to 1.

    References:
        Golan and El-Yaniv, arXiv 1805.10917, section 5 (β = 1, of one task), and Hendrycks et al., arXiv 1906.12340,
        section 4 (β = 0, the sum over tasks).
    """

    ARRAYS = ("weights", "power")

    def __init__(self, weights: np.ndarray, power: float | np.ndarray) -> None:
        self.weights = np.asarray(weights, np.float32)
        self.power = np.float32(power)

    @classmethod
    def fit(cls, log_likelihoods: np.ndarray, told: float | None = None) -> Surprise:
        """Learns from log p_k of n normal images, `(n, transformations, tasks)`.

        Args:
            log_likelihoods: The log p_k.
            told: `share_told` of normal images that D was not trained on; None where these are such.

        Raises:
            ValueError: For fewer than 2 images.
        """
        check_enough(len(log_likelihoods))
        start, end = SURE
        told = share_told(log_likelihoods) if told is None else told
        power = np.clip((told - start) / (end - start), 0.0, 1.0)
        each = _surprise(np.asarray(log_likelihoods, np.float64), power).mean(axis=1)
        weights = 1.0 / (each.std(axis=0) + LEAST)
        return cls(weights / weights.mean(), power)

    def __call__(self, log_likelihoods: np.ndarray) -> np.ndarray:
        """The score of each image, `(batch,)`."""
        each = _surprise(log_likelihoods, self.power).mean(axis=1)  # (batch, tasks)
        return (each * self.weights).sum(axis=1)

    def tensor(self, log_likelihoods: tf.Tensor) -> tf.Tensor:
        """The same of a tensor, in operations that all formats of exports have."""
        each = (1.0 - tf.exp(self.power * log_likelihoods)) / self.power if self.power else -log_likelihoods
        return tf.reduce_sum(tf.reduce_mean(each, axis=1) * self.weights, axis=1)


def share_told(log_likelihoods: np.ndarray) -> float:
    """The share of what was done to images that D tells, I = 1 + E_t[log p(t | t(x))] / log |T|: 0 where it guesses."""
    return 1.0 + float(log_likelihoods.sum(axis=2).mean()) / np.log(log_likelihoods.shape[1])


def _surprise(log_likelihoods, power):
    return -np.expm1(power * log_likelihoods) / power if power else -log_likelihoods
