import numpy as np
import pytest
from scipy import ndimage

import anogan_tf as agt
from anogan_tf import neighbours
from anogan_tf.distances import Kinds, Places, Scales, chosen
from anogan_tf.local_features import local_features


def memory(rows=4, columns=3, n=200, features=5, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, columns, n, features))


def nearest(known, features):
    """The distances of `Places`, place by place, as its formula says; many pictures, so no prior."""
    known = known.astype(np.float16).astype(np.float64)
    scale = known.std(axis=(0, 1, 2))
    rows, columns = known.shape[:2]
    result = np.empty((len(features), rows, columns))
    for row, column in np.ndindex(rows, columns):
        here = known[row, column] / scale
        precision = np.linalg.inv(np.cov(here, rowvar=False) + 1e-3 * np.eye(here.shape[1]))
        around = [
            known[r, c] / scale
            for r in range(max(0, row - 1), min(rows, row + 2))
            for c in range(max(0, column - 1), min(columns, column + 2))
        ]
        away = features[:, row, column, None] / scale - np.concatenate(around)
        result[:, row, column] = np.einsum("nki,ij,nkj->nk", away, precision, away).min(axis=1)
    return result


def test_distances_are_those_of_the_formula(monkeypatch):
    monkeypatch.setattr("anogan_tf.distances.PRIOR", 0)
    known = memory()
    queries = np.random.default_rng(1).normal(size=(6, 4, 3, 5)).astype(np.float32)
    np.testing.assert_allclose(Places(known)(queries), nearest(known, queries), rtol=1e-3, atol=1e-3)


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


def test_places_are_remembered_where_they_matter_and_kinds_where_not():
    assert chosen(aligned()) is Places
    assert chosen(scattered()) is Kinds
    assert chosen(scattered(n=8)) is Kinds


@pytest.mark.parametrize("n", [2, 3])
def test_two_pictures_are_enough(n):
    assert np.isfinite(Scales.fit(aligned(n))(aligned(2, seed=1))).all()


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
    expected = own.fit(coarse(normal))(coarse(new)).repeat(2, axis=1).repeat(2, axis=2)[:, :5, :3]
    np.testing.assert_allclose(known(new), own.fit(normal)(new) + expected, rtol=1e-3, atol=1e-2)
    np.testing.assert_array_equal(Scales.from_arrays(known.arrays)(new), known(new))


