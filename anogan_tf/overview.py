"""How unusual a picture is as a whole, and how that joins what is found at its places."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from anogan_tf.gaussian import whitening

LEAST = 0.05  # added to the spread of a feature, before its logarithm
SHARES = np.array([2.0, 1.0]) / 3.0  # in a score, of what is found at places, and of the whole
TINY = 1e-30  # in place of a division by 0
NARROWEST = 1e-3  # deviation of log-scores


@dataclasses.dataclass(frozen=True)
class Overview:
    """How far a picture's local features, taken together, are from those of normal pictures.

    A picture is described by the mean m of each feature over all places, and by log(s + 0.05), s its standard
    deviation. The distance is (v - μ)ᵀ Σ⁻¹ (v - μ) / k of such descriptions v of k numbers, with the mean μ and the
    covariance Σ of normal pictures', the latter shrunk, as they are few (`gaussian.whitening`). It sees what no single
    place shows: another material, an organ of another brightness, a blur all over. Features are those without
    direction (`local_features.undirected`).

    Args:
        mean: μ, `(k,)`.
        whitening: W with W Wᵀ = Σ⁻¹, `(k, k)`.
    """

    mean: np.ndarray
    whitening: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray) -> Overview:
        """Learns from `(n, rows, columns, features)`, of at least 2 normal pictures."""
        described = np.stack([_described(picture) for picture in features])
        factor = whitening(described, LEAST)
        return cls(described.mean(axis=0), np.ascontiguousarray(factor))  # another layout rounds in another way

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """The distances of pictures with features `(n, rows, columns, features)`, `(n,)`; one after the other."""
        away = (_described(picture) - self.mean for picture in features)
        return np.array([np.mean(np.square(each @ self.whitening)) for each in away])

    def tensor(self, features: tf.Tensor) -> tf.Tensor:
        """The same of one picture's features, `(1,)`, in operations that all formats of exports have.

        These have 32 bits, and few normal pictures make W steep: so what is summed is how far each place is from the
        usual mean μ and the usual variance σ², small numbers. log(s + 0.05) - log(σ + 0.05) is
        log(1 + (s² - σ²) / ((s + σ) (σ + 0.05))).
        """
        usual, logs = np.split(self.mean.astype(np.float64), 2)
        sigma = np.exp(logs) - LEAST
        upper = usual.astype(np.float32)
        lower = (usual - upper).astype(np.float32)
        square = np.square(sigma).astype(np.float32)
        away = tf.reshape(features, (-1, features.shape[-1])) - upper
        mean = tf.reduce_mean(away, axis=0)
        wider = tf.reduce_mean(tf.square(away - mean) - square, axis=0)
        spread = tf.sqrt(tf.maximum(wider + square, 0.0))
        wider /= tf.maximum(spread + sigma.astype(np.float32), TINY) * np.exp(logs).astype(np.float32)
        described = tf.concat([mean - lower, tf.math.log1p(wider)], axis=0)[None]
        return tf.reduce_mean(tf.square(tf.matmul(described, self.whitening.astype(np.float32))), axis=1)


@dataclasses.dataclass(frozen=True)
class Joined:
    """One score of two: their logarithms, in deviations above the mean of normal pictures', two thirds and one third.

    Args:
        means: Of log(1 + score) of normal pictures that nothing was learned from, at places and of the whole, `(2,)`.
        deviations: Theirs, `(2,)`.
    """

    means: np.ndarray
    deviations: np.ndarray

    @classmethod
    def fit(cls, scores: np.ndarray) -> Joined:
        """Learns from `(n, 2)` scores of normal pictures."""
        logs = _logarithms(scores)
        return cls(logs.mean(axis=0), np.maximum(logs.std(axis=0), NARROWEST))

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """The score of each picture, `(n,)` in float32, of its two, `(n, 2)`."""
        return ((_logarithms(scores) - self.means) / self.deviations * SHARES).sum(axis=1).astype(np.float32)

    def tensor(self, scores: tf.Tensor) -> tf.Tensor:
        """As `__call__`."""
        logs = tf.math.log1p(tf.maximum(scores, 0.0))
        standard = (logs - self.means.astype(np.float32)) / self.deviations.astype(np.float32)
        return tf.reduce_sum(standard * SHARES.astype(np.float32), axis=1)


def _logarithms(scores):
    return np.log1p(np.maximum(scores, 0.0))


def _described(features):
    """The means and the logarithms of the spreads of a picture's features `(rows, columns, features)`, `(k,)`."""
    flat = np.asarray(features, np.float64).reshape(-1, features.shape[-1])
    return np.concatenate([flat.mean(axis=0), np.log(flat.std(axis=0) + LEAST)])
