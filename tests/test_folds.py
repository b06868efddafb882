import numpy as np
import pytest

from anogan_tf.folds import folds, linked


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
