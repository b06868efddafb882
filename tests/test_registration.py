import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

import anogan_tf as agt
from anogan_tf.choice import CLEAR, chosen, likelihood_gain
from anogan_tf.distances import Places
from anogan_tf.local_features import OF_NETWORK
from anogan_tf.registration import SIDE, Registration, moved, moved_back

GROUND = -0.5


def lying(angle, shift=(0.0, 0.0), shape=(96, 96), scratched=False):
    """A bar with a hook, turned by an angle in degrees and moved by pixels, drawn point by point."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    rows, columns = (grid - (side - 1) / 2 - s for grid, side, s in zip((rows, columns), shape, shift, strict=True))
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    across, along = cosine * rows + sine * columns, cosine * columns - sine * rows
    bar, hook = (_box(across, along, *box) for box in ((-8, 8, -30, 30), (8, 20, 18, 30)))
    picture = GROUND + np.maximum(bar, hook)
    if scratched:
        picture -= 0.7 * _box(across, along, -3, 3, -22, -16)
    return picture[..., None].astype(np.float32)


def _box(across, along, top, bottom, left, right):
    return np.clip(np.min([across - top, bottom - across, along - left, right - along], axis=0), 0, 1)


@pytest.fixture(scope="module")
def turned():
    """Pictures of the part, with noise, lying in any direction up to 8 pixels from the middle; how they lie."""
    rng = np.random.default_rng(0)
    angles, shifts = rng.uniform(0, 360, 24), rng.uniform(-8, 8, (24, 2))
    pictures = np.stack([lying(*each) for each in zip(angles, shifts, strict=True)])
    return pictures + rng.normal(0, 0.02, pictures.shape).astype(np.float32), angles, shifts


def test_poses_are_how_parts_lie(turned):
    """Up to the pose of the template, which is that of the first picture."""
    pictures, angles, shifts = turned
    poses = Registration.fit(pictures).poses(pictures)
    away = (poses[:, 0] - angles - (poses[0, 0] - angles[0]) + 180) % 360 - 180
    assert np.abs(away).max() < 1.5
    moves = 96 * poses[:, 1:] - shifts
    middles = np.stack([_turned(-angle, move) for angle, move in zip(angles, moves, strict=True)])  # of the template
    assert np.abs(middles - middles.mean(axis=0)).max() < 1.5


def _turned(angle, vector):
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    return np.array([cosine * vector[0] - sine * vector[1], sine * vector[0] + cosine * vector[1]])


def test_pictures_in_their_poses_are_alike(turned):
    pictures = turned[0]
    registration = Registration.fit(pictures)
    alike = np.stack(list(registration(pictures, registration.poses(pictures))))
    assert alike.std(axis=0).mean() < 0.2 * pictures.std(axis=0).mean()


@pytest.mark.parametrize("shape", [(40, 40, 2), (24, 37, 1)])
def test_moving_is_an_affine_transform(shape):
    """As SciPy does it, in pixels: y(p) = x(c + s + R (p - c))."""
    picture = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    angle, shift = 33.0, np.array([0.05, -0.1])
    turn = np.deg2rad(angle)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = (np.array(shape[:2]) - 1) / 2
    offset = middle + shift * max(shape) - rotation @ middle
    channels = np.moveaxis(picture, -1, 0)
    expected = [ndimage.affine_transform(each, rotation, offset, order=1, mode="nearest") for each in channels]
    expected = np.stack(expected, axis=-1)
    np.testing.assert_allclose(moved(picture, tf.constant([angle, *shift], tf.float32)), expected, atol=1e-4)


def test_maps_come_back_to_where_things_were():
    pose = tf.constant([70.0, 0.06, -0.04], tf.float32)
    smooth = ndimage.gaussian_filter(np.random.default_rng(2).normal(size=(64, 64)), 4).astype(np.float32)
    back = moved_back(moved(smooth[..., None], pose)[..., 0], pose).numpy()
    inside = np.hypot(*(np.mgrid[:64, :64] - 31.5)) < 26
    np.testing.assert_allclose(back[inside], smooth[inside], atol=0.1 * smooth.std())
    assert np.abs(moved(smooth[..., None], pose)[..., 0] - smooth)[inside].mean() > 0.5 * smooth.std()


def test_a_corner_that_the_pose_leaves_out_has_no_distance():
    pose = tf.constant([45.0, 0.0, 0.0], tf.float32)
    back = moved_back(np.ones((64, 64), np.float32), pose).numpy()
    away = np.abs(np.mgrid[:64, :64] - 31.5).sum(axis=0) / np.sqrt(2)  # from the middle, along the sides of the pose
    np.testing.assert_allclose(back[away < 31], 1.0, atol=1e-5)
    assert (back[away > 33] == 0).all()


def test_a_pose_does_not_depend_on_the_other_pictures_and_hardly_on_last_bits(turned):
    registration = Registration.fit(turned[0])
    poses = registration.poses(turned[0])
    np.testing.assert_array_equal(registration.poses(turned[0][5:6])[0], poses[5])
    noise = np.random.default_rng(4).normal(0, 1e-7, turned[0].shape).astype(np.float32)
    np.testing.assert_allclose(registration.poses(turned[0] + noise), poses, atol=1e-3 / SIDE)


@pytest.mark.parametrize("shape", [(20, 33), (100, 61), (150, 150)])
def test_templates_have_a_longer_side_of_some_pixels(shape):
    pictures = np.stack([lying(angle, shape=shape) for angle in (0, 10)])
    registration = Registration.fit(pictures)
    assert max(registration.template.shape) == SIDE
    alike = np.stack(list(registration(pictures, registration.poses(pictures))))
    assert np.abs(alike[0] - alike[1]).mean() < 0.5 * np.abs(pictures[0] - pictures[1]).mean()


def test_a_plain_picture_has_a_pose_too():
    pictures = np.full((3, 32, 32, 1), 0.3, np.float32)
    registration = Registration.fit(pictures)
    assert np.isfinite(registration.poses(pictures)).all()


def test_parts_that_turn_are_compared_in_one_pose_and_surfaces_as_they_are(turned):
    def highest(reference, pixels):
        return pixels.max(axis=(1, 2))

    choice = chosen(turned[0], highest)
    assert choice.way is Places
    assert choice.registration is not None
    surfaces = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(16, 64, 64, 1)), (0, 2, 2, 0))
    assert chosen((2 * surfaces).astype(np.float32), highest).registration is None


class OfPlaces:
    """Features that tell places apart however a part lies, as those of a network may; without a direction."""

    version, directed = OF_NETWORK, False

    def of_pictures(self, pictures):
        rng = np.random.default_rng(5)
        return np.stack([np.indices((12, 12)).T + rng.normal(0, 0.1, (12, 12, 2)) for _ in pictures]).astype(np.float32)


def test_whether_parts_turn_does_not_depend_on_what_describes_them(turned):
    features = OfPlaces().of_pictures(turned[0])
    assert likelihood_gain(features, version=OF_NETWORK) > CLEAR
    choice = chosen(turned[0], lambda reference, pixels: pixels.max(axis=(1, 2)), described=OfPlaces())
    assert choice.registration is not None
    assert choice.features.shape == features.shape


def test_a_first_picture_off_the_middle_does_not_decide_how_far_others_may_be_from_it(turned):
    pictures, angles, _ = turned
    pictures = np.concatenate([[lying(0, (10, 10))], pictures])
    poses = Registration.fit(pictures).poses(pictures)
    away = (poses[1:, 0] - angles - (poses[1, 0] - angles[0]) + 180) % 360 - 180
    assert np.abs(away).max() < 2


def test_shifts_end_where_they_end():
    """A part that is moved as far as is looked for is moved by that."""
    registration = Registration(lying(0, shape=(SIDE, SIDE)) - GROUND)
    poses = registration.poses(np.stack([lying(0, (row, 0), shape=(SIDE, SIDE)) for row in (-8, 8)]))
    np.testing.assert_allclose(SIDE * poses[:, 1:], [(-8, 0), (8, 0)], atol=0.1)


@pytest.fixture(scope="module")
def scorer(turned):
    gan = agt.DCGAN((24, 24, 1), 4, width=4)
    scorer = agt.LocalNeighbours(agt.AnoGAN(gan, steps=1, score="paper", chunk=4))
    scorer.cross_calibrate(turned[0], alpha=0.1, folds=4)
    return scorer


def test_what_is_wrong_with_a_turned_part_is_found_where_it_is(scorer):
    angles = np.arange(15, 375, 45)
    good, bad = (np.stack([lying(a, (3, -2), scratched=s) for a in angles]) for s in (False, True))
    normal, anomalous = (scorer.score(images, draw=False) for images in (good, bad))
    assert normal["anomaly_score"].max() < anomalous["anomaly_score"].min()
    for here, there, found in zip(good, bad, anomalous["anomaly_map"], strict=True):
        scratch = ndimage.center_of_mass(np.abs(here - there)[..., 0])
        peak = np.unravel_index(ndimage.gaussian_filter(found, 3).argmax(), found.shape)
        assert np.hypot(*np.subtract(peak, scratch)) < 8


def test_pictures_of_any_floats_are_learned_from(scorer, turned):
    again = agt.LocalNeighbours(scorer.scorer)
    again.cross_calibrate(turned[0].astype(np.float64), alpha=0.1, folds=4)
    assert again.calibration == scorer.calibration


def test_the_pixel_threshold_is_of_maps_as_they_are_shown(turned, scorer, monkeypatch):
    """Turned back first, smoothed then; all folds are compared with one reference here, as what is scored is."""
    monkeypatch.setattr(agt.LocalNeighbours, "_fitted", lambda *_: scorer.reference)
    again = agt.LocalNeighbours(scorer.scorer)
    again.cross_calibrate(turned[0], alpha=0.1, folds=4)
    peaks = scorer.score(turned[0], draw=False)["anomaly_map"].max(axis=(1, 2))
    np.testing.assert_allclose(again.calibration.peaks, np.sort(peaks), rtol=1e-5)


def test_a_run_keeps_the_template(scorer, turned, tmp_path):
    agt.save_run(tmp_path / "run", scorer)
    loaded = agt.load_run(tmp_path / "run")
    np.testing.assert_array_equal(loaded.reference.registration.template, scorer.reference.registration.template)
    for name, values in scorer.score(turned[0][:2], draw=False).items():
        np.testing.assert_array_equal(loaded.score(turned[0][:2], draw=False)[name], values)
