"""Generator, discriminator and encoder as flat Functional graphs, for any image size from 8 to 256 pixels a side."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import keras

from anogan_tf import architectures, principal

Initializer = str | dict | keras.Initializer | None  # as Keras layers take it, None for a default
PRIORS = ("normal", "uniform")
MIN_SIDE, MAX_SIDE = 8, 256
MAX_WIDTH, MAX_LATENT_DIM = 512, 8192  # far above what is of use; a damaged or hostile run asks for no more memory


class Network(keras.Model):
    """What the three networks have in common: a Functional graph of one architecture, made anew from its arguments.

    Args:
        kernel_initializer: A Keras initializer or its name; None for the architecture's own.
        name: Of the model.
        **settings: All other arguments of the constructor, which become attributes.
    """

    ENCODES = False  # whether the architecture has to serve an encoder
    image_shape: tuple[int, int, int]
    architecture: str
    width: int
    seed: int

    def __init__(self, *, kernel_initializer: Initializer, name: str, **settings: Any) -> None:
        settings |= _checked(**settings)
        architecture = architectures.find(settings["architecture"], encodes=self.ENCODES)
        initializer = architecture.initializers(kernel_initializer or self._own(architecture), settings["seed"])
        inputs, outputs = self._graph(architecture, initializer, settings)
        super().__init__(inputs=inputs, outputs=outputs, name=name)
        for argument, value in settings.items():
            setattr(self, argument, value)
        self.kernel_initializer = kernel_initializer and keras.initializers.get(kernel_initializer)
        self._arguments = tuple(settings)

    def _own(self, architecture):
        """The initializer that the architecture has for a network of this class."""
        return architecture.initializer

    def get_config(self) -> dict:
        return {
            **{argument: getattr(self, argument) for argument in self._arguments},
            "kernel_initializer": self.kernel_initializer and keras.initializers.serialize(self.kernel_initializer),
            "name": self.name,
        }


@keras.saving.register_keras_serializable("anogan_tf")
class Generator(Network):
    """The map G from the latent space to images.

    The architecture `"dcgan"` projects z to a base of about 4×4, and doubles it with transposed convolutions until
    it covers the image, which is then cropped from the centre; so does `"deep-dcgan"`. `"upsampling"` repeats pixels
    and convolves 3×3 instead, which leaves no checkerboards; `"principal"` and `"principal-dcgan"` do so to correct
    what principal components draw, see `principal`. `"residual"` has the blocks of f-AnoGAN's GAN: normalisation, ReLU
    and a 3×3 convolution twice, beside a shortcut. `"hazelnut"` is the topology of Pippo7x/AnoGAN-Keras, whose weight
    files load into it.

    Args:
        image_shape: `(height, width, channels)`, sides from 8 to 256, 1 or 3 channels.
        latent_dim: Dimension of z.
        architecture: `"dcgan"`, `"deep-dcgan"`, `"upsampling"`, `"principal"`, `"principal-dcgan"`, `"residual"` or
            `"hazelnut"`.
        width: Filters of the layer next to the image; they double with each layer away from it, up to `8 * width`.
        kernel_initializer: A Keras initializer or its name; None for the architecture's own.
        seed: Seed of the initial weights.

    Returns:
        A model from z `(batch, latent_dim)` to images `(batch, height, width, channels)` in [-1, 1].

    Raises:
        ValueError: For an image shape or an architecture outside the above.

    Example:
        >>> Generator((28, 28, 1), latent_dim=64)(keras.random.normal((2, 64))).shape
        TensorShape([2, 28, 28, 1])

    References:
        Radford et al., "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks",
        arXiv 1511.06434, section 3; Gulrajani et al., arXiv 1704.00028, appendix F (residual).
    """

    latent_dim: int

    def __init__(
        self,
        image_shape: Sequence[int] = (64, 64, 3),
        latent_dim: int = 100,
        *,
        architecture: str = "dcgan",
        width: int = 64,
        kernel_initializer: Initializer = None,
        seed: int = 0,
        name: str = "generator",
    ) -> None:
        super().__init__(
            image_shape=image_shape,
            latent_dim=latent_dim,
            architecture=architecture,
            width=width,
            kernel_initializer=kernel_initializer,
            seed=seed,
            name=name,
        )

    def _graph(self, architecture, initializer, settings):
        z = keras.Input((settings["latent_dim"],), name="z")
        layers = architecture.generator(
            settings["image_shape"], settings["width"], initializer, momentum=architecture.momentum
        )
        return z, _chain(z, layers)


@keras.saving.register_keras_serializable("anogan_tf")
class Encoder(Network):
    """The encoder E of f-AnoGAN: the z of an image in one pass.

    It has the layers of the discriminator of the same architecture, and a linear head: the prior N(0, 1) has no bounds,
    so a tanh would cut it off. Its weights start from He's distribution, as it has to regress at once.

    Args:
        image_shape: `(height, width, channels)`, sides from 8 to 256, 1 or 3 channels.
        latent_dim: Dimension of z.
        architecture: `"dcgan"` or `"upsampling"`, which are the same here, `"deep-dcgan"`, `"principal"` or
            `"principal-dcgan"`, which are the same too, or `"residual"`; there is none for `"hazelnut"`, whose
            normalisation and Dropout would make training and scoring see different codes.
        width: Filters of the layer next to the image; they double with each layer away from it, up to `8 * width`.
        kernel_initializer: A Keras initializer or its name.
        seed: Seed of the initial weights.

    Returns:
        A model from images `(batch, height, width, channels)` to z `(batch, latent_dim)`.

    Raises:
        ValueError: For an image shape or an architecture outside the above.

    References:
        Schlegl et al., "f-AnoGAN: Fast unsupervised anomaly detection with generative adversarial networks", Medical
        Image Analysis 2019.
    """

    ENCODES = True
    latent_dim: int

    def __init__(
        self,
        image_shape: Sequence[int] = (64, 64, 3),
        latent_dim: int = 100,
        *,
        architecture: str = "dcgan",
        width: int = 64,
        kernel_initializer: Initializer = "he_normal",
        seed: int = 0,
        name: str = "encoder",
    ) -> None:
        super().__init__(
            image_shape=image_shape,
            latent_dim=latent_dim,
            architecture=architecture,
            width=width,
            kernel_initializer=kernel_initializer,
            seed=seed,
            name=name,
        )

    def _graph(self, architecture, initializer, settings):
        head = keras.initializers.Zeros if architecture.principal else initializer
        features = architecture.encoder or architecture.features
        images, z = _with_head(architecture, features, initializer, settings, settings["latent_dim"], "z", head)
        return images, principal.found_beside(images, z) if architecture.principal else z


@keras.saving.register_keras_serializable("anogan_tf")
class Discriminator(Network):
    """The discriminator (or critic) D, whose inner layers are the features f of the anomaly score.

    The architecture `"dcgan"` has strided convolutions, each followed by LeakyReLU(0.2), and no normalisation: batch
    statistics at inference are what the score would be made of, and few images make them poor. `"deep-dcgan"` looks
    once more, with a 3×3 convolution, at what each but the first of them sees. Nor has `"residual"` a normalisation,
    whose blocks are those of f-AnoGAN's critic. `"principal"` sees deviations from the mean image; `"principal-dcgan"`
    is `"dcgan"`, with its small initial weights, from which a second task makes better features.

    Args:
        image_shape: `(height, width, channels)`, sides from 8 to 256, 1 or 3 channels.
        architecture: `"dcgan"`, `"deep-dcgan"`, `"upsampling"`, `"principal"`, `"principal-dcgan"`, `"residual"` or
            `"hazelnut"`.
        width: Filters of the layer next to the image; they double with each layer away from it, up to `8 * width`.
        kernel_initializer: A Keras initializer or its name; None for the architecture's own.
        seed: Seed of the initial weights and of Dropout.

    Returns:
        A model from images `(batch, height, width, channels)` to logits `(batch, 1)`. The outputs of its blocks are
        layers named `features_1` (next to the image), `features_2`, …

    Raises:
        ValueError: For an image shape or an architecture outside the above.

    References:
        Radford et al., arXiv 1511.06434, section 3.
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (64, 64, 3),
        *,
        architecture: str = "dcgan",
        width: int = 64,
        kernel_initializer: Initializer = None,
        seed: int = 0,
        name: str = "discriminator",
    ) -> None:
        super().__init__(
            image_shape=image_shape,
            architecture=architecture,
            width=width,
            kernel_initializer=kernel_initializer,
            seed=seed,
            name=name,
        )

    def _own(self, architecture):
        return architecture.features_initializer or architecture.initializer

    def _graph(self, architecture, initializer, settings):
        return _with_head(architecture, architecture.features, initializer, settings, 1, "logits", initializer)


