import json
import pickle
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from PIL import Image

import anogan_tf as agt
from anogan_tf import choice, pretrained
from anogan_tf.commands.cli import main
from anogan_tf.distances import Kinds, Places
from anogan_tf.runs import files_of
from tests.conftest import bars, scratched


def convolutions(*names, channels=3, side=None, filters=6):
    """A classifier with random weights, each of whose convolutions halves the picture; levels are scaled inside."""
    levels = keras.Input((side, side, channels))
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(levels)
    for seed, name in enumerate(names):
        initializer = keras.initializers.GlorotNormal(seed=seed)
        x = keras.layers.Conv2D(filters, 3, 2, "same", activation="elu", kernel_initializer=initializer, name=name)(x)
    return keras.Model(levels, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)), name="classifier")


@pytest.fixture(scope="module")
def network():
    return convolutions("two", "four", "eight", "sixteen", "thirty_two")


@pytest.fixture(scope="module")
def features(network):
    return pretrained.features(network)


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("networks") / "own.keras"
    network.save(path)
    return path


def pictures(n=2, size=(40, 48), channels=3, seed=0):
    noise = np.random.default_rng(seed).uniform(-1, 1, (n, *size, channels))
    return noise.astype(np.float32)


def test_the_last_layers_with_8_and_16_pixels_between_places_are_taken(network, features):
    """Their maps, projected, scaled, and on the grid of every eighth pixel."""
    assert features.source["layers"] == ["eight", "sixteen"]
    images = pictures()
    maps = keras.Model(network.inputs[0], [network.get_layer(name).output for name in ("eight", "sixteen")])
    expected = []
    for number, values in enumerate(maps((images + 1) * 127.5), 1):
        kernel = features.network.get_layer(f"projection_{number}").kernel[0, 0]
        expected.append(tf.image.resize(values @ kernel, (5, 6)))
    np.testing.assert_allclose(features.of_pictures(images), np.concatenate(expected, axis=-1), rtol=1e-3, atol=1e-4)


def test_residual_sums_go_before_the_layers_after_them():
    levels = keras.Input((None, None, 3))
    eight = keras.layers.Conv2D(4, 8, 8, "same")(levels)
    total = keras.layers.Add(name="sum")([eight, keras.layers.Conv2D(4, 3, 1, "same")(eight)])
    wide = keras.layers.Conv2D(9, 1, name="wide")(total)
    sixteen = keras.layers.Conv2D(4, 2, 2, name="sixteen")(wide)
    model = keras.Model(levels, keras.layers.GlobalAveragePooling2D()(sixteen))
    assert pretrained.features(model).source["layers"] == ["sum", "sixteen"]


def test_projections_are_orthogonal_and_scaled_to_a_deviation_of_1(network):
    features = pretrained.features(network, channels=8)
    noise = pretrained._noise((128, 128))
    for number, seen in enumerate(features.network(noise), 1):
        kernel = features.network.get_layer(f"projection_{number}").kernel.numpy()[0, 0]
        assert kernel.shape == (6, 4)
        products = kernel.T @ kernel
        np.testing.assert_allclose(products - np.diag(np.diag(products)), 0.0, atol=1e-4 * products.max())
        np.testing.assert_allclose(np.std(seen, axis=(0, 1, 2)), 1.0, rtol=1e-3)


def test_a_gray_picture_is_given_three_times(features):
    gray = pictures(channels=1)
    np.testing.assert_array_equal(features.of_pictures(gray), features.of_pictures(np.repeat(gray, 3, axis=-1)))


def test_features_are_bit_identical_in_any_company(features):
    images = pictures(5)
    np.testing.assert_array_equal(features.of_pictures(images)[::-1], features.of_pictures(images[::-1]))
    np.testing.assert_array_equal(features.of_pictures(images)[3:4], features.of_pictures(images[3:4]))


def test_training_the_network_further_changes_no_features():
    network = convolutions("two", "four", "eight")
    features = pretrained.features(network)
    before = features.of_pictures(pictures())
    network.set_weights([weight + 1 for weight in network.get_weights()])
    np.testing.assert_array_equal(features.of_pictures(pictures()), before)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(features)).of_pictures(pictures()), before)


def test_outputs_that_are_feature_maps_and_layers_that_are_named_are_taken(network):
    maps = keras.Model(network.inputs[0], [network.get_layer(name).output for name in ("four", "eight")])
    assert pretrained.features(maps).source["layers"] == maps.output_names
    assert pretrained.features(maps).of_pictures(pictures()).shape == (2, 5, 6, 12)
    assert pretrained.features(network, layers=["four"], channels=5).of_pictures(pictures()).shape == (2, 5, 6, 5)
    coarse = keras.Model(network.inputs[0], network.get_layer("thirty_two").output)
    assert pretrained.features(coarse).source["layers"] == ["eight", "sixteen"]


