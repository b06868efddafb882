"""Images larger than the networks: scored on an overlapping grid of tiles, whose maps are stitched into one."""

import math

import numpy as np

from anogan_tf import scoring, wrapper
from anogan_tf.data.images import check_patch

SHOWN = 8


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

    def __init__(self, scorer, *, overlap=0.5):
        if not 0.0 <= overlap < 1.0:
            raise ValueError(f"overlap is from 0 to less than 1. Received: overlap={overlap}.")
        super().__init__(scorer)
        self.overlap = overlap

    @property
    def image_shape(self):
        """What the networks take, which is the shape of a tile."""
        return self.scorer.image_shape

    @property
    def learns(self):
        return self.scorer.learns

    @property
    def reference(self):
        """That of the scorer of tiles."""
        return self.scorer.reference

    @reference.setter
    def reference(self, reference):
        self.scorer.reference = reference

    @property
    def settings(self):
        """Those of the scorer of tiles, and `overlap`."""
        return self.scorer.settings | {"overlap": self.overlap}

    def score(self, images):
        """Scores an array `(n, height, width, channels)` in [-1, 1], or batches as `test` takes them, of one size.

        Returns:
            A dict of arrays: `anomaly_score`, `residual`, `discrimination` `(n,)`, `reconstruction` of the images'
            shape, `anomaly_map` `(n, height, width)`, `id`, and once calibrated `anomaly_mask`.

        Raises:
            ValueError: For images of different sizes, which `score_batches` takes.
        """
        return scoring.score(self, images)

    def fit_reference(self, data):
        """Learns what `score` needs from tiles of normal training images, drawn evenly from all of them."""
        before = self.reference
        self.scorer.fit_reference(self._reference_tiles(data))
        if self.reference is not before:
            self.calibration = None  # it was of another score

    def raw_outputs(self, data, progress=None):
        """Pairs of a row of `data`, in a list, and its outputs, in arrays of one; maps are not smoothed yet."""
        for row in self._rows(data):
            yield [row], {name: value[None] for name, value in self._image_outputs(row, progress).items()}

    def _image_outputs(self, row, progress):
        """The outputs for one image, of which no more than a chunk of tiles is in memory at once."""
        image, corners = row["image"], self._corners(row)
        tile_rows = ({"image": tile} for tile in tiles(image, corners, self.image_shape))
        parts = {name: [] for name in scoring.PARTS}

        def layers():
            for _, outputs in scoring.raw_outputs(self.scorer, tile_rows, progress):
                for name, values in parts.items():
                    values.extend(outputs[name])
                yield from np.concatenate([outputs["reconstruction"], outputs["anomaly_map"][..., None]], axis=-1)

        stitched = stitch(layers(), corners, image.shape[:2])  # (height, width, channels + 1)
        return {
            "anomaly_score": np.max(parts["anomaly_score"]),
            "residual": np.mean(parts["residual"]),
            "discrimination": np.mean(parts["discrimination"]),
            "reconstruction": stitched[..., :-1],
            "anomaly_map": stitched[..., -1],
        }

    def _corners(self, row):
        return grid(row["image"].shape[:2], self.image_shape, overlap=self.overlap, name=row["id"])

    def _reference_tiles(self, data):
        """A batch of as many tiles as the reference takes, each tile of all images as likely as any other."""
        tile_rows = ({"image": tile} for tile in self._all_tiles(data))
        drawn = scoring.sample(tile_rows, scoring.REFERENCE_IMAGES, self.scorer.seed)
        yield np.stack([row["image"] for row in drawn])

    def _all_tiles(self, data):
        for row in self._rows(data):
            yield from tiles(row["image"], self._corners(row), self.image_shape)

    def _rows(self, data):
        return scoring.image_rows(data, (None, None, self.image_shape[-1]))


def grid(size, patch, *, overlap=0.5, name="the image"):
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


def _starts(length, side, overlap):
    """Where tiles of a side begin along a length: the fewest that overlap enough, spread evenly."""
    stride = max(1, int(side * (1.0 - overlap)))
    gaps = -(-(length - side) // stride)
    return [(length - side) * i // max(gaps, 1) for i in range(gaps + 1)]


def tiles(image, corners, patch):
    """The parts of an image `(height, width, channels)`, each of `patch`, at the corners; one at a time, as views."""
    height, width = patch[:2]
    for top, left in corners:
        yield image[top : top + height, left : left + width]


def stitch(tiles, corners, size):
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
    total = None
    for tile, (top, left) in zip(tiles, corners, strict=True):
        if total is None:
            total, weights = (np.zeros((*size, *tile.shape[2:]), np.float32) for _ in range(2))
            weight = window(tile.shape[:2]).reshape(*tile.shape[:2], *[1] * (tile.ndim - 2))
        here = np.s_[top : top + tile.shape[0], left : left + tile.shape[1]]
        total[here] += weight * tile
        weights[here] += weight
    return total / weights


def window(patch):
    """The weights of a tile's pixels, `(height, width)`: highest in the middle, falling to the border, never 0."""
    rows, columns = (np.minimum(np.arange(1, side + 1), np.arange(side, 0, -1)) / side for side in patch[:2])
    return np.outer(rows, columns).astype(np.float32)


def examples(dataset, image_shape):
    """A few images of `image_shape`, in an array: the first of a data set, or tiles of its first large one."""
    images = next(iter(dataset))["image"].numpy()
    if images.shape[1:] == image_shape:
        return images[:SHOWN]
    corners = grid(images.shape[1:3], image_shape)
    return np.stack(list(tiles(images[0], corners[:: math.ceil(len(corners) / SHOWN)], image_shape)))
