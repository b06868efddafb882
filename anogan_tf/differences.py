"""How far images are from their reconstructions in local features, as normal images are from theirs."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from anogan_tf import local_features
from anogan_tf.learned import Learned, check_enough

LARGER, LARGEST = 4, 256  # how much larger images are compared, so that places are two pixels apart; pixels a side
MOST = 0.05  # part of the places that makes the score, its highest
PRIOR = 3  # how much the covariance of all places counts at each, in images a feature
REGULARISATION = 0.1  # of variances, in parts of their mean
LEAST_VARIANCE = 1e-5  # of a feature


def factor(height: int, width: int) -> int:
    """How many times larger images are compared, in each direction."""
    return max(1, min(LARGER, LARGEST // max(height, width)))


def of_reconstructions(images: tf.Tensor, reconstructions: tf.Tensor) -> tf.Tensor:
    """φ(x) - φ(G(z)), `(batch, rows, columns, features)`, φ the local features of images made `factor` times larger."""
    return _features(images) - _features(reconstructions)


def _features(images):
    _, height, width, _ = images.shape
    times = factor(height, width)
    larger = tf.image.resize(tf.clip_by_value(images, -1.0, 1.0), (height * times, width * times))
    if larger.shape[0] == 1:  # not all formats of exports have loops that stack what they find
        return local_features.of_image(tf.reshape(larger, larger.shape[1:]))[None]
    return tf.map_fn(local_features.of_image, larger)


class Differences(Learned):
    """How unusual the differences d between local features of images and of their reconstructions are.

    The distance at a place is ‖W (d - μ)‖² / k over k features, where μ is the mean of normal images there, and W
    whitens their differences: what a generator never draws, such as grain or a print, and what an encoder finds only
    nearly, counts for less. Σ, with W Σ Wᵀ = 1, is the covariance at the place, pulled to the mean of those of all
    places as if that came from `PRIOR` times as many images as there are features. The score is the mean of the highest
    twentieth of the distances.

    Args:
        mean: μ, `(rows, columns, features)`.
        whitening: W at each place, to be multiplied from the right, `(rows, columns, features, features)`.

    References:
        Defard et al., "PaDiM", arXiv 2011.08785, section III (a Gaussian a place; there of the features themselves);
        Shi et al., "Unsupervised anomaly segmentation via deep feature reconstruction", arXiv 2012.07122, section 3.3.
    """

    ARRAYS = ("mean", "whitening")

    def __init__(self, mean: np.ndarray, whitening: np.ndarray) -> None:
        self.mean = np.asarray(mean, np.float32)
        self.whitening = np.ascontiguousarray(whitening, np.float32)  # another layout rounds in another way

    @classmethod
    def fit(cls, differences: np.ndarray) -> Differences:
        """Learns from those of n normal images, `(n, rows, columns, features)`.

        Raises:
            ValueError: For fewer than 2 images.
        """
        n, *_, size = differences.shape
        check_enough(n)
        mean = differences.mean(axis=0)
        covariances = np.stack([_covariances(row) for row in np.moveaxis(differences - mean, 0, 2)])
        everywhere = covariances.mean(axis=(0, 1))
        pulled = (n * covariances + PRIOR * size * everywhere) / (n + PRIOR * size)
        added = REGULARISATION * np.trace(everywhere) / size + LEAST_VARIANCE
        factors = np.linalg.cholesky(pulled + added * np.eye(size))
        return cls(mean, np.swapaxes(np.linalg.inv(factors), -1, -2))

    def __call__(self, differences: np.ndarray) -> np.ndarray:
        """The score of each image, `(batch,)`."""
        distances = self.distances(differences)
        most = _most(distances.shape[1:])
        return np.sort(distances.reshape(len(distances), -1), axis=1)[:, -most:].mean(axis=1)

    def distances(self, differences: np.ndarray) -> np.ndarray:
        """At each place, `(batch, rows, columns)`; image by image, as products round by their sizes."""
        return np.stack([self._distances(image) for image in differences])

    def tensor(self, distances: tf.Tensor) -> tf.Tensor:
        """The scores of distances as `distances_tensor` gives them, in operations that all formats of exports have."""
        flat = tf.reshape(distances, (-1, int(np.prod(distances.shape[1:]))))
        return tf.reduce_mean(tf.math.top_k(flat, _most(distances.shape[1:]), sorted=False).values, axis=1)

    def distances_tensor(self, differences: tf.Tensor) -> tf.Tensor:
        """As `distances`, of a tensor."""
        away = tf.matmul((differences - self.mean)[..., None, :], self.whitening)  # (batch, rows, columns, 1, features)
        return tf.reduce_mean(tf.square(away), axis=(-2, -1))

    def _distances(self, differences):
        away = (differences - self.mean)[:, :, None] @ self.whitening
        return np.square(away).mean(axis=(-2, -1))


def _most(shape):
    return max(1, round(MOST * int(np.prod(shape))))


def _covariances(away):
    """Of `(columns, n, features)`, a row of places, `(columns, features, features)`."""
    return np.swapaxes(away, -1, -2) @ away / away.shape[1]
