"""What networks are made of: for each architecture the layers of a generator, and those of features.

An architecture is added by two functions that yield layers, and one entry of `ARCHITECTURES`.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator

import keras

from anogan_tf import principal

Layers = Iterator[Callable]  # one after the other, each from a tensor to a tensor
Initializers = Callable[[], keras.Initializer]  # each call gives one with a seed of its own


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What the networks of one architecture are made of.

    Args:
        generator: Layers from z to images: a function of `(image_shape, width, initializer, momentum)`.
        features: Layers from images to feature maps, named `features_1`, …: of `(image_shape, width, initializer,
            momentum, seed)`.
        initializer: Of the weights, a Keras initializer or its name.
        features_initializer: Likewise, of a discriminator; None for the same.
        momentum: Of batch normalisation. At Keras' 0.99 a short training leaves the moving statistics, which the latent
            search uses, far behind the batch statistics.
        encoder: The features of an encoder; None for those of a discriminator.
        encodes: Whether the features serve an encoder; not if they see batch statistics or Dropout, by which training
            and scoring would see different codes.
        principal: Whether generator and encoder correct what principal components draw and find, see `principal`.
    """

    generator: Callable[..., Layers]
    features: Callable[..., Layers]
    initializer: str | keras.Initializer
    features_initializer: str | keras.Initializer | None = None
    momentum: float = 0.85
    encoder: Callable[..., Layers] | None = None
    encodes: bool = True
    principal: bool = False

    def initializers(self, identifier: str | dict | keras.Initializer, seed: int) -> Initializers:
        """A function that gives each layer an initializer with a seed of its own."""
        initializer = keras.initializers.get(identifier)
        config, seeds = initializer.get_config(), itertools.count(1000 * seed)
        own = (lambda: {"seed": next(seeds)}) if "seed" in config else dict  # constants have none
        return lambda: type(initializer).from_config(config | own())


def find(name: str, *, encodes: bool = False) -> Architecture:
    """The architecture of a name, among all, or among those that encode; a ValueError names what there is."""
    names = [known for known, entry in ARCHITECTURES.items() if entry.encodes or not encodes]
    if name not in names:
        raise ValueError(f"architecture is one of {names}. Received: architecture={name!r}.")
    return ARCHITECTURES[name]


def _dcgan_generator(image_shape, width, initializer, momentum):
    height, img_width, channels = image_shape
    filters = _filters(image_shape, width)[::-1]
    depth = len(filters)
    base = _base(image_shape, depth)
    yield from _projection(base, filters[0], initializer, momentum)
    for i, units in enumerate(filters[1:], start=1):
        yield keras.layers.Conv2DTranspose(
            units, 4, 2, "same", use_bias=False, kernel_initializer=initializer(), name=f"upsample_{i}"
        )
        yield keras.layers.BatchNormalization(momentum=momentum, name=f"normalize_{i}")
        yield keras.layers.ReLU(name=f"relu_{i}")
    yield keras.layers.Conv2DTranspose(channels, 4, 2, "same", kernel_initializer=initializer(), name="to_image")
    yield _centre_crop(base[0] * 2**depth - height, base[1] * 2**depth - img_width)
    yield keras.layers.Activation("tanh", dtype="float32", name="image")


def _dcgan_features(image_shape, width, initializer, momentum, seed, *, deep=False):
    for i, units in enumerate(_filters(image_shape, width), start=1):
        yield keras.layers.Conv2D(units, 4, 2, "same", kernel_initializer=initializer(), name=f"downsample_{i}")
        if deep and i > 1:
            yield keras.layers.LeakyReLU(negative_slope=0.2, name=f"activation_{i}")
            yield _conv3(units, initializer, f"convolve_{i}")
        yield keras.layers.LeakyReLU(negative_slope=0.2, name=f"features_{i}")


def _projection(base, units, initializer, momentum):
    """Layers from z to feature maps of the sides of the base."""
    yield keras.layers.Dense(
        base[0] * base[1] * units, use_bias=False, kernel_initializer=initializer(), name="project"
    )
    yield keras.layers.Reshape((*base, units), name="base")
    yield keras.layers.BatchNormalization(momentum=momentum, name="normalize_0")
    yield keras.layers.ReLU(name="relu_0")