def feature_extractor(discriminator: keras.Model, layers: Iterable[str] | None = None) -> keras.Model:
    """A model from images to the outputs f(x) of the named discriminator layers, sharing its weights.

    Args:
        discriminator: A Functional Keras model.
        layers: Layer names; None for the deepest feature map.

    Returns:
        A Keras model from images to a dict of one tensor a layer, by name.

    Raises:
        ValueError: If a name is not a layer's; the names there are, are listed.
    """
    found = _layer_outputs(discriminator)
    names = tuple(layers) if layers else (_deepest_features(discriminator, found),)
    unknown = [name for name in names if name not in found]
    if unknown:
        raise ValueError(f"No such discriminator layer. Received: feature_layers={unknown}; there are {list(found)}.")
    return keras.Model(discriminator.inputs[0], {name: found[name] for name in names}, name="features")


def feature_maps(discriminator: keras.Model) -> tuple[str, ...]:
    """The names of a discriminator's feature maps, `features_1`, …; of another network than ours all maps."""
    maps = _maps(discriminator, _layer_outputs(discriminator))
    return tuple(name for name in maps if name.startswith("features_")) or tuple(maps)


def hidden_output(network: keras.Model) -> keras.KerasTensor:
    """The tensor that the last layer of a network takes."""
    return _nodes(network)[network.layers[-1].name].input_tensors[0]


