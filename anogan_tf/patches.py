"""Images larger than the networks: scored on an overlapping grid of tiles, whose maps are stitched into one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from anogan_tf import resampling, scoring, wrapper
from anogan_tf.data.images import check_patch
from anogan_tf.scoring import Calibration, Images, Outputs, Row, Scorer

LAYERS = ("reconstruction", "anomaly_map")


class Patched(wrapper.Wrapper):
    """Scores images of any size with a scorer of small ones, tile by tile.

    An image's tiles lie on a grid (`grid`). Its anomaly score is the largest of theirs: a defect is as anomalous in a
    large image as in a small one, where a mean would drown it. Its residual and discrimination are the means over
    tiles. Maps and reconstructions are stitched (`stitch`) to one of the image's own size, and only then smoothed, so
    that no seams remain. Thresholds are set on images' scores, not on tiles', so the largest of many tiles raises no
    false alarms; for that, validation images have to be of the sizes that are tested.

    Args:
        scorer: An `AnoGAN`, or another scorer (see `scoring`), of a GAN that was trained on patches of such images.
        overlap: Least part of a tile's side that it shares with the next one, from 0 to less than 1. With one half each
            pixel lies well inside one tile at least, those next to the image's border excepted.

    Raises:
        ValueError: For an overlap outside the above; when scoring, for an image smaller than a tile, by its name.

    Example:
        >>> splits = data.load("path/to/oct", patches=True, image_shape=(64, 64, 1))
        >>> gan = DCGAN(splits.preprocessing.image_shape)
        >>> gan.compile()
        >>> history = gan.fit(splits.train, epochs=20, shuffle=False)
        >>> patched = Patched(AnoGAN(gan))
        >>> patched.fit_reference(splits.reference)
        >>> patched.calibrate(splits.validation, alpha=0.05)
        >>> results, threshold, accuracy = patched.test(splits.test)

    References:
        Schlegl et al., arXiv 1703.05921, section 3, and "f-AnoGAN", Medical Image Analysis 2019: gray 64×64 patches of
        OCT scans.
    """

    method: ClassVar[str] = "patched"
    OWN = ("overlap",)
    any_size: ClassVar[bool] = True

    def __init__(self, scorer: Scorer, *, overlap: float = 0.5) -> None:
        if not 0.0 <= overlap < 1.0:
            raise ValueError(f"overlap is from 0 to less than 1. Received: overlap={overlap}.")
        super().__init__(scorer)
        self.overlap = overlap

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """What the scorer inside takes, which is the shape of a tile."""
        return self.scorer.image_shape

    @property
    def reference(self) -> Any:
        """That of the scorer of tiles."""
        return self.scorer.reference

    @reference.setter
    def reference(self, reference: Any) -> None:
        self.scorer.reference = reference

    def score(self, images: Images, *, draw: bool = True) -> Outputs:
        """Scores an array `(n, height, width, channels)` in [-1, 1], or batches as `test` takes them, of one size.

        Args:
            images: Images, see `scoring.image_rows`.
            draw: Whether to reconstruct each image, see `AnoGAN.score`.

        Returns:
            A dict of arrays: `anomaly_score`, `residual`, `discrimination` `(n,)`, `reconstruction` of the images'
            shape, `anomaly_map` `(n, height, width)`, `id`, and once calibrated `anomaly_mask`.

        Raises:
            ValueError: For images of different sizes, which `score_batches` takes.
        """
        return scoring.score(self, images, draw)

    def fit_reference(self, data: Images) -> None:
        """Learns what `score` needs from tiles of normal training images, taken at random from all of them alike."""
        before = self.reference
        self.scorer.fit_reference(self._reference_tiles(data))
        if self.reference is not before:
            self.calibration: Calibration | None = None  # it was of another score

    def raw_outputs(
        self, data: Images, *, decide: bool = True, draw: bool = True, progress: Any = None
    ) -> Iterator[tuple[list[Row], Outputs]]:
        """Pairs of a row of `data`, in a list, and its outputs, in arrays of one; maps are not smoothed yet."""
        options = {"decide": decide, "draw": draw, "progress": progress}
        for row in self._rows(data):
            yield [row], self.score_chunk(row["image"][None], name=row["id"], **options)

    def score_chunk(
        self,
        images: np.ndarray,
        *,
        decide: bool = True,
        draw: bool = True,
        progress: Any = None,
        name: str = "the image",
    ) -> Outputs:
        """As `Scorer.score_chunk`, of images of any one size; of each no more than a chunk of tiles is in memory."""
        options = {"decide": decide, "draw": draw, "progress": progress}
        outputs = [self._image_outputs(image, name, options) for image in images]
        return {key: np.stack([output[key] for output in outputs]) for key in outputs[0]}

    def tensors(self, images: tf.Tensor, *, draw: bool) -> dict[str, tf.Tensor]:
        """One row of tiles of all images after the other; no more of them are in memory."""
        (height, width), lengths = self.image_shape[:2], tf.unstack(tf.shape(images)[1:3])
        tops, lefts = (_starts_tensor(*each, self.overlap) for each in zip(lengths, (height, width), strict=True))
        columns, across = _laid(lefts, width, lengths[1])

        def of_row(row):
            rows, down = _laid(tops[row : row + 1], height, lengths[0])
            own = tf.gather(tf.gather(images, rows[0], axis=1), columns, axis=2)  # (n, height, tiles, width, channels)
            own = tf.reshape(tf.transpose(own, (0, 2, 1, 3, 4)), (-1, *self.image_shape))
            found = {name: _of_images(value, lefts) for name, value in self.scorer.tensors(own, draw=draw).items()}
            numbers = {part: tf.reduce_sum(found[part], axis=1) for part in scoring.PARTS[1:] if part in found}
            layers = {name: _on_canvas(found[name], down, across) for name in LAYERS if name in found}
            return numbers | layers | {"anomaly_score": tf.reduce_max(found["anomaly_score"], axis=1)}

        def step(row, sums):
            own, highest = of_row(row), tf.maximum
            return row + 1, {
                name: (highest if name == "anomaly_score" else tf.add)(value, own[name]) for name, value in sums.items()
            }

        _, sums = tf.while_loop(lambda row, _: row < tf.size(tops), step, (tf.constant(1), of_row(0)))
        _, down = _laid(tops, height, lengths[0])
        weights = tf.reduce_sum(down, axis=1)[:, None] * tf.reduce_sum(across, axis=1)  # (height, width)
        count = tf.cast(tf.size(tops) * tf.size(lefts), tf.float32)
        means = {part: sums[part] / count for part in scoring.PARTS[1:] if part in sums}
        layers = {name: tf.transpose(sums[name] / weights, (0, 2, 3, 1)) for name in LAYERS if name in sums}
        if "anomaly_map" in layers:
            layers["anomaly_map"] = layers["anomaly_map"][..., 0]
        return means | layers | {"anomaly_score": sums["anomaly_score"]}

    def examples(self, images: np.ndarray, n: int = 8) -> np.ndarray:
        corners = self._corners(images[0], "the image")
        return np.stack(list(tiles(images[0], corners[:: math.ceil(len(corners) / n)], self.image_shape)))

    def _image_outputs(self, image: np.ndarray, name: str, options: dict[str, Any]) -> dict[str, Any]:
        corners = self._corners(image, name)
        pairs = zip(tiles(image, corners, self.image_shape), corners, strict=True)
        tile_rows = ({"image": tile, "corner": corner} for tile, corner in pairs)
        numbers, canvases = {}, {}
        for rows, outputs in scoring.raw_outputs(self.scorer, tile_rows, **options):
            for part in [part for part in scoring.PARTS if part in outputs]:
                numbers.setdefault(part, []).extend(outputs[part])
            for layer in [layer for layer in LAYERS if layer in outputs]:
                canvas = canvases.setdefault(layer, Canvas(image.shape[:2]))
                for tile, row in zip(outputs[layer], rows, strict=True):
                    canvas.add(tile, row["corner"])
        found = {part: (np.max if part == "anomaly_score" else np.mean)(values) for part, values in numbers.items()}
        return found | {layer: canvas.mean() for layer, canvas in canvases.items()}

    def _corners(self, image: np.ndarray, name: str) -> np.ndarray:
        return grid(image.shape[:2], self.image_shape, overlap=self.overlap, name=name)

    def _reference_tiles(self, data):
        """A batch of as many tiles as the reference takes, each tile of all images as likely as any other."""
        tile_rows = ({"image": tile} for tile in self._all_tiles(data))
        chosen = scoring.sample(tile_rows, scoring.REFERENCE_IMAGES, self.scorer.seed)
        yield np.stack([row["image"] for row in chosen])

    def _all_tiles(self, data):
        for row in self._rows(data):
            yield from tiles(row["image"], self._corners(row["image"], row["id"]), self.image_shape)

    def _rows(self, data):
        return scoring.rows_of(self, data)


def grid(size: Sequence[int], patch: Sequence[int], *, overlap: float = 0.5, name: str = "the image") -> np.ndarray:
    """Top left corners of overlapping tiles that cover an image; the last ones end where the image does.

    Args:
        size: `(height, width)` of the image.
        patch: `(height, width)` of a tile; what follows is ignored.
        overlap: Least part of a tile's side that it shares with the next one, from 0 to less than 1.
        name: What to call the image in an error.

    Returns:
        Integers `(tiles, 2)`, row by row.

    Raises:
        ValueError: If the image is smaller than a tile.
    """
    check_patch(size, patch, name)
    rows, columns = (_starts(length, side, overlap) for length, side in zip(size, patch[:2], strict=True))
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)  # (tiles, 2)


def _starts(length: int, side: int, overlap: float) -> list[int]:
    """Where tiles of a side begin along a length: the fewest that overlap enough, spread evenly."""
    stride = max(1, int(side * (1.0 - overlap)))
    gaps = -(-(length - side) // stride)
    return [(length - side) * i // max(gaps, 1) for i in range(gaps + 1)]


def _starts_tensor(length: tf.Tensor, side: int, overlap: float) -> tf.Tensor:
    """As `_starts`, of a length that a tensor tells."""
    stride = max(1, int(side * (1.0 - overlap)))
    gaps = (length - side + stride - 1) // stride  # without a negative number, which ONNX rounds in another way
    return (length - side) * tf.range(gaps + 1) // tf.maximum(gaps, 1)


def _laid(starts: tf.Tensor, side: int, length: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The places along a length that tiles of a side cover, `(tiles, side)`, and what lays them there.

    The latter is `(length, tiles * side)`, to be multiplied with the tiles: their `window` where a pixel lies.
    """
    places = tf.minimum(starts[:, None] + tf.range(side), length - 1)
    here = tf.cast(tf.range(length)[:, None] == tf.reshape(places, (1, -1)), tf.float32)
    return places, here * tf.tile(tf.constant(window((side, 1))[:, 0]), tf.shape(starts))