def test_a_network_of_one_size_is_given_pictures_of_that():
    fixed = pretrained.features(convolutions("two", "four", "eight", side=32))
    same, other = pictures(1, (32, 32)), tf.image.resize(pictures(1, (32, 32)), (64, 48)).numpy()
    assert fixed.of_pictures(other).shape == (1, 8, 6, 6)
    smooth = tf.image.resize(other, (32, 32)).numpy()
    expected = tf.image.resize(fixed.of_pictures(smooth), (8, 6))
    np.testing.assert_allclose(fixed.of_pictures(other), expected, rtol=1e-3, atol=1e-3)
    assert fixed.of_pictures(same).shape == (1, 4, 4, 6)


@pytest.mark.parametrize(
    ("model", "layers", "message"),
    [
        (lambda: convolutions("two", "four", "eight", channels=1), None, r"takes pictures.*\(None, None, None, 1\)"),
        (lambda: convolutions("two", "four"), None, r"with 8 or 16 pixels.*Received: classifier, with \[1\.0, 2\.0, 4"),
        (lambda: convolutions("eight"), ["nine"], r"feature maps: \['rescaling.*', 'eight'\]\. Received: \['nine'\]"),
        (lambda: convolutions("eight"), [], r"layers are names.*Received: \[\]"),
        (lambda: convolutions("eight"), ["eight"], r"at least 1 for each.*channels=0"),
    ],
)
def test_networks_that_do_not_fit_are_refused(model, layers, message):
    with pytest.raises(ValueError, match=message):
        pretrained.features(model(), layers=layers, channels=0 if layers == ["eight"] else 8)


def preprocess_input(levels):
    """What a network of `keras.applications` wants done, as its module has it; that of VGG16."""
    return levels[..., ::-1] - np.float32([103.939, 116.779, 123.68])


def test_a_name_is_a_network_of_keras_with_what_is_done_before_it(network, monkeypatch):
    asked = []
    monkeypatch.setattr(
        keras.applications, "Tiny", made := lambda **options: asked.append(options) or network, raising=False
    )
    assert made.__module__ == __name__
    features = pretrained.features("Tiny", layers=["eight"])
    assert asked == [{"include_top": False, "weights": "imagenet", "input_shape": (None, None, 3)}]
    assert features.source == {"network": "Tiny", "weights": "imagenet", "layers": ["eight"]}
    eight = keras.Model(network.inputs[0], network.get_layer("eight").output)
    maps = eight(preprocess_input((pictures() + 1) * 127.5))
    expected = maps @ features.network.get_layer("projection_1").kernel[0, 0]
    np.testing.assert_allclose(features.of_pictures(pictures()), expected, rtol=1e-3, atol=1e-3)


def test_names_that_keras_has_not_are_refused():
    for name in ("Resnet50", "resnet", "backend"):
        with pytest.raises(ValueError, match=rf"such as EfficientNetV2B0.*or the path.*Received: {name}"):
            pretrained.features(name)


def test_without_a_network_connection_a_file_is_named(monkeypatch):
    def refused(**options):
        raise Exception("URL fetch failure on https://…: None -- [Errno -3]")

    monkeypatch.setattr(keras.applications, "Tiny", refused, raising=False)
    with pytest.raises(ConnectionError, match=r"URL fetch failure.*give a \.keras file"):
        pretrained.features("Tiny")


def test_files_that_hold_no_network_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*lost\.keras"):
        pretrained.features(tmp_path / "lost.keras")
    (tmp_path / "words.keras").write_text("words")
    with pytest.raises(ValueError, match=r"words\.keras is no Keras model"):
        pretrained.features(tmp_path / "words.keras")


@keras.saving.register_keras_serializable("test_pretrained")
class Own(keras.layers.Layer):
    def call(self, inputs):
        return 2.0 * inputs


@pytest.mark.parametrize("layer", [Own, lambda: keras.layers.Lambda(lambda x: 2.0 * x)], ids=["own", "lambda"])
def test_layers_that_keras_has_not_are_refused(layer, tmp_path):
    levels = keras.Input((None, None, 3))
    model = keras.Model(levels, layer()(keras.layers.Conv2D(4, 8, 8, "same")(levels)))
    with pytest.raises(ValueError, match=r"Keras' own, without code|safe_mode"):
        pretrained.features(model)
    model.save(tmp_path / "code.keras")
    with pytest.raises(ValueError, match=r"Keras' own, without code|no Keras model that could be loaded"):
        pretrained.features(tmp_path / "code.keras")


@pytest.fixture(scope="module")
def scorer(file):
    """A scorer of gray pictures with a bright bar, cross-calibrated."""
    drawing = agt.AnoGAN(agt.DCGAN((8, 8, 1), 4, width=4), steps=1, score="paper", chunk=4)
    scorer = agt.LocalNeighbours(drawing, features=file)
    scorer.cross_calibrate(bars(10), 0.2, folds=2)
    return scorer


def test_places_whole_pictures_and_maps_are_of_the_networks_features(scorer):
    out, usual = (scorer.score(images, draw=False) for images in (scratched(3), bars(4, seed=2)))
    assert out["anomaly_score"].min() > usual["anomaly_score"].max()
    assert out["anomaly_map"].shape == (3, 32, 32)
    assert len(scorer.reference.overview.mean) == 2 * 12
    assert type(scorer.reference.fine) is Places
    assert scorer.reference.usual is None
    assert not scorer.reference.levelled
    assert scorer.reference.fine.memory.shape[-1] == 12


