"""Exports give what scorers give, in every format, and are refused where they would not."""

import contextlib
import dataclasses
import importlib.util
import io
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import anogan_tf as agt
from anogan_tf import exporting, formats, thresholds
from anogan_tf.commands import export as command
from anogan_tf.commands import serve
from anogan_tf.data import Encoded
from anogan_tf.detector import ExportDetector, RunDetector
from anogan_tf.distances import Kinds, Places, Scales, Turning, Usual
from anogan_tf.joint import JointReference
from anogan_tf.overview import Joined, Overview
from anogan_tf.registration import Registration
from tests.conftest import small_features, small_gan


def calibrated(scorer, images):
    scorer.fit_reference(images)
    scorer.calibrate(images, alpha=0.2)
    return scorer


@pytest.fixture(scope="module")
def encoder():
    return agt.Encoder((8, 8, 1), 6, width=4, seed=1)


@pytest.fixture(scope="module")
def large():
    """Normal pictures of twice the networks' size."""
    return np.random.default_rng(0).uniform(-1, 1, (6, 16, 16, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def scorers(images, large, encoder):
    """One of each kind of scorer, the search short enough for roundings to stay small."""
    gan, told = small_gan(seed=5), small_gan(seed=5, self_supervision=("rotation", "shift"))
    colour = small_gan(image_shape=(9, 8, 3))
    drawn = agt.AnoGAN(gan, encoder=encoder, score="paper", steps=2, chunk=2)
    gan.generator.set_weights([3 * weight for weight in gan.generator.get_weights()])  # z makes a difference
    images = images[:12]
    scorers = {
        "blend": calibrated(agt.AnoGAN(told, score="features+tasks+density", chunk=8), images),
        "search": calibrated(agt.AnoGAN(gan, score="paper", steps=3, restarts=2, prior_weight=0.1, chunk=8), images),
        "encoder": calibrated(agt.FAnoGAN(gan, encoder=encoder, chunk=8), images),
        "difference": calibrated(agt.FAnoGAN(gan, encoder=encoder, score="difference", chunk=8), images),
        "colour": calibrated(agt.FAnoGAN(colour, score="residual", chunk=8), colour.generator(np.eye(6)).numpy()),
        "tiles": calibrated(agt.Patched(agt.FAnoGAN(gan, encoder=encoder, chunk=8)), large),
    }
    features = agt.local_features.local_features(large).numpy()
    ways = {"places": Places, "kinds": Kinds, "turning": Turning, "usual": Places, "registered": Places}
    for name, of_scale in ways.items():
        scorers[name] = agt.LocalNeighbours(drawn, factor=2)
        scorers[name].reference = Scales.fit(features, of_scale=of_scale)
        if name == "usual":
            scorers[name].reference.usual = Usual(np.full((16, 16), 0.2, np.float32), np.float32(0.5))
            scorers[name].reference.overview = Overview.fit(agt.local_features.undirected(features).numpy())
            scorers[name].reference.joined = Joined(np.array([0.5, 0.7]), np.array([0.3, 0.2]))
        if name == "registered":
            scorers[name].reference.registration = Registration.fit(large)
        scorers[name].calibrate(large, alpha=0.2)
    network = small_features()
    for name, of_both in (("network", agt.LocalNeighbours), ("joint", agt.JointNeighbours)):
        scorers[name] = of_both(drawn, factor=2, features=network)
        scorers[name].cross_calibrate(large, 0.2, folds=2)
    return scorers


KINDS = (
    *("blend", "search", "encoder", "difference", "colour"),
    *("places", "kinds", "turning", "usual", "registered", "network", "joint", "tiles"),
)
UNEVEN = ((16, 16), (23, 16), (40, 37))


def pictures(sizes=UNEVEN):
    """Smooth noise in colour, `(height, width, 3)`."""
    rng = np.random.default_rng(1)
    blocks = [Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8)) for _ in sizes]
    return [np.asarray(block.resize(size[::-1])) for block, size in zip(blocks, sizes, strict=True)]


