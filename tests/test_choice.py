import numpy as np
import pytest

from anogan_tf import choice
from anogan_tf.choice import aurocs, chosen, likelihood_gain
from anogan_tf.distances import Kinds, Places
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


def test_painted_defects_are_told_better_at_the_same_place_where_parts_are_seen_alike(monkeypatch):
    monkeypatch.setattr(choice, "CLEAR", 1e9)
    pictures = edges(40, places=1)
    assert chosen(pictures, features(pictures), highest) is Places


def test_what_is_clearly_likelier_needs_no_defects(monkeypatch):
    monkeypatch.setattr(choice, "aurocs", None)
    for pictures, expected in ((edges(40, places=1), Places), (edges(40, places=24), Kinds)):
        assert chosen(pictures, features(pictures), highest) is expected
        assert (likelihood_gain(features(pictures)) > 0) == (expected is Places)


@pytest.mark.parametrize(("of_scale", "better"), [(Places, 0.9), (Kinds, 0.9)])
def test_painted_defects_decide_where_the_likelihood_hardly_tells(monkeypatch, of_scale, better):
    monkeypatch.setattr(choice, "CLEAR", 1e9)
    monkeypatch.setattr(choice, "aurocs", lambda other, *_: np.array([better if other is of_scale else 0.6]))
    pictures = edges(8, places=1)
    assert chosen(pictures, features(pictures), highest) is of_scale


def test_and_by_clusters_where_parts_lie_anywhere(monkeypatch):
    monkeypatch.setattr(choice, "CLEAR", 1e9)
    pictures = np.stack([np.rot90(p, k) for k, p in enumerate(edges(40, places=24))])
    assert chosen(pictures, features(pictures), highest) is Kinds


@pytest.mark.parametrize("of_scale", [Places, Kinds])
def test_what_scores_by_chance_is_at_one_half(of_scale):
    pictures = edges(100, places=1)
    rng = np.random.default_rng(0)
    found = aurocs(of_scale, pictures, features(pictures), lambda _, pixels: rng.uniform(size=len(pixels)))
    assert found.shape == (2, 4)
    assert found.mean() == pytest.approx(0.5, abs=0.1)


def test_two_pictures_are_enough():
    pictures = edges(2, places=1)
    assert chosen(pictures, features(pictures), highest) in (Places, Kinds)
