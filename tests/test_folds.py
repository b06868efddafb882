import numpy as np
import pytest

from anogan_tf.folds import alike, folds, linked


def test_folds_are_even_and_all_pictures_are_in_one():
    found = folds([range(23)], 5, seed=1)
    assert sorted(np.bincount(found)) == [4, 4, 5, 5, 5]
    assert not np.array_equal(found, folds([range(23)], 5, seed=2))


def test_equal_pictures_and_groups_are_not_parted():
    contents = ["a", "b", "a", "c", "d", "e", "f", "g"]
    groups = ["1", "1", "2", "3", "3", "4", "5", "6"]
    found = folds([contents, groups], 3)
    assert len(set(found[[0, 1, 2]])) == 1  # 1 and 2 by their group, 0 and 2 by their content
    assert found[3] == found[4]
    assert set(found) == {0, 1, 2}


def test_links_go_through_other_pictures():
    np.testing.assert_array_equal(linked([list("abcdb"), list("xxyyz")]), [0, 0, 2, 2, 0])


def test_fewer_pictures_than_folds_are_held_out_one_by_one():
    assert sorted(folds([range(3)], 10)) == [0, 1, 2]


def test_what_cannot_be_parted_is_refused():
    with pytest.raises(ValueError, match=r"Pictures of at least 2 groups are needed.*Received: 4 in 1"):
        folds([range(4), list("aaaa")], 2)
    with pytest.raises(ValueError, match=r"At least 2 folds.*folds=1"):
        folds([range(4)], 1)


def shots(things, each, seed=0):
    """Features of `each` shots of some things, which differ ten times as much as the shots of one."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(things, 1, 4, 4, 8))
    return (own + rng.normal(0, 0.1, size=(things, each, 4, 4, 8))).reshape(-1, 4, 4, 8).astype(np.float32)


def test_shots_of_one_thing_are_alike_whatever_the_units():
    expected = np.repeat(np.arange(6), 3)
    for features in (shots(6, 3), 1000.0 * shots(6, 3)):
        found = alike(features)
        np.testing.assert_array_equal(found[:, None] == found, expected[:, None] == expected)


def test_things_that_are_not_the_same_are_not_alike():
    assert len(set(alike(shots(18, 1)))) == 18
    assert len(set(alike(np.repeat(shots(1, 1), 5, axis=0)))) == 5  # equal ones are known by their content


def test_a_chain_of_pictures_each_like_the_next_is_not_one_thing():
    turned = np.linspace(0, np.pi, 60)[:, None, None, None]
    found = alike(np.concatenate([np.cos(turned), np.sin(turned)], axis=3).astype(np.float32))
    assert 5 < len(set(found)) < 30
