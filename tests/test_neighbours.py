import numpy as np
import pytest
from scipy import ndimage

import anogan_tf as agt
from anogan_tf.distances import Kinds, Places, Scales
from anogan_tf.local_features import local_features, upsampled


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
