"""Parts and surfaces: each place of a picture is compared with normal pictures."""

from __future__ import annotations

import hashlib
import itertools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from anogan_tf import pretrained, ranks, resampling, scoring, stages, wrapper
from anogan_tf.choice import Choice, Way, chosen
from anogan_tf.distances import Places, Scales, Usual
from anogan_tf.folds import alike, linked
from anogan_tf.folds import folds as folds_of
from anogan_tf.learned import check_enough
from anogan_tf.local_features import SMALLEST, VERSION, Features, Filters
from anogan_tf.overview import Joined, Overview
from anogan_tf.registration import moved, moved_back
from anogan_tf.scoring import Calibration, Images, Outputs, Row, Scorer

MOST = 0.02  # part of a map that makes the score, its highest
REMEMBERED = 512  # normal pictures
FOLDS, FOLDS_OF_KINDS = 20, 10  # of cross-calibration, of the latter at least
LEARNED_FROM = 2500  # pictures, those of all folds of `Kinds` together, beyond that
FEW_THINGS = 0.75  # of the number of pictures, below which one is told


class LocalNeighbours(wrapper.Wrapper):
    """Scores pictures by their local features, in more pixels than a GAN's networks take.

    Each place of a picture is compared with normal pictures, at two scales (`Scales`): with the same place (`Places`),
    if need be after parts are brought into one pose (`Registration`), or, where they have no pose in common, with all
    places (`Kinds`); `fit_reference` finds out which. The anomaly score is the mean t of the highest fiftieth of the
    smoothed distances d, so that small defects count, which a network of 64×64 pixels does not see. With `Places` it is
    t / √(1 + m), m their median: where that is high, the picture is unusual as a whole, most often for its light, and a
    high t says less. With `Kinds` it is t itself, as m says how much of the picture a part fills. The anomaly map is
    log(1 + d), in which a strong defect does not spread over what is near it. `cross_calibrate` also learns, for
    `Places`, how high the map usually is at each pixel; t is then the mean of the highest fiftieth of how many
    deviations it is above that, less the median. And it learns how the features of a whole picture usually are
    (`Overview`), and joins both (`Joined`), as what fills a picture shows at no place.
    With `features` of a network the score at places is t, whichever way they are compared.
    A scorer of a GAN, on the picture made smaller, adds what it would look like if it were normal, and how far it is
    from that; neither decides.

    Args:
        scorer: An `AnoGAN` or an `FAnoGAN`, of a kind of score that learns nothing, such as `score="paper"`.
        factor: How many times larger than the networks' the pictures are, in each direction.
        features: None for fixed filters, which nothing was learned for; or the features of a network that was trained
            elsewhere: the name of one of `keras.applications`, a `.keras` file, a Keras model, or what
            `pretrained.features` makes of one.

    Raises:
        ValueError: If the scorer's own score has to learn, the factor is less than 1, or pictures would be too small;
            if features cannot be made, see `pretrained.features`.

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

    def __init__(
        self,
        scorer: Scorer,
        *,
        factor: int = 4,
        features: pretrained.NetworkFeatures | keras.Model | str | os.PathLike | None = None,
    ) -> None:
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
        self.features = None if features is None else pretrained.features(features)

    def __reduce__(self) -> tuple:
        made, (cls, scorer, own_settings), learned = super().__reduce__()
        return made, (cls, scorer, own_settings | {"features": self.features}), learned

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
        """Of the network whose features decide, if there is one."""
        return scoring.fingerprint(self.features and self.features.network)

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

    @stages.stage("Learning the reference")
    def fit_reference(self, data: Images) -> None:
        """Remembers the local features of normal training pictures, of a random `REMEMBERED` where there are more.

        Raises:
            ValueError: For fewer than 2 pictures.
        """
        choice = self._chosen(self._remembered(data))
        self.reference = self._fitted(choice.features, choice.way)
        self.reference.registration = choice.registration
        self.calibration: Calibration | None = None  # it was of another score

    @stages.stage("Calibrating")
    def cross_calibrate(
        self, data: Any, alpha: float = 0.05, *, folds: int | None = None, groups: Sequence[Any] | None = None
    ) -> None:
        """Learns from all normal pictures, and sets the thresholds from all of them.

        The reference is of all pictures, of a random `REMEMBERED` where there are more. What calibrates is the score of
        each by a reference that was learned without its fold (how to compare, the pose of parts that turn, and how two
        scores join is found from all): as in cross-conformal prediction and CV+, but that new pictures are scored by
        the reference of all. A threshold of `calibrate` is exceeded by a new normal picture with probability at most α
        exactly; this one with about α, as docs/reliability.md measures. What is proved is 2α, and for CV+, where the
        references of the folds judge new pictures too.

        Args:
            data: Normal pictures, see `scoring.image_rows`, those to train on and those to hold out together.
            alpha: The rate of false alarms to allow.
            folds: Parts that are held out in turn; None for `FOLDS` with `Places`. `Kinds` take ten times as long to
                learn: None there is for `FOLDS_OF_KINDS`, or, where pictures are few, for more, up to one a picture.
            groups: For each picture the name of what must not be parted, such as the lot it is of; None for what shows
                nearly the same, see `folds.alike`. Equal pictures are not parted either.

        Raises:
            ValueError: For pictures labelled anomalous, or fewer than 2 that may be parted.

        References:
            Vovk, "Cross-conformal predictors", arXiv 1208.0806; Barber et al., "Predictive inference with the
            jackknife+", arXiv 1905.02928, theorem 4.
        """
        rows = self._remembered(data, groups)
        scoring.check_normal(rows)
        choices = self._choices(rows)
        things = shown_things(rows, choices[0].features if groups is None else None)
        if groups is None:
            _warn_of_likes(things)
        scores, peaks = self._learned(choices, things, folds)
        self.calibration = Calibration.of(scores, peaks, alpha, fingerprint=self.fingerprint, method="cross")

    def _choices(self, rows: list[Row]) -> list[Choice]:
        """How pictures are compared; of `JointNeighbours` in two ways."""
        return [self._chosen(rows)]

    def _learned(
        self, choices: list[Choice], things: np.ndarray, folds: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Learns from all pictures; of each, held out in turn, the score and the largest value of the map."""
        scores, _, peaks = self._cross_fitted(*choices, things, folds)
        return scores, peaks

    def _cross_fitted(self, choice: Choice, things: np.ndarray, folds: int | None) -> tuple[np.ndarray, ...]:
        """Learns from all pictures; of each, by what the other folds show, the score, the map as it is shown, and the
        largest value of that."""
        wanted = folds or (FOLDS if choice.way is Places else max(FOLDS_OF_KINDS, LEARNED_FROM // len(things)))
        held_out = folds_of([things], wanted, self.seed)
        self.reference = self._fitted(choice.features, choice.way)
        self.reference.registration = choice.registration
        scores, whole, maps, shown, peaks = self._held_out(choice, held_out)
        if self.reference.levelled:
            self.reference.usual, scores = self._unusual(maps, held_out)
        self.reference.overview = Overview.fit(_each(self._described().undirected, choice.features))
        both = np.stack([scores, whole], axis=1)
        self.reference.joined = Joined.fit(both)
        # scored as new ones are; by the spread of the others one far off seems farther
        return self.reference.joined(both), shown, peaks

    def raw_outputs(
        self, data: Images, *, decide: bool = True, draw: bool = True, progress: Any = None
    ) -> Iterator[tuple[list[Row], Outputs]]:
        rows = scoring.rows_of(self, data)
        for chunk in iter(lambda: list(itertools.islice(rows, self.chunk)), []):
            images = np.stack([row["image"] for row in chunk]).astype(np.float32)
            yield chunk, self.score_chunk(images, decide=decide, draw=draw, progress=progress)

    def score_chunk(
        self, images: np.ndarray, *, decide: bool = True, draw: bool = True, progress: Any = None
    ) -> Outputs:
        """As `Scorer.score_chunk`, of any number of images and without a guard: one at a time is looked at."""
        return (self._decide(images) if decide else {}) | (self._draw(images, progress) if draw else {})

    def tensors(self, images: tf.Tensor, *, draw: bool) -> dict[str, tf.Tensor]:
        one = images.shape[0] == 1  # not all formats have loops that stack what they find
        if one:
            image = tf.reshape(images, self.image_shape)  # converters confuse axes that are taken away and added
            found = {name: tf.expand_dims(value, 0) for name, value in self._decide_tensor(image).items()}
        else:
            decided = {"anomaly_score": tf.float32, "anomaly_map": tf.float32}
            found = tf.map_fn(self._decide_tensor, images, fn_output_signature=decided)
        if not draw:
            return found
        drawn = self.scorer.tensors(tf.nn.avg_pool2d(images, self.factor, self.factor, "VALID"), draw=True)
        drawn["reconstruction"] = tf.image.resize(drawn["reconstruction"], self.image_shape[:2])
        return drawn | found

    def examples(self, images: np.ndarray, n: int = 8) -> np.ndarray:
        return self.scorer.examples(self.smaller(images[:n]), n)

    def _described(self, version: int = VERSION) -> Features:
        """What describes pictures: the network, or fixed filters of a version."""
        return self.features or Filters(version)

    def _fitted(self, features: np.ndarray, way: Way) -> Scales:
        return Scales.fit(features, self.seed, way, self._described().version)

    def _decide(self, images: np.ndarray) -> Outputs:
        registration = self._known().registration
        if registration is None:
            return self._compared(images)
        poses = registration.poses(images)
        found = self._compared(registration(images, poses))
        return found | {"anomaly_map": registration.back(found["anomaly_map"], poses)}

    def _compared(self, images: Iterable[np.ndarray]) -> Outputs:
        """Scores and maps of images in the pose in which they are compared."""
        reference = self._known()
        described = self._described(reference.version)
        features = described.of_pictures(images)
        pixels = reference.of_features(features, self.image_shape)  # (batch, height, width)
        scores = self._scores(reference, pixels)
        if reference.joined is not None:
            whole = reference.overview(_each(described.undirected, features))
            scores = reference.joined(np.stack([scores, whole], axis=1))
        return {"anomaly_score": scores, "anomaly_map": np.log1p(pixels)}

    def _decide_tensor(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """As `_decide`, of one image."""
        registration = self._known().registration
        if registration is None:
            return self._compared_tensor(image)
        pose = registration.pose(image)
        found = self._compared_tensor(moved(image, pose))
        return found | {"anomaly_map": moved_back(found["anomaly_map"], pose)}

    def _compared_tensor(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """As `_compared`, of one image."""
        reference = self._known()
        described = self._described(reference.version)
        features = described.of_image(image)
        pixels = reference.tensor(features, image.shape)
        scores = self._score_tensor(tf.expand_dims(pixels, 0))  # (1,)
        if reference.joined is not None:
            whole = reference.overview.tensor(described.undirected(features))
            scores = reference.joined.tensor(tf.stack([scores, whole], axis=1))
        return {"anomaly_score": scores[0], "anomaly_map": tf.math.log1p(pixels)}

    def _known(self) -> Scales:
        if self.reference is None:
            raise ValueError("Nothing to compare with yet: call fit_reference(normal training images) first.")
        return self.reference

    def _scores(self, reference: Scales, pixels: np.ndarray) -> np.ndarray:
        """The scores at places of pictures with these distances from a reference, `(batch, height, width)`."""
        if reference.usual is not None:
            deviations = reference.usual(self._smooth(np.log1p(pixels)))
            return _above_the_median(deviations, reference.usual.lowest) if reference.joined else _highest(deviations)
        smooth = self._smooth(pixels)
        level = np.median(smooth, axis=(1, 2)) if reference.levelled else 0.0
        return _highest(smooth) / np.sqrt(1.0 + level)

    def _score_tensor(self, pixels: tf.Tensor) -> tf.Tensor:
        """As `_scores`."""
        if self.reference.usual is not None:
            usual = self.reference.usual
            deviations = usual(resampling.smoothed(tf.math.log1p(pixels), self._sigma))
            level = tf.maximum(_median_tensor(deviations), usual.lowest) if self.reference.joined else 0.0
            return _highest_tensor(deviations) - level
        smooth = resampling.smoothed(pixels, self._sigma)
        level = _median_tensor(smooth) if self.reference.levelled else 0.0
        return _highest_tensor(smooth) / tf.sqrt(1.0 + level)

    @property
    def _sigma(self) -> float:
        return self.smoothing * max(self.image_shape[:2])

    def _smooth(self, maps: np.ndarray) -> np.ndarray:
        return scoring.smooth(maps, self._sigma)

    def _remembered(self, data: Any, groups: Sequence[Any] | None = None) -> list[Row]:
        """The pictures to learn from, each with its `group` where there are groups."""
        rows = scoring.rows_of(self, data)
        if groups is not None:
            rows = _grouped(rows, groups)
        rows = scoring.sample(rows, REMEMBERED, self.seed)
        check_enough(len(rows))
        return rows

    @stages.stage("Choosing the distances")
    def _chosen(self, rows: list[Row]) -> Choice:
        """What suits these pictures."""
        pictures = np.stack([row["image"] for row in rows]).astype(np.float32, copy=False)
        return chosen(pictures, self._scores, self.seed, self._described())

    def _held_out(self, choice: Choice, held_out: np.ndarray) -> tuple[np.ndarray, ...]:
        """Of all pictures, each by what the other folds show: scores at places and of the whole, smoothed maps in the
        pose in which they are compared, these as they are shown, and the largest value of each of the latter."""
        way, features, registration, poses = choice
        scores, whole, peaks = (np.empty(len(features)) for _ in range(3))
        maps = np.empty((len(features), *self.image_shape[:2]), np.float16)
        shown = maps if registration is None else np.empty_like(maps)
        undirected = _each(self._described().undirected, features)
        with stages.bar("Calibrating", total=len(features)) as progress:
            for inside in _each_fold(held_out):
                whole[inside] = Overview.fit(undirected[~inside])(undirected[inside])
                reference = self._fitted(features[~inside], way)
                for i in np.flatnonzero(inside):
                    pixels = reference.of_features(features[i : i + 1], self.image_shape)
                    scores[i], maps[i] = self._scores(reference, pixels)[0], self._smooth(np.log1p(pixels))[0]
                    peaks[i] = maps[i].max()
                    if registration is not None:
                        turned_back = self._smooth(registration.back(np.log1p(pixels), poses[i : i + 1]))[0]
                        shown[i], peaks[i] = turned_back, turned_back.max()
                    progress.update()
        return scores, whole, maps, shown, peaks

    def _unusual(self, maps: np.ndarray, held_out: np.ndarray) -> tuple[Usual, np.ndarray]:
        """What is usual in all maps, and the score of each by what is usual in those of the other folds."""
        scores = np.empty(len(maps))
        for inside in _each_fold(held_out):
            usual = Usual.fit(maps[~inside], self._sigma)
            scores[inside] = [_above_the_median(usual(each[None]), usual.lowest)[0] for each in maps[inside]]
        return Usual.fit(maps, self._sigma), scores

    def _draw(self, images: np.ndarray, progress: Any) -> Outputs:
        """Each picture alone: few are drawn, and without company none needs a guard to be drawn the same."""
        smaller = self.smaller(images)
        chunks = [self.scorer.score_chunk(image[None], decide=False, progress=progress) for image in smaller]
        drawn = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
        drawn["reconstruction"] = tf.image.resize(drawn["reconstruction"], self.image_shape[:2]).numpy()
        return {name: values for name, values in drawn.items() if name != "anomaly_map"}

    def smaller(self, images: np.ndarray) -> np.ndarray:
        """The pictures as the networks take them: means of blocks of pixels."""
        return tf.nn.avg_pool2d(images, self.factor, self.factor, "VALID").numpy()


def _each(function: Callable, pictures: np.ndarray) -> np.ndarray:
    """What a function makes of each picture, one after the other."""
    return np.stack([function(picture) for picture in pictures])


def _each_fold(held_out: np.ndarray) -> Iterator[np.ndarray]:
    """For each fold which pictures are in it, `(n,)`."""
    return (held_out == fold for fold in range(held_out.max() + 1))


def _grouped(rows: Iterable[Row], groups: Sequence[Any]) -> Iterator[Row]:
    """The rows, each with its `group`."""
    n = 0
    for n, row in enumerate(rows, 1):
        yield {**row, "group": str(groups[n - 1])} if n <= len(groups) else row
    if n != len(groups):
        raise ValueError(f"There is a group for each picture. Received: {n} pictures, {len(groups)} groups.")


def shown_things(rows: Sequence[Row], features: np.ndarray | None) -> np.ndarray:
    """What each picture shows, by a number, `(n,)`: the same for equal pictures, and for those that are nearly the same
    by their features, or, without these, for those of one `group`."""
    contents = [hashlib.sha256(np.ascontiguousarray(row["image"])).hexdigest() for row in rows]
    return linked([contents, [row["group"] for row in rows] if features is None else alike(features)])


def _warn_of_likes(shown: np.ndarray) -> None:
    """Says that thresholds of many pictures are those of few things, by what each shows, `(n,)`."""
    n, things = len(shown), len(np.unique(shown))
    if things < FEW_THINGS * n:
        warnings.warn(
            f"{n} good pictures show {things} different things, as some are nearly the same. Those of one thing are "
            f"held out together, and thresholds are as sure as those of {things} pictures: pictures of other things "
            "would help, more of the same would not. What belongs together is better named (--group-by, groups=).",
            stacklevel=3,
        )


def _highest(maps: np.ndarray) -> np.ndarray:
    """The means of the highest values of maps `(batch, height, width)`, `MOST` of them."""
    flat = maps.reshape(len(maps), -1)
    most = max(1, int(MOST * flat.shape[1]))
    return np.partition(flat, -most, axis=1)[:, -most:].mean(axis=1)


def _above_the_median(maps: np.ndarray, lowest: float) -> np.ndarray:
    """By how much the highest of each map are above its median, which says how unusual a picture is as a whole.

    Not above less than the lowest median of normal pictures: where a picture is one that was learned from, all
    distances are 0, and how far that is below what is usual differs from place to place.
    """
    return _highest(maps) - np.maximum(np.median(maps, axis=(1, 2)), lowest)


def _highest_tensor(maps: tf.Tensor) -> tf.Tensor:
    """As `_highest`; unsorted, as OpenVINO takes 400 times as long to sort."""
    flat = tf.reshape(maps, (-1, maps.shape[1] * maps.shape[2]))
    return tf.reduce_mean(tf.math.top_k(flat, max(1, int(MOST * flat.shape[1])), sorted=False).values, axis=1)


def _median_tensor(maps: tf.Tensor) -> tf.Tensor:
    """The medians of maps, `(batch,)`."""
    return ranks.median(tf.reshape(maps, (-1, maps.shape[1] * maps.shape[2])))
