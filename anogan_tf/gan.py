"""The generative adversarial networks: Keras models that hold a generator and a discriminator, and train both."""

from __future__ import annotations

import functools
import operator
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from anogan_tf import losses, precision, principal, training
from anogan_tf.augmentation import augmented, check_policies
from anogan_tf.networks import PRIORS, Discriminator, Generator, Initializer, check_functional, hidden_output
from anogan_tf.search import sample_prior
from anogan_tf.transformations import Transformations, transformation_head

TASK_DRAW = 1000  # numbers of the draws of the second task, beyond those of z
AUGMENTATION_DRAW = 2000  # and of those of the augmentation

precision.use_whole_float32()


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
        architecture: `"dcgan"`, `"deep-dcgan"`, `"upsampling"`, `"principal"` or `"principal-dcgan"` (both with `adapt`
            before `fit`), `"residual"` or `"hazelnut"`, see `architectures`.
        width: Filters next to the image.
        prior: Distribution of z: `"normal"` for N(0, 1), `"uniform"` for uniform(-1, 1).
        kernel_initializer: A Keras initializer or its name; None for the architecture's own.
        generator: Your own Functional network from z to images in [-1, 1], in place of all the above but `prior`.
        discriminator: Your own Functional network from images to one logit; goes with `generator`.
        self_supervision: None for the papers' plain GANs; or what D also tells, `"rotation"`, `"shift"` or both, see
            `transformations.Transformations`.
        augment: None, or how all that D sees is changed by chance in training, in its second task too:
            `"translation"`, `"mirror"`, `"color"`, `"cutout"` or several, see `augmentation.augmented`: with few
            images, D does not learn them by heart so soon.
        seed: Seed of initial weights and training noise.

    Raises:
        ValueError: If the arguments do not fit together.

    References:
        Chen et al., "Self-Supervised GANs via Auxiliary Rotation Loss", arXiv 1811.11212, eq. 3 (D's; G has none here).
    """

    NAME: ClassVar[str]
    LOGGED: ClassVar[tuple[str, ...]]
    CLOCK: ClassVar[str]  # the optimizer that takes one step a batch: its steps count the batches
    DRAWS: ClassVar[int]  # random draws of one step of D

    def __init__(
        self,
        image_shape: Sequence[int] = (64, 64, 3),
        latent_dim: int = 100,
        *,
        architecture: str = "dcgan",
        width: int = 64,
        prior: str = "normal",
        kernel_initializer: Initializer = None,
        generator: keras.Model | None = None,
        discriminator: keras.Model | None = None,
        self_supervision: str | Sequence[str] | None = None,
        augment: str | Sequence[str] | None = None,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name or self.NAME)
        if prior not in PRIORS:
            raise ValueError(f"prior is one of {PRIORS}. Received: prior={prior!r}.")
        if (generator is None) != (discriminator is None):
            raise ValueError("generator and discriminator go together. Received only one of them.")
        seed = operator.index(seed)
        options = {"architecture": architecture, "width": width, "kernel_initializer": kernel_initializer}
        self.generator = generator or Generator(image_shape, latent_dim, seed=seed, **options)
        self.discriminator = discriminator or Discriminator(image_shape, seed=seed + 1, **options)
        self._check_networks()
        if generator is not None:
            _warn_of_ends(self.generator, self.discriminator)
        self.prior = prior
        self.augment = check_policies(augment) if augment else None
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
    def self_supervision(self) -> tuple[str, ...] | None:
        return self.transformations.tasks if self.transformations else None

    @property
    def networks(self) -> tuple[keras.Model, ...]:
        """G, D, and the head of its second task where it has one."""
        return tuple(filter(None, (self.generator, self.discriminator, self.transformation_head)))

    @property
    def latent_dim(self) -> int:
        return self.generator.input_shape[-1]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return tuple(self.generator.output_shape[1:])

    @property
    def metrics(self) -> list[keras.Metric]:
        return list(self._trackers.values())

    def fit(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Any = None,
        **options: Any,
    ) -> keras.callbacks.History:
        """Trains on images in [-1, 1]: a `tf.data.Dataset` of batches, an array, or any iterable of batches.

        As `keras.Model.fit`; labels are ignored, and what has no meaning here is refused, see `training.fit_arguments`.
        A `g_optimizer` with `use_ema=True` leaves G the moving average of its weights, see `take_average`.

        Raises:
            ValueError: If the first batch has values outside [-1, 1], or in [0, 1], or another shape.
        """
        options |= {"batch_size": batch_size, "epochs": epochs, "verbose": verbose}
        history = super().fit(**training.fit_arguments(x, self.image_shape, callbacks, options))
        self.take_average()
        return history

    def adapt(self, images: np.ndarray) -> None:
        """Lets networks of principal architectures begin as principal components of normal images.

        As Keras' preprocessing layers do; to be called once, before `fit`, and before an `FAnoGAN` is made of it.

        Args:
            images: `(n, height, width, channels)` in [-1, 1], all that are trained on, or some hundreds of them.

        Raises:
            ValueError: For another architecture, images of another shape, fewer than 2, or all the same.
        """
        if self.deviations is None:
            raise ValueError(
                'adapt is for architecture="principal" and "principal-dcgan": all others begin with random weights.'
            )
        images = np.asarray(images, np.float32)
        training.check_images(images, self.image_shape, "images", read_here=True)  # or not: `fit` looks
        principal.start(self.generator, self.discriminator, images, self.prior)

    @property
    def deviations(self) -> principal.Deviations | None:
        """The layer of principal architectures that makes images of deviations from the mean image."""
        return principal.deviations(self.generator)

    def take_average(self) -> None:
        """Gives G the moving average of its weights, if its optimizer keeps one (`use_ema`); `fit` ends with it."""
        self.g_optimizer.finalize_variable_values(self.generator.trainable_variables)

    def call(self, inputs: Any) -> None:
        raise NotImplementedError(
            "A GAN is two networks, and has no output of its own: call gan.generator(z) or gan.discriminator(images), "
            "draw images with gan.generate(n), and score them with AnoGAN(gan) in place of predict and evaluate."
        )

    def generate(self, n: int, *, seed: int = 0) -> np.ndarray:
        """`n` images G(z) with z from the prior, in inference mode: `(n, height, width, channels)` in [-1, 1]."""
        z = sample_prior((n, self.latent_dim), self.prior, (self.seed, seed))
        return tf.cast(self.generator(z, training=False), tf.float32).numpy()

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        images = training.images_of(data)
        step = tf.identity(getattr(self, self.CLOCK).iterations.value)  # before it is counted up
        discriminator_steps, generator_steps = self._steps
        for i in range(discriminator_steps):
            self._train_discriminator(images, step, i)
        for i in range(generator_steps):
            self._train_generator(images, step, discriminator_steps, i)
        return training.results(self.get_metrics_result())

    def _train_discriminator(self, images, step, i):
        generated = self._generated(self._noise(images, step, self.DRAWS * i))
        real, generated = (
            self._augmented(batch, step, 2 * i + number) for number, batch in enumerate((images, generated))
        )
        with tf.GradientTape() as tape:
            loss = self._discriminator_loss(real, generated, step, i)
            own_loss = training.replica_loss(loss + self._task_loss(images, step, i), self.d_optimizer)
        training.descend(tape, own_loss, self._discriminator_variables, self.d_optimizer)
        self._log(d_loss=loss)

    def _train_generator(self, images, step, discriminator_steps, i):
        z = self._noise(images, step, self.DRAWS * discriminator_steps + i)
        with tf.GradientTape() as tape:
            generated = self._augmented(self._generated(z), step, 2 * discriminator_steps + i)
            loss = self._generator_loss(self.discriminator(generated, training=True))
            own_loss = training.replica_loss(loss, self.g_optimizer)
        training.descend(tape, own_loss, self.generator.trainable_variables, self.g_optimizer)
        self._log(g_loss=loss)

    def _generated(self, z):
        return tf.cast(self.generator(z, training=True), tf.float32)

    def _augmented(self, images, step, draw):
        """Images as D sees them in training."""
        if self.augment is None:
            return images
        mean = self.deviations.mean if self.deviations else 0.0
        seed = training.step_seed(self.seed, step, AUGMENTATION_DRAW + draw)
        return mean + augmented(images - mean, self.augment, seed)

    @property
    def _steps(self) -> tuple[int, int]:
        """How many steps D takes for each batch, and then G."""
        raise NotImplementedError

    def _discriminator_loss(self, images, generated, step, i):
        """The loss of step i of D on the batch of a step, a scalar."""
        raise NotImplementedError

    def _generator_loss(self, generated_logits):
        """The loss of G, from what D says of images that it drew, a scalar."""
        raise NotImplementedError

    def get_config(self) -> dict:
        return {
            "generator": keras.saving.serialize_keras_object(self.generator),
            "discriminator": keras.saving.serialize_keras_object(self.discriminator),
            "prior": self.prior,
            "self_supervision": self.self_supervision,
            "augment": self.augment,
            "seed": self.seed,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict) -> GAN:
        networks = {
            name: keras.saving.deserialize_keras_object(config[name]) for name in ("generator", "discriminator")
        }
        return cls(**config | networks)

    def get_compile_config(self) -> dict | None:
        if not self.compiled:
            return None
        return {
            "g_optimizer": keras.saving.serialize_keras_object(self.g_optimizer),
            "d_optimizer": keras.saving.serialize_keras_object(self.d_optimizer),
            **self._compile_options,
        }

    def compile_from_config(self, config: dict) -> None:
        optimizers = {
            name: keras.saving.deserialize_keras_object(config[name]) for name in ("g_optimizer", "d_optimizer")
        }
        self.compile(**config | optimizers)

    def _check_networks(self):
        generator, discriminator = self.generator, self.discriminator
        check_functional("generator", generator)
        check_functional("discriminator", discriminator)
        if len(generator.input_shape) != 2 or generator.output_shape != discriminator.input_shape:
            raise ValueError(
                "The generator maps (batch, latent_dim) to the images that the discriminator takes. Received: "
                f"generator {generator.input_shape} → {generator.output_shape}, discriminator of "
                f"{discriminator.input_shape}."
            )
        if discriminator.output_shape[1:] != (1,):
            raise ValueError(f"The discriminator gives one logit an image. Received: {discriminator.output_shape}.")

    @property
    def _discriminator_variables(self):
        head = self.transformation_head.trainable_variables if self.transformation_head else []
        return self.discriminator.trainable_variables + head

    def _compile(self, g_optimizer, d_optimizer, keras_options, **own_options):
        training.check_compile(keras_options, "g_optimizer and d_optimizer")
        g_optimizer = training.optimizer(g_optimizer, "g_optimizer")
        d_optimizer = training.optimizer(d_optimizer, "d_optimizer")
        if g_optimizer is d_optimizer:
            raise ValueError(
                "g_optimizer and d_optimizer are two optimizers, as each keeps the state of its own network's weights. "
                f"Received: {g_optimizer.name} for both."
            )
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
        views = self._augmented(tf.repeat(images, self.views, axis=0), step, TASK_DRAW + draw)
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

    NAME = "dcgan"
    LOGGED = ("d_loss", "g_loss", "d_real_accuracy", "d_generated_accuracy")
    CLOCK = "d_optimizer"
    DRAWS = 1  # z

    def compile(
        self,
        g_optimizer: str | dict | keras.Optimizer | None = None,
        d_optimizer: str | dict | keras.Optimizer | None = None,
        *,
        generator_steps: int = 1,
        label_smoothing: float = 0.0,
        task_weight: float = 1.0,
        views: int = 3,
        **kwargs: Any,
    ) -> None:
        """Sets the optimizers and the weights of the losses.

        Args:
            g_optimizer: Keras optimizer of the generator, or its name; None for Adam(1e-3, β₁ = 0.5).
            d_optimizer: That of the discriminator; None for the same.
            generator_steps: Generator steps per discriminator step.
            label_smoothing: Real images are labelled `1 - label_smoothing` for the discriminator.
            task_weight: w, the weight of a second task of the discriminator.
            views: Transformations of each image in a step of that task.
            **kwargs: Passed on to `keras.Model.compile`, such as `jit_compile` or `steps_per_execution`.
        """
        self.generator_steps = operator.index(generator_steps)
        self.label_smoothing = label_smoothing
        self.task_weight = task_weight
        self.views = operator.index(views)
        self._compile(
            g_optimizer or keras.optimizers.Adam(1e-3, beta_1=0.5),
            d_optimizer or keras.optimizers.Adam(1e-3, beta_1=0.5),
            kwargs,
            generator_steps=self.generator_steps,
            label_smoothing=label_smoothing,
            task_weight=task_weight,
            views=self.views,
        )

    @property
    def _steps(self):
        return 1, self.generator_steps

    def _discriminator_loss(self, images, generated, step, i):
        real_logits = self.discriminator(images, training=True)
        generated_logits = self.discriminator(generated, training=True)
        self._log(
            d_real_accuracy=tf.cast(real_logits > 0, tf.float32),
            d_generated_accuracy=tf.cast(generated_logits < 0, tf.float32),
        )
        return losses.discriminator_loss(real_logits, generated_logits, label_smoothing=self.label_smoothing)

    def _generator_loss(self, generated_logits):
        return losses.generator_loss(generated_logits)


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

    NAME = "wgan_gp"
    LOGGED = ("d_loss", "g_loss", "gradient_penalty", "wasserstein_estimate")
    CLOCK = "g_optimizer"
    DRAWS = 2  # z and ε

    def compile(
        self,
        g_optimizer: str | dict | keras.Optimizer | None = None,
        d_optimizer: str | dict | keras.Optimizer | None = None,
        *,
        critic_steps: int = 5,
        penalty_weight: float = 10.0,
        task_weight: float = 1.0,
        views: int = 3,
        **kwargs: Any,
    ) -> None:
        """Sets the optimizers and the weights of the losses.

        Args:
            g_optimizer: Keras optimizer of the generator, or its name; None for Adam(1e-4, β₁ = 0, β₂ = 0.9).
            d_optimizer: That of the critic; None for the same.
            critic_steps: Critic steps per generator step.
            penalty_weight: λ, the weight of the gradient penalty.
            task_weight: w, the weight of a second task of the critic.
            views: Transformations of each image in a step of that task.
            **kwargs: Passed on to `keras.Model.compile`, such as `jit_compile` or `steps_per_execution`.
        """
        self.critic_steps = operator.index(critic_steps)
        self.penalty_weight = penalty_weight
        self.task_weight = task_weight
        self.views = operator.index(views)
        self._compile(
            g_optimizer or keras.optimizers.Adam(1e-4, beta_1=0.0, beta_2=0.9),
            d_optimizer or keras.optimizers.Adam(1e-4, beta_1=0.0, beta_2=0.9),
            kwargs,
            critic_steps=self.critic_steps,
            penalty_weight=penalty_weight,
            task_weight=task_weight,
            views=self.views,
        )

    @property
    def _steps(self):
        return self.critic_steps, 1

    def _discriminator_loss(self, images, generated, step, i):
        real_critic = self.discriminator(images, training=True)
        generated_critic = self.discriminator(generated, training=True)
        estimate = losses.wasserstein_estimate(real_critic, generated_critic)
        seed = training.step_seed(self.seed, step, self.DRAWS * i + 1)
        mixing = tf.random.stateless_uniform((tf.shape(images)[0], 1, 1, 1), seed)
        penalty = losses.gradient_penalty(self.discriminator, images, generated, mixing)
        self._log(gradient_penalty=penalty, wasserstein_estimate=estimate)
        return -estimate + self.penalty_weight * penalty

    def _generator_loss(self, generated_logits):
        return losses.wasserstein_generator_loss(generated_logits)

    def _check_networks(self):
        super()._check_networks()
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


def _warn_of_ends(generator, discriminator):
    """Warns of networks whose last activation does not let them learn."""
    z = 1e4 * tf.random.stateless_normal((16, generator.input_shape[-1]), (0, 0))  # far out activations show their ends
    images = generator(z, training=False)
    low, high = float(tf.reduce_min(images)), float(tf.reduce_max(images))
    if low < -1.0 or high > 1.0 or 0.0 <= low < high:
        warnings.warn(
            "The generator draws images in [-1, 1], so it ends in a tanh. Received: a generator with values from "
            f"{low:g} to {high:g}.",
            stacklevel=3,
        )
    end = getattr(discriminator.layers[-1], "activation", keras.activations.linear)
    if end is not keras.activations.linear:
        warnings.warn(
            "The discriminator gives logits, any numbers, so it ends without an activation. Received: a discriminator "
            f"that ends in {end.__name__}.",
            stacklevel=3,
        )
