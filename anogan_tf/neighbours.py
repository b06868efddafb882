"""Parts and surfaces: each place of a picture is compared with normal pictures."""

import numpy as np
import tensorflow as tf

from anogan_tf import scoring, wrapper
from anogan_tf.distances import Places, Scales
from anogan_tf.local_features import SMALLEST, local_features

MOST = 0.02  # part of a map that makes the score, its highest
REMEMBERED = 512  # normal pictures


class LocalNeighbours(wrapper.Wrapper):
    """Scores pictures by their local features, in more pixels than a GAN's networks take.

    Each place of a picture is compared with normal pictures, at two scales (`Scales`): with the same place (`Places`),
    or, where parts turn or move, with all of them (`Kinds`); `fit_reference` finds out which. The anomaly score is the
    mean t of the highest fiftieth of the smoothed distances d, so that small defects count, which a network of 64×64
    pixels does not see. With `Places` it is t / √(1 + m), m their median: where that is high, the picture is unusual as
    a whole, most often for its light, and a high t says less. With `Kinds` it is t itself, as m says how much of the
    picture a part fills. The anomaly map is log(1 + d), in which a strong defect does not spread over what is near it.
    A scorer of a GAN, on the picture made smaller, adds what it would look like if it were normal, and how far it is
    from that; neither decides.

    Args:
        scorer: An `AnoGAN` or an `FAnoGAN`, of a kind of score that learns nothing, such as `score="paper"`.
        factor: How many times larger than the networks' the pictures are, in each direction.

    Raises:
        ValueError: If the scorer's own score has to learn, the factor is less than 1, or pictures would be too small.

    Example:
        >>> small = data.load("path/to/bottle", image_shape=(64, 64, 3))
        >>> gan = DCGAN(image_shape=(64, 64, 3), width=32)
        >>> gan.compile()
        >>> history = gan.fit(small.train, epochs=200, shuffle=False)
        >>> large = data.load("path/to/bottle", image_shape=(256, 256, 3))
        >>> scorer = LocalNeighbours(AnoGAN(gan, score="paper"))
        >>> scorer.fit_reference(large.reference)
        >>> scorer.calibrate(large.validation)
        >>> results, threshold, accuracy = scorer.test(large.test)
    """

    def __init__(self, scorer, *, factor=4):
        if scorer.learns:
            raise ValueError(
                f'The scorer only draws, so its own score learns nothing: give score="paper". Received: score='
                f'"{scorer.score_kind}".'
            )
        if factor < 1 or factor != int(factor):
            raise ValueError(f"factor is a whole number, at least 1. Received: factor={factor}.")
        super().__init__(scorer)
        self.factor = int(factor)
        self.reference = None
        if min(self.image_shape[:2]) < SMALLEST:
            raise ValueError(f"Pictures have sides of at least {SMALLEST} pixels. Received: {self.image_shape[:2]}.")

    @property
    def image_shape(self):
        """Of the pictures."""
        height, width, channels = self.scorer.image_shape
        return height * self.factor, width * self.factor, channels

    @property
    def settings(self):
        """Those of the scorer, and `factor`."""
        return self.scorer.settings | {"factor": self.factor}

    def score(self, images):
        """Scores an array `(n, height, width, channels)` in [-1, 1], or batches as `test` takes them.

        Returns:
            A dict of arrays: `anomaly_score`, `residual`, `discrimination` `(n,)`, `reconstruction` of the images'
            shape, G(z) made larger, `anomaly_map` `(n, height, width)`, `z` `(n, latent_dim)`, `id`, and once
            calibrated `anomaly_mask`.
        """
        return scoring.score(self, images)

    def fit_reference(self, data):
        """Remembers the local features of normal training pictures, of a random `REMEMBERED` where there are more."""
        rows = scoring.sample(scoring.image_rows(data, self.image_shape), REMEMBERED, self.seed)
        if len(rows) < 2:
            raise ValueError(f"A reference takes at least 2 normal images. Received: {len(rows)}.")
        features = np.stack([_features(row["image"].astype(np.float32)) for row in rows])
        self.reference = Scales.fit(features, self.seed)
        self.calibration = None  # it was of another score

    def raw_outputs(self, data, progress=None):
        """Pairs of rows of `data` and their outputs, a chunk at a time; maps are not smoothed yet."""
        return scoring.raw_outputs(self, scoring.image_rows(data, self.image_shape), progress)

    def score_chunk(self, images, progress=None):
        """The outputs for a chunk of images and its guard, see `score`; maps are not smoothed yet."""
        if self.reference is None:
            raise ValueError("Nothing to compare with yet: call fit_reference(normal training images) first.")
        outputs = self.scorer.score_chunk(self.smaller(images), progress)
        pixels = self.reference.of_images(images)  # (batch, height, width)
        smooth = scoring.smooth(pixels, self.smoothing * max(self.image_shape[:2])).reshape(len(pixels), -1)
        most = max(1, int(MOST * smooth.shape[1]))
        highest = np.partition(smooth, -most, axis=1)[:, -most:].mean(axis=1)
        level = np.median(smooth, axis=1) if isinstance(self.reference.fine, Places) else 0.0
        return outputs | {
            "reconstruction": self._larger(outputs["reconstruction"]),
            "anomaly_map": np.log1p(pixels),
            "anomaly_score": highest / np.sqrt(1.0 + level),
        }

    def smaller(self, images):
        """The pictures as the networks take them: means of blocks of pixels."""
        return tf.nn.avg_pool2d(images, self.factor, self.factor, "VALID").numpy()

    def _larger(self, images):
        return tf.image.resize(images, self.image_shape[:2]).numpy()


def _features(picture):
    return local_features(picture[None])[0].numpy()
