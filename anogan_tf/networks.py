"""Generator, discriminator and encoder as flat Functional graphs, for any image size from 8 to 256 pixels a side."""

import itertools
import math

import keras

PRIORS = ("normal", "uniform")
MIN_SIDE, MAX_SIDE = 8, 256
MAX_WIDTH, MAX_LATENT_DIM = 512, 8192  # far above what is of use; a damaged or hostile run asks for no more memory


@keras.saving.register_keras_serializable("anogan_tf")
class Generator(keras.Model):
    """The map G from the latent space to images.

    The architecture `"dcgan"` projects z to a base of about 4×4, and doubles it with transposed convolutions until
    it covers the image, which is then cropped from the centre. Normalisation momentum is 0.85: at Keras' 0.99 a short
    training leaves the moving statistics, which the latent search uses, far behind the batch statistics.
    `"residual"` has the blocks of f-AnoGAN's GAN: normalisation, ReLU and a 3×3 convolution twice, beside a shortcut.
    `"hazelnut"` is the topology of Pippo7x/AnoGAN-Keras, whose weight files load into it.

    Args:
        image_shape: `(height, width, channels)`, sides from 8 to 256, 1 or 3 channels.
        latent_dim: Dimension of z.
        architecture: `"dcgan"`, `"residual"` or `"hazelnut"`.
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

    def __init__(
        self,
        image_shape=(64, 64, 3),
        latent_dim=100,
        *,
        architecture="dcgan",
        width=64,
        kernel_initializer=None,
        seed=0,
        name="generator",
        **kwargs,
    ):
        image_shape = check_image_shape(image_shape)
        _check_range("width", width, MAX_WIDTH)
        _check_range("latent_dim", latent_dim, MAX_LATENT_DIM)
        z = keras.Input((latent_dim,), name="z")
        initializer = _initializers(kernel_initializer, architecture, seed)
        layers = GENERATORS[architecture](image_shape, width, initializer)
        super().__init__(inputs=z, outputs=_chain(z, layers), name=name, **kwargs)

        self.image_shape = image_shape
        self.latent_dim = latent_dim
        self.architecture = architecture
        self.width = width
        self.kernel_initializer = kernel_initializer and keras.initializers.get(kernel_initializer)
        self.seed = seed

    def get_config(self):
        return {
            "image_shape": self.image_shape,
            "latent_dim": self.latent_dim,
            "architecture": self.architecture,
            "width": self.width,
            "kernel_initializer": self.kernel_initializer and keras.initializers.serialize(self.kernel_initializer),
            "seed": self.seed,
            "name": self.name,
        }


@keras.saving.register_keras_serializable("anogan_tf")
class Encoder(keras.Model):
    """The encoder E of f-AnoGAN: the z of an image in one pass.

    It has the layers of the discriminator of the same architecture, and a linear head: the prior N(0, 1) has no bounds,
    so a tanh would cut it off. Its weights start from He's distribution, as it has to regress at once.

    Args:
        image_shape: `(height, width, channels)`, sides from 8 to 256, 1 or 3 channels.
        latent_dim: Dimension of z.
        architecture: `"dcgan"` or `"residual"`; there is none for `"hazelnut"`, whose normalisation and Dropout would
            make training and scoring see different codes.
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

    def __init__(
        self,
        image_shape=(64, 64, 3),
        latent_dim=100,
        *,
        architecture="dcgan",
        width=64,
        kernel_initializer="he_normal",
        seed=0,
        name="encoder",
        **kwargs,
    ):
        image_shape = check_image_shape(image_shape)
        _check_range("width", width, MAX_WIDTH)
        _check_range("latent_dim", latent_dim, MAX_LATENT_DIM)
        if architecture not in ENCODERS:
            raise ValueError(f"architecture is one of {ENCODERS}. Received: architecture={architecture!r}.")
        images = keras.Input(image_shape, name="image")
        initializer = _initializers(kernel_initializer, architecture, seed)
        features = _chain(images, FEATURES[architecture](image_shape, width, initializer, seed))
        z = keras.layers.Dense(latent_dim, kernel_initializer=initializer(), dtype="float32", name="z")
        super().__init__(inputs=images, outputs=z(keras.layers.Flatten(name="flatten")(features)), name=name, **kwargs)

        self.image_shape = image_shape
        self.latent_dim = latent_dim
        self.architecture = architecture
        self.width = width
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.seed = seed

    def get_config(self):
        return {
            "image_shape": self.image_shape,
            "latent_dim": self.latent_dim,
            "architecture": self.architecture,
            "width": self.width,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "seed": self.seed,
            "name": self.name,
        }


