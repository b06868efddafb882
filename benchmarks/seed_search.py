"""The latent search of Pippo7x/AnoGAN-Keras: `fit` of a Dense layer before G, one image at a time, under Keras 2."""

import numpy as np

try:
    import tf_keras
except ImportError as error:
    raise ImportError("The seed's search runs under Keras 2: pip install tf_keras.") from error
import tensorflow as tf


class SeedSearch:
    """Searches z for one image as the seed does, with 0.9 Σ|x - G(z)| + 0.1 Σ|f(x) - f(G(z))| and Adam.

    As there, z is what a Dense layer makes of one random vector, the networks are frozen, and Dropout is active.

    Args:
        generator: A generator of this package; it is rebuilt under Keras 2.
        features: A model from images to the features of one layer.
    """

    def __init__(self, generator, features):
        self.generator, self.features = rebuilt(generator), rebuilt(features)
        self.generator.trainable = self.features.trainable = False
        latent_dim = generator.input_shape[-1]
        start = tf_keras.Input((latent_dim,))
        reconstruction = self.generator(tf_keras.layers.Dense(latent_dim)(start))
        self.model = tf_keras.Model(start, [reconstruction, self.features(reconstruction)])
        self.model.compile(loss=_sum_of_residual, loss_weights=[0.9, 0.1], optimizer=tf_keras.optimizers.Adam())
        self.start = np.random.default_rng(0).uniform(size=(1, latent_dim)).astype(np.float32)

    def __call__(self, image, steps):
        """The loss after that many epochs of one step, for one image `(1, height, width, channels)`."""
        targets = [image, self.features.predict(image, verbose=0)]
        return self.model.fit(self.start, targets, epochs=steps, batch_size=1, verbose=0).history["loss"][-1]


def rebuilt(network):
    """A Functional Keras 3 model without branches under Keras 2, with the same weights."""
    tensor = inputs = tf_keras.Input(network.input_shape[1:])
    for layer in network.layers[1:]:
        tensor = _layer(layer)(tensor)
    copy = tf_keras.Model(inputs, tensor)
    copy.set_weights(network.get_weights())
    return copy


def _layer(layer):
    kind, config = type(layer).__name__, layer.get_config()
    names = {
        "Dense": ("units", "activation", "use_bias"),
        "Conv2D": ("filters", "kernel_size", "strides", "padding", "activation", "use_bias"),
        "Conv2DTranspose": ("filters", "kernel_size", "strides", "padding", "activation", "use_bias"),
        "BatchNormalization": ("epsilon",),
        "Reshape": ("target_shape",),
        "Cropping2D": ("cropping",),
        "Activation": ("activation",),
        "Dropout": ("rate",),
        "ReLU": (),
        "LeakyReLU": (),
    }[kind]
    options = {"alpha": layer.negative_slope} if kind == "LeakyReLU" else {name: config[name] for name in names}
    return getattr(tf_keras.layers, kind)(**options)


def _sum_of_residual(target, output):
    return tf.reduce_sum(tf.abs(target - output))
