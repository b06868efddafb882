"""The principal subspace of normal images' features, and how far others lie outside."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from sklearn.decomposition import PCA

from anogan_tf.learned import Learned, check_enough


def projected(train: np.ndarray, images: np.ndarray, n_components: int) -> np.ndarray:
    """Images `(m, …)` projected on the mean and the first principal components of training images `(n, …)`."""
    flat = train.reshape(len(train), -1)
    model = PCA(min(n_components, *flat.shape), random_state=0).fit(flat)
    return model.inverse_transform(model.transform(images.reshape(len(images), -1))).reshape(images.shape)


class PrincipalSubspace(Learned):
    """How far feature vectors lie outside the principal subspace of those of normal images.

    The score is mean((v - v̂)²) over elements, where v̂ is the projection of v on the first principal components of
    these. It is the reconstruction error of PCA, on discriminator features in place of pixels.

    Args:
        mean: `(elements,)`.
        components: Orthonormal rows, `(n_components, elements)`.

    References:
        Jackson and Mudholkar, "Control Procedures for Residuals Associated With Principal Component Analysis",
        Technometrics 1979, eq. 2.1 (the Q statistic).
    """

    ARRAYS = ("mean", "components")

    def __init__(self, mean: np.ndarray, components: np.ndarray) -> None:
        self.mean = np.asarray(mean, np.float32)
        self.components = np.ascontiguousarray(components, np.float32)  # another layout rounds in another way

    @classmethod
    def fit(cls, vectors: np.ndarray, n_components: int = 128) -> PrincipalSubspace:
        """Learns from `(n, elements)`; with at most half as many components as images or elements.

        Raises:
            ValueError: For fewer than 2 vectors.
        """
        check_enough(len(vectors))
        pca = PCA(min(n_components, *(side // 2 for side in vectors.shape)), random_state=0).fit(vectors)
        return cls(pca.mean_, pca.components_)

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """The score of each vector, `(batch,)`; one at a time, as a matrix product rounds a row by its place."""
        return np.array([self._distance(vector) for vector in vectors])

    def tensor(self, vectors: tf.Tensor) -> tf.Tensor:
        """The same of a tensor `(batch, elements)`, for what is saved: it rounds in another way."""
        centred = vectors - self.mean
        inside = tf.matmul(tf.matmul(centred, self.components, transpose_b=True), self.components)
        return tf.reduce_mean(tf.square(centred - inside), axis=1)  # (batch,)

    def _distance(self, vector):
        centred = vector - self.mean
        return np.mean(np.square(centred - (self.components @ centred) @ self.components))