def test_scores_are_bit_identical_in_any_batch(scorer):
    images = np.concatenate([scratched(3), bars(3, seed=2)])
    together, alone = scorer.score(images, draw=False), scorer.score(images[4:5], draw=False)
    for name, values in alone.items():
        if name != "id":
            np.testing.assert_array_equal(values[0], together[name][4])
            np.testing.assert_array_equal(scorer.score(images[::-1], draw=False)[name][::-1], together[name])


def test_ways_without_directions_are_for_filters(features, monkeypatch):
    asked = []
    monkeypatch.setattr(choice, "likelihood_gain", lambda *_: 0.0)
    monkeypatch.setattr(choice, "aurocs", lambda ways, *_: asked.append(ways) or np.reshape([0.5, 0.9], (2, 1, 1)))
    images = bars(4)
    chosen = choice.chosen(images, None, 0, features).way
    assert asked == [[Places, Kinds]]
    assert chosen is Kinds


@pytest.fixture
def saved(scorer, tmp_path):
    agt.save_run(tmp_path / "run", scorer)
    return tmp_path / "run"


def test_a_run_holds_the_network(scorer, saved, file):
    told = json.loads((saved / "run.json").read_text())["features"]
    assert told["network"] == "own.keras"
    assert told["layers"] == ["eight", "sixteen"]
    assert len(told["file_sha256"]) == 64
    assert {"features.json", "features.weights.h5"} == set(told["sha256"]) <= {path.name for path in files_of(saved)}
    loaded = agt.load_run(saved)
    for one in (loaded, pickle.loads(pickle.dumps(scorer))):
        found, expected = (each.score(scratched(2), draw=False) for each in (one, scorer))
        np.testing.assert_array_equal(found["anomaly_score"], expected["anomaly_score"])
        np.testing.assert_array_equal(found["anomaly_map"], expected["anomaly_map"])
    agt.save_run(saved, loaded)
    assert agt.load_run(saved).features.source == scorer.features.source


@pytest.mark.parametrize("name", ["features.json", "features.weights.h5"])
def test_a_run_with_another_network_is_refused(saved, name):
    content = bytearray((saved / name).read_bytes())
    content[-2] ^= 1
    (saved / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"not the one that the run was saved with: the SHA-256 of .*{name}"):
        agt.load_run(saved)


def test_nothing_is_left_of_a_network_where_filters_decide(scorer, saved):
    plain = agt.LocalNeighbours(scorer.scorer)
    plain.fit_reference(bars(4))
    agt.save_run(saved, plain)
    assert not list(saved.glob("features*"))
    assert agt.load_run(saved).features is None


def command(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_the_command_line_from_a_folder_to_scores(file, tmp_path):
    for part, images in (("train", bars(12)), ("test", scratched(2)), ("more", bars(2, seed=1))):
        (tmp_path / part / "good").mkdir(parents=True)
        for number, image in enumerate(images):
            levels = ((image[..., 0] + 1) * 127.5).clip(0, 255).astype(np.uint8)
            Image.fromarray(levels).save(tmp_path / part / "good" / f"{number}.png")
    own = shutil.copy(file, tmp_path / "moved.keras")
    (tmp_path / "parts").mkdir()
    shutil.move(tmp_path / "train", tmp_path / "parts" / "train")
    small = ["--size", 8, "--training-steps", 2, "--width", 4, "--latent-dim", 4, "--start", "prior", "--steps", 1]
    options = [*small, "--alpha", 0.2, "--features", own]
    trained = command("train", tmp_path / "parts", "--out", tmp_path / "run", *options)
    assert trained.exit_code == 0, trained.output
    own.unlink()
    told = command("info", tmp_path / "run").output
    network = "local features of fixed filters and features of a pretrained network, moved.keras"
    assert f"{network}, against the same place of good pictures" in told
    scored = command("score", tmp_path / "run", tmp_path / "test", "--out", tmp_path / "out", "--pictures", 0)
    assert scored.exit_code == 0, scored.output
    decisions = [line.rpartition(",")[2] for line in (tmp_path / "out" / "scores.csv").read_text().splitlines()[1:]]
    assert len(decisions) == 2
    assert "normal" not in decisions
    learned = command("calibrate", tmp_path / "run", tmp_path / "more", "--learn", "--out", tmp_path / "larger")
    assert learned.exit_code == 0, learned.output
    larger = agt.load_run(tmp_path / "larger")
    assert [len(each.fine.memory[0, 0]) for each in larger.reference.both] == [14, 14]


def test_features_of_what_does_not_compare_them_are_refused(tmp_path):
    refused = command("train", "digits", "--out", tmp_path / "run", "--features", "ResNet50")
    assert refused.exit_code == 1
    assert "--features are for --score neighbours" in refused.output
