"""What a detector must beat: scores that need no GAN, fitted on the same training images."""

import numpy as np
from sklearn.decomposition import PCA


def mean_image(train, test):
    """The mean squared distance to the mean training image.

    Args:
        train: Normal images `(n, height, width, channels)` in [-1, 1].
        test: Images to score, `(m, …)` likewise.

    Returns:
        `(m,)`.
    """
    return np.mean(np.square(test - train.mean(axis=0)), axis=(1, 2, 3))


def pca(train, test, n_components=32):
    """The mean squared error of a reconstruction by principal components of the pixels; arguments as `mean_image`."""
    train, test = train.reshape(len(train), -1), test.reshape(len(test), -1)
    model = PCA(min(n_components, *train.shape), random_state=0).fit(train)
    return np.mean(np.square(test - model.inverse_transform(model.transform(test))), axis=1)
