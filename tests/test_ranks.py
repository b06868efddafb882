"""What stands at a rank is what sorting says."""

import numpy as np
import pytest
import tensorflow as tf

from anogan_tf import ranks

RNG = np.random.default_rng(0)
VALUES = {
    "odd": RNG.normal(size=(3, 101)),
    "even": RNG.normal(size=(3, 100)),
    "equal ones": RNG.integers(-3, 4, (3, 50)),
    "all the same": np.full((2, 9), -2.5),
    "mostly nothing": np.maximum(RNG.normal(size=(2, 64)), 1.0) - 1.0,
    "very small and very large": np.exp(RNG.uniform(-60, 60, (2, 40))) * RNG.choice([-1, 1], (2, 40)),
    "one": RNG.normal(size=(4, 1)),
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_ranks_are_those_of_sorting(values):
    values = values.astype(np.float32)
    downwards = -np.sort(-values, axis=1)
    ranked = tf.function(ranks.ranked_pair, autograph=False)
    for rank in {1, 2, 7, values.shape[1] // 2, values.shape[1]} & {*range(1, values.shape[1] + 1)}:
        here, after = ranked(tf.constant(values), tf.constant(rank))
        np.testing.assert_array_equal(here[:, 0], downwards[:, rank - 1])
        np.testing.assert_array_equal(after[:, 0], downwards[:, min(rank, values.shape[1] - 1)])
    np.testing.assert_array_equal(ranks.median(tf.constant(values)), np.median(values, axis=1))
