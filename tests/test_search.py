import keras
import numpy as np
import pytest
import tensorflow as tf

from anogan_tf.search import LatentSearch, initial_z


def quadratic(z, target):
    return tf.reduce_sum(tf.square(z - target) * tf.range(1.0, 4.0), axis=-1)


def make(rows, learning_rate=0.1, loss=quadratic):
    return LatentSearch(loss, rows, 3, learning_rate=learning_rate)


def rosenbrock(z, _):
    return tf.reduce_sum(100.0 * tf.square(z[:, 1:] - tf.square(z[:, :-1])) + tf.square(1.0 - z[:, :-1]), axis=-1)


@pytest.mark.parametrize("rate", [0.05, keras.optimizers.schedules.CosineDecay(0.2, 50)], ids=["rate", "schedule"])
def test_search_equals_keras_adam_on_a_variable(rate):
    z0 = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    search = make(4, rate, rosenbrock)
    search.start(z0)
    search.advance((), tf.constant(50))

    z, adam = tf.Variable(z0), keras.optimizers.Adam(rate)
    for _ in range(50):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(rosenbrock(z, ()))
        adam.apply_gradients([(tape.gradient(loss, z), z)])
    np.testing.assert_allclose(search.z, z, atol=1e-5)


def test_two_stage_rate_is_expressible():
    rates = keras.optimizers.schedules.PiecewiseConstantDecay([9], [0.1, 0.01])  # the tenth step is the last at 0.1
    search = make(1, rates, lambda z, _: tf.reduce_sum(z, axis=-1))  # under a constant gradient Adam's step is its rate
    search.start(np.zeros((1, 3)))
    search.advance((), tf.constant(10))
    np.testing.assert_allclose(search.z, -1.0, atol=1e-4)
    search.advance((), tf.constant(10))
    np.testing.assert_allclose(search.z, -1.1, atol=1e-4)


def test_blocks_of_steps_equal_one_go():
    search = make(2)
    target = tf.constant([[1.0, 2.0, 3.0], [-1.0, 0.0, 1.0]])
    search.start(np.zeros((2, 3)))
    search.advance(target, tf.constant(30))
    whole = search.z.numpy()
    search.start(np.zeros((2, 3)))
    for steps in (7, 1, 0, 22):
        search.advance(target, tf.constant(steps))
    np.testing.assert_array_equal(search.z, whole)


def test_nothing_is_carried_over_to_the_next_start():
    search = make(1)
    results = []
    for target in ([[1.0, 2.0, 3.0]], [[50.0, -50.0, 9.0]], [[1.0, 2.0, 3.0]]):
        search.start(np.zeros((1, 3)))
        search.advance(tf.constant(target), tf.constant(20))
        results.append((search.z.numpy(), search.best_z.numpy(), search.best_loss.numpy()))
    for first, last in zip(results[0], results[2], strict=True):
        np.testing.assert_array_equal(first, last)


def test_a_row_does_not_depend_on_the_others():
    gradients = []
    for other in (0.0, 1e6):
        z = tf.Variable([[1.0, 2.0, 3.0], [other, other, other]])
        search = make(2)
        search.start(z)
        search.advance(tf.zeros((2, 3)), tf.constant(25))
        gradients.append(search.z.numpy()[0])
    np.testing.assert_array_equal(*gradients)


def test_the_best_z_is_kept_and_its_loss_belongs_to_it():
    search = make(1, 3.0)  # far too large a rate: the loss goes up and down
    target = tf.constant([[0.5, -0.5, 0.2]])
    search.start(np.zeros((1, 3)))
    losses = [search.advance(target, tf.constant(min(step, 1))).numpy()[0] for step in range(8)]
    assert min(losses) < losses[-1]
    assert search.best_loss.numpy()[0] == min(losses)
    np.testing.assert_allclose(quadratic(search.best_z, target), search.best_loss, rtol=1e-6)


def test_the_z_after_the_last_step_can_be_the_best():
    search = make(1)
    search.start(np.zeros((1, 3)))
    last = search.advance(tf.constant([[1.0, 1.0, 1.0]]), tf.constant(5))
    np.testing.assert_array_equal(search.best_loss, last)
    np.testing.assert_array_equal(search.best_z, search.z)


def test_there_is_one_trace_whatever_the_number_of_steps():
    search = make(2)
    search.start(np.zeros((2, 3)))
    for steps in (1, 5, 3, 0):
        search.advance(tf.zeros((2, 3)), tf.constant(steps))
    assert search.advance.experimental_get_tracing_count() == 1


def test_restarts_are_the_same_for_every_image_and_different_from_each_other():
    z0 = initial_z(3, 4, restarts=2, seed=7).numpy().reshape(3, 2, 4)
    np.testing.assert_array_equal(z0[0], z0[2])
    assert not np.array_equal(z0[0, 0], z0[0, 1])
    np.testing.assert_array_equal(z0[0, 0], initial_z(1, 4, seed=7)[0])
    assert not np.array_equal(z0[0, 0], initial_z(1, 4, seed=8)[0])


def test_uniform_prior_starts_inside_its_bounds():
    z0 = initial_z(1, 1000, prior="uniform").numpy()
    assert -1 <= z0.min() < -0.9
    assert 0.9 < z0.max() <= 1
