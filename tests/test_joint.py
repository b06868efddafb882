import json

import keras
import numpy as np
import pytest

import anogan_tf as agt
from anogan_tf import joint, neighbours
from anogan_tf.choice import Choice
from anogan_tf.distances import Kinds, Places
from anogan_tf.local_features import OF_NETWORK
from anogan_tf.registration import Registration
from tests.conftest import bars, scratched, small_gan

pytestmark = pytest.mark.usefixtures("same_place")


@pytest.fixture(scope="module")
def drawing():
    return agt.AnoGAN(small_gan(), steps=1, score="paper", chunk=4)


@pytest.fixture(scope="module")
def network():
    levels = keras.Input((None, None, 3))
    scaled = keras.layers.Rescaling(1 / 127.5, -1.0)(levels)
    weights = keras.initializers.GlorotNormal(seed=0)
    layer = keras.layers.Conv2D(6, 8, 8, "same", activation="elu", kernel_initializer=weights)
    return agt.pretrained.features(keras.Model(levels, layer(scaled)))


@pytest.fixture(scope="module")
def scorer(drawing, network):
    scorer = agt.JointNeighbours(drawing, features=network)
    scorer.cross_calibrate(bars(12), 0.2, folds=3, groups=range(12))
    return scorer


@pytest.fixture(scope="module")
def alone(drawing, network):
    """By filters and by the network alone, of the same pictures and folds."""
    scorers = [agt.LocalNeighbours(drawing, features=features) for features in (None, network)]
    for each in scorers:
        each.cross_calibrate(bars(12), 0.2, folds=3, groups=range(12))
    return scorers


def test_the_score_is_the_mean_of_both_in_deviations_of_held_out_pictures(scorer, alone):
    images = np.concatenate([bars(3, seed=2), scratched(2)])
    expected = [each.score(images, draw=False)["anomaly_score"] / np.std(each.calibration.scores) for each in alone]
    found = scorer.score(images, draw=False)["anomaly_score"]
    np.testing.assert_allclose(found, np.mean(expected, axis=0), rtol=1e-5, atol=1e-5)
    assert found[:3].max() < found[3:].min()
    assert np.mean(scorer.calibration.scores) == pytest.approx(0.0, abs=1e-5)


def in_poses(registration, poses):
    """A choice of the same place, in poses."""

    def chosen(pictures, scores, seed=0, described=None):
        return Choice(Places, described.of_pictures(registration(pictures, poses)), registration, poses)

    return chosen


@pytest.mark.parametrize("posed", [False, True])
def test_the_map_is_the_mean_of_both_in_deviations_of_held_out_maps(drawing, network, posed, monkeypatch):
    """Also of parts that are turned: what is held out is turned back before it is smoothed, as what is scored is."""
    images, found = bars(12), []
    if posed:
        registration = Registration.fit(images)
        poses = np.tile(np.float32([10.0, 0.05, -0.03]), (12, 1))
        monkeypatch.setattr(neighbours, "chosen", in_poses(registration, poses))
    held_out = agt.LocalNeighbours._held_out
    monkeypatch.setattr(agt.LocalNeighbours, "_held_out", lambda *given: found.append(held_out(*given)) or found[-1])
    scorer = agt.JointNeighbours(drawing, features=network)
    scorer.cross_calibrate(images, 0.2, folds=3, groups=range(12))
    shown = []
    for *_, maps, peaks in found:
        np.testing.assert_allclose(maps.max(axis=(1, 2)), peaks, rtol=1e-3)  # maps are kept in 16 bits
        shown.append(maps.astype(np.float64))
    deviations = [maps.std() for maps in shown]
    joint = [maps / deviation for maps, deviation in zip(shown, deviations, strict=True)]
    np.testing.assert_allclose(scorer.calibration.peaks, np.sort(np.mean(joint, axis=0).max(axis=(1, 2))), rtol=1e-3)
    maps = [part.score(scratched(2), draw=False)["anomaly_map"] for part in scorer.parts()]
    expected = np.mean([each / deviation for each, deviation in zip(maps, deviations, strict=True)], axis=0)
    np.testing.assert_allclose(scorer.score(scratched(2), draw=False)["anomaly_map"], expected, rtol=1e-4, atol=1e-6)


