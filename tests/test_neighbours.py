import numpy as np
import pytest
from scipy import ndimage

import anogan_tf as agt
from anogan_tf.choice import Choice
from anogan_tf.distances import Kinds, Places, Scales
from anogan_tf.folds import folds
from anogan_tf.local_features import local_features, undirected, upsampled
from anogan_tf.overview import Joined, Overview


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
    distances = scorer.reference(local_features(pictures[1][:3]).numpy())
    smooth = np.stack([ndimage.gaussian_filter(d, scorer.smoothing * 64) for d in upsampled(distances, 8)])
    highest = np.sort(smooth.reshape(3, -1))[:, -81:].mean(axis=1)  # of 64 × 64
    expected = highest / np.sqrt(1 + np.median(smooth, axis=(1, 2))) if own is Places else highest
    np.testing.assert_allclose(scorer.score(pictures[1][:3])["anomaly_score"], expected, rtol=1e-3)


def test_no_row_is_searched_but_those_of_the_pictures(local, pictures, monkeypatch):
    searched = []
    one = local.scorer.score_chunk
    monkeypatch.setattr(
        local.scorer, "score_chunk", lambda images, **how: searched.append(len(images)) or one(images, **how)
    )
    local.score(pictures[1][:3])
    assert searched == [1, 1, 1]


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
    assert scorer.reference.arrays["fine/memory"].shape == (8, 8, 7, 13)


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


def uncalibrated(local, **options):
    return agt.LocalNeighbours(local.scorer, **options)


def test_cross_calibration_scores_each_picture_as_if_it_were_new(local, pictures):
    """Held-out pictures look as new ones do, which those that the reference is of do not."""
    scorer = uncalibrated(local)
    scorer.cross_calibrate(pictures[0][:40], alpha=0.1)
    calibration = scorer.calibration
    assert (len(calibration.scores), len(calibration.peaks), calibration.method) == (40, 40, "cross")
    new, scratched = (scorer.score(images, draw=False)["anomaly_score"] for images in (pictures[0][40:], pictures[1]))
    remembered = scorer.score(pictures[0][:40], draw=False)["anomaly_map"].max(axis=(1, 2))
    assert abs(np.median(calibration.scores) - np.median(new)) < np.std(new)
    assert np.median(remembered) < np.min(calibration.peaks)
    assert scratched.min() > calibration.threshold


def test_the_reference_of_cross_calibration_is_of_all_pictures(local, pictures):
    scorer, all_of_them = uncalibrated(local), uncalibrated(local)
    scorer.cross_calibrate(pictures[0][:12], 0.1, folds=3)
    all_of_them.fit_reference(pictures[0][:12])
    for name, array in all_of_them.reference.arrays.items():
        np.testing.assert_array_equal(scorer.reference.arrays[name], array)


def test_each_fold_is_scored_by_what_the_others_show(local, pictures, monkeypatch):
    monkeypatch.setattr("anogan_tf.neighbours.chosen", lambda images, *_: Choice(Kinds, local_features(images).numpy()))
    scorer, fold = uncalibrated(local), np.arange(12) % 3
    monkeypatch.setattr("anogan_tf.neighbours.folds_of", lambda *_: fold)
    images = pictures[0][:12]
    scorer.cross_calibrate(images, 0.1)
    features, found = local_features(images).numpy(), np.empty((12, 2))
    whole = undirected(features).numpy()
    for number in range(3):
        inside, other = fold == number, uncalibrated(local)
        other.reference = Scales.fit(features[~inside], 0, Kinds)
        found[inside, 0] = other.score(images[inside], draw=False)["anomaly_score"]
        found[inside, 1] = Overview.fit(whole[~inside])(whole[inside])
    expected = Joined.fit(found)(found)
    np.testing.assert_allclose(scorer.calibration.scores, np.sort(expected), rtol=1e-3, atol=1e-3)


def test_what_is_usual_at_a_pixel_counts_for_less(local, pictures):
    """The score is of deviations from what held-out pictures show there, as more where a print varies."""
    printed = pictures[0][:40].copy()
    printed[:, 8:16, 8:24] += np.random.default_rng(3).choice([-0.3, 0.0, 0.3], size=(40, 1, 16, 1))
    scorer = uncalibrated(local)
    scorer.cross_calibrate(printed.clip(-1, 1))
    usual = scorer.reference.usual
    assert usual.mean[8:16, 8:24].mean() > usual.mean[40:48, 8:24].mean() + 0.1
    out = scorer.score(pictures[1][:3], draw=False)
    deviations = (out["anomaly_map"] - usual.mean) / usual.deviation
    level = np.maximum(np.median(deviations, axis=(1, 2)), usual.lowest)
    highest = np.sort(deviations.reshape(3, -1))[:, -81:].mean(axis=1) - level
    whole = scorer.reference.overview(undirected(local_features(pictures[1][:3])).numpy())
    expected = scorer.reference.joined(np.stack([highest, whole], axis=1))
    np.testing.assert_allclose(out["anomaly_score"], expected, rtol=1e-5)


