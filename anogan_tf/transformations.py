"""A second task for the discriminator: to tell how an image was turned and shifted."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import keras
import numpy as np
import tensorflow as tf

from anogan_tf.networks import hidden_output

TASKS = ("rotation", "shift")


class Transformations:
    """All combinations of a rotation and of shifts, each a rearrangement of an image's pixels.

    `"rotation"` turns by 0, 90, 180 or 270 degrees, images that are not square by 0 or 180. `"shift"` moves by a
    quarter of the side or not at all, down or up, and right or left; what moves in mirrors what is next to it.

    Args:
        image_shape: `(height, width, channels)`.
        tasks: Names out of `TASKS`.

    Attributes:
        classes: How many rotations there are, how many vertical and how many horizontal shifts, as far as the tasks
            have them: `(4, 3, 3)`.
        labels: Which of them each transformation is, integers `(transformations, len(classes))`; the first
            transformation changes nothing.

    Raises:
        ValueError: For a task that there is not.

    References:
        Gidaris et al., arXiv 1803.07728 (rotation); Golan and El-Yaniv, "Deep Anomaly Detection Using Geometric
        Transformations", arXiv 1805.10917, section 4.1; Hendrycks et al., arXiv 1906.12340, section 4 (one head each).
    """

    def __init__(self, image_shape: Sequence[int], tasks: str | Iterable[str] = TASKS) -> None:
        self.image_shape = tuple(image_shape)
        self.tasks = check_tasks(tasks)
        height, width = self.image_shape[:2]
        turns = ((0, 1, 2, 3) if height == width else (0, 2)) if "rotation" in self.tasks else (0,)
        shifts = [(0, -(side // 4), side // 4) if "shift" in self.tasks else (0,) for side in (height, width)]
        choices = [list(enumerate(options)) for options in (turns, *shifts)]
        numbers, pixels = [], []
        for (turn, quarters), (down, rows), (right, columns) in itertools.product(*choices):
            numbers.append((turn, down, right))
            pixels.append(np.rot90(_shifted(height, width, rows, columns), quarters).ravel())
        several = [len(options) > 1 for options in choices]
        self.classes = tuple(len(options) for options in itertools.compress(choices, several))
        self.labels = np.array(numbers, np.int32)[:, several]  # (transformations, heads)
        self._pixels = np.array(pixels, np.int32)  # (transformations, height * width)

    def __len__(self) -> int:
        return len(self.labels)

    def __call__(self, images: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        """Each image under the transformation of its number, of the images' shape; `numbers` is `(batch,)`."""
        flat = tf.reshape(images, (-1, self._pixels.shape[1], self.image_shape[2]))  # (batch, height * width, channels)
        moved = tf.gather(flat, tf.gather(self._pixels, numbers), batch_dims=1)
        return tf.reshape(moved, (-1, *self.image_shape))

    def of_all(self, images: tf.Tensor) -> tf.Tensor:
        """Each image under each transformation, `(batch * transformations, height, width, channels)`."""
        flat = tf.reshape(images, (-1, self._pixels.shape[1], self.image_shape[2]))
        return tf.reshape(tf.gather(flat, self._pixels, axis=1), (-1, *self.image_shape))

    def log_likelihoods_of_all(self, logits: tf.Tensor) -> tf.Tensor:
        """`log_likelihoods` of each transformation, `(batch, transformations, heads)`, from the logits of `of_all`."""
        logits = tf.reshape(tf.cast(logits, tf.float32), (-1, len(self), sum(self.classes)))
        heads = tf.split(logits, self.classes, axis=2)
        done = [np.eye(n, dtype=np.float32)[labels] for n, labels in zip(self.classes, self.labels.T, strict=True)]
        each = [tf.reduce_sum(tf.nn.log_softmax(head) * one, axis=2) for head, one in zip(heads, done, strict=True)]
        return tf.stack(each, axis=2)

    def log_likelihoods(self, logits: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        """log p(t | t(x)) of each head: the log-probability of what was done.

        Args:
            logits: `(batch, sum(classes))`, the heads one after the other.
            numbers: Of the transformations done, `(batch,)`.

        Returns:
            `(batch, heads)`, at most 0.
        """
        labels = tf.unstack(tf.gather(self.labels, numbers), axis=1)
        heads = tf.split(tf.cast(logits, tf.float32), self.classes, axis=1)
        each = [
            tf.nn.sparse_softmax_cross_entropy_with_logits(label, head)
            for label, head in zip(labels, heads, strict=True)
        ]
        return -tf.stack(each, axis=1)

    def log_likelihood(self, logits: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        """The sum of `log_likelihoods` over the heads, `(batch,)`."""
        return tf.add_n(tf.unstack(self.log_likelihoods(logits, numbers), axis=1))


def transformation_head(discriminator: keras.Model, classes: Sequence[int], seed: int) -> keras.Model:
    """A linear layer from what a discriminator's last layer sees to the logits of all heads, as a Keras model."""
    hidden = keras.Input(hidden_output(discriminator).shape[1:], name="hidden")
    initializer = keras.initializers.GlorotUniform(seed=seed)
    logits = keras.layers.Dense(sum(classes), kernel_initializer=initializer, dtype="float32", name="logits")
    return keras.Model(hidden, logits(keras.layers.Flatten(name="flatten")(hidden)), name="transformation_head")


def check_tasks(tasks: str | Iterable[str]) -> tuple[str, ...]:
    """The tasks as a tuple without repetitions, in the order of `TASKS`, or a ValueError."""
    tasks = (tasks,) if isinstance(tasks, str) else tuple(tasks)
    unknown = [task for task in tasks if task not in TASKS]
    if unknown or not tasks:
        raise ValueError(f"self_supervision is None or one or several of {TASKS}. Received: {tasks}.")
    return tuple(task for task in TASKS if task in tasks)


def _shifted(height, width, rows, columns):
    """The number of the pixel that each pixel takes after a shift, `(height, width)`."""
    numbers = np.arange(height * width).reshape(height, width)
    return np.pad(numbers, ((abs(rows),) * 2, (abs(columns),) * 2), mode="reflect")[
        abs(rows) - rows : abs(rows) - rows + height, abs(columns) - columns : abs(columns) - columns + width
    ]
