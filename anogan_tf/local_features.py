"""What a picture looks like around each point: its colours, how strongly they vary, in which direction, and lines."""

import dataclasses
from collections.abc import Iterable
from typing import Protocol, TypeAlias

import numpy as np
import tensorflow as tf

from anogan_tf import resampling

Array: TypeAlias = np.ndarray | tf.Tensor

BLURS = (1.0, 2.0, 4.0)  # σ in pixels
WAVES = (1.0, 2.0)
ORIENTATIONS = 4
POOLING = 2.0  # σ of the mean of a wave's amplitude
LINE_DIRECTIONS = 12
LINE_WIDTH, LINE_LENGTH = 1.2, 5.0  # σ across and along a line, in pixels of a picture half as large
WAVES_AT_ONCE, LINES_AT_ONCE = 4, 8  # columns that are found at once, see `_convolved`
DARK = 0.2  # a tenth of the range [-1, 1], below which colours hardly differ
LEVEL = 1 / 255  # half a gray level of 8 bits
FINE, STRIDE = 4, 8  # pixels between places: of the filters, and of their means
SMALLEST = 16  # pixels a side, which the filters need
VERSION = 3  # of the features; those of 1 were up to 1.5 pixels off their places, and 1 and 2 have no lines
OF_NETWORK = 0  # in place of a version: features are those of a network, see `pretrained`


class Features(Protocol):
    """What describes pictures at each of their places: fixed `Filters`, or `pretrained.NetworkFeatures`.

    Attributes:
        version: Of the filters, or `OF_NETWORK`.
        directed: Whether some features are of directions, which `undirected` does without.
    """

    @property
    def version(self) -> int: ...

    @property
    def directed(self) -> bool: ...

    def of_image(self, image: tf.Tensor) -> tf.Tensor:
        """The features `(rows, columns, features)` of one image `(height, width, channels)` in [-1, 1]."""
        ...

    def of_pictures(self, pictures: Iterable[np.ndarray]) -> np.ndarray:
        """The features `(n, rows, columns, features)` of any number of pictures of one size."""
        ...

    def undirected(self, features: Array) -> Array:
        """Features without directions."""
        ...


@dataclasses.dataclass(frozen=True)
class Filters:
    """The fixed filters of this module as `Features`, see `local_features`.

    Args:
        version: Of the features.
    """

    version: int = VERSION
    directed = True

    def of_image(self, image: tf.Tensor) -> tf.Tensor:
        return of_image(image, self.version)

    def of_pictures(self, pictures: Iterable[np.ndarray]) -> np.ndarray:
        return of_pictures(pictures, self.version)

    def undirected(self, features: Array) -> Array:
        return undirected(features)


@tf.function(autograph=False)
def local_features(images: tf.Tensor, version: int = VERSION) -> tf.Tensor:
    """Colours and wavelet amplitudes on a grid of every eighth pixel.

    For each channel the means under Gaussians of σ = 1, 2 and 4 pixels, and the amplitudes |x * ψ| of Morlet wavelets ψ
    of σ = 1 and 2 pixels in four orientations, averaged under a Gaussian of σ = 2; all averaged over 8×8 pixels, at the
    middle of which they lie. Of all channels together, how strong the strongest bright and the strongest dark line
    within 8×8 pixels are: the response of ridges about 5 pixels wide and 20 long, over which grain averages out.
    Light multiplies all, so that the features are their logarithms: log(1 + 5 (m + 1)) of a mean m and log(1 + 255 a)
    of an amplitude or response a. Twice the light is a shift then, and not twice the difference, but for what is darker
    than a tenth of the range and waves of less than half a gray level. None of it is trained.

    Args:
        images: `(batch, height, width, channels)` in [-1, 1], sides of at least 16 pixels.
        version: 1 or 2 for the features of references that were learned with these.

    Returns:
        `(batch, ceil(height / 8), ceil(width / 8), 11 * channels + 2)`.

    References:
        Bruna and Mallat, "Invariant Scattering Convolution Networks", arXiv 1203.1513, section 2.2 (order one);
        Lindeberg, "Edge Detection and Ridge Detection with Automatic Scale Selection", IJCV 1998, section 6 (ridges).
    """
    return tf.map_fn(lambda image: of_image(image, version), images)  # one by one: products round by their sizes


def of_pictures(pictures: Iterable[np.ndarray], version: int = VERSION) -> np.ndarray:
    """The features `(n, rows, columns, features)` of any number of pictures of one size, one graph for all numbers."""
    each = (local_features(np.asarray(picture, np.float32)[None], version) for picture in pictures)
    return np.concatenate([features.numpy() for features in each])


