import pickle

import numpy as np
import pytest

from anogan_tf import distances
from anogan_tf.distances import Kinds, Places, Scales, Turning, each_picture, k_centres
from anogan_tf.local_features import OF_NETWORK, local_features, of_pictures, upsampled


def memory(rows=4, columns=3, n=200, features=5, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, columns, n, features))


def nearest(known, features, added=1e-3):
    """The distances of `Places`, place by place, as its formula says."""
    known = known.astype(np.float16).astype(np.float64)
    scale = known.std(axis=(0, 1, 2))
    rows, columns, n, size = known.shape
    own = np.array([[np.cov(here / scale, rowvar=False) for here in row] for row in known])
    around = np.pad(own, ((2, 2), (2, 2), (0, 0), (0, 0)), "edge")
    prior = 3 * size
    result = np.empty((len(features), rows, columns))
    for row, column in np.ndindex(rows, columns):
        mean = around[row : row + 5, column : column + 5].mean(axis=(0, 1))
        covariance = (n * own[row, column] + prior * mean) / (n + prior)
        precision = np.linalg.inv(covariance + added * np.eye(size))
        normal = [
            known[r, c] / scale
            for r in range(max(0, row - 1), min(rows, row + 2))
            for c in range(max(0, column - 1), min(columns, column + 2))
        ]
        away = features[:, row, column, None] / scale - np.concatenate(normal)
        result[:, row, column] = np.einsum("nki,ij,nkj->nk", away, precision, away).min(axis=1)
    return result


@pytest.mark.parametrize("n", [20, 200])
def test_distances_are_those_of_the_formula(n):
    known = memory(n=n)
    queries = np.random.default_rng(1).normal(size=(6, 4, 3, 5)).astype(np.float32)
    np.testing.assert_allclose(Places(known)(queries), nearest(known, queries), rtol=1e-3, atol=1e-3)
    of_network = Places(known, OF_NETWORK)(queries)
    np.testing.assert_allclose(of_network, nearest(known, queries, added=0.1), rtol=1e-3, atol=1e-3)


def test_a_remembered_picture_is_at_no_distance():
    known = memory(n=30)
    remembered = known.astype(np.float16).astype(np.float32).transpose(2, 0, 1, 3)
    np.testing.assert_allclose(Places(known)(remembered), 0.0, atol=1e-3)


def test_a_shift_by_one_place_is_no_anomaly_and_by_two_is():
    known = 10.0 * np.arange(8)[None, :, None, None] + 0.1 * memory(6, 8, 40, 2)
    picture = known.transpose(2, 0, 1, 3)[:1].astype(np.float32)
    one, two = (np.roll(picture, places, axis=2) for places in (1, 2))
    near, far = (Places(known)(shifted)[0, :, 2:] for shifted in (one, two))
    assert near.max() < far.min()


def test_what_varies_counts_for_less():
    known = memory(n=400) * np.array([10.0, 1.0, 1.0, 1.0, 1.0])
    base = np.zeros((1, 4, 3, 5), np.float32)
    step = np.float32([12.0, 0, 0, 0, 0]), np.float32([0, 12.0, 0, 0, 0])
    along, across = (Places(known)(base + away).mean() for away in step)
    assert 10 * along < across


def test_few_pictures_borrow_the_covariance_around_them(monkeypatch):
    typical = memory(8, 8, n=50, seed=1).transpose(2, 0, 1, 3).astype(np.float32)
    borrowed = Places(memory(8, 8, n=4))(typical)
    monkeypatch.setattr("anogan_tf.distances.PRIOR", 0)
    alone = Places(memory(8, 8, n=4))(typical)  # with a singular covariance
    assert 20 * borrowed.mean() < alone.mean()


def aligned(n=60, seed=0):
    """Features of pictures that look alike at each place, and in every place different."""
    looks = 10.0 * np.random.default_rng(7).normal(size=(6, 6, 3))
    return (looks + np.random.default_rng(seed).normal(size=(n, 6, 6, 3))).astype(np.float32)


