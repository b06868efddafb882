import numpy as np
import pytest
from scipy import ndimage

from anogan_tf.local_features import _convolved, local_features, undirected, upsampled


def texture(shape=(1, 64, 64, 1), seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, size=shape).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("height", [16, 60, *range(63, 72)])
def test_one_place_for_eight_pixels(height, channels):
    features = local_features(texture((2, height, 44, channels)))
    assert features.shape == (2, -(-height // 8), 6, 11 * channels + 2)
    assert undirected(features).shape == (2, -(-height // 8), 6, 7 * channels + 2)
    assert local_features(texture((2, height, 44, channels)), 2).shape[-1] == 11 * channels


def test_an_even_picture_has_its_colour_and_no_waves():
    features = local_features(np.full((1, 64, 64, 1), 0.3, np.float32))[0].numpy()
    np.testing.assert_allclose(features[..., :3], np.log1p(5 * 1.3), atol=1e-5)
    np.testing.assert_allclose(features[..., 3:], 0.0, atol=2e-3)


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
    one, three = (local_features(each).numpy() for each in (gray, np.repeat(gray, 3, axis=-1)))
    np.testing.assert_allclose(one[..., -2:], three[..., -2:], atol=1e-5)  # lines are of all channels together
    one, three = one[..., :-2], three[..., :-2]
    assert sorted(np.repeat(one[0, 2, 2], 3)) == pytest.approx(sorted(three[0, 2, 2]), abs=1e-5)


def line(angle, level, n=64):
    """A picture of a line three pixels wide through the middle."""
    rows, columns = np.mgrid[:n, :n] - (n - 1) / 2
    across = columns * np.sin(angle) - rows * np.cos(angle)
    return (level * np.exp(-(across**2) / (2 * 1.5**2)))[None, ..., None].astype(np.float32)


@pytest.mark.parametrize("angle", [0.0, 0.4, np.pi / 4, 2.0])
def test_a_line_is_told_from_grain_whatever_its_direction(angle):
    """One as strong as the grain's deviation: bright ones by one feature, dark ones by the other, best of all."""
    grain = 0.1 * np.random.default_rng(0).normal(size=(1, 64, 64, 1)).astype(np.float32)
    for level, feature in ((0.1, -2), (-0.1, -1)):
        plain, lined = (local_features(picture)[0].numpy() for picture in (grain, grain + line(angle, level)))
        gained = lined - plain
        assert gained[..., feature].max() > 0.5
        assert gained[..., feature].max() > 1.4 * np.abs(gained[..., 3:-2]).max()
        on_line = line(angle, 1.0)[0, ..., 0].reshape(8, 8, 8, 8).max(axis=(1, 3)) > 0.5
        assert on_line.ravel()[lined[..., feature].argmax()]


def test_lines_lie_in_their_pixels_and_nowhere_else():
    rows = np.zeros((1, 64, 64, 1), np.float32)
    rows[:, 26:29] = 0.5
    bright = local_features(rows)[0, ..., -2].numpy()
    assert (bright.argmax(axis=0) == 3).all()
    assert bright[0].max() < 0.1 * bright[3].min()


def test_what_has_no_direction_hardly_changes_when_a_picture_turns():
    picture = ndimage.gaussian_filter(texture((1, 64, 64, 1), 3), (0, 1, 1, 0))
    features, turned = (local_features(each).numpy() for each in (picture, np.rot90(picture, axes=(1, 2)).copy()))
    back = np.rot90(turned, -1, axes=(1, 2))
    np.testing.assert_allclose(undirected(back), undirected(features), atol=1e-3)
    assert np.abs(back - features).max() > 0.5


def test_a_picture_does_not_depend_on_the_others():
    pictures = texture((3, 64, 64, 1))
    np.testing.assert_array_equal(local_features(pictures)[1:2], local_features(pictures[1:2]))


def dots(side=48):
    """Pictures of a dot at each of 8 × 8 neighbouring pixels, and where it is, `(64, 2)`."""
    places = np.stack(np.mgrid[20:28, 20:28], axis=-1).reshape(64, 2)
    pictures = np.zeros((64, side, side, 1), np.float32)
    pictures[np.arange(64), places[:, 0], places[:, 1]] = 1.0
    return pictures, places


def shifts(pictures, places, version=2):
    """How far each feature's response to dots lies from them in the mean, in rows and columns, `(2, features)`."""
    even = local_features(np.zeros_like(pictures[:1]), version)
    response = np.abs(np.expm1(local_features(pictures, version)) - np.expm1(even))  # (dots, rows, columns, features)
    away = 8 * np.arange(pictures.shape[1] // 8) + 3.5 - places[..., None]  # (dots, 2, rows)
    moments = (np.einsum(f"nrcf,n{axis}->f", response, away[:, i]) for i, axis in enumerate("rc"))
    return [moment / response.sum(axis=(0, 1, 2)) for moment in moments]


@pytest.mark.parametrize("width", [16, 18, 19])
def test_several_columns_at_once_are_what_each_is_alone(width):
    rng = np.random.default_rng(0)
    maps, filters = rng.normal(size=(2, 9, width, 1)), rng.normal(size=(5, 5, 1, 3))
    each = [
        [ndimage.correlate(one[..., 0], f)[2:-2, 2:-2] for f in np.moveaxis(filters[:, :, 0], 2, 0)] for one in maps
    ]
    found = _convolved(maps.astype(np.float32), filters, 4)
    np.testing.assert_allclose(found, np.moveaxis(each, 1, 3), atol=1e-5)


def test_features_lie_in_the_middle_of_their_pixels():
    np.testing.assert_allclose(shifts(*dots()), 0.0, atol=0.02)


def test_those_of_version_1_lie_beside_it():
    first, second = -0.5, -1.5  # of waves
    rows, columns = shifts(*dots(), version=1)
    np.testing.assert_allclose(rows, 3 * [first] + 4 * [first] + 4 * [second], atol=0.02)
    np.testing.assert_allclose(columns, rows, atol=0.02)


def test_what_lies_beyond_the_last_pixel_is_mirrored():
    """So that the last place, too, is the middle of 8×8 pixels."""
    picture = texture((1, 60, 44, 1))
    whole = np.pad(picture, ((0, 0), (0, 28), (0, 28), (0, 0)), "symmetric")
    np.testing.assert_allclose(local_features(picture)[..., :3], local_features(whole)[:, :8, :6, :3], atol=1e-5)


def blurred(maps, sigma):
    return ndimage.gaussian_filter(maps, sigma, radius=int(np.ceil(3 * sigma)))


def pooled(maps):
    rows, columns = (-(-n // 2) for n in maps.shape)
    return np.array([[maps[2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean() for c in range(columns)] for r in range(rows)])


def test_features_of_version_1_are_what_they_were():
    """Of filters at the third of four pixels, and of the second octave's at the second of two."""
    picture = texture((1, 60, 52, 1))
    expected = [np.log1p((pooled(blurred(picture[0, ..., 0], sigma)[2::4, 2::4]) + 1) * 5) for sigma in (1, 2, 4)]
    rows, columns = np.mgrid[-3:4, -3:4]
    envelope = np.exp(-(columns**2 + rows**2 / 2) / 2)
    wave = envelope * np.exp(2j * columns)
    wave -= envelope * wave.sum() / envelope.sum()
    wave /= np.abs(wave).sum()
    halves = blurred(picture[0, ..., 0].astype(np.float64), 1)[1::2, 1::2]
    for maps, sigma, stride in ((picture[0, ..., 0], 2, 4), (halves, 1, 2)):
        parts = [ndimage.correlate(maps, part) for part in (wave.real, wave.imag)]
        amplitudes = np.sqrt(np.square(parts).sum(axis=0) + 1e-12)
        expected.append(
            np.log1p(255 * pooled(blurred(amplitudes, sigma)[stride // 2 :: stride, stride // 2 :: stride]))
        )
    features = local_features(picture, 1)[0].numpy()
    np.testing.assert_allclose(features[..., [0, 1, 2, 3, 7]], np.stack(expected, axis=-1), atol=1e-4)


@pytest.mark.parametrize("version", [1, 2])
def test_a_larger_map_has_its_values_where_they_were(version):
    small = np.zeros((1, 7, 9), np.float32)
    small[0, 3, 5] = 1.0
    large = upsampled(small, 8, version).numpy()[0]
    assert large.shape == (56, 72)
    centroid = [np.sum(large * grid) / large.sum() for grid in np.mgrid[:56, :72]]
    assert centroid == pytest.approx([8 * 3 + 3.5, 8 * 5 + 3.5])
    assert len(np.unique(large)) == 2 if version == 1 else len(np.unique(large)) > 10
