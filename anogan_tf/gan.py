"""The generative adversarial networks: Keras models that hold a generator and a discriminator, and train both."""

import keras
import tensorflow as tf

from anogan_tf import losses
from anogan_tf.callbacks import DataOrder
from anogan_tf.networks import PRIORS, Discriminator, Generator
from anogan_tf.search import sample_prior

DCGAN_METRICS = ("d_loss", "g_loss", "d_real_accuracy", "d_generated_accuracy")


@keras.saving.register_keras_serializable("anogan_tf")
class DCGAN(keras.Model):
    """A deep convolutional GAN, trained on normal images by `fit`.

    The discriminator D minimises -E[log D(x)] - E[log(1 - D(G(z)))], the generator G the non-saturating
    -E[log D(G(z))]. z of a training step is a function of `(seed, step, replica)`, so an interrupted and resumed
    training ends with the same weights as an unbroken one (see `callbacks.Checkpoint`).

    Args:
        image_shape: `(height, width, channels)`, sides from 8 to 256, 1 or 3 channels.
        latent_dim: Dimension of z.
        architecture: `"dcgan"` or `"hazelnut"`, see `networks`.
        width: Filters next to the image.
        prior: Distribution of z: `"normal"` for N(0, 1), `"uniform"` for uniform(-1, 1).
        kernel_initializer: A Keras initializer or its name; None for the architecture's own.
        generator: Your own Functional network from z to images in [-1, 1], in place of all the above but `prior`.
        discriminator: Your own Functional network from images to one logit; goes with `generator`.
        seed: Seed of initial weights and training noise.

    Raises:
        ValueError: If the arguments do not fit together.

    Example:
        >>> gan = DCGAN(image_shape=(28, 28, 1), latent_dim=64)
        >>> gan.compile()
        >>> history = gan.fit(dataset, epochs=20, shuffle=False)

    References:
        Radford et al., arXiv 1511.06434; Goodfellow et al., arXiv 1406.2661, eq. 1.
    """

    def __init__(
        self,
        image_shape=(64, 64, 3),
        latent_dim=100,
        *,
        architecture="dcgan",
        width=64,
        prior="normal",
        kernel_initializer=None,
        generator=None,
        discriminator=None,
        seed=0,
        name="dcgan",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        if prior not in PRIORS:
            raise ValueError(f"prior is one of {PRIORS}. Received: prior={prior!r}.")
        if (generator is None) != (discriminator is None):
            raise ValueError("generator and discriminator go together. Received only one of them.")
        options = {"architecture": architecture, "width": width, "kernel_initializer": kernel_initializer}
        self.generator = generator or Generator(image_shape, latent_dim, seed=seed, **options)
        self.discriminator = discriminator or Discriminator(image_shape, seed=seed + 1, **options)
        _check_networks(self.generator, self.discriminator)
        self.prior = prior
        self.seed = seed
        self._trackers = {name: keras.metrics.Mean(name) for name in DCGAN_METRICS}
        self.built = True

    @property
    def latent_dim(self):
        return self.generator.input_shape[-1]

    @property
    def image_shape(self):
        return tuple(self.generator.output_shape[1:])

    @property
    def metrics(self):
        return list(self._trackers.values())

    def compile(self, g_optimizer=None, d_optimizer=None, *, generator_steps=1, label_smoothing=0.0, **kwargs):
        """Configures training.

        Args:
            g_optimizer: Keras optimizer of the generator; None for Adam(1e-3, β₁ = 0.5).
            d_optimizer: Keras optimizer of the discriminator; None for the same.
            generator_steps: Generator steps per discriminator step.
            label_smoothing: Real images are labelled `1 - label_smoothing` for the discriminator.
            **kwargs: Passed on to `keras.Model.compile`, such as `jit_compile` or `steps_per_execution`.
        """
        super().compile(optimizer=None, **kwargs)
        self.g_optimizer = self._prepare(g_optimizer, self.generator)
        self.d_optimizer = self._prepare(d_optimizer, self.discriminator)
        self.generator_steps = generator_steps
        self.label_smoothing = label_smoothing
        self._compile_options = kwargs

    def fit(self, x, *args, callbacks=None, **kwargs):
        """Trains on a `tf.data.Dataset` of image batches or (image, label) batches; labels are ignored.

        As `keras.Model.fit`, and it refuses images outside [-1, 1].

        Raises:
            ValueError: If the first batch has values outside [-1, 1], or none below 0, or another shape.
        """
        check_training_images(x, self.image_shape)
        return super().fit(x, *args, callbacks=[DataOrder(x), *(callbacks or ())], **kwargs)

    def train_step(self, data):
        images, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        step = tf.identity(self.d_optimizer.iterations.value)  # before it is counted up
        self._train_discriminator(images, self._noise(images, step, 0))
        for i in range(self.generator_steps):
            self._train_generator(self._noise(images, step, 1 + i))
        return self.get_metrics_result()

    def _train_discriminator(self, images, z):
        generated = self.generator(z, training=True)
        with tf.GradientTape() as tape:
            real_logits = self.discriminator(images, training=True)
            generated_logits = self.discriminator(generated, training=True)
            loss = losses.discriminator_loss(real_logits, generated_logits, label_smoothing=self.label_smoothing)
            scaled = self._scale(loss, self.d_optimizer)
        self._apply(tape, scaled, self.discriminator, self.d_optimizer)
        self._log(
            d_loss=loss,
            d_real_accuracy=tf.cast(real_logits > 0, tf.float32),
            d_generated_accuracy=tf.cast(generated_logits < 0, tf.float32),
        )

    def _train_generator(self, z):
        with tf.GradientTape() as tape:
            loss = losses.generator_loss(self.discriminator(self.generator(z, training=True), training=True))
            scaled = self._scale(loss, self.g_optimizer)
        self._apply(tape, scaled, self.generator, self.g_optimizer)
        self._log(g_loss=loss)

    def generate(self, n, *, seed=0):
        """`n` images G(z) with z from the prior, in inference mode: `(n, height, width, channels)` in [-1, 1]."""
        z = sample_prior((n, self.latent_dim), self.prior, (self.seed, seed))
        return self.generator(z, training=False).numpy()

    def get_config(self):
        return {
            "generator": keras.saving.serialize_keras_object(self.generator),
            "discriminator": keras.saving.serialize_keras_object(self.discriminator),
            "prior": self.prior,
            "seed": self.seed,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        networks = {
            name: keras.saving.deserialize_keras_object(config[name]) for name in ("generator", "discriminator")
        }
        return cls(**config | networks)

    def get_compile_config(self):
        return {
            "g_optimizer": keras.saving.serialize_keras_object(self.g_optimizer),
            "d_optimizer": keras.saving.serialize_keras_object(self.d_optimizer),
            "generator_steps": self.generator_steps,
            "label_smoothing": self.label_smoothing,
            **self._compile_options,
        }

    def compile_from_config(self, config):
        optimizers = {
            name: keras.saving.deserialize_keras_object(config[name]) for name in ("g_optimizer", "d_optimizer")
        }
        self.compile(**config | optimizers)

    def _noise(self, images, step, draw):
        """z for one draw of one step on this replica, `(batch, latent_dim)`."""
        seed = tf.constant([self.seed, 0], tf.int64)
        for number in (step, draw, tf.distribute.get_replica_context().replica_id_in_sync_group):
            seed = tf.random.experimental.stateless_fold_in(seed, tf.cast(number, tf.int64))
        return sample_prior((tf.shape(images)[0], self.latent_dim), self.prior, seed)

    def _prepare(self, optimizer, network):
        optimizer = optimizer or keras.optimizers.Adam(1e-3, beta_1=0.5)
        if self.dtype_policy.name == "mixed_float16" and not hasattr(optimizer, "inner_optimizer"):
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(network.trainable_variables)
        return optimizer

    def _scale(self, loss, optimizer):
        """The part of the loss that is this replica's, as optimisers sum gradients over replicas."""
        return optimizer.scale_loss(loss / tf.distribute.get_strategy().num_replicas_in_sync)

    def _apply(self, tape, loss, network, optimizer):
        gradients = tape.gradient(loss, [variable.value for variable in network.trainable_variables])
        optimizer.apply(gradients, network.trainable_variables)

    def _log(self, **values):
        for name, value in values.items():
            self._trackers[name].update_state(value)


def check_training_images(dataset, image_shape):
    """Raises a ValueError if the first batch cannot be images of `image_shape` in [-1, 1]."""
    images, _, _ = keras.utils.unpack_x_y_sample_weight(next(iter(dataset)))
    if tuple(images.shape[1:]) != image_shape:
        raise ValueError(f"The networks take images of shape {image_shape}. Received: batches of shape {images.shape}.")
    low, high = float(tf.reduce_min(images)), float(tf.reduce_max(images))
    if not (-1.0 <= low < 0.0 and high <= 1.0):
        raise ValueError(
            f"Images are floats in [-1, 1], such as image / 127.5 - 1 of bytes. Received: a first batch in [{low:g}, "
            f"{high:g}]."
        )


def _check_networks(generator, discriminator):
    if len(generator.input_shape) != 2 or generator.output_shape != discriminator.input_shape:
        raise ValueError(
            "The generator maps (batch, latent_dim) to the images that the discriminator takes. Received: generator "
            f"{generator.input_shape} → {generator.output_shape}, discriminator of {discriminator.input_shape}."
        )
    if discriminator.output_shape[1:] != (1,):
        raise ValueError(f"The discriminator gives one logit an image. Received: {discriminator.output_shape}.")
