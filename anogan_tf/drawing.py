"""How well a generator draws normal images, measured without pretrained networks."""

from __future__ import annotations

import numpy as np
from scipy.spatial import distance

from anogan_tf.local_features import SMALLEST, local_features
from anogan_tf.subspace import projected

NEIGHBOURS = 5
COMPONENTS = 32  # of the principal components that reconstructions are compared with


def measures(
    train: np.ndarray, held_out: np.ndarray, generated: np.ndarray, reconstructions: np.ndarray
) -> dict[str, float]:
    """How well images are drawn from random z, and how well images that were held out are reconstructed.

    Args:
        train: Training images `(n, height, width, channels)` in [-1, 1].
        held_out: Normal images that were not trained on, `(m, …)`.
        generated: G(z) for random z.
        reconstructions: G(z) of the images held out, `(m, …)`.

    Returns:
        `variety`, see `variety`; `density` and `coverage` of the training images by the generated ones, see
        `density_and_coverage`; `error`, the mean squared error of the reconstructions over that of the mean training
        image; `error_of_pca`, the same of the projections on `COMPONENTS` principal components of the training images.
    """
    density, coverage = density_and_coverage(_described(train), _described(generated))
    of_mean = max(_error(held_out, train.mean(axis=0)), 1e-12)
    return {
        "variety": variety(generated, train),
        "density": density,
        "coverage": coverage,
        "error": _error(held_out, reconstructions) / of_mean,
        "error_of_pca": _error(held_out, projected(train, held_out, COMPONENTS)) / of_mean,
    }


def in_words(measured: dict[str, float]) -> str:
    """The `measures` as a sentence."""
    return (
        f"samples vary {measured['variety']:.2f} times as much as the training images, and {measured['coverage']:.0%} "
        f"of these have one near; reconstructions of new normal images have {measured['error']:.2f} of the error of "
        f"the mean image, {COMPONENTS} principal components have {measured['error_of_pca']:.2f}"
    )


def variety(generated: np.ndarray, images: np.ndarray) -> float:
    """The mean squared distance of generated images to their mean, over that of real ones to theirs."""
    return _error(generated, generated.mean(axis=0)) / max(_error(images, images.mean(axis=0)), 1e-12)


def density_and_coverage(real: np.ndarray, generated: np.ndarray, neighbours: int = NEIGHBOURS) -> tuple[float, float]:
    """In how many neighbourhoods of real images generated ones lie, and how many of these hold any.

    The neighbourhood of a real image is the ball that reaches to its k-th nearest real one. Density is the mean number
    of them that a generated image lies in, over k, near 1 for images like the real ones; coverage is the part of them
    that hold a generated image, at most 1.

    Args:
        real: `(n, features)`.
        generated: `(m, features)`.
        neighbours: k, at most n - 1 of it.

    References:
        Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", arXiv 2002.09797, eq. 3 and 4.
    """
    k = min(neighbours, len(real) - 1)
    radii = np.sort(distance.cdist(real, real), axis=1)[:, k]  # the nearest is the image itself
    inside = distance.cdist(real, generated) < radii[:, None]  # (n, m)
    return float(inside.sum(axis=0).mean() / k), float(inside.any(axis=1).mean())


def _described(images):
    """Local features of images `(n, features)`; the pixels of those that are too small for it."""
    features = local_features(images).numpy() if min(images.shape[1:3]) >= SMALLEST else images
    return features.reshape(len(images), -1)


def _error(images, others):
    return float(np.mean(np.square(images - others)))
