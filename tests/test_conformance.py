"""What holds for every scorer, and for every kind of score."""

import copy
import json
import pickle

import joblib
import numpy as np
import pytest

import anogan_tf as agt
from anogan_tf.distances import Scales
from anogan_tf.joint import JointReference
from anogan_tf.kinds import KINDS
from anogan_tf.scoring import Scorer, unwrapped
from tests.conftest import small_features, small_gan

pytestmark = pytest.mark.usefixtures("same_place")

BLENDS = ["tasks+density", "transformations+residual", "features+difference"]
OF_KINDS = {f"AnoGAN {score}": score for score in (*KINDS, *BLENDS)}
NAMES = [
    *OF_KINDS,
    "FAnoGAN features",
    "FAnoGAN paper",
    "LocalNeighbours",
    "LocalNeighbours of FAnoGAN",
    "JointNeighbours",
    "Patched",
    "Patched LocalNeighbours",
]


@pytest.fixture(scope="module")
def gan():
    return small_gan(self_supervision="rotation", kernel_initializer="glorot_uniform")


def built(name, gan):
    options = {"chunk": 4, "seed": 3}
    if name in OF_KINDS:
        return agt.AnoGAN(gan, steps=2, score=OF_KINDS[name], **options)
    of_encoder = agt.FAnoGAN(gan, score="features" if name == "FAnoGAN features" else "paper", **options)
    paper = agt.AnoGAN(gan, steps=2, score="paper", **options)
    return {
        "FAnoGAN features": lambda: of_encoder,
        "FAnoGAN paper": lambda: of_encoder,
        "LocalNeighbours": lambda: agt.LocalNeighbours(paper, factor=2),
        "LocalNeighbours of FAnoGAN": lambda: agt.LocalNeighbours(of_encoder, factor=2),
        "JointNeighbours": lambda: agt.JointNeighbours(paper, factor=2, features=small_features()),
        "Patched": lambda: agt.Patched(agt.AnoGAN(gan, steps=2, **options)),
        "Patched LocalNeighbours": lambda: agt.Patched(agt.LocalNeighbours(paper, factor=2)),
    }[name]()


def pictures(scorer, n, seed):
    """Random smooth images, larger than a tile where the scorer takes such."""
    height, width, channels = scorer.image_shape
    side = 4 if scorer.any_size else 0
    noise = np.random.default_rng(seed).normal(size=(n, height + side, width + side, channels))
    return np.tanh(0.5 * (noise + np.roll(noise, 1, axis=1) + np.roll(noise, 1, axis=2))).astype(np.float32)


@pytest.fixture(scope="module", params=NAMES)
def scorer(request, gan):
    scorer = built(request.param, gan)
    scorer.fit_reference(pictures(scorer, 12, seed=0))
    scorer.calibrate(pictures(scorer, 20, seed=1))
    return scorer


@pytest.fixture
def images(scorer):
    return pictures(scorer, 7, seed=2)


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name in found.keys() - {"id"}:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_it_is_a_scorer(scorer):
    assert isinstance(scorer, Scorer)
    assert isinstance(unwrapped(scorer), Scorer)
    assert unwrapped(unwrapped(scorer)) is unwrapped(scorer)
    assert scorer.gan is unwrapped(scorer).gan
    json.dumps(scorer.settings)


def test_a_score_does_not_depend_on_company_order_or_drawing(scorer, images):
    together = scorer.score(images)
    alone = scorer.score(images[5:6])
    assert_equal(alone, {name: values[5:6] for name, values in together.items()})
    turned = scorer.score(images[::-1], draw=False)
    for name in turned.keys() - {"id"}:
        np.testing.assert_array_equal(turned[name], together[name][::-1], err_msg=name)


def test_outputs_are_those_that_are_documented(scorer, images):
    decided, drawn = scorer.score(images, draw=False), scorer.score(images)
    assert {"id", "anomaly_score"} <= decided.keys()
    assert ("reconstruction" in decided) == scorer.needs_z
    assert ("anomaly_map" in decided) == (scorer.needs_z or not scorer.maps_need_z)
    assert drawn["reconstruction"].shape == images.shape
    assert drawn["anomaly_map"].shape == drawn["anomaly_mask"].shape == images.shape[:3]
    for name in ("anomaly_score", "residual", "discrimination"):
        assert drawn[name].shape == (7,)
        assert np.isfinite(drawn[name]).all()


