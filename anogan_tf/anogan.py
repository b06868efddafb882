"""AnoGAN: anomaly scores by a search of the latent space of a trained GAN."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from anogan_tf import judging, losses, scoring
from anogan_tf.comparison import Comparison
from anogan_tf.gan import GAN
from anogan_tf.networks import with_dtype
from anogan_tf.reference import Reference
from anogan_tf.scoring import Calibration, Images, Outputs, Row
from anogan_tf.search import LatentSearch, initial_z, minimised

BLOCK = 50  # steps between two looks at the progress
FROM_PRIOR, FROM_ENCODER = 0.2, 0.02  # first rates of the search; an encoder starts it near the end
SPREAD = 0.5  # of restarts around the encoder's z


class AnoGAN:
    """Scores images by what a GAN of normal images cannot draw.

    For each image x Adam searches the z whose G(z) is closest to it,
    L(z) = (1 - λ) R(z) + λ D(z) + w P(z), with the residual R, the mean of |x - G(z)|, the discrimination D, the mean
    of |f(x) - f(G(z))| over discriminator features, and an optional latent prior P. What is left of the residual at the
    best z marks the anomaly.

    Args:
        gan: A trained GAN, such as `DCGAN`; its networks are used in inference mode and never changed.
        encoder: A trained encoder, such as `FAnoGAN(gan).encoder`: the search then starts at E(x), and its restarts
            around it. None to start at a draw from the prior, the same for every image.
        steps: Steps of the search; 0 to stay at the start.
        learning_rate: Of Adam: a float, or a Keras schedule over the steps; None for cosine decay to 0, from 0.2, or
            from 0.02 after an encoder.
        feature_weight: λ, from 0 (D is not computed) to 1.
        distance: `"l1"` for |·| or `"l2"` for (·)², in R and D.
        score: What decides. `"features"`: the distance of f(x) to the principal subspace of normal images' features
            (`subspace.PrincipalSubspace`). `"tasks"`: how badly a self-supervised discriminator tells what was done to
            x, task by task (`surprise.Surprise`); `"transformations"`: the same without weights, -log p(t | t(x)).
            `"density"`: how unlikely its feature maps, averaged over the image, are under a Gaussian (`kinds.Density`).
            With these the search only draws the map. `"paper"`: A(x) = (1 - λ) R + λ D. `"residual"`: R.
            `"discrimination"`: D. `"difference"`: how unusual the difference of x and G(z) in local features is, with a
            map of its own (`differences.Differences`). Several joined by `+`, such as `"tasks+density"`: their blend
            (`reference.Reference`).
        feature_layers: Names of discriminator layers that make f; None for the deepest feature map.
        restarts: Searches for each image, from different z₀; the best counts.
        prior_weight: w, the weight of `losses.latent_prior`.
        smoothing: σ of the Gaussian over the anomaly map, as a fraction of the longer side; 0 for none.
        chunk: Images searched at once: 1 for few, as each call then searches no more rows than there are images; many
            are faster together. Part of the settings: scores are bit-identical for one chunk, and differ by rounding,
            which a long search amplifies, between chunks.
        dtype: None for the networks' own; `"bfloat16"` to search in mixed precision. Scores are computed at the z
            found in the networks' own precision.
        seed: Seed of z₀.

    Raises:
        ValueError: For an argument outside the above.

    Example:
        >>> anogan = AnoGAN(gan)
        >>> anogan.fit_reference(splits.reference)
        >>> anogan.calibrate(splits.validation, alpha=0.05)
        >>> results, threshold, accuracy = anogan.test(splits.test)

    References:
        Schlegl et al., "Unsupervised Anomaly Detection with Generative Adversarial Networks to Guide Marker
        Discovery", arXiv 1703.05921, eq. 3 (R), 5 (D), 6 (L) and 7 (A); means here where sums stand there.
    """

    method: ClassVar[str] = "anogan"
    any_size: ClassVar[bool] = False
    reference_type = Reference

    def __init__(
        self,
        gan: GAN,
        *,
        encoder: keras.Model | None = None,
        steps: int = 50,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule | None = None,
        feature_weight: float = 0.1,
        distance: str = "l1",
        score: str = "features",
        feature_layers: Sequence[str] | None = None,
        restarts: int = 1,
        prior_weight: float = 0.0,
        smoothing: float = 6 / 256,
        chunk: int = 64,
        dtype: str | None = None,
        seed: int = 0,
    ) -> None:
        if not 0.0 <= feature_weight <= 1.0:
            raise ValueError(f"feature_weight is from 0 to 1. Received: feature_weight={feature_weight}.")
        if steps < 0 or min(restarts, chunk) < 1:
            raise ValueError(
                f"steps is at least 0, restarts and chunk are at least 1. Received: {steps}, {restarts}, {chunk}."
            )
        self.gan = gan
        self.encoder = encoder
        self.steps = steps
        self.learning_rate = learning_rate
        self.feature_weight = feature_weight
        self.distance = distance
        self.score_kind = score
        self.feature_layers = tuple(feature_layers) if feature_layers else None
        self.restarts = restarts
        self.prior_weight = prior_weight
        self.smoothing = smoothing
        self.chunk = chunk
        self.dtype = dtype
        self.seed = seed
        self.reference: Reference | None = None
        self.calibration: Calibration | None = None
        self.info: dict[str, Any] = {}
        weights = {"residual_weight": 1.0 - feature_weight, "feature_weight": feature_weight}
        self._comparison = Comparison(gan, self.feature_layers, distance, score, **weights)
        self._search_networks = (gan.generator, self._comparison.features)
        if dtype is not None:
            self._search_networks = tuple(with_dtype(network, f"mixed_{dtype}") for network in self._search_networks)
        self._lock = threading.Lock()  # one search at a time: z is a Variable
        self._searches: dict[int, LatentSearch] = {}  # by the number of images

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.gan.image_shape

    @property
    def settings(self) -> dict[str, Any]:
        """Every argument but the GAN and the encoder, as JSON can hold it."""
        schedule = isinstance(self.learning_rate, keras.optimizers.schedules.LearningRateSchedule)
        return {
            "steps": self.steps,
            "learning_rate": keras.saving.serialize_keras_object(self.learning_rate)
            if schedule
            else self.learning_rate,
            "feature_weight": self.feature_weight,
            "distance": self.distance,
            "score": self.score_kind,
            "feature_layers": self.feature_layers,
            "restarts": self.restarts,
            "prior_weight": self.prior_weight,
            "smoothing": self.smoothing,
            "chunk": self.chunk,
            "dtype": self.dtype,
            "seed": self.seed,
        }

    def score(self, images: Images, *, draw: bool = True) -> Outputs:
        """Scores an array `(n, height, width, channels)` in [-1, 1], batches as `test` takes them, or pictures.

        Args:
            images: Images, see `scoring.rows_of`; pictures are files, folders, images of Pillow, arrays of 8 or 16
                unsigned bits, of any size, and lists of these.
            draw: Whether to search z and reconstruct each image, which takes most of the time. Without it there are
                `anomaly_score` and `id` alone, unless the score is made of the reconstruction.

        Returns:
            A dict of arrays: `anomaly_score`, `residual`, `discrimination` `(n,)`, `reconstruction` G(z) of the images'
            shape, `anomaly_map` `(n, height, width)`, the mean of |x - G(z)| (or its square, for `"l2"`) over channels,
            or what `score` says, smoothed, `z` `(n, latent_dim)`, `id`, and once calibrated `anomaly_mask`, where the
            map exceeds the pixel threshold.

        Raises:
            ValueError: For what are no such images; if the score learns and there is no reference, or the networks
                were trained on since.
        """
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

    def search_path(self, images: Images, steps: int | None = None) -> Outputs:
        """The search step by step, for pictures.

        Args:
            images: As `score` takes them, at most `chunk`.
            steps: Steps to record; None for all.

        Returns:
            A dict of `loss` `(steps + 1, n)`, the mapping loss L at each step, and `z` `(steps + 1, n, latent_dim)`; of
            several restarts those of the first.

        Raises:
            ValueError: For no images, or more than `chunk`.
        """
        images = [row["image"] for row in scoring.rows_of(self, images)]
        n, first = len(images), slice(None, len(images) * self.restarts, self.restarts)
        if not 1 <= n <= self.chunk:
            raise ValueError(f"search_path takes 1 to {self.chunk} images (the chunk). Received: {n}.")
        images = np.stack([*images, *images[:1] * scoring.guard(self.chunk)]).astype(np.float32)
        losses_, path = [], []
        with self._lock:
            search, context = self._begun(images)
            for step in range((self.steps if steps is None else steps) + 1):
                losses_.append(search.advance(context, tf.constant(min(step, 1))).numpy()[first])
                path.append(search.z.numpy()[first])
        return {"loss": np.stack(losses_), "z": np.stack(path)}

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
        return self._comparison.evidence(images, self._best_z(images) if self.needs_z else None)

    def raw_outputs(
        self, data: Images, *, decide: bool = True, draw: bool = True, progress: Any = None
    ) -> Iterator[tuple[list[Row], Outputs]]:
        rows = scoring.rows_of(self, data)
        return scoring.raw_outputs(self, rows, decide=decide, draw=draw, progress=progress)

    def score_chunk(
        self, images: np.ndarray, *, decide: bool = True, draw: bool = True, progress: Any = None
    ) -> Outputs:
        z = self._best_z(images, progress) if draw or self.needs_z else None
        return self._comparison.scored(images, z, self.reference, decide=decide)

    def tensors(self, images: tf.Tensor, *, draw: bool) -> dict[str, tf.Tensor]:
        z = self._minimised(images) if draw or self.needs_z else None
        return self._comparison.tensors(images, z, self.reference)

    def examples(self, images: np.ndarray, n: int = 8) -> np.ndarray:
        return images[:n]

    def __reduce__(self) -> tuple:
        """Copies and pickles are made of what the scorer was made of, and what it learned."""
        settings = self.settings | {"learning_rate": self.learning_rate}
        return _made, (self.gan, self.encoder, settings), scoring.learned(self)

    def _search(self, n: int) -> LatentSearch:
        """The search of so many images at once, made when it is first asked for."""
        if n not in self._searches:
            rows = n * self.restarts
            self._searches[n] = LatentSearch(self._loss, rows, self.gan.latent_dim, learning_rate=self._rate())
        return self._searches[n]

    def _rate(self):
        if self.learning_rate is not None:
            return self.learning_rate
        first = FROM_ENCODER if self.encoder else FROM_PRIOR
        return keras.optimizers.schedules.CosineDecay(first, max(self.steps, 1))

    def _refresh_search_networks(self):
        """Brings copies in another precision up to date with networks that may have trained on."""
        originals = (self.gan.generator, self._comparison.features)
        with tf.init_scope():  # also while a graph is traced
            for network, original in zip(self._search_networks, originals, strict=True):
                if network is not original:
                    network.set_weights(original.get_weights())

    def _best_z(self, images, progress=None):
        """For each image the z with the lowest loss over all steps and restarts, `(batch, latent_dim)`."""
        with self._lock:
            search, context = self._begun(images)
            for done in range(0, self.steps, BLOCK):
                search.advance(context, tf.constant(min(BLOCK, self.steps - done)))
                if progress is not None:
                    progress.set_postfix(loss=f"{tf.reduce_mean(search.best_loss):.4f}", refresh=False)
            return self._best_restart(search.best_z, search.best_loss)

    def _begun(self, images):
        """The search of images, at its start, and what their loss compares with."""
        self._refresh_search_networks()
        z0, context = self._start_and_context(tf.convert_to_tensor(images, tf.float32))
        search = self._search(len(images))
        search.start(z0)
        return search, context

    @tf.function(autograph=False, reduce_retracing=True)
    def _start_and_context(self, images):
        return self._start(images), self._context(images)

    def _minimised(self, images):
        """As `_best_z`, of a tensor and without state."""
        self._refresh_search_networks()
        context = self._context(images)
        return self._best_restart(
            *minimised(lambda z: self._loss(z, context), self._start(images), self.steps, self._rate())
        )

    def _best_restart(self, z, loss):
        if self.restarts == 1:  # a graph leaves out what nothing is made of, such as the loss
            return z
        best = tf.argmin(tf.reshape(loss, (-1, self.restarts)), axis=1)
        every = tf.reshape(z, (-1, self.restarts, self.gan.latent_dim))
        return tf.gather(every, best, batch_dims=1)

    def _start(self, images):
        """Where the search of each image begins, `(batch * restarts, latent_dim)`."""
        options = {"restarts": self.restarts, "prior": self.gan.prior, "seed": self.seed}
        n = tf.shape(images)[0]
        z0 = initial_z(n, self.gan.latent_dim, **options)
        if self.encoder is None:
            return z0
        steps_aside = tf.tile([[0.0]] + [[SPREAD]] * (self.restarts - 1), (n, 1))
        codes = tf.cast(self.encoder(images, training=False), tf.float32)
        return tf.repeat(codes, self.restarts, axis=0) + steps_aside * z0

    def _context(self, images):
        """What the loss compares with: the images, each once a restart, and, unless λ = 0, their features."""
        _, extractor = self._search_networks
        repeated = tf.repeat(images, self.restarts, axis=0)
        return (repeated, extractor(repeated, training=False) if self.feature_weight else {})

    def _loss(self, z, context):
        """L(z) of eq. 6, for each z, `(batch * restarts,)`."""
        images, features = context
        generator, extractor = self._search_networks
        reconstructions = generator(z, training=False)
        loss = (1.0 - self.feature_weight) * losses.residual(images, reconstructions, self.distance)
        if self.feature_weight:
            reconstruction_features = extractor(reconstructions, training=False)
            loss += self.feature_weight * losses.feature_distance(features, reconstruction_features, self.distance)
        if self.prior_weight:
            loss += self.prior_weight * losses.latent_prior(z, self.gan.prior)
        return loss


def _made(gan: GAN, encoder: keras.Model | None, settings: dict) -> AnoGAN:
    return AnoGAN(gan, encoder=encoder, **settings)