def test_a_picture_that_was_learned_from_is_as_normal_as_can_be(local, pictures):
    """All its distances are 0, which is further below what is usual at some places than at others."""
    printed = pictures[0][:40].copy()
    printed[:, 8:16, 8:24] += np.random.default_rng(3).choice([-0.3, 0.0, 0.3], size=(40, 1, 16, 1))
    scorer = uncalibrated(local)
    scorer.cross_calibrate(printed.clip(-1, 1))
    found = scorer.score(printed[:8].clip(-1, 1), draw=False)["anomaly_score"]
    assert found.max() < np.median(scorer.calibration.scores)


def test_a_picture_that_is_odd_as_a_whole_is_found(local, pictures):
    """A grain that is coarser all over, which a median that is taken away hides at places."""
    scorer = uncalibrated(local)
    scorer.cross_calibrate(pictures[0][:40])
    normal = pictures[0][40:50]
    odd = (normal + np.random.default_rng(5).normal(0, 0.05, size=normal.shape)).clip(-1, 1).astype(np.float32)
    usual, unusual = (scorer.reference.overview(undirected(local_features(images)).numpy()) for images in (normal, odd))
    assert unusual.min() > 2 * usual.max()
    one, other = (scorer.score(images, draw=False)["anomaly_score"] for images in (normal, odd))
    assert other.min() > one.max()


@pytest.mark.parametrize(("way", "most", "wanted"), [(Places, 2500, 20), (Kinds, 2500, 208), (Kinds, 100, 10)])
def test_few_pictures_that_lie_anywhere_are_held_out_one_by_one(way, most, wanted, local, pictures, monkeypatch):
    seen = []

    def folds_of(together, n, seed):
        seen.append(n)
        return folds(together, 3, seed)

    monkeypatch.setattr("anogan_tf.neighbours.folds_of", folds_of)
    monkeypatch.setattr("anogan_tf.neighbours.LEARNED_FROM", most)
    scorer = uncalibrated(local)
    features = local_features(pictures[0][:12]).numpy()
    monkeypatch.setattr(scorer, "_chosen", lambda rows: Choice(way, features))
    scorer.cross_calibrate(pictures[0][:12], 0.1)
    assert seen == [wanted]


def test_groups_and_equal_pictures_are_held_out_together(local, pictures, monkeypatch):
    seen = []

    def folds_of(together, n, seed):
        seen.append(folds(together, n, seed))
        return seen[-1]

    monkeypatch.setattr("anogan_tf.neighbours.folds_of", folds_of)
    images = pictures[0][:10].copy()
    images[7] = images[2]
    uncalibrated(local).cross_calibrate([images[:6], images[6:]], 0.1, folds=5, groups=[0, 1, 2, 3, 4, 0, 6, 7, 8, 9])
    found = seen[0]  # so few pictures stay in their order
    assert found[0] == found[5]
    assert found[2] == found[7]
    assert len(set(found)) == 5


def test_shots_of_one_part_do_not_stand_for_parts(local, monkeypatch):
    """Each is as near to the others of its part as no new part is, so it must not be judged by them."""
    rng = np.random.default_rng(0)
    parts = ndimage.gaussian_filter(rng.normal(size=(28, 64, 64, 1)), (0, 4, 4, 0))
    parts *= 0.4 / parts.std()
    shots = np.repeat(parts[:8], 5, axis=0) + rng.normal(0, 0.01, size=(40, 64, 64, 1))
    shots, others = (images.clip(-1, 1).astype(np.float32) for images in (shots, parts[8:]))
    scorer = uncalibrated(local)
    with pytest.warns(UserWarning, match="40 good pictures show 8 different things"):
        scorer.cross_calibrate(shots)
    assert (scorer.score(others, draw=False)["anomaly_score"] > scorer.calibration.threshold).mean() <= 0.2
    monkeypatch.setattr("anogan_tf.neighbours.alike", lambda features: np.arange(len(features)))
    scorer.cross_calibrate(shots)
    assert (scorer.score(others, draw=False)["anomaly_score"] > scorer.calibration.threshold).mean() > 0.8


def test_cross_calibration_takes_normal_pictures_and_a_group_each(local, pictures):
    scorer = uncalibrated(local)
    with pytest.raises(ValueError, match=r"labelled anomalous, \['2'\]"):
        scorer.cross_calibrate([(pictures[0][:4], np.array([0, 1, 0, 0]))])
    with pytest.raises(ValueError, match=r"a group for each.*Received: 4 pictures, 3 groups"):
        scorer.cross_calibrate(pictures[0][:4], groups=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"at least 2 normal images. Received: 1"):
        scorer.cross_calibrate(pictures[0][:1])


def test_a_cross_calibrated_run_scores_the_same_after_loading(local, pictures, tmp_path):
    scorer = uncalibrated(local)
    scorer.cross_calibrate(pictures[0][:12], 0.1, folds=3)
    agt.save_run(tmp_path / "run", scorer)
    loaded = agt.load_run(tmp_path / "run")
    assert loaded.calibration == scorer.calibration
    assert loaded.reference.usual is not None
    np.testing.assert_array_equal(
        loaded.score(pictures[1][:3])["anomaly_score"], scorer.score(pictures[1][:3])["anomaly_score"]
    )