def _of_images(values: tf.Tensor, starts: tf.Tensor) -> tf.Tensor:
    """What there is of the tiles of n images, one image's after the other's, as `(n, tiles, …)`."""
    return tf.reshape(values, (-1, tf.size(starts), *values.shape[1:]))


def _on_canvas(tiles: tf.Tensor, down: tf.Tensor, across: tf.Tensor) -> tf.Tensor:
    """A row of tiles of n images `(n, tiles, height, width[, channels])` as sums on `(n, channels, rows, columns)`."""
    height, width = tiles.shape[2:4]
    layers = []
    for of_channel in tf.unstack(tiles, axis=4) if len(tiles.shape) == 5 else [tiles]:
        strips = tf.transpose(of_channel, (0, 2, 1, 3))  # (n, height, tiles, width)
        strips = tf.reshape(strips, (-1, height, tf.shape(tiles)[1] * width))
        layers.append(resampling.weighed(resampling.weighed(strips, across, -1), down, -2))
    return tf.stack(layers, axis=1)


def tiles(image: np.ndarray, corners: np.ndarray, patch: Sequence[int]) -> Iterator[np.ndarray]:
    """The parts of an image `(height, width, channels)`, each of `patch`, at the corners; one at a time, as views."""
    height, width = patch[:2]
    for top, left in corners:
        yield image[top : top + height, left : left + width]


