"""Principal components within generator and encoder: what both begin with, and their convolutions learn to correct.

With x = μ + s d, where μ is the mean of normal images and s the standard deviation around it, the generator of the
architectures `"principal"` and `"principal-dcgan"` draws d = W z + g(z), and its encoder finds z = P d + e(x). The
columns of W are the principal components of normal images, each as long as the images' standard deviation along it, and
P is their pseudo-inverse: with z of the prior W z varies as normal images do, and W P d is the nearest of their
subspace. g and e are the convolutions of `"upsampling"`. Their last layer begins with zeros, so that both networks
begin as probabilistic principal component analysis, and a training has to learn only what that misses. W and P stay as
they are: few images do not tell a GAN how normal ones vary, and what it is given at first it cannot forget.

References:
    Tipping and Bishop, "Probabilistic Principal Component Analysis", Journal of the Royal Statistical Society B 1999,
    eq. 1 and 7, with σ² = 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from sklearn.decomposition import PCA

SPREAD = {"normal": 1.0, "uniform": 3**-0.5}  # the standard deviation of each element of z
SMALLEST = 1e-7  # part of all variance that a component has at least
DRAWN, FOUND = "components", "projection"  # the names of the layers of W and P


@keras.saving.register_keras_serializable("anogan_tf")
class Deviations(keras.layers.Layer):
    """d = (x - μ) / s, or with `invert` x = μ + s d; until `start` sets them μ is 0 and s is 1.

    Args:
        invert: Whether it makes images of deviations.
    """

    def __init__(self, *, invert: bool = False, **options: Any) -> None:
        super().__init__(**options | {"trainable": False})
        self.invert = invert

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.mean = self.add_weight(input_shape[1:], initializer="zeros", name="mean")
        self.scale = self.add_weight((), initializer="ones", name="scale")

    def call(self, images: Any) -> Any:
        return self.mean + self.scale * images if self.invert else (images - self.mean) / self.scale

    def get_config(self) -> dict:
        return super().get_config() | {"invert": self.invert}


def drawn_beside(image_shape: tuple[int, int, int], correction: Iterable[Callable]) -> Callable:
    """A layer from z to W z + g(z), where `correction` are the layers of g."""

    def draw(z):
        components = keras.layers.Dense(
            int(np.prod(image_shape)), use_bias=False, kernel_initializer="zeros", trainable=False, name=DRAWN
        )
        drawn = keras.layers.Reshape(image_shape, name="drawn")(components(z))
        for layer in correction:
            z = layer(z)
        return keras.layers.Add(name="corrected")([drawn, z])

    return draw


def found_beside(images: keras.KerasTensor, correction: keras.KerasTensor) -> keras.KerasTensor:
    """P d + e(x), where `correction` is e(x), `(batch, latent_dim)`."""
    project = keras.layers.Dense(
        correction.shape[1], kernel_initializer="zeros", trainable=False, dtype="float32", name=FOUND
    )
    flat = keras.layers.Flatten(name="pixels")(images)
    return keras.layers.Add(dtype="float32", name="corrected")([project(flat), correction])


def deviations(network: keras.Model) -> Deviations | None:
    """The layer of a network that makes deviations of images, or images of deviations; None if it has none."""
    return next((layer for layer in network.layers if isinstance(layer, Deviations)), None)


def start(generator: keras.Model, discriminator: keras.Model, images: np.ndarray, prior: str) -> None:
    """Sets μ and s of both networks, and W of the generator, from normal images `(n, height, width, channels)`.

    W has at most n - 1 components; the other elements of z only steer the correction.

    Raises:
        ValueError: For fewer than 2 images, or images that are all the same.
    """
    mean = images.mean(axis=0)
    scale = np.sqrt(np.mean(np.square(images - mean)))
    if len(images) < 2 or scale < 1e-6:
        raise ValueError(
            "Principal components take at least 2 images that differ. Received: "
            f"{len(images)} images, all nearly the same. Are these the right pictures?"
        )
    for layer in filter(None, map(deviations, (generator, discriminator))):  # not every discriminator has one
        layer.set_weights([mean, scale])
    flat = images.reshape(len(images), -1)
    latent_dim = generator.input_shape[-1]
    pca = PCA(min(latent_dim, len(flat) - 1, flat.shape[1]), random_state=0).fit(flat)
    kept = pca.explained_variance_ > SMALLEST * pca.explained_variance_.sum()  # equal images have none
    lengths = np.sqrt(pca.explained_variance_[kept]) / (scale * SPREAD[prior])
    components = np.zeros((latent_dim, flat.shape[1]), np.float32)
    components[: len(lengths)] = lengths[:, None] * pca.components_[kept]
    generator.get_layer(DRAWN).kernel.assign(components)


def start_encoder(encoder: keras.Model, generator: keras.Model) -> None:
    """Sets P of an encoder, and μ and s, to what inverts a generator that was started."""
    mean, scale = deviations(generator).get_weights()
    deviations(encoder).set_weights([mean, scale])
    components = generator.get_layer(DRAWN).kernel.numpy()  # orthogonal rows, (latent_dim, pixels)
    lengths = np.square(components).sum(axis=1)
    kernel = (components / (scale * np.where(lengths > 0, lengths, 1.0))[:, None]).T
    encoder.get_layer(FOUND).set_weights([kernel, -mean.ravel() @ kernel])
