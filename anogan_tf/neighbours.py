"""Parts and surfaces: each place of a picture is compared with normal pictures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from anogan_tf import scoring, wrapper
from anogan_tf.distances import Scales
from anogan_tf.local_features import SMALLEST, local_features
from anogan_tf.scoring import Calibration, Images, Outputs, Row, Scorer

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

    method: ClassVar[str] = "local-neighbours"
    OWN = ("factor",)
    reference_type = Scales

    def __init__(self, scorer: Scorer, *, factor: int = 4) -> None:
        super().__init__(scorer)
        if scorer.learns:
            raise ValueError(
                f'The scorer only draws, so its own score learns nothing: give score="paper". Received: score='
                f'"{scorer.settings.get("score")}".'
            )
        if factor < 1 or factor != int(factor):
            raise ValueError(f"factor is a whole number, at least 1. Received: factor={factor}.")
        self.factor = int(factor)
        self.reference: Scales | None = None
        if min(self.image_shape[:2]) < SMALLEST:
            raise ValueError(f"Pictures have sides of at least {SMALLEST} pixels. Received: {self.image_shape[:2]}.")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of the pictures."""
        height, width, channels = self.scorer.image_shape
        return height * self.factor, width * self.factor, channels

    @property
    def learns(self) -> bool:
        return True

    @property
    def needs_z(self) -> bool:
        return False

    @property
    def maps_need_z(self) -> bool:
        return False

    @property
    def fingerprint(self) -> str:
        """Of no networks, as none decides."""
        return scoring.fingerprint()

    def score(self, images: Images, *, draw: bool = True) -> Outputs:
        """Scores an array `(n, height, width, channels)` in [-1, 1], or batches as `test` takes them.

        Args:
            images: Pictures, see `scoring.image_rows`.
            draw: Whether the scorer inside reconstructs each picture, which takes most of the time and decides nothing.

        Returns:
            A dict of arrays: `anomaly_score` `(n,)`, `anomaly_map` `(n, height, width)`, `id`, once calibrated
            `anomaly_mask`; and where drawn `residual`, `discrimination` `(n,)`, `reconstruction` of the images' shape,
            G(z) made larger, `z` `(n, latent_dim)`.
        """
        return scoring.score(self, images, draw)

    def fit_reference(self, data: Images) -> None:
        """Remembers the local features of normal training pictures, of a random `REMEMBERED` where there are more."""
        rows = scoring.sample(scoring.image_rows(data, self.image_shape), REMEMBERED, self.seed)
        if len(rows) < 2:
            raise ValueError(f"A reference takes at least 2 normal images. Received: {len(rows)}.")
        features = np.stack([_features(row["image"].astype(np.float32)) for row in rows])
        self.reference = Scales.fit(features, self.seed)
        self.calibration: Calibration | None = None  # it was of another score

    def raw_outputs(
        self, data: Images, *, decide: bool = True, draw: bool = True, progress: Any = None
    ) -> Iterator[tuple[list[Row], Outputs]]:
        rows = scoring.image_rows(data, self.image_shape)
        for chunk in iter(lambda: list(itertools.islice(rows, self.chunk)), []):
            images = np.stack([row["image"] for row in chunk]).astype(np.float32)
            yield chunk, self.score_chunk(images, decide=decide, draw=draw, progress=progress)

    def score_chunk(
        self, images: np.ndarray, *, decide: bool = True, draw: bool = True, progress: Any = None
    ) -> Outputs:
        """As `Scorer.score_chunk`, of any number of images and without a guard: one at a time is looked at."""
        return (self._decide(images) if decide else {}) | (self._draw(images, progress) if draw else {})

    def examples(self, images: np.ndarray, n: int = 8) -> np.ndarray:
        return self.scorer.examples(self.smaller(images[:n]), n)

    def _decide(self, images: np.ndarray) -> Outputs:
        if self.reference is None:
            raise ValueError("Nothing to compare with yet: call fit_reference(normal training images) first.")
        pixels = self.reference.of_images(images)  # (batch, height, width)
        smooth = scoring.smooth(pixels, self.smoothing * max(self.image_shape[:2])).reshape(len(pixels), -1)
        most = max(1, int(MOST * smooth.shape[1]))
        highest = np.partition(smooth, -most, axis=1)[:, -most:].mean(axis=1)
        level = np.median(smooth, axis=1) if self.reference.levelled else 0.0
        return {"anomaly_score": highest / np.sqrt(1.0 + level), "anomaly_map": np.log1p(pixels)}

    def _draw(self, images: np.ndarray, progress: Any) -> Outputs:
        rows = ({"image": image} for image in self.smaller(images))
        chunks = [outputs for _, outputs in scoring.raw_outputs(self.scorer, rows, decide=False, progress=progress)]
        drawn = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
        drawn["reconstruction"] = tf.image.resize(drawn["reconstruction"], self.image_shape[:2]).numpy()
        return {name: values for name, values in drawn.items() if name != "anomaly_map"}

    def smaller(self, images: np.ndarray) -> np.ndarray:
        """The pictures as the networks take them: means of blocks of pixels."""
        return tf.nn.avg_pool2d(images, self.factor, self.factor, "VALID").numpy()


def _features(picture: np.ndarray) -> np.ndarray:
    return local_features(picture[None])[0].numpy()
