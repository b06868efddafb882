"""Registration: how a part lies in a picture, and the picture as if it lay as in all others."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf
from scipy import ndimage

SIDE = 64  # pixels of the longer side of the pictures in which poses are looked for
ANGLES = 72  # in a full turn
REACH = 8  # of these pixels, by which a part may be moved in each direction
LEARNED, ROUNDS = 100, 3  # pictures that a template is the mean of; and how often it is made anew
STRONG = 0.25  # of the largest difference from the ground, that tells a part from it
FLAT = 1e-12  # by which neighbours of a peak are lower at least


@dataclasses.dataclass(frozen=True)
class Registration:
    """Turns and moves pictures so that the part in them lies as it does in a template.

    A pose is an angle φ and a shift s. The picture x in it is y(p) = x(c + s + R(φ) (p - c)), with c the middle and R a
    rotation; beyond its border x goes on as at the border. Of all angles, and shifts of up to an eighth of the longer
    side, those are taken that have the largest correlation Σ y(p) t(p) with the template t, both made smaller and less
    their ground, the mean colour of the border; between angles and pixels by parabolas through the peak. What a pose
    leaves out, corners and strips along the border, is not seen.

    Args:
        template: t, `(rows, columns, channels)`, 0 where the ground is.

    References:
        Zitová and Flusser, "Image registration methods: a survey", Image and Vision Computing 2003, section 4.1
        (correlation-like methods).
    """

    template: np.ndarray

    @classmethod
    def fit(cls, pictures: np.ndarray) -> Registration:
        """Learns from normal pictures `(n, height, width, channels)`: their mean in the pose of the first, centred."""
        some = [_smaller(picture) for picture in pictures[:LEARNED]]
        registration = cls(_in_the_middle(some[0].numpy()))
        for _ in range(ROUNDS):
            poses = [_pose(small, registration._kernels) for small in some]
            registration = cls(np.mean(list(registration(some, poses)), axis=0))
        return registration

    def __reduce__(self) -> tuple:
        return type(self), (self.template,)

    def poses(self, pictures: np.ndarray) -> np.ndarray:
        """The poses `(n, 3)` of pictures: φ in degrees, and s in parts of the longer side, along rows and columns."""
        return np.stack([self.pose(picture).numpy() for picture in pictures])

    def __call__(self, pictures: Iterable[np.ndarray], poses: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Pictures `(height, width, channels)` in their poses, one after the other."""
        return (moved(picture, pose).numpy() for picture, pose in zip(pictures, poses, strict=True))

    def back(self, maps: np.ndarray, poses: np.ndarray) -> np.ndarray:
        """Maps `(n, height, width)` of pictures in their poses, as the pictures lay before."""
        return np.stack([moved_back(*each).numpy() for each in zip(maps, poses, strict=True)])

    def pose(self, picture: tf.Tensor) -> tf.Tensor:
        """As `poses`, of one picture, `(3,)`."""
        return _pose(_smaller(picture), self._kernels)

    @functools.cached_property
    def _kernels(self):
        """The template turned by each angle, `(rows, columns, channels, ANGLES)`."""
        turned = []
        middle = (np.array(self.template.shape[:2]) - 1) / 2
        for angle in 2 * np.pi * np.arange(ANGLES) / ANGLES:
            turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
            channels = np.moveaxis(self.template, -1, 0)
            turned.append([ndimage.affine_transform(t, turn, middle - turn @ middle, order=1) for t in channels])
        with tf.init_scope():  # also while a graph is traced, of which they would be a part
            return tf.constant(np.moveaxis(turned, (0, 1), (3, 2)), tf.float32)


@tf.function(autograph=False)
def moved(picture: tf.Tensor, pose: tf.Tensor) -> tf.Tensor:
    """A picture `(height, width, channels)` in a pose, bilinearly."""
    return _at(picture, *_points(picture.shape, pose[0], after=pose[1:]))


@tf.function(autograph=False)
def moved_back(values: tf.Tensor, pose: tf.Tensor) -> tf.Tensor:
    """A map `(height, width)` of a picture in a pose, as the picture lay before, bilinearly.

    It falls to 0 within a pixel where the pose leaves the picture out.
    """
    height, width = values.shape
    rows, columns = _points(values.shape, -pose[0], before=pose[1:])
    inside = tf.minimum(tf.minimum(rows + 1.0, height - rows), tf.minimum(columns + 1.0, width - columns))
    return _at(values[..., None], rows, columns)[..., 0] * tf.clip_by_value(inside, 0.0, 1.0)


