"""What a network that learned from photographs sees around each point of a picture: an option, never the default."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from anogan_tf import resampling
from anogan_tf.local_features import OF_NETWORK, STRIDE

SPACINGS = (8, 16)  # pixels between places of the layers that are taken where none are named
CHANNELS = 100  # numbers that describe a place
PROBED = 128  # pixels a side, of pictures that a network of any size is looked at with
NOISES, LEAST_DEVIATION = 4, 1e-6  # pictures of noise, in which each of the numbers is given a deviation of 1
OF_KERAS = re.compile(r"keras(\.(layers|initializers|src\.(ops|models|applications)\.\w+))?")  # modules of classes
RUNS_CODE = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "function", "__lambda__")
NAMES = "the name of a network of keras.applications such as EfficientNetV2B0, MobileNetV3Large or ResNet50"


class NetworkFeatures:
    """Feature maps of a network, in place of the fixed filters of `local_features`; `features` makes them.

    A picture is given to the network in levels from 0 to 255, in three channels, a gray one three times the same; what
    scales them is a part of the network. Its maps are brought to the grid of every eighth pixel, bilinearly.

    Args:
        network: A Keras model from pictures `(n, height, width, 3)` to feature maps `(n, rows, columns, channels)`, one
            or a list of them. All that counts is copied, so that training it further changes nothing here.
        source: What is told of where it is from, as JSON can hold it.

    Raises:
        ValueError: If it has layers that are not Keras' own.
    """

    version: ClassVar[int] = OF_NETWORK
    directed: ClassVar[bool] = False

    def __init__(self, network: keras.Model, source: dict[str, Any] | None = None) -> None:
        self.network = of_config(keras.saving.serialize_keras_object(network))
        self.network.set_weights(network.get_weights())
        self.source = source or {}
        self._of_one = tf.function(self.of_image, autograph=False)

    def __reduce__(self) -> tuple:
        return _remade, (self.config, self.network.get_weights(), self.source)

    @property
    def config(self) -> dict[str, Any]:
        """The network without its weights, as JSON can hold it; `of_config` makes it of that."""
        return keras.saving.serialize_keras_object(self.network)

    def of_image(self, image: tf.Tensor) -> tf.Tensor:
        """The features `(ceil(height / 8), ceil(width / 8), features)` of one image `(height, width, 1 or 3)`."""
        rows, columns = (-(-side // STRIDE) for side in image.shape[:2])
        levels = (tf.concat([image] * (3 // image.shape[-1]), axis=-1)[None] + 1.0) * 127.5
        if None not in (size := self.network.input_shape[1:3]):
            levels = tf.image.resize(levels, size)
        each = (tf.cast(maps[0], tf.float32) for maps in keras.tree.flatten(self.network(levels, training=False)))
        each = [resampling.resized_maps(tf.transpose(maps, (2, 0, 1)), (rows, columns)) for maps in each]
        return tf.transpose(tf.concat(each, axis=0), (1, 2, 0))

    def of_pictures(self, pictures: Iterable[np.ndarray]) -> np.ndarray:
        """The features `(n, rows, columns, features)` of pictures of one size, one by one: products round by sizes."""
        return np.stack([self._of_one(tf.constant(picture, tf.float32)).numpy() for picture in pictures])

    def undirected(self, features: Any) -> Any:
        """The features as they are: which of them are of directions is not known."""
        return features


def features(
    network: NetworkFeatures | keras.Model | str | os.PathLike,
    *,
    layers: Sequence[str] | None = None,
    channels: int = CHANNELS,
    seed: int = 0,
) -> NetworkFeatures:
    """Features of a network that was trained elsewhere.

    Taken are the outputs of the network, if they are feature maps with at most 16 pixels between places; else the last
    residual sum, or without one the last layer, with 8 pixels between them, and likewise with 16. Each has many
    channels that go together, too many for a covariance of few pictures: it is projected on `channels / maps` random
    directions, orthogonal to each other and the same for the same seed, and scaled so that each number has a deviation
    of 1 in pictures of noise.

    Args:
        network: The name of a network of `keras.applications` such as `"EfficientNetV2B0"`, with the weights that it
            has from ImageNet and that Keras downloads; the path of a `.keras` file, or a Keras model, which takes
            levels from 0 to 255. A `NetworkFeatures` is given back as it is.
        layers: Names of the layers to take in place of those.
        channels: Numbers that describe a place.
        seed: Of the projections.

    Raises:
        ValueError: If there is no such network, it takes other pictures, or has no feature maps or no such layers.
        FileNotFoundError: If there is no such file.
        ConnectionError: If weights cannot be downloaded.

    Example:
        >>> scorer = LocalNeighbours(AnoGAN(gan, score="paper"), features="EfficientNetV2B0")
        >>> scorer = LocalNeighbours(AnoGAN(gan, score="paper"), features=features("own.keras", layers=["a", "b"]))

    References:
        Defard et al., "PaDiM", arXiv 2011.08785, sections III.A and V.A (several layers on one grid, of which random
        dimensions do better than principal ones); Roth et al., arXiv 2106.08265, section 3.1 (layers of the middle).
    """
    if isinstance(network, NetworkFeatures):
        return network
    if isinstance(network, keras.Model):
        model, before, source = network, None, {"network": network.name}
    else:
        model, before, source = _found(network)
    _check_input(model)
    maps = _maps(model, layers)
    if channels < len(maps):
        raise ValueError(f"channels is at least 1 for each of {list(maps)}. Received: channels={channels}.")
    inner = keras.Model(model.inputs[0], list(maps.values()))
    return NetworkFeatures(_projected(inner, before, channels // len(maps), seed), source | {"layers": list(maps)})


def of_config(config: dict[str, Any]) -> keras.Model:
    """The network of a `NetworkFeatures.config`, with no weights yet.

    Raises:
        ValueError: If anything in it is no layer of Keras' own, or one that runs code that a file brings along.
    """
    for part in _parts(config):
        name, module = str(part["class_name"]), str(part.get("module") or "keras")
        if name in RUNS_CODE or not OF_KERAS.fullmatch(module):
            raise ValueError(
                f"A network of features has layers of Keras' own, without code. Received: {module}.{name}."
            )
    return keras.saving.deserialize_keras_object(config, safe_mode=True)


def _remade(config, weights, source):
    network = of_config(config)
    network.set_weights(weights)
    return NetworkFeatures(network, source)


def _parts(config: Any) -> Iterator[dict[str, Any]]:
    """All objects that a config names."""
    if isinstance(config, dict):
        if "class_name" in config:
            yield config
        config = list(config.values())
    if isinstance(config, (list, tuple)):
        for inner in config:
            yield from _parts(inner)


def _found(network):
    """The model of a name or of a file, what it wants done to levels, and what is told of where it is from."""
    file = Path(network)
    if file.suffix != ".keras" and not file.is_file():
        return *_of_keras(str(network)), {"network": str(network), "weights": "imagenet"}
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file}: features is a .keras file, or {NAMES}.")
    try:
        model = keras.saving.load_model(file, compile=False)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise ValueError(f"{file} is no Keras model that could be loaded: {error}") from error
    return model, None, {"network": file.name, "file_sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def _of_keras(name):
    """A network of `keras.applications` with its ImageNet weights, and what it wants done to levels."""
    make = getattr(keras.applications, name, None)
    if not (name[:1].isupper() and callable(make)):
        raise ValueError(f"features is {NAMES}, or the path of a .keras file. Received: {name}.")
    try:
        network = make(include_top=False, weights="imagenet", input_shape=(None, None, 3))
    except Exception as error:  # Keras has no narrower one for a download that fails
        raise ConnectionError(
            f"Keras could not make {name} with its ImageNet weights, which it downloads once: {error}. Without a "
            "connection give a .keras file; with one, such a file is made by "
            f'anogan_tf.pretrained.features("{name}").network.save("{name}.keras").'
        ) from error
    return network, sys.modules[make.__module__].preprocess_input


def _check_input(model):
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4 or model.inputs[0].shape[-1] != 3:
        raise ValueError(
            "A network of features takes pictures (n, height, width, 3). Received: one that takes "
            f"{[tuple(tensor.shape) for tensor in model.inputs]}."
        )


def _maps(model, layers):
    """The feature maps that are taken of a model, tensors by name."""
    if layers is not None:
        return _named(model, layers)
    outputs = dict(zip(model.output_names, model.outputs, strict=True))
    if all(0 < spacing <= max(SPACINGS) for spacing in _spacings(model, outputs)):
        return outputs
    inside = _tensors(model)
    inside = dict(sorted(inside.items(), key=lambda item: isinstance(model.get_layer(item[0]), keras.layers.Add)))
    last = dict(zip(_spacings(model, inside), inside, strict=True))  # sums come after all others
    if not last.keys() & set(SPACINGS):
        raise ValueError(
            f"A network of features has feature maps with {' or '.join(map(str, SPACINGS))} pixels between places, as "
            f"outputs or in its layers. Received: {model.name}, with {sorted(map(float, last.keys() - {0}))} pixels."
        )
    return {last[spacing]: inside[last[spacing]] for spacing in SPACINGS if spacing in last}


def _named(model, layers):
    inside = _tensors(model)
    maps = {name: tensor for name, tensor in inside.items() if len(tensor.shape) == 4}
    unknown = [name for name in layers if name not in maps]
    if unknown or not layers:
        raise ValueError(f"layers are names of layers that give feature maps: {list(maps)}. Received: {list(layers)}.")
    return {name: maps[name] for name in layers}


def _tensors(model):
    """What each layer gives, by its name; a model inside counts as a whole, and for nothing."""
    layers = [layer for layer in model.layers if not isinstance(layer, (keras.Model, keras.layers.InputLayer))]
    return {layer.name: layer.output for layer in layers if keras.utils.is_keras_tensor(layer.output)}


def _spacings(model, tensors):
    """How many pixels are between the places of each of some tensors of a model, 0 for what is no feature map."""
    side = [known or PROBED for known in model.inputs[0].shape[1:3]]
    found = keras.Model(model.inputs[0], list(tensors.values()))(keras.Input((*side, 3)))
    return [side[0] / tensor.shape[1] if len(tensor.shape) == 4 else 0 for tensor in keras.tree.flatten(found)]


def _projected(inner, before, channels, seed):
    """A model from levels to maps of at most so many channels, each of which varies by 1 in pictures of noise."""
    pictures = keras.Input(inner.inputs[0].shape[1:], name="levels")
    maps = keras.tree.flatten(inner(_scaling(before)(pictures) if before else pictures))
    initializer = keras.initializers.Orthogonal(seed=seed)
    projections = [
        keras.layers.Conv2D(
            min(channels, each.shape[-1]),
            1,
            use_bias=False,
            kernel_initializer=initializer,
            dtype="float32",
            name=f"projection_{number}",
        )
        for number, each in enumerate(maps, 1)
    ]
    model = keras.Model(pictures, [project(each) for project, each in zip(projections, maps, strict=True)])
    noise = _noise([known or PROBED for known in inner.inputs[0].shape[1:3]])
    for project, seen in zip(projections, keras.tree.flatten(model(noise, training=False)), strict=True):
        deviations = np.std(seen, axis=(0, 1, 2))
        project.kernel.assign(project.kernel / np.maximum(deviations, LEAST_DEVIATION))
    return model


def _scaling(preprocess):
    """A function of `keras.applications` that scales levels, which is affine in the channels, as a layer."""
    offset = preprocess(np.zeros((1, 3), np.float32))[0]
    kernel = (preprocess(np.eye(3, dtype=np.float32) * 255.0) - offset) / 255.0  # rows are channels that go in
    layer = keras.layers.Conv2D(3, 1, dtype="float32", name="scaling")
    layer.build((None, None, None, 3))
    layer.set_weights([kernel[None, None], offset])
    return layer


def _noise(size):
    """Pictures of noise `(NOISES, height, width, 3)` in levels, coarse parts of which are as strong as fine ones."""
    white = np.random.default_rng(0).normal(size=(NOISES, *size, 3))
    frequencies = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1]))
    spectrum = np.fft.rfft2(white, axes=(1, 2)) / np.maximum(frequencies, 1 / max(size))[..., None]
    noise = np.fft.irfft2(spectrum, size, axes=(1, 2))
    return (127.5 + 50.0 * noise / noise.std()).clip(0.0, 255.0).astype(np.float32)
