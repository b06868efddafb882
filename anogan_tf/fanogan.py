"""f-AnoGAN: anomaly scores in one pass, by an encoder that was trained to invert a GAN."""

from __future__ import annotations

import functools
import operator
import os
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from anogan_tf import architectures, judging, losses, principal, scoring, training
from anogan_tf.augmentation import moved
from anogan_tf.comparison import Comparison
from anogan_tf.gan import GAN
from anogan_tf.networks import Encoder, check_functional, hidden_output
from anogan_tf.reference import Reference
from anogan_tf.scoring import Calibration, Images, Outputs, Row
from anogan_tf.search import sample_prior

MODES = ("izi", "ziz", "izi_f", "joint")


@keras.saving.register_keras_serializable("anogan_tf")
class FAnoGAN(keras.Model):
    """An encoder E around a trained GAN: `fit` trains E, `test` and `score` take z = E(x) in one pass.

    The modes of training, each a mean over elements:

    - `"izi"` (image to z to image): ‖x - G(E(x))‖²
    - `"ziz"` (z to image to z): ‖z - E(G(z))‖², z from the prior
    - `"izi_f"`: ‖x - G(E(x))‖² + κ ‖f(x) - f(G(E(x)))‖², f features of the discriminator
    - `"joint"`: the same, of E and G together, and w KL(N(m, s²) ‖ N(0, 1)) besides, m and s² the mean and the variance
      of the codes of a batch, which keeps them as the prior is. Before each such step the GAN takes one of its own: D
      keeps the drawings sharp, and the reconstructions keep them all, where few images made a GAN that draws only some
      of them.

    A variational encoder gives a mean, its z, and a log-variance: it is trained on G(z) with z ~ N(μ, σ²), and its loss
    has w KL(N(μ, σ²) ‖ N(0, 1)) besides, with `"joint"` in place of that of the batch.

    Args:
        gan: A trained GAN, such as `WGANGP`; its networks are used in inference mode and never changed, but by
            `"joint"`, which trains it on as it was compiled.
        mode: `"izi"`, `"ziz"`, `"izi_f"` or `"joint"`.
        variational: Whether E gives a distribution; not for `"ziz"`, and with a normal prior.
        feature_weight: κ, in the loss of `"izi_f"` and `"joint"` and in the score.
        kl_weight: w, of a variational encoder and of `"joint"`.
        moves: The part of its side by which x is moved by chance in training at most, see `augmentation.moved`: where
            normal images lie anywhere, a few of them stand for many. `augmentation.widest_move` tells how far.
        distance: `"l2"` for (·)² or `"l1"` for |·|, in the residual R and in the discrimination D.
        score: What decides. `"features"`: the distance of f(x) to the principal subspace of normal images' features
            (`subspace.PrincipalSubspace`). `"tasks"`: how badly a self-supervised discriminator tells what was done to
            x, task by task (`surprise.Surprise`); `"transformations"`: the same without weights, -log p(t | t(x)).
            `"density"`: how unlikely its feature maps, averaged over the image, are under a Gaussian (`kinds.Density`).
            With these the encoder only draws the map. `"paper"`: A(x) = R + κ D. `"residual"`: R. `"discrimination"`:
            D. `"difference"`: how unusual the difference of x and G(z) in local features is, with a map of its own
            (`differences.Differences`). Several joined by `+`, such as `"tasks+density"`: their blend
            (`reference.Reference`).
        feature_layers: Names of discriminator layers that make f; None for the deepest feature map.
        encoder: Your own Functional network from images to z, ending in a linear layer; None for an `Encoder` as wide
            as the discriminator, and residual if that is.
        smoothing: σ of the Gaussian over the anomaly map, as a fraction of the longer side; 0 for none.
        chunk: Images scored at once; scores are bit-identical for one chunk, and differ by rounding between chunks.
        seed: Seed of the encoder's initial weights, and of the noise of its training.

    Raises:
        ValueError: For an argument outside the above, or networks that do not fit together.

    Example:
        >>> fanogan = FAnoGAN(gan)
        >>> fanogan.compile()
        >>> history = fanogan.fit(splits.train, epochs=20, shuffle=False)
        >>> fanogan.fit_reference(splits.reference)
        >>> fanogan.calibrate(splits.validation, alpha=0.05)
        >>> results, threshold, accuracy = fanogan.test(splits.test)

    References:
        Schlegl et al., "f-AnoGAN: Fast unsupervised anomaly detection with generative adversarial networks", Medical
        Image Analysis 2019, L_ziz, L_izi, L_izi_f and A(x); Kingma and Welling, arXiv 1312.6114 (variational). Of E and
        G together: Larsen et al., "Autoencoding beyond pixels using a learned similarity metric", arXiv 1512.09300, eq.
        8; Ulyanov et al., arXiv 1704.02304, section 3 (codes of a batch).
    """

    method: ClassVar[str] = "f-anogan"
    any_size: ClassVar[bool] = False
    reference_type = Reference

    def __init__(
        self,
        gan: GAN,
        *,
        mode: str = "izi_f",
        variational: bool = False,
        feature_weight: float = 1.0,
        kl_weight: float = 0.01,
        moves: float = 0.0,
        distance: str = "l2",
        score: str = "features",
        feature_layers: Sequence[str] | None = None,
        encoder: keras.Model | None = None,
        smoothing: float = 6 / 256,
        chunk: int = 64,
        seed: int = 0,
        name: str = "fanogan",
    ) -> None:
        super().__init__(name=name)
        if mode not in MODES:
            raise ValueError(f"mode is one of {MODES}. Received: mode={mode!r}.")
        if variational and (mode == "ziz" or gan.prior != "normal"):
            raise ValueError(
                'A variational encoder is trained on images, not by mode="ziz", with a normal prior. Received: '
                f"mode={mode!r}, prior={gan.prior!r}."
            )
        self.gan = gan
        self.mode = mode
        self.variational = variational
        self.feature_weight = feature_weight
        self.kl_weight = kl_weight
        self.moves = moves
        self.distance = distance
        self.score_kind = score
        self.feature_layers = feature_layers and tuple(feature_layers)
        self.seed = operator.index(seed)
        self.encoder = encoder or _like(gan, self.seed)
        self.smoothing = smoothing
        self.chunk = chunk
        self.reference: Reference | None = None
        self.calibration: Calibration | None = None
        self.info: dict[str, Any] = {}
        _check_encoder(self.encoder, gan)
        self._comparison = Comparison(
            gan, self.feature_layers, distance, score, residual_weight=1.0, feature_weight=feature_weight
        )
        hidden = hidden_output(self.encoder)
        self._log_variance = keras.layers.Dense(gan.latent_dim, kernel_initializer="zeros", name="log_variance")
        self._log_variance.build(hidden.shape)
        both = keras.Model(self.encoder.inputs[0], (self.encoder.outputs[0], hidden))
        self._encode_hidden = functools.partial(both, training=True)  # a function is not tracked as a second encoder
        self._trackers = {name: keras.metrics.Mean(name) for name in self._logged()}
        self.built = True

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.gan.image_shape

    @property
    def metrics(self) -> list[keras.Metric]:
        return list(self._trackers.values())

    @property
    def settings(self) -> dict[str, Any]:
        """Every argument but the networks, as JSON can hold it."""
        return {
            "mode": self.mode,
            "variational": self.variational,
            "feature_weight": self.feature_weight,
            "kl_weight": self.kl_weight,
            "moves": self.moves,
            "distance": self.distance,
            "score": self.score_kind,
            "feature_layers": self.feature_layers,
            "smoothing": self.smoothing,
            "chunk": self.chunk,
            "seed": self.seed,
        }

    def compile(self, optimizer: str | dict | keras.Optimizer | None = None, **kwargs: Any) -> None:
        """Configures training.

        Args:
            optimizer: Keras optimizer of the encoder, with `"joint"` of G too, or its name; None for Adam(1e-3).
            **kwargs: Passed on to `keras.Model.compile`, such as `jit_compile` or `steps_per_execution`.

        Raises:
            ValueError: For what Keras' `compile` takes and this does not; with `"joint"`, if the GAN is not compiled.
        """
        training.check_compile(kwargs, "the encoder's optimizer")
        if self.mode == "joint" and not self.gan.compiled:
            raise ValueError('mode="joint" trains the GAN on: call gan.compile() first.')
        optimizer = training.optimizer(optimizer or keras.optimizers.Adam(1e-3), "optimizer")
        super().compile(optimizer=training.prepared(optimizer, self._trained_variables, self.dtype_policy), **kwargs)
        self._compile_options = kwargs

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
        """Trains the encoder on normal images in [-1, 1]: a `tf.data.Dataset` of batches, an array, or an iterator.

        As `keras.Model.fit`; labels are ignored, and what has no meaning here is refused, see `training.fit_arguments`.

        Raises:
            ValueError: If the first batch has values outside [-1, 1], or in [0, 1], or another shape.
        """
        options |= {"batch_size": batch_size, "epochs": epochs, "verbose": verbose}
        history = super().fit(**training.fit_arguments(x, self.image_shape, callbacks, options))
        if self.mode == "joint":
            self.gan.take_average()
        return history

    def call(self, inputs: Any) -> None:
        raise NotImplementedError(
            "FAnoGAN scores: call score(images), test(data) or reconstruct(images) in place of predict and evaluate."
        )

    def train_step(self, data: Images) -> dict[str, tf.Tensor]:
        images = training.images_of(data)
        if self.mode == "joint":
            self.gan.train_step(images)
        step = tf.identity(self.optimizer.iterations.value)  # before it is counted up
        with tf.GradientTape() as tape:
            parts, weights = self._ziz(images, step) if self.mode == "ziz" else self._izi(images, step)
            loss = tf.add_n([weights[name] * part for name, part in parts.items()])
            own_loss = training.replica_loss(loss, self.optimizer)
        training.descend(tape, own_loss, self._trained_variables, self.optimizer)
        for name, value in {"loss": loss, **parts}.items():
            self._trackers[name].update_state(value)
        return training.results(self.get_metrics_result())

    def _ziz(self, images, step):
        """‖z - E(G(z))‖²; the images only tell how many."""
        shape = (tf.shape(images)[0], self.gan.latent_dim)
        z = sample_prior(shape, self.gan.prior, training.step_seed(self.seed, step, 0))
        found = self.encoder(self.gan.generator(z, training=False), training=True)
        return {"z_loss": tf.reduce_mean(losses.residual(z, found, "l2"))}, {"z_loss": 1.0}

    def _izi(self, images, step):
        """‖x - G(E(x))‖², with the distance of the features, and the divergence of the codes."""
        if self.moves:
            images = moved(images, self.moves, training.step_seed(self.seed, step, 1))
        z, hidden = self._encode_hidden(images)
        z = tf.cast(z, tf.float32)
        parts, weights = {}, {"image_loss": 1.0, "feature_loss": self.feature_weight, "kl_loss": self.kl_weight}
        if self.variational:
            log_variance = tf.cast(self._log_variance(hidden), tf.float32)
            parts["kl_loss"] = tf.reduce_mean(losses.kl_to_normal(z, log_variance))
            noise = tf.random.stateless_normal(tf.shape(z), training.step_seed(self.seed, step, 0))
            z += tf.exp(0.5 * log_variance) * noise
        elif self.mode == "joint":
            parts["kl_loss"] = losses.kl_of_codes(z)
        reconstructions = self.gan.generator(z, training=False)
        scale = self.gan.deviations.scale if self.gan.deviations else 1.0
        residual = losses.residual(images / scale, reconstructions / scale, self.distance)
        parts["image_loss"] = tf.reduce_mean(residual)
        if self.mode in ("izi_f", "joint"):
            features, reconstruction_features = (
                self._comparison.features(batch, training=False) for batch in (images, reconstructions)
            )
            distance = losses.feature_distance(features, reconstruction_features, self.distance)
            parts["feature_loss"] = tf.reduce_mean(distance)
        return parts, weights

    def score(self, images: Images, *, draw: bool = True) -> Outputs:
        """Scores images in one pass; takes and returns what `AnoGAN.score` does."""
        return scoring.score(self, images, draw)

    def score_batches(self, data: Images, *, draw: bool = True) -> Iterator[Outputs]:
        """As `score`, a chunk at a time; memory stays flat."""
        return scoring.score_batches(self, data, draw)

    def fit_reference(self, data: Images) -> None:
        """Learns what `score` needs from normal training images; does nothing for scores that learn nothing."""
        scoring.fit_reference(self, data)

    def calibrate(self, data: Images, alpha: float = 0.05) -> None:
        """Sets the thresholds from normal images that nothing was learned from, see `scoring.calibrate`."""
        scoring.calibrate(self, data, alpha)

    def cross_calibrate(self, data: Any, alpha: float = 0.05, *, folds: Any = None, groups: Any = None) -> None:
        """Refused, see `scoring.refuse_cross`; a `LocalNeighbours` takes it."""
        scoring.refuse_cross(self)

    def recalibrate(self, alpha: float = 0.05) -> None:
        """Sets the thresholds at another rate of false alarms, without scoring, see `scoring.recalibrate`."""
        scoring.recalibrate(self, alpha)

    def test(
        self,
        data: Images,
        threshold: float | str | None = None,
        *,
        results_dir: str | os.PathLike | None = None,
        pictures: int = 100,
    ) -> judging.TestResult:
        """Judges labelled images and measures, see `judging.test`; unpacks to results, threshold, accuracy."""
        return judging.test(self, data, threshold, results_dir=results_dir, pictures=pictures)

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """G(E(x)), of the shape of the images `(n, height, width, channels)`."""
        return self.gan.generator(self.encoder(images, training=False), training=False).numpy()

    @property
    def learns(self) -> bool:
        return self._comparison.learns

    @property
    def needs_z(self) -> bool:
        return self._comparison.of_reconstruction

    @property
    def maps_need_z(self) -> bool:
        return True

    @property
    def fingerprint(self) -> str:
        return scoring.fingerprint(*self.gan.networks, self.encoder)

    def evidence(self, images: np.ndarray) -> dict[str, tf.Tensor]:
        """What the score of a chunk of images and its guard is made of, see `Comparison.evidence`."""
        images = tf.convert_to_tensor(images)
        return self._comparison.evidence(images, self._encode(images) if self.needs_z else None)

    def raw_outputs(
        self, data: Images, *, decide: bool = True, draw: bool = True, progress: Any = None
    ) -> Iterator[tuple[list[Row], Outputs]]:
        rows = scoring.rows_of(self, data)
        return scoring.raw_outputs(self, rows, decide=decide, draw=draw, progress=progress)

    def score_chunk(
        self, images: np.ndarray, *, decide: bool = True, draw: bool = True, progress: Any = None
    ) -> Outputs:
        z = self._encode(tf.convert_to_tensor(images)) if draw or self.needs_z else None
        return self._comparison.scored(images, z, self.reference, decide=decide)

    def tensors(self, images: tf.Tensor, *, draw: bool) -> dict[str, tf.Tensor]:
        z = self._encode(images) if draw or self.needs_z else None
        return self._comparison.tensors(images, z, self.reference)

    def examples(self, images: np.ndarray, n: int = 8) -> np.ndarray:
        return images[:n]

    def __reduce__(self) -> tuple:
        """Copies and pickles are Keras' own, with what the scorer learned."""
        make, arguments, *_ = super().__reduce__()
        return make, arguments, scoring.learned(self)

    @tf.function(autograph=False)
    def _encode(self, images):
        return tf.cast(self.encoder(images, training=False), tf.float32)

    def get_config(self) -> dict:
        return {
            "gan": keras.saving.serialize_keras_object(self.gan),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            **self.settings,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict) -> FAnoGAN:
        networks = {name: keras.saving.deserialize_keras_object(config[name]) for name in ("gan", "encoder")}
        return cls(**config | networks)

    def get_compile_config(self) -> dict | None:
        if not self.compiled:
            return None
        return {"optimizer": keras.saving.serialize_keras_object(self.optimizer), **self._compile_options}

    def compile_from_config(self, config: dict) -> None:
        self.compile(**config | {"optimizer": keras.saving.deserialize_keras_object(config["optimizer"])})

    @property
    def _trained_variables(self):
        variance = self._log_variance.trainable_variables if self.variational else []
        generator = self.gan.generator.trainable_variables if self.mode == "joint" else []
        return self.encoder.trainable_variables + variance + generator

    def _logged(self):
        if self.mode == "ziz":
            return "loss", "z_loss"
        features = ("feature_loss",) if self.mode in ("izi_f", "joint") else ()
        divergence = ("kl_loss",) if self.variational or self.mode == "joint" else ()
        return "loss", "image_loss", *features, *divergence


def _like(gan, seed):
    """An encoder as the discriminator is, of its architecture if that encodes."""
    architecture = getattr(gan.discriminator, "architecture", "dcgan")
    entry = architectures.ARCHITECTURES.get(architecture)
    if entry is None or not entry.encodes:
        architecture = "dcgan"
    width = getattr(gan.discriminator, "width", 32)
    encoder = Encoder(gan.image_shape, gan.latent_dim, architecture=architecture, width=width, seed=seed)
    if gan.deviations and principal.deviations(encoder):
        principal.start_encoder(encoder, gan.generator)
    return encoder


def _check_encoder(encoder, gan):
    check_functional("encoder", encoder)
    if tuple(encoder.input_shape[1:]) != gan.image_shape or tuple(encoder.output_shape[1:]) != (gan.latent_dim,):
        raise ValueError(
            f"The encoder maps the GAN's images to its z, {gan.image_shape} → {(gan.latent_dim,)}. Received: "
            f"{tuple(encoder.input_shape[1:])} → {tuple(encoder.output_shape[1:])}."
        )