def upsampled(maps: tf.Tensor, times: int, version: int = VERSION) -> tf.Tensor:
    """Maps `(batch, rows, columns)` on a grid of `times` as many points a side; each value stays where it was.

    Between the values it is bilinear, as version 1 was not: there each fills a block.
    """
    if version == 1:
        return tf.repeat(tf.repeat(maps, times, axis=1), times, axis=2)
    _, rows, columns = maps.shape
    return resampling.bilinear(maps, (times * rows, times * columns))


def of_image(image: tf.Tensor, version: int = VERSION) -> tf.Tensor:
    """The features `(rows, columns, features)` of one image `(height, width, channels)`."""
    height, width, channels = image.shape
    maps = tf.reshape(tf.transpose(image, (2, 0, 1)), (channels, height, width, 1))
    colours = [_at_places(maps, sigma, FINE, version) for sigma in BLURS]
    textures = []
    for sigma in WAVES:
        shrink = int(sigma)
        smaller = _shrunk(maps, shrink, version) if shrink > 1 else maps
        textures.append(_at_places(_amplitudes(smaller, sigma / shrink), POOLING / shrink, FINE // shrink, version))
    amplitudes = tf.concat(textures if version < 3 else [*textures, _lines(maps)], -1)
    return tf.concat([tf.math.log1p((tf.concat(colours, -1) + 1.0) / DARK), tf.math.log1p(amplitudes / LEVEL)], axis=-1)


def undirected(features: Array) -> Array:
    """Features `(…, 11 * channels + 2)` without the directions of waves, `(…, 7 * channels + 2)`.

    Of each wave's amplitudes in four orientations, their mean and by how much the strongest exceeds the weakest stay.
    They hardly change when a part turns.
    """
    channels = features.shape[-1] // (len(BLURS) + len(WAVES) * ORIENTATIONS)
    ends = np.cumsum([len(BLURS) * channels, *[channels * ORIENTATIONS] * len(WAVES), 2])
    colours, *waves, lines = (features[..., a:b] for a, b in zip([0, *ends], ends, strict=False))
    kept = [colours]
    for wave in waves:
        each = tf.reshape(wave, (*wave.shape[:-1], channels, ORIENTATIONS))
        kept += [tf.reduce_mean(each, axis=-1), tf.reduce_max(each, axis=-1) - tf.reduce_min(each, axis=-1)]
    return tf.concat([*kept, lines], axis=-1)


def _lines(maps):
    """The strongest response within 8×8 pixels to bright and to dark lines of all directions, `(rows, columns, 2)`."""
    smaller = _shrunk(tf.reduce_mean(maps, axis=0, keepdims=True), 2, VERSION)  # (1, height / 2, width / 2, 1)
    ridges = _ridges()[:, :, None].astype(np.float32)  # (side, side, 1, directions)
    responses = _convolved(_mirrored(smaller, len(ridges) // 2), ridges, LINES_AT_ONCE)
    strongest = tf.stack([tf.reduce_max(responses, -1), tf.reduce_max(-responses, -1)], axis=-1)
    side = STRIDE // 2
    whole = tf.pad(strongest, [[0, 0], *([0, -n % side] for n in strongest.shape[1:3]), [0, 0]])
    return tf.nn.relu(tf.nn.max_pool2d(whole, side, side, "VALID"))[0]


def _mirrored(maps, margin):
    """Maps `(n, height, width, k)` with a margin in which they are mirrored at the border, as often as it takes."""
    while margin:
        step = min(margin, *maps.shape[1:3])
        for axis in (1, 2):  # pad(…, "SYMMETRIC") takes LiteRT long
            first, last = (tf.reverse(end, [axis]) for end in _ends(maps, axis, step))
            maps = tf.concat([first, maps, last], axis)
        margin -= step
    return maps


def _ends(maps, axis, step):
    """The first and the last `step` places along an axis, 1 or 2."""
    return (maps[:, :step], maps[:, -step:]) if axis == 1 else (maps[:, :, :step], maps[:, :, -step:])


def _amplitudes(maps, sigma):
    """|x * ψ| of every orientation, `(channels, height, width, orientations)`; mirrored at the border."""
    waves = _morlets(sigma)[:, :, None]  # (side, side, 1, orientations)
    padded = _mirrored(maps, len(waves) // 2)
    both = np.concatenate([waves.real, waves.imag], axis=-1).astype(np.float32)  # one product, as wide as two
    real, imaginary = tf.split(_convolved(padded, both, WAVES_AT_ONCE), 2, axis=-1)
    return tf.sqrt(tf.square(real) + tf.square(imaginary) + 1e-12)


def _convolved(maps, filters, columns):
    """Maps `(n, height, width, 1)` under `k` filters `(side, side, 1, k)`, where they fit: `(n, …, …, k)`.

    So many columns are found at once, by filters as much wider: of few filters a processor's vectors stay half empty.
    """
    side, _, _, k = filters.shape
    wide = np.zeros((side, side + columns - 1, 1, columns, k), np.float32)
    for column in range(columns):
        wide[:, column : column + side, :, column] = filters
    n, height, width = (maps.shape[0], *(length - side + 1 for length in maps.shape[1:3]))
    beyond = -width % columns
    if beyond:
        maps = tf.pad(maps, [[0, 0], [0, 0], [0, beyond], [0, 0]])
    found = tf.nn.conv2d(maps, wide.reshape(side, -1, 1, columns * k), (1, columns), "VALID")
    found = tf.reshape(found, (n, height, width + beyond, k))
    return found[:, :, :width] if beyond else found


def _shrunk(maps, stride, version):
    """Means under a Gaussian of σ = stride / 2, one for each `stride` pixels in each direction."""
    return _means(maps, *(_gaussians(n, stride / 2, _centres(n, stride, version)) for n in maps.shape[1:3]))


def _at_places(maps, sigma, stride, version):
    """Means under Gaussians, two by two of which are averaged, `(rows, columns, channels * k)`."""
    gaussians = (_gaussians(n, sigma, _centres(n, stride, version, even=True)) for n in maps.shape[1:3])
    means = _means(maps, *(g.reshape(-1, STRIDE // FINE, g.shape[1]).mean(axis=1) for g in gaussians))
    means = tf.transpose(means, (1, 2, 0, 3))  # (rows, columns, channels, k)
    return tf.reshape(means, (*means.shape[:2], -1))


def _means(maps, rows, columns):
    """Maps `(channels, height, width, k)` times weights `(m, height)` and `(n, width)`: `(channels, m, n, k)`."""
    channels, height, width, k = maps.shape
    rows, columns = (tf.constant(weights, tf.float32) for weights in (rows, columns))
    down = tf.matmul(rows, tf.reshape(maps, (channels, height, width * k)))
    return tf.matmul(columns, tf.reshape(down, (channels, -1, width, k)))


def _centres(length, stride, version, even=False):
    """The middles of all strides along a side, in pixels; an even number of them if it has to be."""
    n = -(-length // stride)
    numbers = np.arange(n + n % 2 if even else n)
    if version == 1:
        return stride * np.minimum(numbers, n - 1) + stride // 2
    return stride * numbers + (stride - 1) / 2


def _gaussians(length, sigma, centres):
    """The weights of the pixels of a side around each centre, mirrored at its ends, `(centres, length)`."""
    pixels = np.arange(-length, 2 * length)
    away = np.abs(pixels - centres[:, None])
    weights = np.where(away <= np.ceil(3 * sigma), np.exp(-(away**2) / (2 * sigma**2)), 0.0)
    before, inside, after = np.split(weights / weights.sum(axis=1, keepdims=True), 3, axis=1)
    return before[:, ::-1] + inside + after[:, ::-1]


def _ridges():
    """Second derivatives of Gaussians across lines, long along them, without mean, `(side, side, directions)`."""
    reach = int(np.ceil(2.5 * LINE_LENGTH))
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    ridges = []
    for angle in np.pi * np.arange(LINE_DIRECTIONS) / LINE_DIRECTIONS:
        along = (columns * np.cos(angle) + rows * np.sin(angle)) / LINE_LENGTH
        across = (rows * np.cos(angle) - columns * np.sin(angle)) / LINE_WIDTH
        ridge = (1 - across**2) * np.exp(-(along**2 + across**2) / 2)
        ridge -= ridge.mean()
        ridges.append(ridge / np.abs(ridge).sum())
    return np.stack(ridges, axis=-1)


def _morlets(sigma):
    """Waves of frequency 2 / σ under a Gaussian, without mean, complex `(side, side, orientations)`."""
    reach = int(np.ceil(3 * sigma))
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    waves = []
    for angle in np.pi * np.arange(ORIENTATIONS) / ORIENTATIONS:
        along = columns * np.cos(angle) + rows * np.sin(angle)
        across = rows * np.cos(angle) - columns * np.sin(angle)
        envelope = np.exp(-(along**2 + across**2 / 2) / (2 * sigma**2))
        wave = envelope * np.exp(2j / sigma * along)
        wave -= envelope * wave.sum() / envelope.sum()
        waves.append(wave / np.abs(wave).sum())
    return np.stack(waves, axis=-1)