def test_it_scores_batches_of_any_size_and_a_chunk_of_another(scorer, images):
    expected = scorer.score(images, draw=False)["anomaly_score"]
    found = [chunk["anomaly_score"] for chunk in scorer.score_batches(np.split(images, [3]), draw=False)]
    np.testing.assert_array_equal(np.concatenate(found), expected)
    scorer.chunk = 5
    other = scorer.score(images, draw=False)["anomaly_score"]
    scorer.chunk = 4
    np.testing.assert_allclose(other, expected, rtol=1e-3, atol=1e-4)


def test_it_tests_with_its_calibration(scorer, images):
    labels = np.array([0, 1, 0, 1, 0, 1, 0])
    results, threshold, accuracy = scorer.test([(images, labels)])
    scores = scorer.score(images)["anomaly_score"]
    np.testing.assert_array_equal([result["anomaly_score"] for result in results], scores)
    assert threshold == scorer.calibration.threshold == np.sort(scorer.calibration.scores)[-1]  # α = 0.05 of 20
    assert accuracy == np.mean((scores > threshold) == labels)
    assert all(result["residual"] is not None for result in results)  # few images are all drawn


def test_the_reference_does_not_depend_on_when_or_how_it_is_fitted(scorer):
    reference, calibration = scorer.reference, scorer.calibration
    scorer.fit_reference(np.split(pictures(scorer, 12, seed=0), [5]))
    assert (scorer.calibration is None) == scorer.learns  # it was of another score
    if scorer.learns:
        for name, array in reference.arrays.items():
            np.testing.assert_array_equal(scorer.reference.arrays[name], array)
    scorer.reference, scorer.calibration = reference, calibration


def test_another_rate_of_false_alarms_needs_no_scoring(scorer, monkeypatch):
    calibration = scorer.calibration
    monkeypatch.setattr(type(scorer), "raw_outputs", None)
    scorer.recalibrate(0.5)
    assert scorer.calibration.threshold == np.sort(calibration.scores)[10]  # the ⌈21 · 0.5⌉-th of 20
    assert (scorer.calibration.alpha, scorer.calibration.attained_alpha) == (0.5, 10 / 21)
    scorer.recalibrate(alpha=0.05)
    assert scorer.calibration == calibration
    assert len(calibration.peaks) == 20
    scorer.calibration = None
    with pytest.raises(ValueError, match="call calibrate"):
        scorer.recalibrate(0.1)
    scorer.calibration = calibration


def test_only_what_is_cheap_to_learn_is_cross_calibrated(scorer):
    reference, calibration = scorer.reference, scorer.calibration
    images = pictures(scorer, 12, seed=1)
    if isinstance(scorer, agt.LocalNeighbours):
        scorer.cross_calibrate(images, 0.1, folds=3)
        assert (len(scorer.calibration.scores), scorer.calibration.method) == (12, "cross")
    else:
        with pytest.raises(ValueError, match=f"A {type(scorer).__name__} is calibrated on images that were held out"):
            scorer.cross_calibrate(images)
    scorer.reference, scorer.calibration = reference, calibration


def by_pickle(scorer, _):
    return pickle.loads(pickle.dumps(scorer))


def by_run(scorer, folder):
    agt.save_run(folder, scorer)
    return agt.load_run(folder)


def by_joblib(scorer, folder):
    joblib.dump(scorer, folder / "scorer")
    return joblib.load(folder / "scorer")


def by_deepcopy(scorer, _):
    return copy.deepcopy(scorer)


def test_copies_score_the_same(scorer, images, tmp_path):
    """A copy of a copy, as each makes its graphs anew."""
    assert_same(by_pickle(by_run(scorer, tmp_path), tmp_path), scorer, images)


