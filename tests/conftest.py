import functools
import gc
import os
import shutil
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # each core has a worker, and threads that wait for each other cost both

import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.figure import Figure

import anogan_tf as agt
from anogan_tf import neighbours, plots
from anogan_tf.choice import Choice
from anogan_tf.distances import Places
from anogan_tf.local_features import Filters

# Two logical CPUs, so that MirroredStrategy can be tested anywhere.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
tf.config.experimental.enable_op_determinism()


def pytest_collection_finish():
    """Python looks seldom for cycles of dead objects, and never among what was imported, of which none dies."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def pytest_sessionfinish():
    """Of the many objects of all tests pytest looks five times for dead ones that cannot be freed: once is enough."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)  # before fixtures
def pytest_runtest_setup():
    """What has no seed of its own, such as a test's Keras layers, is the same in every run."""
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def real_data():
    """The folder of real images, beside the repository or where ANOGAN_TF_DATA says."""
    folder = Path(os.environ.get("ANOGAN_TF_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        if "ANOGAN_TF_DATA" in os.environ:
            pytest.fail(f"ANOGAN_TF_DATA names no folder: {folder}")
        pytest.skip("needs real images: set ANOGAN_TF_DATA")
    return folder


@pytest.fixture(scope="session")
def mirrored():
    """Two mirrored CPUs; one strategy for all tests, as a second one would reuse the keys of its collectives."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture(params=[1, 2], ids=["one replica", "two replicas"])
def strategy(request, mirrored):
    """Runs a test without a distribution strategy, and with two mirrored CPUs."""
    return tf.distribute.get_strategy() if request.param == 1 else mirrored


@pytest.fixture(scope="session")
def images():
    """Random smooth images that a small GAN takes, (40, 8, 8, 1) in [-1, 1]."""
    z = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    return small_gan(seed=5).generator(z).numpy()


@pytest.fixture(scope="session")
def digits():
    """The digits' splits with 8 as the normal class."""
    return agt.data.load("digits", batch_size=16)


@pytest.fixture(scope="session")
def trained(digits):
    """A GAN trained on digits for a few epochs, enough to be no longer at its initial weights."""
    gan = small_gan()
    gan.compile()
    gan.fit(digits.train, epochs=3, shuffle=False, verbose=0)
    return gan


@pytest.fixture(scope="session")
def saved_digits(trained, digits, tmp_path_factory):
    """The folder of a run, of an f-AnoGAN around `trained`."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    scorer = agt.FAnoGAN(trained, chunk=4)
    scorer.fit_reference(digits.reference)
    scorer.calibrate(digits.validation)
    agt.save_run(folder, scorer)
    return folder


@pytest.fixture(scope="session")
def traced_scorer(trained, digits):
    anogan = agt.AnoGAN(trained, steps=5, chunk=8)
    anogan.fit_reference(digits.reference)
    anogan.calibrate(digits.validation)
    return anogan


@pytest.fixture
def scorer(traced_scorer):
    """A calibrated AnoGAN with a small chunk; what a test sets is set back, and its graphs serve all tests."""
    before = dict(vars(traced_scorer))
    yield traced_scorer
    vars(traced_scorer).clear()
    vars(traced_scorer).update(before)


@pytest.fixture(scope="module")
def same_place():
    """How pictures are compared is not looked for: at the same place. test_choice.py and the notebooks look for it."""

    def chosen(pictures, scores, seed=0, described=None):
        return Choice(Places, (described or Filters()).of_pictures(pictures))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "chosen", chosen)
        yield


@pytest.fixture
def undrawn(monkeypatch):
    """No figure is drawn, which takes longer than a tiny training."""
    draw_nothing(monkeypatch)


@pytest.fixture
def one_critic_step(monkeypatch):
    """A WGAN-GP takes one critic step a batch: five are traced five times. test_gan.py is about several."""
    monkeypatch.setitem(agt.WGANGP.compile.__kwdefaults__, "critic_steps", 1)


@pytest.fixture
def untraced(monkeypatch):
    """Trainings make no graphs: to trace one takes longer than a few batches without. test_gan.py trains in graphs."""
    train_without_graphs(monkeypatch)


def draw_nothing(patch):
    patch.setattr(plots, "samples", lambda *_, **__: Figure())
    patch.setattr(Figure, "savefig", lambda *_, **__: None)


def train_without_graphs(patch):
    patch.setattr(keras.Model, "compile", functools.partialmethod(keras.Model.compile, run_eagerly=True))


class KeepFirst(keras.callbacks.Callback):
    """Copies the checkpoint of the first epoch, from `unbroken` to `broken`: what a kill after it would leave."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0:
            shutil.copytree(self.folder / "unbroken", self.folder / "broken")


def small_gan(kind="DCGAN", **options):
    return getattr(agt, kind)(**{"image_shape": (8, 8, 1), "latent_dim": 6, "width": 4} | options)


def small_features():
    """A network of features, from levels to maps with 8 pixels between places."""
    levels = keras.Input((None, None, 3))
    weights = keras.initializers.GlorotUniform(seed=0)  # with others some pictures may look the same
    layer = keras.layers.Conv2D(3, 8, 8, "same", activation="elu", kernel_initializer=weights)
    return keras.Model(levels, layer(levels))


def bars(n, seed=0):
    """Pictures `(n, 32, 32, 1)` of noise with a bright bar."""
    images = 0.1 * np.random.default_rng(seed).uniform(-1, 1, (n, 32, 32, 1)).astype(np.float32)
    images[:, 8:14] += 0.6
    return images


def scratched(n):
    images = bars(n, seed=1)
    images[:, 20:24, 8:24] = 0.9
    return images
