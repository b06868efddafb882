"""What a discriminator sees: against what the paper's changes are, their gradients, and training resumed."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from anogan_tf.augmentation import augmented, check_policies, moved, widest_move
from tests.conftest import small_gan

pytestmark = pytest.mark.usefixtures("untraced")

SHAPES = [(16, 16, 1), (24, 40, 3)]
SEED = tf.constant([3, 4], tf.int64)


def noise(shape, n=20):
    return np.random.default_rng(0).uniform(-1, 1, (n, *shape)).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("beyond", ["constant", "edge"])
def test_images_are_moved_by_up_to_an_eighth(shape, beyond):
    """D sees gray beyond the edge, so that it sees how far an image was moved; an encoder sees the edge repeated."""
    images, (height, width, _) = noise(shape), shape
    changed = augmented(images, ["translation"], SEED) if beyond == "constant" else moved(images, 1 / 8, SEED)
    most = (round(height / 8), round(width / 8))
    padded = np.pad(images, [(0, 0), (most[0],) * 2, (most[1],) * 2, (0, 0)], mode=beyond)
    moves = []
    for image, result in zip(padded, changed.numpy(), strict=True):
        found = [
            (rows - most[0], columns - most[1])
            for rows in range(2 * most[0] + 1)
            for columns in range(2 * most[1] + 1)
            if np.array_equal(image[rows : rows + height, columns : columns + width], result)
        ]
        assert len(found) == 1
        moves += found
    assert {np.sign(rows) for rows, _ in moves} == {np.sign(columns) for _, columns in moves} == {-1, 0, 1}


def test_parts_at_one_place_are_not_moved_and_others_as_far_as_they_lie():
    rng = np.random.default_rng(0)
    disc = (np.hypot(*np.mgrid[-32:32, -32:32]) < 8).astype(np.float32)

    def discs(spread):
        places = rng.integers(-spread, spread + 1, (40, 2))
        images = np.stack([np.roll(disc, place, (0, 1)) for place in places])[..., None]
        return images + rng.normal(scale=0.01, size=images.shape).astype(np.float32)

    assert widest_move(discs(0)) == 0
    assert widest_move(discs(2)) in (1 / 32, 1 / 16)
    assert widest_move(discs(12)) == 1 / 8


@pytest.mark.parametrize("shape", SHAPES)
def test_cutout_covers_at_most_a_square_of_half_the_side(shape):
    images = noise(shape)
    covered = np.all(augmented(images, ["cutout"], SEED).numpy() == 0, axis=-1)
    assert np.array_equal(augmented(images, ["cutout"], SEED).numpy()[~covered], images[~covered])
    rows, columns = covered.any(axis=2).sum(axis=1), covered.any(axis=1).sum(axis=1)
    assert np.array_equal(covered.sum(axis=(1, 2)), rows * columns)  # a rectangle
    assert (rows.max(), columns.max()) == (shape[0] // 2, shape[1] // 2)


def test_colour_keeps_what_it_does_not_change():
    """Contrast and saturation stretch about a mean: differences of pixels of one channel keep their ratios."""
    images = noise((8, 8, 1))
    changed = augmented(images, ["color"], SEED).numpy()
    slopes = []
    for image, other in zip(images, changed, strict=True):
        slope, _ = np.polyfit(image.ravel(), other.ravel(), 1)
        slopes.append(slope)
        np.testing.assert_allclose(other - other.mean(), slope * (image - image.mean()), atol=1e-5)
    assert 0.5 <= min(slopes) < 0.8
    assert 1.2 < max(slopes) <= 1.5
    brightness = changed.mean(axis=(1, 2, 3)) - images.mean(axis=(1, 2, 3))
    assert -0.5 <= brightness.min() < -0.2
    assert 0.2 < brightness.max() <= 0.5


def test_saturation_from_gray_to_twice():
    images = noise((8, 8, 3))
    changed = augmented(images, ["color"], SEED).numpy()
    spreads = np.std(changed, axis=3).mean(axis=(1, 2)) / np.std(images, axis=3).mean(axis=(1, 2))
    assert spreads.min() < 0.6
    assert spreads.max() > 1.5


@pytest.mark.parametrize("shape", SHAPES)
def test_about_half_of_the_images_are_mirrored(shape):
    images = noise(shape, n=40)
    changed = augmented(images, ["mirror"], SEED).numpy()
    mirrored = [not np.array_equal(image, result) for image, result in zip(images, changed, strict=True)]
    np.testing.assert_array_equal(changed[mirrored], images[mirrored][:, :, ::-1])
    assert 10 < sum(mirrored) < 30


@pytest.mark.parametrize("policy", ["translation", "mirror", "color", "cutout"])
def test_gradients_are_those_of_finite_differences(policy):
    images = tf.constant(noise((8, 8, 3), n=3))
    direction = tf.constant(noise((8, 8, 3), n=6)[3:])
    weights = noise((8, 8, 3), n=9)[6:]

    def value(images):
        return tf.reduce_sum(augmented(images, [policy], SEED) * weights)

    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = value(images)
    slope = tf.reduce_sum(tape.gradient(loss, images) * direction)
    difference = (value(images + 0.1 * direction) - value(images - 0.1 * direction)) / 0.2  # exact, as it is linear
    np.testing.assert_allclose(slope, difference, rtol=1e-3)


def test_each_policy_has_a_chance_of_its_own():
    images = noise((16, 16, 1))
    both = augmented(images, ["translation", "cutout"], SEED).numpy()
    one = augmented(images, ["translation"], SEED).numpy()
    covered = (both == 0) & (one != 0)
    np.testing.assert_array_equal(both[~covered], one[~covered])
    assert 0.05 < covered.mean() < 0.5
    assert not np.array_equal(both, augmented(images, ["translation", "cutout"], SEED + 1).numpy())


def test_policies_are_checked():
    assert check_policies(["cutout", "translation", "cutout"]) == ("translation", "cutout")
    for wrong in ("translate", ["color", "colour"], []):
        with pytest.raises(ValueError, match="augment is None or one or several of"):
            check_policies(wrong)


@pytest.mark.parametrize("task", [None, "rotation"])
@pytest.mark.parametrize("kind", ["DCGAN", "WGANGP"])
def test_discriminator_sees_augmented_images_only(kind, task, images, monkeypatch):
    """With all that D sees covered, nothing tells real images from others or from turned ones, and D does not learn."""
    monkeypatch.setattr("anogan_tf.gan.augmented", lambda images, policies, seed: 0.0 * images)
    gan = small_gan(kind, augment="cutout", self_supervision=task)
    before = gan.discriminator.get_weights()[0]
    gan.compile(**({"penalty_weight": 0.0, "critic_steps": 1} if kind == "WGANGP" else {}))
    gan.fit(images, epochs=1, shuffle=False, verbose=0)
    np.testing.assert_array_equal(gan.discriminator.get_weights()[0], before)


@pytest.mark.parametrize(("kind", "options"), [("DCGAN", {}), ("WGANGP", {"critic_steps": 2})])
def test_augmented_training_is_repeated_and_saved(kind, options, images, tmp_path):
    def trained(augment):
        gan = small_gan(kind, augment=augment)
        gan.compile(**options)
        gan.fit(images, epochs=2, shuffle=False, verbose=0)
        return gan

    first, second, plain = trained(["translation", "color"]), trained(["translation", "color"]), trained(None)
    for own, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)
    assert not np.array_equal(first.generator.get_weights()[0], plain.generator.get_weights()[0])
    first.save(tmp_path / "gan.keras")
    assert keras.models.load_model(tmp_path / "gan.keras").augment == ("translation", "color")