def assert_same(found, scorer, expected):
    for got, want in zip(found, expected, strict=True):
        assert got.keys() == want.keys()
        for name, value in want.items():
            value = np.asarray(value)
            atol = {"anomaly_score": 1e-4 * np.std(scorer.calibration.scores), "anomaly_mask": 0.01}.get(name, 2e-5)
            np.testing.assert_allclose(np.asarray(got[name])[0], value, rtol=1e-4, atol=atol, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_gives_what_the_scorer_gives(scorers, kind):
    scorer = scorers[kind]
    spec = tf.TensorSpec((None, None, None, 3), tf.uint8)
    graph = tf.function(
        lambda pictures: exporting.answers(scorer, pictures, draw=True), input_signature=[spec], autograph=False
    )
    assert_same([graph(picture[None]) for picture in pictures()], scorer, exporting._expected(scorer, pictures(), True))


def test_pictures_in_one_batch_get_what_each_gets_alone(scorers):
    for kind in ("tiles", "kinds"):
        both = np.stack(pictures(((24, 17), (24, 17))))
        together = exporting.answers(scorers[kind], both, draw=True)
        expected = exporting._expected(scorers[kind], list(both), True)
        assert_same([{name: value[i:] for name, value in together.items()} for i in range(2)], scorers[kind], expected)


def test_an_alarm_without_a_pixel_above_the_threshold_has_its_strongest_region(scorers, monkeypatch):
    scorer = scorers["encoder"]
    above_all = dataclasses.replace(scorer.calibration, threshold=-1.0, pixel_threshold=99.0)
    monkeypatch.setattr(scorer, "calibration", above_all)
    found = [exporting.answers(scorer, picture[None], draw=True) for picture in pictures()]
    assert_same(found, scorer, exporting._expected(scorer, pictures(), True))
    assert all(0 < np.mean(each["anomaly_mask"]) < 0.1 for each in found)


def skip_without(name):
    """Skips where a format's packages are missing; nothing is imported, which OpenVINO would tell its makers."""
    for package in formats.FORMATS[name].needs:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")


@pytest.mark.parametrize("name", [pytest.param("saved_model", marks=pytest.mark.slow), "onnx"])
def test_tiles_of_a_picture_of_any_size_leave_with_their_loops(scorers, name, tmp_path):
    skip_without(name)
    exporting.export(scorers["tiles"], tmp_path / "export", format=name, pictures=pictures())
    assert json.loads((tmp_path / "export" / "model.json").read_text())["outputs"]["anomaly_score"]["shape"] == [None]


@pytest.fixture(scope="module")
def judged(scorers, tmp_path_factory):
    """What a run says of the pictures."""
    folder = tmp_path_factory.mktemp("judged") / "run"
    agt.save_run(folder, scorers["places"])
    detector = RunDetector(folder)
    return [detector.judge([detector.read(picture)])[0] for picture in pictures()]


@pytest.mark.parametrize("name", formats.FORMATS)
def test_a_format_gives_what_the_scorer_gives(scorers, judged, name, monkeypatch, tmp_path):
    skip_without(name)
    one_by_one, asked = formats._one_by_one, []
    monkeypatch.setattr(formats, "_one_by_one", lambda call: asked.append(call) or one_by_one(call))
    scorer = scorers["places"]
    differences = exporting.export(scorer, tmp_path / "export", format=name, pictures=pictures())
    told = json.loads((tmp_path / "export" / "model.json").read_text())
    call = formats.load(tmp_path / "export")
    found = call(pictures()[0][None])
    turned = np.rot90(pictures()[0])
    for name_of, values in call(np.stack([turned, pictures()[0]])).items():  # one by one, where it takes one
        np.testing.assert_allclose(values[1:], found[name_of], rtol=1e-4, atol=2e-5)
    assert bool(asked) == (name != "saved_model")  # which takes many
    assert told["inputs"]["pictures"]["shape"] == [None if name == "saved_model" else 1, None, None, 3]
    assert set(told["outputs"]) == set(found) == set(differences)
    assert {key: value["dtype"] for key, value in told["outputs"].items()} == {
        key: value.dtype.name for key, value in found.items()
    }
    assert told["thresholds"]["threshold"] == scorer.calibration.threshold
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export"]
    detector = ExportDetector(tmp_path / "export")
    for picture, want in zip(pictures(), judged, strict=True):
        (got,) = detector.judge([detector.read(picture)])
        assert (got.decision, got.prediction, got.size) == (want.decision, want.prediction, want.size)
        assert got.anomaly_score == pytest.approx(want.anomaly_score, rel=1e-3)
        assert got.p_value == pytest.approx(want.p_value)
        assert [region["peak"] for region in got.regions] == pytest.approx([r["peak"] for r in want.regions], rel=1e-3)


def encoded(picture, kind, **options):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, **options)
    return file.getvalue()