def stitch(tiles: Iterable[np.ndarray], corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Tiles laid at their corners, and their mean where they overlap, weighted with a `window`.

    Networks draw the middle of a tile better than its border, where their convolutions see padding; and as a tile fades
    out, there is no step where it ends. Tiles cut from an image give that image.

    Args:
        tiles: Arrays of one shape, `(height, width[, channels])`; an iterable, as they need not be in memory at once.
        corners: Their top left corners, `(tiles, 2)`, which leave no pixel uncovered.
        size: `(height, width)` of the whole.

    Returns:
        A float32 array `(*size[, channels])`.
    """
    canvas = Canvas(size)
    for tile, corner in zip(tiles, corners, strict=True):
        canvas.add(tile, corner)
    return canvas.mean()


class Canvas:
    """Where tiles are laid one after the other, see `stitch`.

    Args:
        size: `(height, width)` of the whole.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self._total: np.ndarray | None = None

    def add(self, tile: np.ndarray, corner: np.ndarray) -> None:
        """Lays a tile `(height, width[, channels])` with its top left at the corner."""
        if self._total is None:
            self._total, self._weights = (np.zeros((*self.size, *tile.shape[2:]), np.float32) for _ in range(2))
            self._weight = window(tile.shape[:2]).reshape(*tile.shape[:2], *[1] * (tile.ndim - 2))
        top, left = corner
        here = np.s_[top : top + tile.shape[0], left : left + tile.shape[1]]
        self._total[here] += self._weight * tile
        self._weights[here] += self._weight

    def mean(self) -> np.ndarray:
        """The weighted mean of what lies at each place, `(*size[, channels])`."""
        return self._total / self._weights


def window(patch: Sequence[int]) -> np.ndarray:
    """The weights of a tile's pixels, `(height, width)`: highest in the middle, falling to the border, never 0."""
    rows, columns = (np.minimum(np.arange(1, side + 1), np.arange(side, 0, -1)) / side for side in patch[:2])
    return np.outer(rows, columns).astype(np.float32)
