import numpy as np
import pytest

from anogan_tf.proxies import DEFECTS, painted

SHAPE = (40, 48, 3)


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).uniform(-0.5, 0.5, (30, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("defect", DEFECTS)
def test_pictures_change_where_the_mask_is_and_nearby_only(defect, pictures):
    found, masks = painted(pictures, defect)
    assert (found.shape, masks.shape) == (pictures.shape, pictures.shape[:3])
    assert (found.dtype, masks.dtype) == (np.float32, bool)
    changed = (found != pictures).any(axis=-1)
    assert changed[masks].mean() > 0.99
    assert np.mean(changed.any(axis=(1, 2))) > 0.95
    assert changed.mean() < 0.2
    assert abs(found).max() <= 1.0


@pytest.mark.parametrize("defect", DEFECTS)
def test_defects_are_a_function_of_the_seed(defect, pictures):
    first, again, other = (painted(pictures[:4], defect, seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_defects_lie_in_all_parts_of_a_picture(pictures):
    _, masks = painted(np.repeat(pictures, 8, axis=0), "patch")
    quarters = masks.reshape(len(masks), 2, 20, 2, 24).any(axis=(2, 4)).mean(axis=0)
    assert quarters.min() > 0.15


def test_lines_are_thin_and_spots_are_soft():
    gray = np.zeros((20, 256, 256, 1), np.float32)
    lines, masks = painted(gray, "line")
    assert masks.sum(axis=(1, 2)).max() < 0.02 * 256 * 256
    assert (np.abs(lines).max(axis=(1, 2, 3)) >= 0.15).all()
    spots = np.abs(painted(gray, "spot")[0])
    steps = np.abs(np.diff(spots, axis=2)).max(axis=(1, 2, 3)) / spots.max(axis=(1, 2, 3))
    assert steps.max() < 0.5


def test_a_smear_is_smoother_and_keeps_the_mean(pictures):
    found, masks = painted(pictures, "smear", seed=3)
    big = masks.sum(axis=(1, 2)) > 30
    for picture, smeared, mask in zip(pictures[big], found[big], masks[big], strict=True):
        assert smeared[mask].std() < 0.6 * picture[mask].std()


def test_an_unknown_defect_is_refused(pictures):
    with pytest.raises(ValueError, match=r"defect is one of \['line', .*Received: defect='scratch'"):
        painted(pictures, "scratch")