@keras.saving.register_keras_serializable("anogan_tf")
class Discriminator(keras.Model):
    """The discriminator (or critic) D, whose inner layers are the features f of the anomaly score.

    The architecture `"dcgan"` has strided convolutions, each followed by LeakyReLU(0.2), and no normalisation: batch
    statistics at inference are what the score would be made of, and few images make them poor. Nor has `"residual"`,
    whose blocks are those of f-AnoGAN's critic.

    Args:
        image_shape: `(height, width, channels)`, sides from 8 to 256, 1 or 3 channels.
        architecture: `"dcgan"`, `"residual"` or `"hazelnut"`.
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
        image_shape=(64, 64, 3),
        *,
        architecture="dcgan",
        width=64,
        kernel_initializer=None,
        seed=0,
        name="discriminator",
        **kwargs,
    ):
        image_shape = check_image_shape(image_shape)
        _check_range("width", width, MAX_WIDTH)
        images = keras.Input(image_shape, name="image")
        initializer = _initializers(kernel_initializer, architecture, seed)
        features = _chain(images, FEATURES[architecture](image_shape, width, initializer, seed))
        logits = keras.layers.Dense(1, kernel_initializer=initializer(), dtype="float32", name="logits")
        super().__init__(
            inputs=images, outputs=logits(keras.layers.Flatten(name="flatten")(features)), name=name, **kwargs
        )

        self.image_shape = image_shape
        self.architecture = architecture
        self.width = width
        self.kernel_initializer = kernel_initializer and keras.initializers.get(kernel_initializer)
        self.seed = seed

    def get_config(self):
        return {
            "image_shape": self.image_shape,
            "architecture": self.architecture,
            "width": self.width,
            "kernel_initializer": self.kernel_initializer and keras.initializers.serialize(self.kernel_initializer),
            "seed": self.seed,
            "name": self.name,
        }


def feature_extractor(discriminator, layers=None):
    """A model from images to the outputs f(x) of the named discriminator layers, sharing its weights.

    Args:
        discriminator: A Functional Keras model.
        layers: Layer names; None for the deepest feature map.

    Returns:
        A Keras model from images to a dict of one tensor a layer, by name.

    Raises:
        ValueError: If a name is not a layer's; the names there are, are listed.
    """
    names = [layer.name for layer in discriminator.layers]
    layers = tuple(layers) if layers else (_deepest_features(discriminator),)
    unknown = [name for name in layers if name not in names]
    if unknown:
        raise ValueError(f"No such discriminator layer. Received: feature_layers={unknown}; there are {names}.")
    outputs = {name: discriminator.get_layer(name).output for name in layers}
    return keras.Model(discriminator.inputs[0], outputs, name="features")


def with_dtype(network, dtype):
    """A copy of `network` with the same weights under another dtype policy, such as `"mixed_bfloat16"`."""

    def clone(layer):
        own = {} if isinstance(layer, keras.layers.InputLayer) else {"dtype": dtype}
        return type(layer).from_config(layer.get_config() | own)

    outputs = network.outputs[0] if isinstance(network, keras.Sequential) else network.output
    copy = keras.models.clone_model(keras.Model(network.inputs[0], outputs), clone_function=clone)
    copy.set_weights(network.get_weights())
    return copy


def check_image_shape(image_shape):
    """`image_shape` as a tuple, or a ValueError that says what is wrong with it."""
    shape = tuple(int(side) for side in image_shape)
    if len(shape) != 3 or shape[2] not in (1, 3) or not all(MIN_SIDE <= side <= MAX_SIDE for side in shape[:2]):
        raise ValueError(
            f"image_shape is (height, width, channels) with sides from {MIN_SIDE} to {MAX_SIDE} and 1 or 3 channels, "
            f"such as (64, 64, 3). Received: image_shape={tuple(image_shape)}."
        )
    return shape


def _check_range(name, value, largest):
    if not 1 <= value <= largest:
        raise ValueError(f"{name} is from 1 to {largest}. Received: {name}={value}.")


def _dcgan_generator(image_shape, width, initializer):
    height, img_width, channels = image_shape
    filters = _filters(image_shape, width)[::-1]
    depth = len(filters)
    base = _base(image_shape, depth)
    yield keras.layers.Dense(
        base[0] * base[1] * filters[0], use_bias=False, kernel_initializer=initializer(), name="project"
    )
    yield keras.layers.Reshape((*base, filters[0]), name="base")
    yield keras.layers.BatchNormalization(momentum=0.85, name="normalize_0")
    yield keras.layers.ReLU(name="relu_0")
    for i, units in enumerate(filters[1:], start=1):
        yield keras.layers.Conv2DTranspose(
            units, 4, 2, "same", use_bias=False, kernel_initializer=initializer(), name=f"upsample_{i}"
        )
        yield keras.layers.BatchNormalization(momentum=0.85, name=f"normalize_{i}")
        yield keras.layers.ReLU(name=f"relu_{i}")
    yield keras.layers.Conv2DTranspose(channels, 4, 2, "same", kernel_initializer=initializer(), name="to_image")
    yield _centre_crop(base[0] * 2**depth - height, base[1] * 2**depth - img_width)
    yield keras.layers.Activation("tanh", dtype="float32", name="image")


def _dcgan_features(image_shape, width, initializer, seed):
    for i, units in enumerate(_filters(image_shape, width), start=1):
        yield keras.layers.Conv2D(units, 4, 2, "same", kernel_initializer=initializer(), name=f"downsample_{i}")
        yield keras.layers.LeakyReLU(negative_slope=0.2, name=f"features_{i}")


def _residual_generator(image_shape, width, initializer):
    height, img_width, channels = image_shape
    filters = _filters(image_shape, width)[::-1]
    base = _base(image_shape, len(filters))
    yield keras.layers.Dense(base[0] * base[1] * filters[0], kernel_initializer=initializer(), name="project")
    yield keras.layers.Reshape((*base, filters[0]), name="base")
    for i, units in enumerate(filters, start=1):
        yield _residual_up(units, initializer, f"block_{i}")
    yield keras.layers.BatchNormalization(momentum=0.85, name="normalize")
    yield keras.layers.ReLU(name="relu")
    yield keras.layers.Conv2D(channels, 3, padding="same", kernel_initializer=initializer(), name="to_image")
    yield _centre_crop(base[0] * 2 ** len(filters) - height, base[1] * 2 ** len(filters) - img_width)
    yield keras.layers.Activation("tanh", dtype="float32", name="image")


def _residual_features(image_shape, width, initializer, seed):
    filters = _filters(image_shape, width)
    yield keras.layers.Conv2D(filters[0], 3, padding="same", kernel_initializer=initializer(), name="from_image")
    for i, units in enumerate([*filters[1:], filters[-1]], start=1):
        yield _residual_down(units, initializer, f"features_{i}")


def _residual_up(units, initializer, name):
    """A pre-activation block that doubles the sides; a 1×1 convolution is the same, and cheaper, before it doubles."""

    def block(tensor):
        shortcut = keras.layers.Conv2D(units, 1, kernel_initializer=initializer(), name=f"{name}_shortcut")(tensor)
        shortcut = keras.layers.UpSampling2D(2, name=f"{name}_double_shortcut")(shortcut)
        inner = keras.layers.BatchNormalization(momentum=0.85, name=f"{name}_normalize_1")(tensor)
        inner = keras.layers.ReLU(name=f"{name}_relu_1")(inner)
        inner = keras.layers.UpSampling2D(2, name=f"{name}_double")(inner)
        inner = _conv3(units, initializer, f"{name}_conv_1")(inner)
        inner = keras.layers.BatchNormalization(momentum=0.85, name=f"{name}_normalize_2")(inner)
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


def _hazelnut_generator(image_shape, width, initializer):
    base = _hazelnut_base(image_shape)
    options = {"use_bias": False, "activation": "relu"}
    yield keras.layers.Dense(base[0] * base[1] * 4 * width, kernel_initializer=initializer(), name="project", **options)
    yield keras.layers.BatchNormalization(name="normalize_0")
    yield keras.layers.Reshape((*base, 4 * width), name="base")
    for i, units in enumerate((4 * width, 2 * width, width), start=1):
        yield keras.layers.Conv2DTranspose(
            units, 5, 2, "same", kernel_initializer=initializer(), name=f"upsample_{i}", **options
        )
        yield keras.layers.BatchNormalization(name=f"normalize_{i}")
    yield keras.layers.Conv2DTranspose(
        image_shape[2], 5, 1, "same", use_bias=False, kernel_initializer=initializer(), name="to_image"
    )
    yield keras.layers.Activation("tanh", dtype="float32", name="image")


def _hazelnut_features(image_shape, width, initializer, seed):
    for i, units in enumerate((width, 2 * width, 4 * width), start=1):
        yield keras.layers.Conv2D(units, 5, 2, "same", kernel_initializer=initializer(), name=f"downsample_{i}")
        yield keras.layers.BatchNormalization(name=f"normalize_{i}")
        yield keras.layers.LeakyReLU(negative_slope=0.2, name=f"activation_{i}")
        yield keras.layers.Dropout(0.3, seed=seed + i, name=f"features_{i}")


GENERATORS = {"dcgan": _dcgan_generator, "residual": _residual_generator, "hazelnut": _hazelnut_generator}
FEATURES = {"dcgan": _dcgan_features, "residual": _residual_features, "hazelnut": _hazelnut_features}
ENCODERS = ("dcgan", "residual")
INITIALIZERS = {
    "dcgan": keras.initializers.RandomNormal(stddev=0.02),
    "residual": "he_normal",
    "hazelnut": "glorot_uniform",
}


def _chain(tensor, layers):
    for layer in layers:
        tensor = layer(tensor)
    return tensor


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


def _initializers(identifier, architecture, seed):
    """A function that gives each layer an initializer with a seed of its own."""
    if architecture not in INITIALIZERS:
        raise ValueError(f"architecture is one of {sorted(INITIALIZERS)}. Received: architecture={architecture!r}.")
    initializer = keras.initializers.get(identifier or INITIALIZERS[architecture])
    seeds = itertools.count(1000 * seed)
    return lambda: type(initializer).from_config(initializer.get_config() | {"seed": next(seeds)})


def _deepest_features(discriminator):
    maps = [
        layer.name
        for layer in discriminator.layers
        if len(layer.output.shape) == 4 and not isinstance(layer, keras.layers.InputLayer)
    ]
    if not maps:
        raise ValueError("The discriminator has no feature map: name the layers that make f(x) with feature_layers=.")
    return maps[-1]
