import json

import keras
import numpy as np
import pytest

import anogan_tf as agt
from anogan_tf import joint, neighbours
from anogan_tf.choice import Choice
from anogan_tf.distances import Kinds, Places
from anogan_tf.registration import Registration
from tests.conftest import small_gan

pytestmark = pytest.mark.usefixtures("same_place")

SMALL = {"factor": 4}


def bars(n, seed=0):
    """Pictures `(n, 32, 32, 1)` of noise with a bright bar."""
    images = np.random.default_rng(seed).uniform(-0.1, 0.1, (n, 32, 32, 1)).astype(np.float32)
    images[:, 8:14] += 0.6
    return images


def scratched(n):
    images = bars(n, seed=1)
    images[:, 20:24, 8:24] = 0.9
    return images


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
    scorer = agt.JointNeighbours(drawing, **SMALL, features=network)
    scorer.cross_calibrate(bars(12), 0.2, folds=3, groups=range(12))
    return scorer


@pytest.fixture(scope="module")
def alone(drawing, network):
    """By filters and by the network alone, of the same pictures and folds."""
    scorers = [agt.LocalNeighbours(drawing, **SMALL, features=features) for features in (None, network)]
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


def test_the_map_is_the_mean_of_both_in_deviations_of_held_out_maps(scorer, alone, monkeypatch):
    maps = []
    held_out = agt.LocalNeighbours._held_out
    monkeypatch.setattr(agt.LocalNeighbours, "_held_out", lambda *given: maps.append(held_out(*given)) or maps[-1])
    shown = []
    for each in alone:
        each.cross_calibrate(bars(12), 0.2, folds=3, groups=range(12))
        shown.append(maps[-1][2].astype(np.float64) / maps[-1][2].std(dtype=np.float64))
    expected = [
        each.score(scratched(2), draw=False)["anomaly_map"] / kept[2].std(dtype=np.float64)
        for each, kept in zip(alone, maps, strict=True)
    ]
    found = scorer.score(scratched(2), draw=False)["anomaly_map"]
    np.testing.assert_allclose(found, np.mean(expected, axis=0), rtol=1e-4)
    assert found[:, 20:24, 8:24].min() > found[:, :8].max()
    peaks = np.mean(shown, axis=0).max(axis=(1, 2))
    np.testing.assert_allclose(np.sort(scorer.calibration.peaks), np.sort(peaks), rtol=1e-3)


def test_the_parts_are_scorers_of_their_own(scorer, alone):
    for part, each in zip(scorer.parts(), alone, strict=True):
        found, expected = (one.score(scratched(2), draw=False) for one in (part, each))
        np.testing.assert_array_equal(found["anomaly_score"], expected["anomaly_score"])
        np.testing.assert_array_equal(found["anomaly_map"], expected["anomaly_map"])


def test_each_finds_out_what_to_compare_with_and_where_the_part_lies(drawing, network, monkeypatch):
    """Clusters for filters, which have a pose; the same place for the network. Maps are turned back."""
    images = bars(12)
    registration = Registration.fit(images)
    poses = registration.poses(images)
    poses[:, 0] = np.linspace(0.1, 0.3, 12)

    def chosen(pictures, scores, seed=0, described=None):
        features = described.of_pictures(pictures)
        return Choice(Places, features) if described.version == 0 else Choice(Kinds, features, registration, poses)

    back = []
    monkeypatch.setattr(neighbours, "chosen", chosen)
    monkeypatch.setattr(Registration, "back", lambda self, maps, given: back.append((len(maps), given)) or maps)
    scorer = agt.JointNeighbours(drawing, **SMALL, features=network)
    scorer.cross_calibrate(images, 0.2, folds=3)
    assert [type(each.fine) for each in scorer.reference.both] == [Kinds, Places]
    assert len(scorer.reference.filters.fine.vectors) != len(scorer.reference.network.fine.memory)
    n, given = back[-1]
    assert n == 12
    np.testing.assert_array_equal(given, poses)
    assert scorer.reference.in_words == (
        "all places of good pictures, once the part is turned and moved to lie as it does there by filters "
        "and the same place of good pictures by the network"
    )


def test_thresholds_may_be_of_pictures_that_nothing_was_learned_from(drawing, network, scorer):
    split = agt.JointNeighbours(drawing, **SMALL, features=network)
    split.fit_reference(bars(12))
    assert split.calibration is None
    split.calibrate(bars(6, seed=3), 0.2)
    assert (split.calibration.method, len(split.calibration.scores)) == ("split", 6)
    found = split.score(scratched(2), draw=False)["anomaly_score"]
    assert found.min() > split.calibration.threshold


def test_pictures_that_are_nearly_the_same_are_told_once_and_held_out_together(drawing, network):
    shots = np.repeat(bars(8), 5, axis=0) + np.random.default_rng(1).normal(0, 1e-4, (40, 32, 32, 1))
    scorer = agt.JointNeighbours(drawing, **SMALL, features=network)
    with pytest.warns(UserWarning, match="40 good pictures show 8 different things") as told:
        scorer.cross_calibrate(shots.astype(np.float32), 0.2, folds=4)
    assert len(told) == 1


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
        agt.JointNeighbours(drawing, **SMALL, features=network).score(bars(1), draw=False)
