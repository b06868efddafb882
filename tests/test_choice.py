import numpy as np
import pytest

from anogan_tf import choice
from anogan_tf.choice import WAYS, aurocs, chosen, likelihood_gain
from anogan_tf.distances import Kinds, Places, Turning
from anogan_tf.local_features import local_features


def highest(reference, pixels):
    return pixels.max(axis=(1, 2))


def edges(n, places, seed=0):
    """Pictures with a bright bar on noise; its place is one of so many."""
    rng = np.random.default_rng(seed)
    pictures = rng.normal(0, 0.02, (n, 32, 32, 1)).astype(np.float32)
    for picture in pictures:
        at = 4 + int(rng.integers(places)) % 24
        picture[at : at + 4] += 0.6
    return pictures


def features(pictures):
    return local_features(pictures).numpy()


def test_painted_defects_are_told_better_at_the_same_place_where_parts_are_seen_alike():
    pictures = edges(40, places=1)
    by_place, by_clusters = aurocs((Places, Kinds), pictures, features(pictures), highest).mean(axis=(1, 2))
    assert by_place > by_clusters


@pytest.mark.parametrize("best", WAYS)
def test_painted_defects_choose_where_the_same_place_is_not_clearly_likelier(monkeypatch, best):
    monkeypatch.setattr(
        choice, "aurocs", lambda ways, *_: np.reshape([0.9 if way is best else 0.6 for way in ways], (3, 1, 1))
    )
    for pictures, likelier in ((edges(40, places=1), True), (edges(40, places=24), False)):
        assert chosen(pictures, highest).way is (Places if likelier else best)
        assert (likelihood_gain(features(pictures)) > choice.CLEAR) == likelier


@pytest.mark.parametrize(("better", "expected"), [(0.02, Places), (0.04, Turning)])
def test_another_way_has_to_be_clearly_better_than_the_same_place(monkeypatch, better, expected):
    monkeypatch.setattr(
        choice, "aurocs", lambda ways, *_: np.reshape([0.7 + better * (way is Turning) for way in ways], (3, 1, 1))
    )
    pictures = edges(40, places=24)
    assert chosen(pictures, highest).way is expected


def test_directions_do_not_count_where_parts_turn(monkeypatch):
    monkeypatch.setattr(choice, "CLEAR", 1e9)
    pictures = np.stack([np.rot90(p, k) for k, p in enumerate(edges(40, places=24))])
    assert chosen(pictures, highest).way is Turning


@pytest.mark.parametrize("of_scale", WAYS)
def test_what_scores_by_chance_is_at_one_half(of_scale):
    pictures = edges(100, places=1)
    rng = np.random.default_rng(0)
    found = aurocs([of_scale], pictures, features(pictures), lambda _, pixels: rng.uniform(size=len(pixels)))
    assert found.shape == (1, 2, 4)
    assert found.mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("n", "folds"), [(12, 4), (50, 4), (80, 3), (100, 2), (400, 2)])
def test_fewer_pictures_are_looked_at_in_more_folds(monkeypatch, n, folds):
    held_out = []
    monkeypatch.setattr(choice, "painted", lambda pictures, *_: held_out.append(len(pictures)) or (pictures, None))
    monkeypatch.setattr(choice, "_auroc", lambda *_: 0.5)
    pictures = edges(n, places=1)
    found = aurocs([Places], pictures, np.zeros((n, 4, 4, 13), np.float32), lambda _, maps: maps, described=Described())
    assert found.shape == (1, folds, len(choice.DEFECTS))
    assert sum(held_out) >= len(choice.DEFECTS) * min(n, 48)


class Described:
    """Features of no picture in particular."""

    version = 3

    def of_pictures(self, pictures):
        return np.zeros((len(pictures), 4, 4, 13), np.float32)


def test_two_pictures_are_enough():
    pictures = edges(2, places=1)
    assert chosen(pictures, highest).way in WAYS