def _points(shape, angle, before=(0.0, 0.0), after=(0.0, 0.0)):
    """Where the pixels of a picture come to lie, rows and columns `(height, width)`.

    They are moved by -`before`, turned about the middle by an angle in degrees, and moved by `after`, both in parts of
    the longer side.
    """
    height, width = shape[:2]
    cosine, sine = tf.cos(angle * (np.pi / 180)), tf.sin(angle * (np.pi / 180))
    middle, longer = ((height - 1) / 2, (width - 1) / 2), float(max(height, width))
    rows = (np.arange(height, dtype=np.float32) - middle[0] - before[0] * longer)[:, None]
    columns = (np.arange(width, dtype=np.float32) - middle[1] - before[1] * longer)[None]
    turned = cosine * rows - sine * columns, sine * rows + cosine * columns
    return tuple(part + m + shift * longer for part, m, shift in zip(turned, middle, (after[0], after[1]), strict=True))


def _at(picture, rows, columns):
    """What a picture `(height, width, channels)` shows at points, `(…, channels)`; beyond its border, what is there."""
    height, width, channels = picture.shape
    rows, columns = tf.clip_by_value(rows, 0.0, height - 1.0), tf.clip_by_value(columns, 0.0, width - 1.0)
    flat, (top, left) = tf.reshape(picture, (-1, channels)), map(tf.floor, (rows, columns))
    found = []
    for row in (top, tf.minimum(top + 1.0, height - 1.0)):
        numbers = (row * width + column for column in (left, tf.minimum(left + 1.0, width - 1.0)))
        found.append(_between(*(tf.gather(flat, tf.cast(n, tf.int32)) for n in numbers), columns - left))
    return _between(*found, rows - top)


def _between(low, high, share):
    return low + share[..., None] * (high - low)


@tf.function(autograph=False)
def _smaller(picture):
    """A picture with a longer side of `SIDE` pixels, less the mean colour of its border."""
    longer = max(picture.shape[:2])
    stride = max(1, longer // SIDE)
    larger = [max(1, round(side * SIDE / longer)) * stride for side in picture.shape[:2]]
    small = tf.nn.avg_pool2d(tf.image.resize(picture[None], larger), stride, stride, "VALID")[0]
    border = tf.concat([small[0], small[-1], small[:, 0], small[:, -1]], axis=0)
    return small - tf.reduce_mean(border, axis=0)


def _in_the_middle(small):
    """A small picture, moved so that what differs from its ground has its centre in the middle."""
    strength = np.abs(small).sum(axis=-1)
    centre = np.argwhere(strength >= STRONG * strength.max()).mean(axis=0)
    shift = (centre - (np.array(strength.shape) - 1) / 2) / SIDE
    return moved(small, tf.constant([0.0, *shift], tf.float32)).numpy()


@tf.function(autograph=False)
def _pose(small, kernels):
    """The pose of a small picture `(rows, columns, channels)`, see `Registration.poses`."""
    shifts = 2 * REACH + 1
    padded = tf.pad(small, ((REACH + 1, REACH + 1), (REACH + 1, REACH + 1), (0, 0)))
    correlations = tf.nn.conv2d(padded[None, 1:-1, 1:-1], kernels, 1, "VALID")[0]  # (shifts, shifts, ANGLES)
    best = tf.argmax(tf.reshape(correlations, [-1]), output_type=tf.int32)
    row, column, angle = best // (shifts * ANGLES), best // ANGLES % shifts, best % ANGLES

    def there(row, column):
        return tf.slice(padded, tf.stack([row + 1, column + 1, 0]), small.shape)

    def turned(angle):
        return tf.gather(kernels, angle, axis=-1)

    def finer(*lower):
        """How far the top of a parabola is from its middle point, by how much those before and after it are lower.

        Sums of differences have fewer roundings than differences of sums, which hardly differ where a peak is flat.
        """
        before, after = (tf.maximum(tf.reduce_sum(products), FLAT) for products in lower)
        return tf.clip_by_value((before - after) / (2.0 * (before + after)), -0.5, 0.5)

    found, kernel = there(row, column), turned(angle)
    by = finer(*(found * (kernel - turned((angle + step) % ANGLES)) for step in (-1, 1)))
    down = finer(*((found - there(row + step, column)) * kernel for step in (-1, 1)))
    right = finer(*((found - there(row, column + step)) * kernel for step in (-1, 1)))
    numbers = tf.cast(tf.stack([angle, row - REACH, column - REACH]), tf.float32) + tf.stack([by, down, right])
    return numbers * (360.0 / ANGLES, 1.0 / SIDE, 1.0 / SIDE)
