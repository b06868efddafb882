import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import anogan_tf as agt
from anogan_tf import plots
from anogan_tf.callbacks import Checkpoint, Progress, SampleGrid, StopOnNaN, TensorBoard
from tests.conftest import small_gan

pytestmark = pytest.mark.usefixtures("untraced")


@pytest.fixture
def gan():
    gan = small_gan()
    gan.compile()
    return gan


def fit(gan, images, epochs, *callbacks):
    return gan.fit(
        tf.data.Dataset.from_tensor_slices(images).batch(8),
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )


def test_order_of_the_data_is_a_function_of_the_epoch(digits, gan):
    epochs = []

    class Spy(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            epochs.append((epoch, int(digits.train.epoch)))

    gan.fit(digits.train, epochs=4, initial_epoch=2, shuffle=False, verbose=0, callbacks=[Spy()])
    assert epochs == [(2, 2), (3, 3)]


def test_a_kill_while_saving_leaves_the_last_checkpoint_whole(gan, images, tmp_path, monkeypatch):
    path = tmp_path / "c.weights.h5"
    fit(gan, images, 1, Checkpoint(path, every_seconds=0))
    whole = path.read_bytes()
    monkeypatch.setattr("anogan_tf.atomic.os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        fit(gan, images, 3, Checkpoint(path, every_seconds=0))
    assert path.read_bytes() == whole


def test_checkpoint_holds_everything_in_one_file(gan, images, tmp_path):
    fit(gan, images, 2, Checkpoint(tmp_path / "c.weights.h5"))
    assert [path.name for path in tmp_path.iterdir()] == ["c.weights.h5"]
    with h5py.File(tmp_path / "c.weights.h5") as file:
        assert {"generator", "discriminator", "g_optimizer", "d_optimizer", "training"} <= set(file)
        assert file["training"].attrs["epochs_done"] == 2


def test_a_finished_training_is_not_trained_further(gan, images, tmp_path):
    fit(gan, images, 2, Checkpoint(tmp_path / "c.weights.h5"))
    again = small_gan()
    again.compile()
    fit(again, images, 2, Checkpoint(tmp_path / "c.weights.h5"))
    np.testing.assert_array_equal(again.generate(2), gan.generate(2))
    assert int(again.d_optimizer.iterations) == 10


def test_checkpoint_needs_a_name_that_keras_reads():
    with pytest.raises(ValueError, match=r"ends in \.weights\.h5"):
        Checkpoint("checkpoint.h5")


def test_samples_are_drawn_at_epochs(gan, images, tmp_path):
    fit(gan, images, 4, SampleGrid(tmp_path / "samples", n=4, every=2))
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["epoch_0002.png", "epoch_0004.png"]


def test_divergence_stops_training_and_keeps_the_checkpoint(gan, images, tmp_path):
    path = tmp_path / "c.weights.h5"
    fit(gan, images, 1, Checkpoint(path, every_seconds=0))
    whole = path.read_bytes()
    gan.generator.trainable_variables[0].assign(gan.generator.trainable_variables[0] * np.nan)
    with pytest.raises(ArithmeticError, match=r"epoch 1, batch 1: .*g_loss.*nan"):
        fit(gan, images, 3, StopOnNaN(), Checkpoint(tmp_path / "other.weights.h5", every_seconds=0))
    assert path.read_bytes() == whole
    assert not (tmp_path / "other.weights.h5").exists()


def test_progress_counts_epochs(gan, images):
    progress = Progress()
    fit(gan, images, 3, progress)
    assert progress.bar.n in (0, 3)  # 0 where the bar is not shown


def events(folder):
    """What TensorBoard would show: values by name and step, pictures by name and step."""
    accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    accumulator.Reload()
    scalars, pictures = {}, {}
    for name in accumulator.Tags()["tensors"]:
        for event in accumulator.Tensors(name):
            value = tf.make_ndarray(event.tensor_proto)
            if value.shape == ():
                scalars[name, event.step] = float(value)
            else:
                pictures[name, event.step] = tf.io.decode_png(value[2]).numpy()
    return scalars, pictures


def test_tensorboard_has_losses_and_samples_of_a_gan(gan, images, tmp_path):
    history = fit(gan, images, 2, TensorBoard(tmp_path / "logs", every=2)).history
    scalars, pictures = events(tmp_path / "logs")
    assert {name for name, _ in scalars} == set(history)
    for name, values in history.items():
        assert [scalars[name, step] for step in (1, 2)] == pytest.approx(values)
    assert list(pictures) == [("samples", 2)]
    assert pictures["samples", 2].std() > 0


def test_tensorboard_has_query_reconstruction_and_difference_of_an_encoder(gan, images, tmp_path):
    fanogan = agt.FAnoGAN(gan)
    fanogan.compile()
    fit(fanogan, images, 1, TensorBoard(tmp_path / "logs", queries=images[:3]))
    scalars, pictures = events(tmp_path / "logs")
    assert set(scalars) == {("loss", 1), ("image_loss", 1), ("feature_loss", 1)}
    expected = plots.pixels(plots.reconstructions(images[:3], fanogan.reconstruct(images[:3])))
    np.testing.assert_array_equal(pictures["reconstructions", 1], expected)


def test_tensorboard_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install anogan-tf\[tensorboard\]"):
        TensorBoard("logs")