def _upsampling_generator(image_shape, width, initializer, momentum):
    yield from _doublings(image_shape, width, initializer, momentum, to_image=initializer)
    yield keras.layers.Activation("tanh", dtype="float32", name="image")


def _principal_generator(image_shape, width, initializer, momentum):
    """Principal components draw at first, as the last of the convolutions beside them begins with zeros."""
    correction = _doublings(image_shape, width, initializer, momentum, to_image=keras.initializers.Zeros)
    yield principal.drawn_beside(image_shape, correction)
    yield principal.Deviations(invert=True, name="around_mean")
    yield keras.layers.Activation("hard_tanh", dtype="float32", name="image")


def _principal_features(image_shape, width, initializer, momentum, seed):
    yield principal.Deviations(name="deviations")
    yield from _dcgan_features(image_shape, width, initializer, momentum, seed)


def _doublings(image_shape, width, initializer, momentum, to_image):
    """Layers from z to images without bounds; `to_image` makes the initializer of the last one."""
    height, img_width, channels = image_shape
    filters = _filters(image_shape, width)[::-1]
    base = _base(image_shape, len(filters))
    yield from _projection(base, filters[0], initializer, momentum)
    for i, units in enumerate([*filters[1:], max(width // 2, channels)], start=1):
        yield keras.layers.UpSampling2D(2, name=f"double_{i}")
        yield keras.layers.Conv2D(
            units, 3, padding="same", use_bias=False, kernel_initializer=initializer(), name=f"upsample_{i}"
        )
        yield keras.layers.BatchNormalization(momentum=momentum, name=f"normalize_{i}")
        yield keras.layers.ReLU(name=f"relu_{i}")
    yield keras.layers.Conv2D(channels, 3, padding="same", kernel_initializer=to_image(), name="to_image")
    yield _centre_crop(base[0] * 2 ** len(filters) - height, base[1] * 2 ** len(filters) - img_width)


def _residual_generator(image_shape, width, initializer, momentum):
    height, img_width, channels = image_shape
    filters = _filters(image_shape, width)[::-1]
    base = _base(image_shape, len(filters))
    yield keras.layers.Dense(base[0] * base[1] * filters[0], kernel_initializer=initializer(), name="project")
    yield keras.layers.Reshape((*base, filters[0]), name="base")
    for i, units in enumerate(filters, start=1):
        yield _residual_up(units, initializer, momentum, f"block_{i}")
    yield keras.layers.BatchNormalization(momentum=momentum, name="normalize")
    yield keras.layers.ReLU(name="relu")
    yield keras.layers.Conv2D(channels, 3, padding="same", kernel_initializer=initializer(), name="to_image")
    yield _centre_crop(base[0] * 2 ** len(filters) - height, base[1] * 2 ** len(filters) - img_width)
    yield keras.layers.Activation("tanh", dtype="float32", name="image")


def _residual_features(image_shape, width, initializer, momentum, seed):
    filters = _filters(image_shape, width)
    yield keras.layers.Conv2D(filters[0], 3, padding="same", kernel_initializer=initializer(), name="from_image")
    for i, units in enumerate([*filters[1:], filters[-1]], start=1):
        yield _residual_down(units, initializer, f"features_{i}")


def _residual_up(units, initializer, momentum, name):
    """A pre-activation block that doubles the sides; a 1×1 convolution is the same, and cheaper, before it doubles."""

    def block(tensor):
        shortcut = keras.layers.Conv2D(units, 1, kernel_initializer=initializer(), name=f"{name}_shortcut")(tensor)
        shortcut = keras.layers.UpSampling2D(2, name=f"{name}_double_shortcut")(shortcut)
        inner = keras.layers.BatchNormalization(momentum=momentum, name=f"{name}_normalize_1")(tensor)
        inner = keras.layers.ReLU(name=f"{name}_relu_1")(inner)
        inner = keras.layers.UpSampling2D(2, name=f"{name}_double")(inner)
        inner = _conv3(units, initializer, f"{name}_conv_1")(inner)
        inner = keras.layers.BatchNormalization(momentum=momentum, name=f"{name}_normalize_2")(inner)
        inner = keras.layers.ReLU(name=f"{name}_relu_2")(inner)
        return keras.layers.Add(name=name)([shortcut, _conv3(units, initializer, f"{name}_conv_2")(inner)])

    return block


def _residual_down(units, initializer, name):
    """A pre-activation block that halves the sides, without normalisation."""

    def block(tensor):
        shortcut = keras.layers.AveragePooling2D(2, padding="same", name=f"{name}_halve_shortcut")(tensor)
        shortcut = keras.layers.Conv2D(units, 1, kernel_initializer=initializer(), name=f"{name}_shortcut")(shortcut)
        inner = keras.layers.ReLU(name=f"{name}_relu_1")(tensor)
        inner = _conv3(units, initializer, f"{name}_conv_1")(inner)
        inner = keras.layers.ReLU(name=f"{name}_relu_2")(inner)
        inner = _conv3(units, initializer, f"{name}_conv_2")(inner)
        inner = keras.layers.AveragePooling2D(2, padding="same", name=f"{name}_halve")(inner)
        return keras.layers.Add(name=name)([shortcut, inner])

    return block


def _conv3(units, initializer, name):
    return keras.layers.Conv2D(units, 3, padding="same", kernel_initializer=initializer(), name=name)


def _hazelnut_generator(image_shape, width, initializer, momentum):
    base = _hazelnut_base(image_shape)
    options = {"use_bias": False, "activation": "relu"}
    yield keras.layers.Dense(base[0] * base[1] * 4 * width, kernel_initializer=initializer(), name="project", **options)
    yield keras.layers.BatchNormalization(momentum=momentum, name="normalize_0")
    yield keras.layers.Reshape((*base, 4 * width), name="base")
    for i, units in enumerate((4 * width, 2 * width, width), start=1):
        yield keras.layers.Conv2DTranspose(
            units, 5, 2, "same", kernel_initializer=initializer(), name=f"upsample_{i}", **options
        )
        yield keras.layers.BatchNormalization(momentum=momentum, name=f"normalize_{i}")
    yield keras.layers.Conv2DTranspose(
        image_shape[2], 5, 1, "same", use_bias=False, kernel_initializer=initializer(), name="to_image"
    )
    yield keras.layers.Activation("tanh", dtype="float32", name="image")


def _hazelnut_features(image_shape, width, initializer, momentum, seed):
    for i, units in enumerate((width, 2 * width, 4 * width), start=1):
        yield keras.layers.Conv2D(units, 5, 2, "same", kernel_initializer=initializer(), name=f"downsample_{i}")
        yield keras.layers.BatchNormalization(momentum=momentum, name=f"normalize_{i}")
        yield keras.layers.LeakyReLU(negative_slope=0.2, name=f"activation_{i}")
        yield keras.layers.Dropout(0.3, seed=seed + i, name=f"features_{i}")


def _filters(image_shape, width):
    """Filters of the strided layers, from the image inwards, until the smaller side is at most 4 pixels."""
    depth = max(2, math.ceil(math.log2(min(image_shape[:2]) / 4)))
    return [width * min(2**i, 8) for i in range(depth)]


def _base(image_shape, depth):
    """The sides that `depth` doublings bring to those of the image, or just beyond."""
    return tuple(math.ceil(side / 2**depth) for side in image_shape[:2])


def _centre_crop(rows, columns):
    sides = ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2))
    return keras.layers.Cropping2D(sides, name="crop")


def _hazelnut_base(image_shape):
    if any(side % 8 for side in image_shape[:2]):
        raise ValueError(
            'architecture="hazelnut" doubles three times, so both sides must be multiples of 8. '
            f"Received: image_shape={image_shape}."
        )
    return image_shape[0] // 8, image_shape[1] // 8


SMALL = keras.initializers.RandomNormal(stddev=0.02)  # of DCGAN
ARCHITECTURES = {
    "dcgan": Architecture(_dcgan_generator, _dcgan_features, SMALL),
    "deep-dcgan": Architecture(
        _dcgan_generator, functools.partial(_dcgan_features, deep=True), SMALL, features_initializer="he_normal"
    ),
    "upsampling": Architecture(_upsampling_generator, _dcgan_features, "he_normal"),
    "principal": Architecture(_principal_generator, _principal_features, "he_normal", principal=True),
    "principal-dcgan": Architecture(
        _principal_generator, _dcgan_features, "he_normal", SMALL, encoder=_principal_features, principal=True
    ),
    "residual": Architecture(_residual_generator, _residual_features, "he_normal"),
    "hazelnut": Architecture(_hazelnut_generator, _hazelnut_features, "glorot_uniform", momentum=0.99, encodes=False),
}