def scattered(n=60, seed=0):
    """Features of pictures of two kinds of places, each anywhere; one varies in one direction, one in another."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(2, size=(n, 6, 6, 1))
    spread = np.where(kinds == 1, [4.0, 0.1, 1.0], [0.1, 4.0, 1.0])
    return (10.0 * kinds + spread * rng.normal(size=(n, 6, 6, 3))).astype(np.float32)


@pytest.mark.parametrize("of_scale", [Places, Kinds])
@pytest.mark.parametrize("n", [2, 3])
def test_two_pictures_are_enough(n, of_scale):
    assert np.isfinite(Scales.fit(aligned(n), of_scale=of_scale)(aligned(2, seed=1))).all()


def test_kinds_take_a_picture_wherever_its_places_are():
    known = Kinds.fit(scattered())
    turned = np.rot90(scattered(4, seed=1), axes=(1, 2)).copy()
    strange = turned.copy()
    strange[:, 2, 3] = [5.0, -20.0, 0.0]
    normal, odd = known(turned), known(strange)
    assert odd[:, 2, 3].min() > 10 * normal.max()
    np.testing.assert_array_equal(np.delete(odd.reshape(4, -1), 15, axis=1), np.delete(normal.reshape(4, -1), 15, 1))


def test_distances_of_kinds_are_in_the_metric_of_the_kind():
    known = Kinds.fit(scattered(200))
    base = np.zeros((1, 1, 1, 3), np.float32)
    across, along = (known(base + np.float32(step))[0, 0, 0] for step in ([3.0, 0, 0], [0, 3.0, 0]))
    assert across > 30 * along  # around 0 the second feature varies forty times as much as the first


def test_likelihoods_are_those_of_gaussians():
    features = np.random.default_rng(0).normal(size=(4000, 1, 1, 3)).astype(np.float32)
    expected = -1.5  # E[-‖v‖²/2] in three dimensions, without the constant
    assert Places.fit(features).log_likelihood(features) == pytest.approx(expected, abs=0.05)
    assert Kinds.fit(features).log_likelihood(features) == pytest.approx(expected, abs=0.3)


@pytest.mark.parametrize("cls", [Places, Kinds])
def test_arrays_hold_all_that_was_learned(cls):
    known = cls.fit(aligned())
    new = aligned(3, seed=1)
    np.testing.assert_array_equal(cls(**known.arrays)(new), known(new))


@pytest.mark.parametrize("features", [aligned, scattered])
def test_distances_of_two_scales_are_summed(features):
    normal, new = features(n=60)[:, :5, :3], features(n=2, seed=1)[:, :5, :3]  # sides that 2 does not divide

    def coarse(pictures):
        blocks = [[pictures[:, r : r + 2, c : c + 2].mean(axis=(1, 2)) for c in (0, 2)] for r in (0, 2, 4)]
        return np.moveaxis(np.float32(blocks), 2, 0)

    known = Scales.fit(normal)
    own = type(known.fine)
    expected = upsampled(own.fit(coarse(normal))(coarse(new)), 2)[:, :5, :3]
    np.testing.assert_allclose(known(new), own.fit(normal)(new) + expected, rtol=1e-3, atol=1e-2)
    for same in (Scales.from_arrays(known.arrays), pickle.loads(pickle.dumps(known))):
        np.testing.assert_array_equal(same(new), known(new))


def test_distances_of_kinds_are_those_of_the_formula():
    """Of two kinds that vary in other ways, the rarer of which is drawn to what both have in common."""
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.normal(size=(40, 3)) * [1, 2, 3], 9 + rng.normal(size=(10, 3))]).astype(np.float16)
    queries = (9 + rng.normal(size=(1, 1, 6, 3))).astype(np.float32)
    values = vectors.astype(np.float64)
    _, scale, middle, white, _ = distances._whitened(vectors, 2)
    centres = np.array([part.mean(axis=0) for part in np.split(values / scale - middle, [40])]) @ white
    values = values / scale
    scatters = [part.T @ part for part in (part - part.mean(axis=0) for part in np.split(values, [40]))]
    covariance = (scatters[1] + 3 * 3 * sum(scatters) / 50) / (10 + 3 * 3)
    precision = np.linalg.inv(covariance + 1e-3 * np.eye(3))
    away = queries.reshape(6, 1, 3) / scale - values
    expected = np.einsum("qni,ij,qnj->qn", away, precision, away).min(axis=1)
    np.testing.assert_allclose(Kinds(vectors, centres)(queries).ravel(), expected, rtol=1e-3)


def test_k_centres_are_those_of_the_greedy_algorithm(monkeypatch):
    monkeypatch.setattr(distances, "FARTHEST", 7)
    vectors = np.random.default_rng(0).normal(size=(60, 2))
    numbers = [0]
    while len(numbers) < 30:
        apart = np.linalg.norm(vectors[:, None] - vectors[numbers], axis=-1).min(axis=1)
        numbers.append(apart.argmax())
    np.testing.assert_array_equal(k_centres(vectors, 30), np.sort(numbers))


def test_k_centres_leave_nothing_far():
    rng = np.random.default_rng(0)
    rare = [[30.0, 0.0], [0.0, 30.0]]
    vectors = np.concatenate([rng.normal(size=(300, 2)), rare])
    numbers = k_centres(vectors, 40)
    assert len(set(numbers)) == 40
    assert {300, 301} <= set(numbers)
    away = np.linalg.norm(vectors[:, None] - vectors[numbers], axis=-1).min(axis=1)
    assert away.max() < 0.7
    np.testing.assert_array_equal(k_centres(vectors, 500), np.arange(302))


def test_kinds_are_compared_with_a_coreset(monkeypatch):
    """And learn what is usual from all; references of version 1 are compared with all."""
    monkeypatch.setattr(distances, "CORESET", 200)
    known, new = Kinds.fit(scattered()), scattered(4, seed=1)
    assert known.coreset.shape == (200, 3)
    everything = Kinds(known.vectors, known.centres, known.vectors)
    np.testing.assert_allclose(Kinds(known.vectors, known.centres, version=1)(new), everything(new), rtol=1e-5)
    assert (known(new) >= everything(new)).all()
    assert known(new).mean() < everything(new).mean() + 1.0


def test_equal_pictures_are_asked_about_once():
    asked = []
    pictures = np.float32([[1.0], [2.0], [1.0], [1.0]])
    answers = each_picture(lambda picture: asked.append(1) or 2 * picture, pictures)
    np.testing.assert_array_equal(answers, 2 * pictures)
    assert len(asked) == 2


def noise(n=24, seed=0, channels=3, side=48):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, size=(n, side, side, channels)).astype(np.float32)


def scratched(pictures):
    result = pictures.copy()
    result[:, 20:26, 12:36] = 0.9
    return result


def of_images(reference, pictures):
    """The distances of pictures `(n, height, width, channels)`, in their own pixels."""
    return reference.of_features(of_pictures(pictures, reference.version), pictures.shape[1:])


def peaks(reference, pictures):
    return of_images(reference, pictures).max(axis=(1, 2))


def of_kind(own, pictures, version=3):
    features = local_features(pictures, version).numpy()
    halved = features.reshape(len(features), 3, 2, 3, 2, -1).mean(axis=(2, 4))
    return Scales(*(own(*own.fit(values).arrays.values(), version) for values in (features, halved)), version)


@pytest.mark.parametrize("own", [Places, Kinds])
def test_a_channel_that_never_varied_does_not_swamp_the_others(own):
    """One gray level of noise in it is no anomaly, and less of one than a scratch in the others; a drawing in it is."""
    normal, new = noise(), noise(8, seed=1)
    normal[..., 2] = new[..., 2] = -1.0
    level = new.copy()
    level[..., 2] += np.random.default_rng(2).integers(2, size=level.shape[:3]) * np.float32(2 / 255)
    drawn = new.copy()
    drawn[:, 20:26, 12:36, 2] = 0.5
    scratch = scratched(new)
    scratch[..., 2] = -1.0
    reference = of_kind(own, normal)
    plain, noisy, odd, strange = (peaks(reference, pictures) for pictures in (new, level, scratch, drawn))
    assert noisy.max() < 0.5 * odd.min()
    assert noisy.mean() < 3 * plain.mean()
    assert strange.min() > 2 * plain.max()


@pytest.mark.parametrize("own", [Places, Kinds])
def test_gray_pictures_of_three_channels_are_judged_as_gray(own):
    """Also where a level of noise makes their channels differ, as JPEG does."""
    normal, new = (np.repeat(noise(n, seed, channels=1), 3, axis=-1) for n, seed in ((24, 0), (8, 1)))
    level = new + np.random.default_rng(2).integers(-1, 2, size=new.shape).astype(np.float32) / 255
    reference = of_kind(own, normal)
    plain, noisy, odd = (peaks(reference, pictures) for pictures in (new, level, scratched(new)))
    assert np.isfinite(plain).all()
    assert noisy.mean() < 2 * plain.mean()
    assert noisy.max() < 0.5 * odd.min()


@pytest.mark.parametrize("own", [Places, Kinds])
def test_maps_lie_on_the_picture(own):
    """A dot at each of 16 × 16 phases, of which these sixteen have every row and every column."""
    features = local_features(0.02 * noise(24, channels=1, side=64)).numpy()
    reference = Scales(own.fit(features), own.fit(features.reshape(24, 4, 2, 4, 2, -1).mean(axis=(2, 4))))
    places = 24 + np.stack([np.arange(16), 5 * np.arange(16) % 16], axis=-1)
    even = 0.02 * noise(1, 1, channels=1, side=64)
    dots = even.repeat(16, axis=0)
    for dot, (row, column) in zip(dots, places, strict=True):
        dot[row, column] = 1.0
    response = of_images(reference, dots) - of_images(reference, even)
    for axis in (0, 1):
        away = np.arange(64) - places[:, axis, None]  # (16, 64)
        assert abs(np.sum(response.sum(axis=2 - axis) * away) / response.sum()) < 0.25


@pytest.mark.parametrize("n", [1, 3, 20])
def test_a_map_is_bit_identical_in_any_company(n):
    reference, pictures = of_kind(Kinds, noise()), noise(20, seed=1)
    expected = of_images(reference, pictures)
    np.testing.assert_array_equal(of_images(reference, pictures[:n][::-1])[::-1], expected[:n])


def test_kinds_take_pictures_of_any_size():
    reference = of_kind(Kinds, noise())
    for side in (32, 48, 56):
        assert of_images(reference, noise(1, 1, side=side)).shape == (1, side, side)
    assert reference.fine(local_features(noise(1)).numpy()).shape == (1, 6, 6)


def test_a_part_that_turns_is_as_near_as_one_that_does_not():
    """A bar that all normal pictures show upright; one that lies is far by its direction, and only by that."""
    upright = 0.05 * noise(24, channels=1)
    upright[:, 8:40, 22:26] = 0.5
    lying = np.rot90(upright[:4], axes=(1, 2)).copy()
    features = local_features(upright).numpy()
    by_direction, without = (Scales.fit(features[4:], 0, own) for own in (Kinds, Turning))
    assert peaks(by_direction, lying).min() > 5 * peaks(by_direction, upright[:4]).max()
    assert peaks(without, lying).max() < 2 * peaks(without, upright[:4]).max()
    for same in (Scales.from_arrays(without.arrays), pickle.loads(pickle.dumps(without))):
        np.testing.assert_array_equal(of_images(same, lying), of_images(without, lying))


def test_a_reference_without_a_version_has_the_features_that_it_had():
    known = of_kind(Places, noise(), version=1)
    older = Scales.from_arrays({key: array for key, array in known.arrays.items() if key != "features_version"})
    assert older.version == older.fine.version == older.coarse.version == 1
    pictures = noise(2, seed=1)
    coarse = local_features(pictures, 1).numpy()
    expected = older.fine(coarse) + older.coarse(distances._halved(coarse).numpy()).repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(of_images(older, pictures), expected.repeat(8, axis=1).repeat(8, axis=2), rtol=1e-4)
    assert Scales.from_arrays(older.arrays).version == 1


def test_a_reference_of_a_later_version_is_refused():
    arrays = of_kind(Places, noise()).arrays | {"features_version": np.float32(9)}
    with pytest.raises(ValueError, match=r"version 9; this anogan-tf knows \[1, 2, 3\]"):
        Scales.from_arrays(arrays)