@pytest.fixture(scope="module")
def pictures():
    """Normal pictures of a disc on noise, and the same with a scratch."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    disc = np.where((rows - 32) ** 2 + (columns - 32) ** 2 < 400, 0.5, -0.5)[..., None]
    normal = (disc + rng.normal(0, 0.05, size=(60, 64, 64, 1))).clip(-1, 1).astype(np.float32)
    scratched = normal[:10].copy()
    scratched[:, 28:32, 20:44] = -0.6
    return normal, scratched


@pytest.fixture(scope="module")
def local(pictures):
    gan = agt.DCGAN((16, 16, 1), 4, width=4)
    scorer = agt.LocalNeighbours(agt.AnoGAN(gan, steps=2, score="paper", chunk=8))
    scorer.fit_reference(pictures[0][:30])
    scorer.calibrate(pictures[0][30:50], alpha=0.1)
    return scorer


def test_scratches_are_found_where_they_are(local, pictures):
    normal, scratched = (local.score(images) for images in (pictures[0][50:], pictures[1]))
    assert normal["anomaly_score"].max() < scratched["anomaly_score"].min()
    for anomaly_map in scratched["anomaly_map"]:
        row, column = np.unravel_index(anomaly_map.argmax(), anomaly_map.shape)
        assert 20 <= row < 40
        assert 12 <= column < 52


@pytest.mark.parametrize("own", [Places, Kinds])
def test_score_is_the_mean_of_the_highest_fiftieth(local, pictures, own):
    """Over √(1 + median) with places, which all pictures have in common."""
    scorer = agt.LocalNeighbours(local.scorer)
    features = local_features(pictures[0][:30]).numpy()
    halved = features.reshape(30, 4, 2, 4, 2, -1).mean(axis=(2, 4))
    scorer.reference = Scales(own.fit(features), own.fit(halved))
    distances = scorer.reference(local_features(pictures[1][:3]).numpy()).repeat(8, axis=1).repeat(8, axis=2)
    smooth = np.stack([ndimage.gaussian_filter(d, scorer.smoothing * 64) for d in distances])
    highest = np.sort(smooth.reshape(3, -1))[:, -81:].mean(axis=1)  # of 64 × 64
    expected = highest / np.sqrt(1 + np.median(smooth, axis=(1, 2))) if own is Places else highest
    np.testing.assert_allclose(scorer.score(pictures[1][:3])["anomaly_score"], expected, rtol=1e-3)


def test_outputs_have_the_size_of_the_pictures(local, pictures):
    out = local.score(pictures[1][:3])
    assert out["reconstruction"].shape == (3, 64, 64, 1)
    assert out["anomaly_map"].shape == out["anomaly_mask"].shape == (3, 64, 64)
    assert local.image_shape == (64, 64, 1)


def test_pictures_need_not_be_square_nor_gray(pictures):
    gray = pictures[0][:12, :, :36]
    colour = np.concatenate([gray, 0.5 * gray, -gray], axis=-1)[:, :60]
    scorer = agt.LocalNeighbours(agt.AnoGAN(agt.DCGAN((15, 9, 3), 4, width=4), steps=1, score="paper", chunk=4))
    scorer.fit_reference(colour[:8])
    out = scorer.score(colour[8:])
    assert out["anomaly_map"].shape == (4, 60, 36)
    assert out["reconstruction"].shape == (4, 60, 36, 3)
    assert np.isfinite(out["anomaly_score"]).all()


def test_equal_pictures_are_described_once(local, pictures, monkeypatch):
    asked = []
    monkeypatch.setattr(neighbours, "local_features", lambda images: asked.append(1) or local_features(images))
    local.score(pictures[1][[0, 1, 0]])  # and a chunk is filled up with the first
    assert len(asked) == 2


def test_score_does_not_depend_on_its_batch(local, pictures):
    images = np.concatenate([pictures[1], pictures[0][50:]])[:11]
    together, backwards = local.score(images), local.score(images[::-1])
    for name in ("anomaly_score", "anomaly_map", "residual"):
        np.testing.assert_array_equal(backwards[name][::-1], together[name])
        np.testing.assert_array_equal(local.score(images[4:5])[name][0], together[name][4])


def test_a_run_scores_the_same_after_loading(local, pictures, tmp_path):
    agt.save_run(tmp_path / "run", local)
    loaded = agt.load_run(tmp_path / "run")
    assert loaded.factor == 4
    np.testing.assert_array_equal(
        loaded.score(pictures[1][:3])["anomaly_score"], local.score(pictures[1][:3])["anomaly_score"]
    )


def test_a_random_part_of_many_pictures_is_remembered(local, pictures, monkeypatch):
    monkeypatch.setattr("anogan_tf.neighbours.REMEMBERED", 7)
    scorer = agt.LocalNeighbours(local.scorer)
    batches = [pictures[0][:20], pictures[0][20:50]]
    scorer.fit_reference(batches)
    again = agt.LocalNeighbours(local.scorer)
    again.fit_reference(pictures[0][:50])
    for one, other in zip(scorer.reference.arrays.values(), again.reference.arrays.values(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert scorer.reference.arrays["fine/memory"].shape == (8, 8, 7, 11)


def test_pictures_that_are_too_small_are_refused():
    with pytest.raises(ValueError, match=r"at least 16 pixels\. Received: \(8, 16\)"):
        agt.LocalNeighbours(agt.AnoGAN(agt.DCGAN((8, 16, 1), 4, width=4), steps=1, score="paper"), factor=1)


def test_the_scorer_that_draws_learns_nothing(trained):
    with pytest.raises(ValueError, match=r'give score="paper"\. Received: score="features"'):
        agt.LocalNeighbours(agt.AnoGAN(trained))


def test_there_is_nothing_to_compare_with_before_the_reference(pictures):
    gan = agt.DCGAN((16, 16, 1), 4, width=4)
    scorer = agt.LocalNeighbours(agt.AnoGAN(gan, steps=1, score="paper", chunk=8))
    with pytest.raises(ValueError, match="call fit_reference"):
        scorer.score(pictures[0][:1])
    with pytest.raises(ValueError, match=r"at least 2 normal images\. Received: 1"):
        scorer.fit_reference(pictures[0][:1])
