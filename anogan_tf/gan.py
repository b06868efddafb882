"""The generative adversarial networks: Keras models that hold a generator and a discriminator, and train both."""

import functools

import keras
import tensorflow as tf

from anogan_tf import losses, training
from anogan_tf.callbacks import DataOrder
from anogan_tf.networks import PRIORS, Discriminator, Generator
from anogan_tf.search import sample_prior
from anogan_tf.transformations import Transformations, hidden_output, transformation_head

TASK_DRAW = 1000  # numbers of the draws of the second task, beyond those of z


class GAN(keras.Model):
    """A generator G, a discriminator D, and all that `DCGAN` and `WGANGP`, which train them, have in common.

    With self-supervision D has a second task, on real images: to tell by which transformation t each was changed.
    A head beside its logit gives p(t | t(x)), and its loss has w E[-log p(t | t(x))] besides. What D learns of normal
    images for that is the stronger evidence of what is not normal.

    z of a training step is a function of `(seed, step, replica)`, so an interrupted and resumed training ends with the
    same weights as an unbroken one (see `callbacks.Checkpoint`).

    Args:
        image_shape: `(height, width, channels)`, sides from 8 to 256, 1 or 3 channels.
        latent_dim: Dimension of z.
        architecture: `"dcgan"`, `"residual"` or `"hazelnut"`, see `networks`.
        width: Filters next to the image.
        prior: Distribution of z: `"normal"` for N(0, 1), `"uniform"` for uniform(-1, 1).
        kernel_initializer: A Keras initializer or its name; None for the architecture's own.
        generator: Your own Functional network from z to images in [-1, 1], in place of all the above but `prior`.
        discriminator: Your own Functional network from images to one logit; goes with `generator`.
        self_supervision: None for the papers' plain GANs; or what D also tells, `"rotation"`, `"shift"` or both, see
            `transformations.Transformations`.
        seed: Seed of initial weights and training noise.

    Raises:
        ValueError: If the arguments do not fit together.

    References:
        Chen et al., "Self-Supervised GANs via Auxiliary Rotation Loss", arXiv 1811.11212, eq. 3 (D's; G has none here).
    """

    LOGGED = ()

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
        self_supervision=None,
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
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
        self.transformations = self.transformation_head = self.tell_transformations = None
        if self_supervision:
            self.transformations = Transformations(self.image_shape, self_supervision)
            self.transformation_head = transformation_head(self.discriminator, self.transformations.classes, seed)
            hidden = hidden_output(self.discriminator)
            logits = keras.Model(self.discriminator.inputs[0], self.transformation_head(hidden))
            self.tell_transformations = functools.partial(logits)  # a function is not tracked as a second discriminator
        logged = (*self.LOGGED, *(("task_loss",) if self_supervision else ()))
        self._trackers = {name: keras.metrics.Mean(name) for name in logged}
        self.built = True

    @property
    def self_supervision(self):
        return self.transformations and self.transformations.tasks

    @property
    def networks(self) -> tuple[keras.Model, ...]:
        """G, D, and the head of its second task where it has one."""
        return tuple(filter(None, (self.generator, self.discriminator, self.transformation_head)))

    @property
    def latent_dim(self):
        return self.generator.input_shape[-1]

    @property
    def image_shape(self):
        return tuple(self.generator.output_shape[1:])

    @property
    def metrics(self):
        return list(self._trackers.values())

    def fit(self, x, *args, callbacks=None, **kwargs):
        """Trains on a `tf.data.Dataset` of image batches or (image, label) batches; labels are ignored.

        As `keras.Model.fit`, and it refuses images outside [-1, 1].

        Raises:
            ValueError: If the first batch has values outside [-1, 1], or none below 0, or another shape.
        """
        training.check_images(x, self.image_shape)
        return super().fit(x, *args, callbacks=[DataOrder(x), *(callbacks or ())], **kwargs)

    def generate(self, n, *, seed=0):
        """`n` images G(z) with z from the prior, in inference mode: `(n, height, width, channels)` in [-1, 1]."""
        z = sample_prior((n, self.latent_dim), self.prior, (self.seed, seed))
        return self.generator(z, training=False).numpy()

    def get_config(self):
        return {
            "generator": keras.saving.serialize_keras_object(self.generator),
            "discriminator": keras.saving.serialize_keras_object(self.discriminator),
            "prior": self.prior,
            "self_supervision": self.self_supervision,
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
            **self._compile_options,
        }

    def compile_from_config(self, config):
        optimizers = {
            name: keras.saving.deserialize_keras_object(config[name]) for name in ("g_optimizer", "d_optimizer")
        }
        self.compile(**config | optimizers)

    @property
    def _discriminator_variables(self):
        head = self.transformation_head.trainable_variables if self.transformation_head else []
        return self.discriminator.trainable_variables + head

    def _compile(self, g_optimizer, d_optimizer, keras_options, **own_options):
        super().compile(optimizer=None, **keras_options)
        self.g_optimizer = training.prepared(g_optimizer, self.generator.trainable_variables, self.dtype_policy)
        self.d_optimizer = training.prepared(d_optimizer, self._discriminator_variables, self.dtype_policy)
        self._compile_options = own_options | keras_options

    def _noise(self, images, step, draw):
        """z for one draw of one step on this replica, `(batch, latent_dim)`."""
        return sample_prior(
            (tf.shape(images)[0], self.latent_dim), self.prior, training.step_seed(self.seed, step, draw)
        )

    def _task_loss(self, images, step, draw=0):
        """w E[-log p(t | t(x))] over `views` random transformations t of each image; 0 without self-supervision."""
        if self.transformations is None:
            return 0.0
        views = tf.repeat(images, self.views, axis=0)
        seed = training.step_seed(self.seed, step, TASK_DRAW + draw)
        numbers = tf.random.stateless_uniform(
            tf.shape(views)[:1], seed, maxval=len(self.transformations), dtype=tf.int32
        )
        logits = self.tell_transformations(self.transformations(views, numbers), training=True)
        loss = -tf.reduce_mean(self.transformations.log_likelihood(logits, numbers))
        self._log(task_loss=loss)
        return self.task_weight * loss

    def _log(self, **values):
        for name, value in values.items():
            self._trackers[name].update_state(value)


