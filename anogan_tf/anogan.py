"""AnoGAN: anomaly scores by a search of the latent space of a trained GAN."""

import threading

import keras
import numpy as np
import tensorflow as tf

from anogan_tf import judging, losses, scoring
from anogan_tf.comparison import Comparison
from anogan_tf.networks import with_dtype
from anogan_tf.search import LatentSearch, initial_z

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
            (`reference.PrincipalSubspace`). `"transformations"`: how badly a self-supervised discriminator tells what
            was done to x, -log p(t | t(x)). Both joined by `+`: their blend (`reference.Reference`). With these the
            search only draws the map. `"paper"`: A(x) = (1 - λ) R + λ D. `"residual"`: R. `"discrimination"`: D.
        feature_layers: Names of discriminator layers that make f; None for the deepest feature map.
        restarts: Searches for each image, from different z₀; the best counts.
        prior_weight: w, the weight of `losses.latent_prior`.
        smoothing: σ of the Gaussian over the anomaly map, as a fraction of the longer side; 0 for none.
        chunk: Images searched at once. Part of the settings: scores are bit-identical for one chunk, and differ by
            rounding, which a long search amplifies, between chunks.
        dtype: None for the networks' own; `"bfloat16"` to search in mixed precision. Scores are computed at the z
            found in the networks' own precision.
        seed: Seed of z₀.

    Raises:
        ValueError: For an argument outside the above.

    Example:
        >>> anogan = AnoGAN(gan)
        >>> anogan.fit_reference(splits.train)
        >>> anogan.calibrate(splits.validation, alpha=0.05)
        >>> results, threshold, accuracy = anogan.test(splits.test)

    References:
        Schlegl et al., "Unsupervised Anomaly Detection with Generative Adversarial Networks to Guide Marker
        Discovery", arXiv 1703.05921, eq. 3 (R), 5 (D), 6 (L) and 7 (A); means here where sums stand there.
    """

    def __init__(
        self,
        gan,
        *,
        encoder=None,
        steps=50,
        learning_rate=None,
        feature_weight=0.1,
        distance="l1",
        score="features",
        feature_layers=None,
        restarts=1,
        prior_weight=0.0,
        smoothing=6 / 256,
        chunk=64,
        dtype=None,
        seed=0,
    ):
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
        self.feature_layers = feature_layers and tuple(feature_layers)
        self.restarts = restarts
        self.prior_weight = prior_weight
        self.smoothing = smoothing
        self.chunk = chunk
        self.dtype = dtype
        self.seed = seed
        self.reference = None
        self.calibration = None
        self._comparison = Comparison(gan, self.feature_layers, distance, score)
        self._search_networks = (gan.generator, self._comparison.features)
        if dtype is not None:
            self._search_networks = tuple(with_dtype(network, f"mixed_{dtype}") for network in self._search_networks)
        self._rows = chunk + scoring.GUARD
        self._z0 = initial_z(self._rows, gan.latent_dim, restarts=restarts, prior=gan.prior, seed=seed)
        if learning_rate is None:
            learning_rate = keras.optimizers.schedules.CosineDecay(
                FROM_ENCODER if encoder else FROM_PRIOR, max(steps, 1)
            )
        self._lock = threading.Lock()  # one search at a time: z is a Variable
        self._search = LatentSearch(self._loss, self._rows * restarts, gan.latent_dim, learning_rate=learning_rate)

    @property
    def image_shape(self):
        return self.gan.image_shape

    @property
    def settings(self):
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

    def score(self, images):
        """Scores an array `(n, height, width, channels)` in [-1, 1], or batches as `test` takes them.

        Returns:
            A dict of arrays: `anomaly_score`, `residual`, `discrimination` `(n,)`, `reconstruction` G(z) of the images'
            shape, `anomaly_map` `(n, height, width)`, the mean of |x - G(z)| (or its square, for `"l2"`) over channels,
            smoothed, `z` `(n, latent_dim)`, `id`, and once calibrated `anomaly_mask`, where the map exceeds the pixel
            threshold.
        """
        return scoring.score(self, images)

    def score_batches(self, data):
        """As `score`, a chunk at a time; memory stays flat."""
        return scoring.score_batches(self, data)

    def fit_reference(self, data):
        """Learns what `score` needs from normal training images; does nothing for scores that learn nothing."""
        scoring.fit_reference(self, data)

    def calibrate(self, data, alpha=0.05):
        """Sets the thresholds from normal images that nothing was learned from, see `scoring.calibrate`."""
        scoring.calibrate(self, data, alpha)

    def test(self, data, threshold=None, *, results_dir=None, pictures=100):
        """Scores labelled images, decides and measures, see `judging.test`; unpacks to results, threshold, accuracy."""
        return judging.test(self, data, threshold, results_dir=results_dir, pictures=pictures)

    def search_path(self, images, steps=None):
        """The search step by step, for pictures.

        Args:
            images: `(n, height, width, channels)` in [-1, 1], at most `chunk` of them.
            steps: Steps to record; None for all.

        Returns:
            A dict of `loss` `(steps + 1, n)`, the mapping loss L at each step, and `z` `(steps + 1, n, latent_dim)`; of
            several restarts the first is shown.
        """
        images = np.asarray(images, np.float32)
        n, first = len(images), slice(None, len(images) * self.restarts, self.restarts)
        if not 1 <= n <= self.chunk:
            raise ValueError(f"search_path takes 1 to {self.chunk} images (the chunk). Received: {n}.")
        images = np.concatenate([images, np.repeat(images[:1], self._rows - n, axis=0)])
        losses_, path = [], []
        with self._lock:
            context = self._context(images)
            self._search.start(self._start(images))
            for step in range((steps or self.steps) + 1):
                losses_.append(self._search.advance(context, tf.constant(min(step, 1))).numpy()[first])
                path.append(self._search.z.numpy()[first])
        return {"loss": np.stack(losses_), "z": np.stack(path)}

    @property
    def learns(self):
        """Whether the score learns from normal images, in `fit_reference`."""
        return self._comparison.learns

    def evidence(self, images):
        """What the score of a chunk of images and its guard is made of, see `Comparison.evidence`."""
        return self._comparison.evidence(tf.convert_to_tensor(images))

    def raw_outputs(self, data, progress=None):
        """Pairs of rows of `data` and their outputs, a chunk at a time; maps are not smoothed yet."""
        return scoring.raw_outputs(self, scoring.image_rows(data, self.image_shape), progress)

    def score_chunk(self, images, progress=None):
        """The outputs for a chunk of images and its guard, see `score`; maps are not smoothed yet."""
        return self._comparison.scored(
            tf.convert_to_tensor(images),
            self._best_z(images, progress),
            self.reference,
            residual_weight=1.0 - self.feature_weight,
            feature_weight=self.feature_weight,
        )

    def _refresh_search_networks(self):
        """Brings copies in another precision up to date with networks that may have trained on."""
        for network, original in zip(
            self._search_networks, (self.gan.generator, self._comparison.features), strict=True
        ):
            if network is not original:
                network.set_weights(original.get_weights())

    def _best_z(self, images, progress=None):
        """For each image the z with the lowest loss over all steps and restarts, `(chunk + GUARD, latent_dim)`."""
        search = self._search
        with self._lock:
            context = self._context(images)
            search.start(self._start(images))
            for done in range(0, self.steps, BLOCK):
                search.advance(context, tf.constant(min(BLOCK, self.steps - done)))
                if progress is not None:
                    progress.set_postfix(loss=f"{tf.reduce_mean(search.best_loss):.4f}", refresh=False)
            best = tf.argmin(tf.reshape(search.best_loss, (self._rows, self.restarts)), axis=1)
            return tf.gather(tf.reshape(search.best_z, (self._rows, self.restarts, -1)), best, batch_dims=1)

    def _start(self, images):
        """Where the search of each row begins, `(rows * restarts, latent_dim)`."""
        if self.encoder is None:
            return self._z0
        steps_aside = tf.tile([[0.0]] + [[SPREAD]] * (self.restarts - 1), (self._rows, 1))
        codes = tf.cast(self.encoder(images, training=False), tf.float32)
        return tf.repeat(codes, self.restarts, axis=0) + steps_aside * self._z0

    def _context(self, images):
        """What the loss compares with, a row for each restart: the images and, unless λ = 0, their features."""
        self._refresh_search_networks()
        _, extractor = self._search_networks
        rows = tf.repeat(tf.convert_to_tensor(images, tf.float32), self.restarts, axis=0)
        return (rows, extractor(rows, training=False) if self.feature_weight else {})

    def _loss(self, z, context):
        """L(z) of eq. 6, for each row `(rows,)`."""
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