def test_encoded_pictures_get_the_scores_that_python_gives(scorers, tmp_path):
    scorer, turned = scorers["encoder"], Image.Exif()
    turned[274] = 6
    functions = exporting._functions(scorer, draw=True, many=True, loops=True)
    formats.FORMATS["saved_model"].write(functions, tmp_path / "model")
    signature = tf.saved_model.load(str(tmp_path / "model")).signatures["encoded"]
    clear = np.dstack([pictures()[1], np.tile(np.arange(16, dtype=np.uint8) * 17, (23, 1))])
    for content in (encoded(pictures()[2], "JPEG", exif=turned), encoded(clear, "PNG")):
        (expected,) = exporting._expected(scorer, [Encoded(content)], True)
        assert_same([signature(encoded=tf.constant(content))], scorer, [expected])
    with pytest.raises(tf.errors.InvalidArgumentError, match="as it is neither JPEG nor PNG"):
        signature(encoded=tf.constant(encoded(pictures()[0], "GIF")))


def given(expected):
    """As an export would give it, in batches of one."""
    return [{name: np.asarray(value)[None] for name, value in each.items()} for each in expected]


def test_what_differs_is_not_kept(scorers, monkeypatch, tmp_path):
    scorer = scorers["encoder"]
    wrong = given(exporting._expected(scorer, pictures(), True))
    wrong[1]["reconstruction"] = wrong[1]["reconstruction"] + 1e-3
    monkeypatch.setattr(exporting, "_called", lambda *_: wrong)
    with pytest.raises(ValueError, match=r"was not kept.*reconstruction [\d.]+ \(at most 0.0001\)"):
        exporting.export(scorer, tmp_path / "export", pictures=pictures())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("kind", "most"), [("places", 1e-4), ("kinds", 1e-2), ("turning", 1e-2)])
def test_maps_may_jump_where_a_place_falls_to_one_of_two_clusters(kind, most, scorers, monkeypatch):
    scorer = scorers[kind]

    def compared(by):
        found = given(exporting._expected(scorer, pictures(), False))
        found[1]["anomaly_map"] = moved = found[1]["anomaly_map"].copy()
        moved[0, 3, 3] += by * moved.max()
        monkeypatch.setattr(exporting, "_called", lambda *_: found)
        return exporting._compared(scorer, None, pictures(), draw=False, searched=False)

    assert compared(0.5 * most)["anomaly_map"] == pytest.approx(0.5 * most, rel=0.01)
    with pytest.raises(ValueError, match=rf"was not kept.*anomaly_map {2 * most:g} \(at most {most:g}\)"):
        compared(2 * most)


def test_both_have_clusters_where_one_has():
    ways = [SimpleNamespace(has_clusters=has) for has in (False, True)]
    assert JointReference(*ways, (1.0, 1.0), (1.0, 1.0)).has_clusters
    assert not JointReference(ways[0], ways[0], (1.0, 1.0), (1.0, 1.0)).has_clusters


def test_a_search_may_move_the_mean_residual_by_a_hundredth(scorers, monkeypatch, tmp_path):
    scorer = scorers["search"]
    found = given(exporting._expected(scorer, pictures(), True))
    monkeypatch.setattr(exporting, "_called", lambda *_: found)
    for each in found:
        each["residual"] = each["residual"] * 1.005
        each["reconstruction"] = each["reconstruction"] + 0.1
    assert exporting._compared(scorer, tmp_path, pictures(), draw=True, searched=True)["mean_residual"] < 0.01
    for each in found:
        each["residual"] = each["residual"] * 1.02
    with pytest.raises(ValueError, match=r"mean_residual 0\.025"):
        exporting._compared(scorer, tmp_path, pictures(), draw=True, searched=True)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("blend", {"format": "onnx", "search": True}, 'format="onnx" has no gradients'),
        ("search", {}, r"decides by the z that a search finds.*--search"),
        ("blend", {"format": "tflite"}, r"format is one of .*Received: format='tflite'"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    scorers, kind, options, message, monkeypatch, tmp_path
):
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda package: package)
    with pytest.raises(ValueError, match=message):
        exporting.export(scorers[kind], tmp_path / "export", **options)
    assert not list(tmp_path.iterdir())