@keras.saving.register_keras_serializable("anogan_tf")
class DCGAN(GAN):
    """A deep convolutional GAN, trained on normal images by `fit`.

    The discriminator D minimises -E[log D(x)] - E[log(1 - D(G(z)))], the generator G the non-saturating
    -E[log D(G(z))].

    Args:
        image_shape: `(height, width, channels)`, and all other arguments, as of `GAN`.

    Example:
        >>> gan = DCGAN(image_shape=(28, 28, 1), latent_dim=64)
        >>> gan.compile()
        >>> history = gan.fit(dataset, epochs=20, shuffle=False)

    References:
        Radford et al., arXiv 1511.06434; Goodfellow et al., arXiv 1406.2661, eq. 1.
    """

    LOGGED = ("d_loss", "g_loss", "d_real_accuracy", "d_generated_accuracy")

    def __init__(self, image_shape=(64, 64, 3), latent_dim=100, *, name="dcgan", **kwargs):
        super().__init__(image_shape, latent_dim, name=name, **kwargs)

    def compile(
        self,
        g_optimizer=None,
        d_optimizer=None,
        *,
        generator_steps=1,
        label_smoothing=0.0,
        task_weight=1.0,
        views=3,
        **kwargs,
    ):
        """Configures training.

        Args:
            g_optimizer: Keras optimizer of the generator; None for Adam(1e-3, β₁ = 0.5).
            d_optimizer: Keras optimizer of the discriminator; None for the same.
            generator_steps: Generator steps per discriminator step.
            label_smoothing: Real images are labelled `1 - label_smoothing` for the discriminator.
            task_weight: w, the weight of a second task of the discriminator.
            views: Transformations of each image in a step of that task.
            **kwargs: Passed on to `keras.Model.compile`, such as `jit_compile` or `steps_per_execution`.
        """
        self.generator_steps = generator_steps
        self.label_smoothing = label_smoothing
        self.task_weight = task_weight
        self.views = views
        self._compile(
            g_optimizer or keras.optimizers.Adam(1e-3, beta_1=0.5),
            d_optimizer or keras.optimizers.Adam(1e-3, beta_1=0.5),
            kwargs,
            generator_steps=generator_steps,
            label_smoothing=label_smoothing,
            task_weight=task_weight,
            views=views,
        )

    def train_step(self, data):
        images, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        step = tf.identity(self.d_optimizer.iterations.value)  # before it is counted up
        self._train_discriminator(images, self._noise(images, step, 0), step)
        for i in range(self.generator_steps):
            self._train_generator(self._noise(images, step, 1 + i))
        return self.get_metrics_result()

    def _train_discriminator(self, images, z, step):
        generated = self.generator(z, training=True)
        with tf.GradientTape() as tape:
            real_logits = self.discriminator(images, training=True)
            generated_logits = self.discriminator(generated, training=True)
            loss = losses.discriminator_loss(real_logits, generated_logits, label_smoothing=self.label_smoothing)
            own_loss = training.replica_loss(loss + self._task_loss(images, step), self.d_optimizer)
        training.descend(tape, own_loss, self._discriminator_variables, self.d_optimizer)
        self._log(
            d_loss=loss,
            d_real_accuracy=tf.cast(real_logits > 0, tf.float32),
            d_generated_accuracy=tf.cast(generated_logits < 0, tf.float32),
        )

    def _train_generator(self, z):
        with tf.GradientTape() as tape:
            loss = losses.generator_loss(self.discriminator(self.generator(z, training=True), training=True))
            own_loss = training.replica_loss(loss, self.g_optimizer)
        training.descend(tape, own_loss, self.generator.trainable_variables, self.g_optimizer)
        self._log(g_loss=loss)


