"""Every published run gives on this machine what it gave where it was published."""

from pathlib import Path

import numpy as np
import pytest

import anogan_tf as agt
from anogan_tf import scoring

WEIGHTS = Path(__file__).parents[1] / "weights"
RUNS = sorted(path.parent.name for path in WEIGHTS.glob("*/SHA256SUMS"))


@pytest.fixture(autouse=True)
def _of_this_clone(monkeypatch):
    monkeypatch.setenv("ANOGAN_TF_WEIGHTS", str(WEIGHTS))


def test_runs_are_published():
    assert "mnist-8" in RUNS


@pytest.mark.parametrize("name", RUNS)
def test_a_published_run_scores_as_it_did(name):
    """Rounding differs between machines, and the search amplifies it: scores, most of which need no search, may move by
    a hundredth of the spread of normal scores, a reconstruction by 0.05 of its range of 2 in the mean."""
    golden = np.load(WEIGHTS / name / "golden.npz")
    scorer = agt.load_run(name)
    scored = scorer.score(golden["images"] / np.float32(127.5) - 1)
    spread = np.std(scorer.calibration.scores)
    np.testing.assert_allclose(scored["anomaly_score"], golden["anomaly_score"], rtol=0, atol=0.01 * spread)
    moved = np.abs(scored["reconstruction"] - golden["reconstruction"]).mean(axis=(1, 2, 3))
    assert moved.max() < 0.05, moved


@pytest.mark.parametrize("name", RUNS)
def test_a_published_run_names_no_folder_of_the_machine_it_was_made_on(name):
    run = (WEIGHTS / name / "run.json").read_text()
    assert ': "/' not in run
    assert ":\\\\" not in run


PAIRS = [name for name in RUNS if (WEIGHTS / name / "generator.h5").exists()]
KEPT = (
    "name", "units", "filters", "kernel_size", "strides", "padding", "use_bias", "size", "interpolation", "cropping",
    "target_shape", "momentum", "epsilon", "activation", "negative_slope", "rate",
)  # fmt: skip


def in_keras_2(tf_keras, network):
    """The same layers in Keras 2."""
    layers = [tf_keras.Input(network.input_shape[1:])]
    for layer in network.layers[1:]:
        config = {name: value for name, value in layer.get_config().items() if name in KEPT}
        if type(layer).__name__ == "LeakyReLU":
            config["alpha"] = config.pop("negative_slope")
        layers.append(getattr(tf_keras.layers, type(layer).__name__)(**config))
    return tf_keras.Sequential(layers)


@pytest.mark.parametrize("name", PAIRS)
def test_a_published_pair_of_keras_2_gives_the_same_in_keras_2(name):
    tf_keras = pytest.importorskip("tf_keras")
    gan = scoring.unwrapped(agt.load_run(name)).gan
    z, images = gan.latent_dim, gan.image_shape
    for network, shape in ((gan.generator, (2, z)), (gan.discriminator, (2, *images))):
        file = WEIGHTS / name / f"{network.name}.h5"
        theirs = in_keras_2(tf_keras, network)
        theirs.load_weights(file)
        values = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
        expected = network(values, training=False).numpy()
        np.testing.assert_allclose(theirs(values, training=False), expected, rtol=1e-4, atol=1e-4)
        network.set_weights([0 * weight for weight in network.get_weights()])
        agt.load_weights(network, file)
        np.testing.assert_array_equal(network(values, training=False), expected)


def test_there_is_a_published_pair_of_keras_2():
    assert "cifar10-horse" in PAIRS
