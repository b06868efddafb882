"""What a detector must beat: anomaly maps that need no GAN, learned from the same training images.

Each function takes normal images `train` `(n, height, width, channels)` in [-1, 1] and images to score, `test`
`(m, …)` likewise, and returns anomaly maps `(m, height, width)`. The mean of a map is the image's score.
"""

import keras
import numpy as np
import tensorflow as tf
from sklearn.neighbors import NearestNeighbors

from anogan_tf import networks
from anogan_tf.subspace import projected

CHUNK = 500


def mean_image(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The squared distance to the mean training image."""
    return _squared(test, train.mean(axis=0))


def pca(train: np.ndarray, test: np.ndarray, n_components: int = 32) -> np.ndarray:
    """The squared error of a reconstruction by principal components of the pixels."""
    return _squared(test, projected(train, test, n_components))


def nearest_neighbours(train: np.ndarray, test: np.ndarray, k: int = 5) -> np.ndarray:
    """The mean squared distance to the k nearest training images."""
    model = NearestNeighbors(n_neighbors=min(k, len(train)), algorithm="brute").fit(train.reshape(len(train), -1))
    neighbours = model.kneighbors(test.reshape(len(test), -1), return_distance=False)  # (m, k)
    return np.mean([_squared(test, train[nearest]) for nearest in neighbours.T], axis=0)


def position_gaussians(train: np.ndarray, test: np.ndarray, *, regularisation: float = 0.01) -> np.ndarray:
    """The squared Mahalanobis distance, at each position, of features from the first layer of an untrained network.

    Args:
        train: Normal images.
        test: Images to score.
        regularisation: What is added to the variances, of features scaled to a variance of 1.

    References:
        Defard et al., "PaDiM", arXiv 2011.08785, section III (its formula; its features are pretrained ones).
    """
    untrained = networks.Discriminator(train.shape[1:], width=32, kernel_initializer="he_normal")
    layer = networks.feature_extractor(untrained, ["features_1"])
    normal, features = (
        layer.predict(images, batch_size=CHUNK, verbose=0)["features_1"] for images in (train, test)
    )  # (n, rows, columns, filters), (m, …)
    scale = normal.std()
    maps = np.empty(features.shape[:3], np.float32)
    for row, column in np.ndindex(maps.shape[1:]):
        here = normal[:, row, column] / scale
        mean, covariance = here.mean(axis=0), np.cov(here, rowvar=False)
        precision = np.linalg.inv(covariance + regularisation * np.eye(len(covariance)))
        away = features[:, row, column] / scale - mean
        maps[:, row, column] = np.einsum("ni,ij,nj->n", away, precision, away, optimize=True)
    height, width = test.shape[1:3]
    return maps.repeat(-(-height // maps.shape[1]), 1).repeat(-(-width // maps.shape[2]), 2)[:, :height, :width]


def auto_encoder(
    train: np.ndarray,
    test: np.ndarray,
    *,
    steps: int,
    batch_size: int = 64,
    latent_dim: int = 64,
    width: int = 32,
    seed: int = 0,
) -> np.ndarray:
    """The squared error of a convolutional auto-encoder: this package's encoder and generator, trained on it alone."""
    encoder = networks.Encoder(train.shape[1:], latent_dim, width=width, seed=seed)
    generator = networks.Generator(train.shape[1:], latent_dim, width=width, seed=seed)
    model = keras.Model(encoder.inputs[0], generator(encoder.outputs[0]))
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, steps)), loss="mse")
    images = tf.data.Dataset.from_tensor_slices(train).repeat().shuffle(len(train), seed=seed).batch(batch_size)
    model.fit(images.map(lambda batch: (batch, batch)), steps_per_epoch=steps, shuffle=False, verbose=0)
    return _squared(test, model.predict(test, batch_size=CHUNK, verbose=0))


def _squared(images, reconstructions):
    return np.mean(np.square(images - reconstructions), axis=-1)  # (m, height, width)