def test_the_map_shows_where(scorer):
    found = scorer.score(scratched(2), draw=False)["anomaly_map"]
    assert found[:, 20:24, 8:24].min() > found[:, :8].max()


def test_the_parts_are_scorers_of_their_own(scorer, alone):
    for part, each in zip(scorer.parts(), alone, strict=True):
        found, expected = (one.score(scratched(2), draw=False) for one in (part, each))
        np.testing.assert_array_equal(found["anomaly_score"], expected["anomaly_score"])
        np.testing.assert_array_equal(found["anomaly_map"], expected["anomaly_map"])


def test_each_finds_out_what_to_compare_with(drawing, network, monkeypatch):
    def chosen(pictures, scores, seed=0, described=None):
        return Choice(Places if described.version == OF_NETWORK else Kinds, described.of_pictures(pictures))

    monkeypatch.setattr(neighbours, "chosen", chosen)
    scorer = agt.JointNeighbours(drawing, features=network)
    scorer.cross_calibrate(bars(12), 0.2, folds=3)
    assert [type(each.fine) for each in scorer.reference.both] == [Kinds, Places]
    assert scorer.reference.in_words == (
        "all places of good pictures by filters and the same place of good pictures by the network"
    )


def test_thresholds_may_be_of_pictures_that_nothing_was_learned_from(drawing, network, scorer):
    split = agt.JointNeighbours(drawing, features=network)
    split.fit_reference(bars(12))
    assert split.calibration is None
    split.calibrate(bars(6, seed=3), 0.2)
    assert (split.calibration.method, len(split.calibration.scores)) == ("split", 6)
    found = split.score(scratched(2), draw=False)["anomaly_score"]
    assert found.min() > split.calibration.threshold


def test_pictures_that_are_nearly_the_same_are_told_once_and_held_out_together(drawing, network, monkeypatch):
    shots = np.repeat(bars(8), 5, axis=0) + np.random.default_rng(1).normal(0, 1e-4, (40, 32, 32, 1))
    folds, held_out = [], agt.LocalNeighbours._held_out
    monkeypatch.setattr(agt.LocalNeighbours, "_held_out", lambda *given: folds.append(given[-1]) or held_out(*given))
    scorer = agt.JointNeighbours(drawing, features=network)
    with pytest.warns(UserWarning, match="40 good pictures show 8 different things") as told:
        scorer.cross_calibrate(shots.astype(np.float32), 0.2, folds=4)
    assert len(told) == 1
    scorer.fit_reference(shots.astype(np.float32))  # whose pictures set no thresholds, so that it warns of nothing
    assert len(folds) == 4
    for fold in folds:
        np.testing.assert_array_equal(fold.reshape(8, 5), np.repeat(fold[::5, None], 5, axis=1))


def test_a_run_holds_both(scorer, tmp_path):
    agt.save_run(tmp_path / "run", scorer)
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert told["around"] == ["joint-neighbours"]
    assert told["reference"]["in_words"] == "the same place of good pictures"
    loaded = agt.load_run(tmp_path / "run")
    assert isinstance(loaded, joint.JointNeighbours)
    found, expected = (each.score(scratched(2), draw=False) for each in (loaded, scorer))
    np.testing.assert_array_equal(found["anomaly_score"], expected["anomaly_score"])
    np.testing.assert_array_equal(found["anomaly_map"], expected["anomaly_map"])


def test_nothing_is_joined_without_a_network(drawing):
    with pytest.raises(ValueError, match="Filters are joined with a network: give its features"):
        agt.JointNeighbours(drawing, features=None)


def test_nothing_is_scored_before_it_learned(drawing, network):
    with pytest.raises(ValueError, match="Nothing to compare with yet"):
        agt.JointNeighbours(drawing, features=network).score(bars(1), draw=False)