@pytest.mark.parametrize("copied", [by_joblib, by_deepcopy])
def test_libraries_copy_as_pickle_does(gan, copied, tmp_path):
    scorer = built("AnoGAN paper", gan)
    scorer.calibrate(pictures(scorer, 20, seed=1))
    assert_same(copied(scorer, tmp_path), scorer, pictures(scorer, 3, seed=2))


def assert_same(other, scorer, images):
    assert type(other) is type(scorer)
    assert other.settings == scorer.settings
    assert other.calibration == scorer.calibration
    assert_equal(other.score(images), scorer.score(images))


def test_networks_that_decide_and_were_trained_on_are_refused(scorer, images):
    expected = scorer.score(images, draw=False)["anomaly_score"]
    weights = scorer.gan.discriminator.trainable_variables[0]
    before = weights.numpy()
    weights.assign(before + 0.1)
    try:
        if scorer.reference_type in (Scales, JointReference):  # no network of the GAN decides
            np.testing.assert_array_equal(scorer.score(images, draw=False)["anomaly_score"], expected)
        else:
            with pytest.raises(ValueError, match="networks were changed"):
                scorer.score(images)
    finally:
        weights.assign(before)


def test_what_is_no_images_is_refused(scorer):
    for thing in (b"photo.png", 42, None):
        with pytest.raises(ValueError, match=r"array \(n, height, width, channels\).*Received: (bytes|int|None)"):
            scorer.score(thing)
        with pytest.raises(ValueError, match="Scorers take an array"):
            scorer.test(thing)
    for path in ("photo.png", ["photo.png"]):
        for method in (scorer.score, scorer.test):
            with pytest.raises(ValueError, match=r"cannot be read: photo\.png: not a readable image"):
                method(path)
    with pytest.raises(ValueError, match="no images to score"):
        scorer.score([])
    with pytest.raises(ValueError, match=r"scorer takes images \(n, "):
        scorer.score(np.zeros((2, 8, 8, 2), np.float32) - 0.5)


def test_labels_may_have_a_column_of_their_own_but_not_be_one_hot(scorer, images):
    labels = np.array([0, 1, 0, 1, 0, 1, 0])
    expected = scorer.test([(images, labels)]).confusion
    assert scorer.test([(images, labels[:, None])]).confusion == expected
    assert scorer.test([(images, labels.astype(bool))]).confusion == expected
    with pytest.raises(ValueError, match=r"one number an image.*Received: labels of shape \(7, 2\)"):
        scorer.test([(images, np.eye(2)[labels])])


def test_without_a_calibration_nothing_is_decided(scorer):
    calibration, scorer.calibration = scorer.calibration, None
    with pytest.raises(ValueError, match="call calibrate"):
        scorer.test([])
    scorer.calibration = calibration


@pytest.mark.parametrize("inside", ["Patched", "Patched LocalNeighbours"])
def test_a_scorer_of_any_size_fits_into_no_other(gan, inside):
    for around in (agt.LocalNeighbours, agt.Patched):
        with pytest.raises(ValueError, match=r"scorer of images of one size.*Patched"):
            around(built(inside, gan))


def test_what_decides_needs_no_search(gan, monkeypatch):
    """Nothing is searched for but what is drawn."""
    scorer = built("AnoGAN features", gan)
    searched, best_z = [], type(scorer)._best_z
    monkeypatch.setattr(
        agt.AnoGAN, "_best_z", lambda self, images, _: searched.append(len(images)) or best_z(self, images)
    )
    scorer.fit_reference(pictures(scorer, 12, seed=0))
    scorer.calibrate(pictures(scorer, 20, seed=1))
    assert len(searched) == 5  # the maps of 20 images, by chunks of 4
    images, labels = pictures(scorer, 30, seed=2), np.arange(30) % 2
    result = scorer.test([(images, labels)], pictures=3)
    assert len(searched) == 6
    most = np.argsort([-row["anomaly_score"] for row in result.results])[:3]
    assert {i for i, row in enumerate(result.results) if row["residual"] is not None} == set(most)
    scorer.test([(images, labels)], pictures=0)
    assert len(searched) == 6
