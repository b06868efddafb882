import numpy as np
import pytest

from anogan_tf.local_features import local_features


def texture(shape=(1, 64, 64, 1), seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, size=shape).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("height", [16, 60, *range(63, 72)])
def test_one_place_for_eight_pixels(height, channels):
    features = local_features(texture((2, height, 44, channels)))
    assert features.shape == (2, -(-height // 8), 6, 11 * channels)


def test_an_even_picture_has_its_colour_and_no_waves():
    features = local_features(np.full((1, 64, 64, 1), 0.3, np.float32))[0].numpy()
    np.testing.assert_allclose(features[..., :3], np.log1p(5 * 1.3), atol=1e-5)
    np.testing.assert_allclose(features[..., 3:], 0.0, atol=1e-3)


def test_more_light_moves_the_colours_alone():
    dark, light = (local_features(0.5 * texture() + shift).numpy() for shift in (0.0, 0.25))
    np.testing.assert_allclose(np.expm1(light[..., :3]) - np.expm1(dark[..., :3]), 5 * 0.25, atol=1e-4)
    np.testing.assert_allclose(light[..., 3:], dark[..., 3:], atol=1e-5)


def test_waves_are_logarithms_of_amplitudes():
    once, twice = (local_features(contrast * texture(seed=1)).numpy()[..., 3:] for contrast in (0.5, 1.0))
    np.testing.assert_allclose(np.expm1(twice), 2 * np.expm1(once), rtol=1e-4)


def test_less_than_a_level_counts_for_little():
    assert local_features(0.001 * texture()).numpy()[..., 3:].max() < 0.25


@pytest.mark.parametrize(("axis", "strongest"), [(1, 0), (0, 2)], ids=["columns", "rows"])
def test_stripes_answer_in_their_direction(axis, strongest):
    phase = np.mgrid[:64, :64][axis]
    stripes = np.sin(2.0 * phase).astype(np.float32)[None, ..., None]  # the frequency of the finest wavelets, 2 / σ
    amplitudes = np.expm1(local_features(stripes)[0, 3, 3, 3:7].numpy())
    assert amplitudes.argmax() == strongest
    assert amplitudes[strongest] > 3 * np.delete(amplitudes, strongest).max()


def test_channels_are_described_alike():
    gray = texture()
    one, three = local_features(gray).numpy(), local_features(np.repeat(gray, 3, axis=-1)).numpy()
    assert sorted(np.repeat(one[0, 2, 2], 3)) == pytest.approx(sorted(three[0, 2, 2]), abs=1e-5)


def test_a_picture_does_not_depend_on_the_others():
    pictures = texture((3, 64, 64, 1))
    np.testing.assert_array_equal(local_features(pictures)[1:2], local_features(pictures[1:2]))
