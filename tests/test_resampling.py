"""Graphs resize and smooth as Pillow and SciPy do."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from anogan_tf import metrics, resampling, scoring

BILINEAR = Image.Resampling.BILINEAR


@pytest.fixture(scope="module")
def resized():
    """One graph for pictures of all sizes."""
    pictures, size = tf.TensorSpec((None, None, None, 3), tf.uint8), tf.TensorSpec((2,), tf.int32)
    return tf.function(
        lambda pictures, size: resampling.resized(tf.cast(pictures, tf.float32), (size[0], size[1])),
        input_signature=[pictures, size],
        autograph=False,
    )


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((60, 60), (28, 28)),
        ((7, 29), (28, 28)),  # a tie at every fourth weight
        ((40, 30), (64, 10)),
        ((40, 30), (20, 64)),  # Pillow 13 begins with the rows
        ((300, 90), (64, 64)),
        ((28, 28), (28, 28)),
        ((500, 700), (32, 32)),
    ],
)
def test_a_picture_is_resized_as_by_pillow_level_for_level(resized, old, new):
    pictures = noise(2, *old, 3)
    expected = [np.asarray(Image.fromarray(picture).resize(new[::-1], BILINEAR)) for picture in pictures]
    np.testing.assert_array_equal(resized(pictures, new), expected)


def test_colours_become_gray_as_by_pillow():
    picture = noise(50, 60, 3)
    found = resampling.gray(tf.cast(picture[None], tf.float32))[0, ..., 0]
    np.testing.assert_array_equal(found, np.asarray(Image.fromarray(picture).convert("L")))


@pytest.mark.parametrize("size", [(20, 31), (50, 17), (7, 100)])
def test_a_map_is_resized_as_in_reports(size):
    maps = np.random.default_rng(0).random((2, 20, 31)).astype(np.float32)
    found = resampling.resized_maps(tf.constant(maps), size)
    np.testing.assert_allclose(found, [metrics.resize_map(each, size) for each in maps], atol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, 0.4, 3.0, 30.0])
def test_a_map_is_smoothed_as_by_scipy(sigma):
    maps = np.random.default_rng(0).random((2, 20, 31)).astype(np.float32)
    np.testing.assert_allclose(resampling.smoothed(tf.constant(maps), sigma), scoring.smooth(maps, sigma), atol=1e-6)


@pytest.mark.parametrize("crop", [None, "square", 12, (5, 9)])
def test_a_picture_is_cropped_as_files_are(crop):
    from anogan_tf.data.images import crop_box

    picture = noise(20, 31, 3)
    left, upper, right, lower = crop_box(picture.shape[:2], crop)
    found = resampling.cropped(tf.constant(picture[None]), crop)[0]
    np.testing.assert_array_equal(found, picture[upper:lower, left:right])