def with_dtype(network: keras.Model, dtype: str) -> keras.Model:
    """A copy of `network` with the same weights under another dtype policy, such as `"mixed_bfloat16"`."""

    def clone(layer):
        own = {} if isinstance(layer, keras.layers.InputLayer) else {"dtype": dtype}
        return type(layer).from_config(layer.get_config() | own)

    outputs = network.outputs[0] if isinstance(network, keras.Sequential) else network.output
    flat = keras.Model(network.inputs[0], outputs)
    copy = keras.models.clone_model(flat, clone_function=clone, recursive=True)
    copy.set_weights(network.get_weights())
    return copy


def check_image_shape(image_shape: Sequence[int]) -> tuple[int, int, int]:
    """`image_shape` as a tuple, or a ValueError that says what is wrong with it."""
    try:
        shape = tuple(operator.index(side) for side in image_shape)
    except TypeError:
        shape = ()
    if len(shape) != 3 or shape[2] not in (1, 3) or not all(MIN_SIDE <= side <= MAX_SIDE for side in shape[:2]):
        raise ValueError(
            f"image_shape is (height, width, channels) with sides from {MIN_SIDE} to {MAX_SIDE} and 1 or 3 channels, "
            f"such as (64, 64, 3). Received: image_shape={image_shape}."
        )
    return shape


def check_functional(name: str, network: keras.Model) -> None:
    """Raises a ValueError that begins with `name` if a network is no graph of layers."""
    if not getattr(network, "inputs", None):
        raise ValueError(
            f"{name} is a Functional network, or a Sequential one that begins with keras.Input, as its layers are "
            f"looked into. Received: {name} of {type(network).__name__}, without inputs."
        )


def _checked(*, image_shape, width, seed, architecture, latent_dim=None):
    """The arguments of a network as Python's own numbers, or a ValueError."""
    checked = {
        "image_shape": check_image_shape(image_shape),
        "width": _whole("width", width, MAX_WIDTH),
        "seed": operator.index(seed),
    }
    if latent_dim is not None:
        checked["latent_dim"] = _whole("latent_dim", latent_dim, MAX_LATENT_DIM)
    return checked


def _whole(name, value, largest):
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if not 1 <= number <= largest:
        raise ValueError(f"{name} is a whole number from 1 to {largest}. Received: {name}={value!r}.")
    return number


def _with_head(architecture, features, initializer, settings, units, name, head):
    """Layers of features, and a linear layer in float32, whose initializer `head` makes."""
    images = keras.Input(settings["image_shape"], name="image")
    layers = features(
        settings["image_shape"], settings["width"], initializer, momentum=architecture.momentum, seed=settings["seed"]
    )
    flat = keras.layers.Flatten(name="flatten")(_chain(images, layers))
    dense = keras.layers.Dense(units, kernel_initializer=head(), dtype="float32", name=name)
    return images, dense(flat)


def _chain(tensor, layers):
    for layer in layers:
        tensor = layer(tensor)
    return tensor


def _nodes(network):
    """Where each layer is called in a network, by name; a nested model has a graph of its own besides."""
    graph = getattr(network, "_functional", network)  # a Sequential keeps its graph
    return {node.operation.name: node for nodes in graph._nodes_by_depth.values() for node in nodes}


def _layer_outputs(network):
    nodes = _nodes(network)
    return {layer.name: nodes[layer.name].output_tensors[0] for layer in network.layers if layer.name in nodes}


def _deepest_features(discriminator, outputs):
    maps = _maps(discriminator, outputs)
    if not maps:
        raise ValueError("The discriminator has no feature map: name the layers that make f(x) with feature_layers=.")
    return maps[-1]


def _maps(discriminator, outputs):
    inputs = {layer.name for layer in discriminator.layers if isinstance(layer, keras.layers.InputLayer)}
    return [name for name, output in outputs.items() if len(output.shape) == 4 and name not in inputs]
