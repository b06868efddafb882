"""A Gaussian of normal images' feature vectors, and how far others are from its mean."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from sklearn.covariance import LedoitWolf

from anogan_tf.learned import Learned, check_enough

REGULARISATION = 1e-3  # of variances, of vectors scaled to a variance of 1


class Gaussian(Learned):
    """How unlikely feature vectors are under a Gaussian of those of normal images.

    The score is the squared Mahalanobis distance (v - μ)ᵀ Σ⁻¹ (v - μ) / k of a vector v of k elements, with the mean μ
    and the covariance Σ of normal images' vectors, the latter shrunk, as images may be few.

    Args:
        mean: μ, `(k,)`.
        whitening: W with W Wᵀ = Σ⁻¹, `(k, k)`.

    References:
        Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks",
        arXiv 1807.03888, eq. 2; of one class here.
    """

    ARRAYS = ("mean", "whitening")

    def __init__(self, mean: np.ndarray, whitening: np.ndarray) -> None:
        self.mean = np.asarray(mean, np.float32)
        self.whitening = np.ascontiguousarray(whitening, np.float32)  # another layout rounds in another way

    @classmethod
    def fit(cls, vectors: np.ndarray) -> Gaussian:
        """Learns from `(n, k)`.

        Raises:
            ValueError: For fewer than 2 vectors.
        """
        check_enough(len(vectors))
        vectors = np.asarray(vectors, np.float64)
        return cls(vectors.mean(axis=0), whitening(vectors, least=1e-6))

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """The score of each vector, `(batch,)`; one at a time, as a matrix product rounds a row by its place."""
        return np.array([np.mean(np.square((vector - self.mean) @ self.whitening)) for vector in vectors])

    def tensor(self, vectors: tf.Tensor) -> tf.Tensor:
        """The same of a tensor `(batch, k)`, for what is saved: it rounds in another way."""
        return tf.reduce_mean(tf.square(tf.matmul(vectors - self.mean, self.whitening)), axis=1)


def whitening(vectors: np.ndarray, least: float) -> np.ndarray:
    """W with W Wᵀ = Σ⁻¹, `(k, k)`, of the shrunk covariance Σ of vectors `(n, k)`.

    Args:
        vectors: Of normal images.
        least: The smallest deviation that an element is scaled by.

    References:
        Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", Journal of
        Multivariate Analysis 2004, section 3 (how much Σ is shrunk).
    """
    scale = np.maximum(vectors.std(axis=0), least)
    covariance = LedoitWolf().fit(vectors / scale).covariance_
    factor = np.linalg.cholesky(covariance + REGULARISATION * np.eye(len(covariance)))
    return np.linalg.inv(factor).T / scale[:, None]