def test_a_missing_runtime_is_named(monkeypatch):
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(ValueError, match=r'needs tf2onnx, onnxruntime: pip install "anogan-tf\[onnx\]"'):
        formats.of_name("onnx")


def test_a_scorer_without_thresholds_is_refused(encoder, tmp_path):
    with pytest.raises(ValueError, match="call calibrate"):
        exporting.export(agt.FAnoGAN(small_gan(), encoder=encoder, score="paper"), tmp_path / "export")


def test_a_folder_of_something_else_is_left_alone(scorers, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="name another folder"):
        exporting.export(scorers["encoder"], tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_no_export_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no export"):
        formats.load(tmp_path)


def test_a_picture_smaller_than_the_crop_is_anomalous_and_has_no_score(scorers, monkeypatch):
    scorer = scorers["encoder"]
    monkeypatch.setitem(scorer.info, "preprocessing", {"image_shape": (8, 8, 1), "crop": 20})
    small, enough = (exporting.answers(scorer, picture[None], draw=False) for picture in pictures(((19, 30), (20, 30))))
    assert np.isnan(small["anomaly_score"]).all()
    assert thresholds.DECISIONS[int(small["decision"][0])] == "anomalous"
    assert np.isfinite(enough["anomaly_score"]).all()


@pytest.fixture(scope="module")
def exported(scorers, tmp_path_factory):
    """An ONNX export that the command made of a run."""
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("exported")
    agt.save_run(folder / "run", scorers["blend"])
    with contextlib.redirect_stdout(io.StringIO()) as told:
        command.run(folder / "run", folder / "export", format="onnx")
    assert "anomaly_score" in told.getvalue()
    return folder / "export"


def test_a_served_export_has_its_own_thresholds_and_takes_bytes(scorers, exported):
    with pytest.raises(ValueError, match=r"whose thresholds are its own: serve its run for --alpha, --chunk"):
        serve._detector(exported, 0.1, None, 4)
    detector = serve._detector(exported, None, None, None)
    detector.warm_up()
    (verdict,) = detector.judge([detector.read(np.zeros((9, 12), np.uint8))], mapped=True)
    assert (verdict.size, verdict.regions, verdict.anomaly_map) == ((9, 12), None, None)  # it draws nothing
    assert detector.thresholds["suspicious"] == scorers["blend"].calibration.threshold
    with pytest.raises(ValueError, match=r"an export takes 8 bits a channel\. Received: 16"):
        detector.read(np.zeros((8, 8), np.uint16) + 60000)


def test_an_export_is_called_without_tensorflow(scorers, exported, tmp_path):
    scorer = scorers["blend"]
    told = json.loads((exported / "model.json").read_text())
    assert told["signatures"] == ["serving_default"]
    assert told["fingerprint"] == exporting._fingerprint(scorer)
    scorer.recalibrate(0.3)
    assert told["fingerprint"] != exporting._fingerprint(scorer)
    np.savez(tmp_path / "pictures.npz", pictures()[0][None])
    program = (
        "import sys; sys.modules |= dict.fromkeys(('tensorflow', 'keras', 'scipy', 'sklearn', 'PIL'))\n"
        "from anogan_tf import formats; formats.main()"
    )
    arguments = [exported, tmp_path / "pictures.npz", tmp_path / "outputs.npz"]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True)
    found = np.load(tmp_path / "outputs.npz")["arr_0/anomaly_score"]
    np.testing.assert_allclose(found, exporting._expected(scorer, pictures()[:1], False)[0]["anomaly_score"], rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist-8", "mvtec-bottle"])
def test_a_published_run_is_exported(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    for format in formats.FORMATS:
        if all(formats.importlib.util.find_spec(package) for package in formats.FORMATS[format].needs):
            differences = command.run(name, tmp_path / format, format=format)
            assert differences["anomaly_score"] <= exporting.TOLERANCE