@keras.saving.register_keras_serializable("anogan_tf")
class WGANGP(GAN):
    """A Wasserstein GAN with gradient penalty, the GAN of f-AnoGAN, trained on normal images by `fit`.

    The critic D minimises E[D(G(z))] - E[D(x)] + λ E[(‖∇D(x̂)‖ - 1)²] with x̂ = εx + (1 - ε)G(z), ε uniform in [0, 1]
    for each image; the generator G minimises -E[D(G(z))]. For each batch the critic takes `critic_steps` steps, with z
    and ε of their own, and the generator one: an epoch has as many generator steps as batches, few as they may be.

    Args:
        image_shape: `(height, width, channels)`, and all other arguments, as of `GAN`. A critic of your own has no
            batch normalisation, as the penalty is on the gradient for each image.

    Example:
        >>> gan = WGANGP(image_shape=(28, 28, 1), latent_dim=64)
        >>> gan.compile()
        >>> history = gan.fit(dataset, epochs=20, shuffle=False)

    References:
        Gulrajani et al., "Improved Training of Wasserstein GANs", arXiv 1704.00028, eq. 3 and algorithm 1.
    """

    LOGGED = ("d_loss", "g_loss", "gradient_penalty", "wasserstein_estimate")

    def __init__(self, image_shape=(64, 64, 3), latent_dim=100, *, name="wgan_gp", **kwargs):
        super().__init__(image_shape, latent_dim, name=name, **kwargs)
        normalized = [
            layer.name
            for layer in self.discriminator._flatten_layers()
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        if normalized:
            raise ValueError(
                "The critic of a WGAN-GP has no batch normalisation: the penalty is on the gradient for each image. "
                f"Received: a discriminator with {normalized}."
            )

    def compile(
        self,
        g_optimizer=None,
        d_optimizer=None,
        *,
        critic_steps=5,
        penalty_weight=10.0,
        task_weight=1.0,
        views=3,
        **kwargs,
    ):
        """Configures training.

        Args:
            g_optimizer: Keras optimizer of the generator; None for Adam(1e-4, β₁ = 0, β₂ = 0.9).
            d_optimizer: Keras optimizer of the critic; None for the same.
            critic_steps: Critic steps per generator step.
            penalty_weight: λ, the weight of the gradient penalty.
            task_weight: w, the weight of a second task of the critic.
            views: Transformations of each image in a step of that task.
            **kwargs: Passed on to `keras.Model.compile`, such as `jit_compile` or `steps_per_execution`.
        """
        self.critic_steps = critic_steps
        self.penalty_weight = penalty_weight
        self.task_weight = task_weight
        self.views = views
        self._compile(
            g_optimizer or keras.optimizers.Adam(1e-4, beta_1=0.0, beta_2=0.9),
            d_optimizer or keras.optimizers.Adam(1e-4, beta_1=0.0, beta_2=0.9),
            kwargs,
            critic_steps=critic_steps,
            penalty_weight=penalty_weight,
            task_weight=task_weight,
            views=views,
        )

    def train_step(self, data):
        images, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        step = tf.identity(self.g_optimizer.iterations.value)  # before it is counted up
        for i in range(self.critic_steps):
            mixing = tf.random.stateless_uniform(
                (tf.shape(images)[0], 1, 1, 1), training.step_seed(self.seed, step, 2 * i + 1)
            )
            self._train_critic(images, self._noise(images, step, 2 * i), mixing, step, i)
        self._train_generator(self._noise(images, step, 2 * self.critic_steps))
        return self.get_metrics_result()

    def _train_critic(self, images, z, mixing, step, i):
        generated = self.generator(z, training=True)
        with tf.GradientTape() as tape:
            real_critic = self.discriminator(images, training=True)
            generated_critic = self.discriminator(generated, training=True)
            estimate = losses.wasserstein_estimate(real_critic, generated_critic)
            penalty = losses.gradient_penalty(self.discriminator, images, generated, mixing)
            loss = -estimate + self.penalty_weight * penalty
            own_loss = training.replica_loss(loss + self._task_loss(images, step, i), self.d_optimizer)
        training.descend(tape, own_loss, self._discriminator_variables, self.d_optimizer)
        self._log(d_loss=loss, gradient_penalty=penalty, wasserstein_estimate=estimate)

    def _train_generator(self, z):
        with tf.GradientTape() as tape:
            generated = self.generator(z, training=True)
            loss = losses.wasserstein_generator_loss(self.discriminator(generated, training=True))
            own_loss = training.replica_loss(loss, self.g_optimizer)
        training.descend(tape, own_loss, self.generator.trainable_variables, self.g_optimizer)
        self._log(g_loss=loss)


def _check_networks(generator, discriminator):
    if len(generator.input_shape) != 2 or generator.output_shape != discriminator.input_shape:
        raise ValueError(
            "The generator maps (batch, latent_dim) to the images that the discriminator takes. Received: generator "
            f"{generator.input_shape} → {generator.output_shape}, discriminator of {discriminator.input_shape}."
        )
    if discriminator.output_shape[1:] != (1,):
        raise ValueError(f"The discriminator gives one logit an image. Received: {discriminator.output_shape}.")
