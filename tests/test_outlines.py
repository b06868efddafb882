"""What an export outlines is what Python outlines."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from anogan_tf import metrics, outlines

SPEC = [tf.TensorSpec((None, None, None)), tf.TensorSpec(()), tf.TensorSpec((None,), tf.bool)]


@pytest.fixture(scope="module")
def masks():
    return tf.function(outlines.masks, input_signature=SPEC, autograph=False)


def spiral():
    """A path one pixel wide that winds inwards, a ramp on it with its peak in the middle, and a hill beside it."""
    levels = np.zeros((120, 120), np.float32)
    position, direction = np.array([5, 5]), np.array([0, 1])
    for step, length in enumerate(np.repeat(np.arange(20, 1, -4), 2)):
        for _ in range(length):
            levels[tuple(position)] = 10 + step
            position += direction
        direction = np.array([direction[1], -direction[0]])
    levels[80:90, 80:90] = 12
    return levels


def noise(shape, sigma, seed=0):
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma).astype(np.float32)


MAPS = {
    "noise": noise((40, 37), 0),
    "hills": noise((40, 37), 2),
    "equal peaks": np.round(noise((40, 37), 2), 1),
    "mostly nothing": np.maximum(noise((40, 37), 1), 0.45),
    "below nothing": noise((40, 37), 1) - 30.0,
    "spiral": spiral(),
    "as high everywhere": np.ones((7, 9), np.float32),
    "a pixel": np.ones((1, 1), np.float32),
    "a row": noise((1, 51), 0),
    "at the corners": np.pad(np.ones((1, 1), np.float32), ((0, 9), (0, 9)))
    + np.pad(np.ones((1, 1), np.float32), ((9, 0), (9, 0))),
}


@pytest.mark.parametrize("anomaly_map", MAPS.values(), ids=MAPS)
def test_the_strongest_region_is_that_of_numpy(masks, anomaly_map):
    expected = metrics.region_mask(anomaly_map, [metrics.strongest_region(anomaly_map)], 99.0)
    np.testing.assert_array_equal(masks(anomaly_map[None], 99.0, [True])[0], expected)
    assert expected.any()


def test_each_picture_has_its_own_outlines(masks):
    """Above the pixel threshold, an alarm below it, and neither."""
    maps = np.stack([noise((30, 20), 1, seed) for seed in range(4)])
    maps[0] *= 1 / maps[0].max()
    maps[1:] *= 0.5 / maps[1:].max(axis=(1, 2), keepdims=True)
    threshold, alarms = 0.7, np.array([True, True, False, True])
    found = [metrics.regions(m, threshold, is_alarm=alarm) for m, alarm in zip(maps, alarms, strict=True)]
    expected = [metrics.region_mask(m, regions, threshold) for m, regions in zip(maps, found, strict=True)]
    assert [mask.any() for mask in expected] == [True, True, False, True]
    np.testing.assert_array_equal(masks(maps, threshold, alarms), expected)
