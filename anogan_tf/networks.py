"""Generator, discriminator and encoder as flat Functional graphs, for any image size from 8 to 256 pixels a side."""

import keras

from anogan_tf.architectures import ENCODERS, FEATURES, GENERATORS, initializers

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
        initializer = initializers(kernel_initializer, architecture, seed)
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
        initializer = initializers(kernel_initializer, architecture, seed)
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
        initializer = initializers(kernel_initializer, architecture, seed)
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


def _chain(tensor, layers):
    for layer in layers:
        tensor = layer(tensor)
    return tensor


def _deepest_features(discriminator):
    maps = [
        layer.name
        for layer in discriminator.layers
        if len(layer.output.shape) == 4 and not isinstance(layer, keras.layers.InputLayer)
    ]
    if not maps:
        raise ValueError("The discriminator has no feature map: name the layers that make f(x) with feature_layers=.")
    return maps[-1]
