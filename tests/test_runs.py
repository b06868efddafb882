import copy
import json
import pickle

import keras
import numpy as np
import pytest
from PIL import Image

import anogan_tf as agt
from tests.conftest import small_gan


def test_a_run_loads_as_it_was_saved(scorer, digits, tmp_path):
    agt.save_run(tmp_path / "run", scorer, note="mine")
    loaded = agt.load_run(tmp_path / "run")
    assert loaded.settings == scorer.settings
    assert loaded.calibration == scorer.calibration
    a, b = (s.test(digits.test.take(2)) for s in (scorer, loaded))
    assert a.results == b.results
    assert json.loads((tmp_path / "run" / "run.json").read_text())["note"] == "mine"


def test_schedules_and_layers_survive(trained, tmp_path):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([50], [0.1, 0.01])
    options = {"learning_rate": schedule, "feature_layers": ["features_1"], "score": "paper", "restarts": 2}
    anogan = agt.AnoGAN(trained, steps=60, chunk=4, **options)
    agt.save_run(tmp_path, anogan)
    loaded = agt.load_run(tmp_path)
    assert tuple(loaded.settings["feature_layers"]) == ("features_1",)
    assert [float(loaded.learning_rate(step)) for step in (0, 50, 51)] == pytest.approx([0.1, 0.1, 0.01])
    images = np.linspace(-1, 1, 2 * 64, dtype=np.float32).reshape(2, 8, 8, 1)
    np.testing.assert_array_equal(loaded.score(images)["z"], anogan.score(images)["z"])


def test_a_run_with_own_networks_says_so_and_takes_them(tmp_path):
    def networks():
        generator = keras.Sequential(
            [keras.Input((5,)), keras.layers.Dense(64, "tanh"), keras.layers.Reshape((8, 8, 1))]
        )
        discriminator = keras.Sequential(
            [keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(1)]
        )
        return {"generator": generator, "discriminator": discriminator}

    anogan = agt.AnoGAN(agt.DCGAN(**networks()), steps=2, chunk=4, score="paper")
    agt.save_run(tmp_path, anogan)
    with pytest.raises(ValueError, match="networks of your own"):
        agt.load_run(tmp_path)
    images = np.linspace(-1, 1, 2 * 64, dtype=np.float32).reshape(2, 8, 8, 1)
    loaded = agt.load_run(tmp_path, **networks())
    np.testing.assert_array_equal(loaded.score(images)["anomaly_score"], anogan.score(images)["anomaly_score"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, r"format 99.*reads format 2"),
        ({"complete": False}, "has not finished"),
    ],
)
def test_runs_that_cannot_be_used_are_refused(scorer, tmp_path, change, message):
    agt.save_run(tmp_path, scorer)
    run = json.loads((tmp_path / "run.json").read_text()) | change
    (tmp_path / "run.json").write_text(json.dumps(run))
    with pytest.raises(ValueError, match=message):
        agt.load_run(tmp_path)


def test_damaged_and_missing_runs_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no run"):
        agt.load_run(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        agt.load_run(tmp_path)


@pytest.mark.parametrize(
    ("version", "scored", "told"),
    [
        ("0.2.0", {"newthing": 1}, ValueError),
        ("0.1.10", {"newthing": 1}, ValueError),
        ("0.2.0", {}, UserWarning),
        ("0.1.0", {}, None),
        (None, {}, None),
    ],
    ids=str,
)
def test_a_run_of_a_newer_version_says_so(scorer, tmp_path, version, scored, told):
    agt.save_run(tmp_path, scorer)
    run = json.loads((tmp_path / "run.json").read_text())
    run["scorer"] |= scored
    run["versions"]["anogan-tf"] = version
    (tmp_path / "run.json").write_text(json.dumps(run))
    message = f"written by anogan-tf {version}, this is {agt.__version__}"
    if told is ValueError:
        with pytest.raises(ValueError, match=message):
            agt.load_run(tmp_path)
    elif told is UserWarning:
        with pytest.warns(UserWarning, match=message):
            agt.load_run(tmp_path)
    else:
        agt.load_run(tmp_path)


def test_a_run_may_be_loaded_with_another_chunk(scorer, images, tmp_path):
    agt.save_run(tmp_path, scorer)
    loaded = agt.load_run(tmp_path, chunk=2)
    assert loaded.chunk == 2
    found, expected = (s.score(images[:5])["anomaly_score"] for s in (loaded, scorer))
    np.testing.assert_allclose(found, expected, rtol=0.05)


def test_a_run_keeps_the_precision_of_its_networks(digits, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        scorer = agt.AnoGAN(small_gan(), steps=1, chunk=4, score="paper")
    finally:
        keras.config.set_dtype_policy("float32")
    agt.save_run(tmp_path / "run", scorer)
    loaded = agt.load_run(tmp_path / "run")
    assert loaded.gan.generator.get_layer("project").compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"
    images = next(iter(digits.test))["image"].numpy()[:3]
    np.testing.assert_array_equal(loaded.score(images)["anomaly_score"], scorer.score(images)["anomaly_score"])


def test_files_are_read_as_a_run_takes_them(scorer, tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (40, 30), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    (tmp_path / "folder").mkdir()
    Image.fromarray(picture[8:32, 3:27]).save(tmp_path / "folder" / "b.png")
    told = {"image_shape": [8, 8, 1], "crop": 24, "bits": 16, "scale": None}
    agt.save_run(tmp_path / "run", scorer, preprocessing=told)
    found = scorer.score(agt.read_pictures(tmp_path / "run", [tmp_path / "a.png", tmp_path / "folder"]))
    assert found["id"].tolist() == [str(tmp_path / "a.png"), str(tmp_path / "folder" / "b.png")]
    assert found["anomaly_score"][0] == found["anomaly_score"][1]  # the centre crop of one is the other
    np.testing.assert_array_equal(
        scorer.score(agt.read_pictures(tmp_path / "run", tmp_path / "a.png"))["anomaly_score"],
        found["anomaly_score"][:1],
    )
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"cannot be read: .*broken\.png: not a readable image"):
        scorer.score(agt.read_pictures(tmp_path / "run", tmp_path / "broken.png"))


@pytest.fixture
def cropping(scorer, tmp_path):
    """A scorer of a run whose pictures are cropped to 24 pixels, and two files of one content after that."""
    picture = np.random.default_rng(0).integers(0, 255, (40, 30), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    (tmp_path / "folder").mkdir()
    Image.fromarray(picture[8:32, 3:27]).save(tmp_path / "folder" / "b.png")
    told = {"image_shape": [8, 8, 1], "crop": [24, 24], "bits": 16, "scale": None}
    agt.save_run(tmp_path / "run", scorer, preprocessing=told)
    return agt.load_run(tmp_path / "run")


def test_pictures_of_all_kinds_score_alike(cropping, tmp_path):
    file = tmp_path / "a.png"
    expected = cropping.score(agt.read_pictures(tmp_path / "run", file))["anomaly_score"]
    pillow = Image.open(file)
    gray = np.asarray(pillow)
    deep = gray.astype(np.uint16) * 257
    opaque = np.dstack([gray, gray, gray, np.full_like(gray, 255)])
    several = [
        *(
            str(file),
            file,
            [file],
            (file, str(file)),
            np.array([str(file)]),
            tmp_path / "folder",
            pillow,
            pillow.convert("RGBA"),
            gray,
            gray[..., None],
        ),
        *(opaque, opaque[..., :3], np.stack([gray[..., None]] * 2), [str(file), pillow, gray]),
    ]
    for pictures in several:
        scores = cropping.score(pictures, draw=False)["anomaly_score"]
        np.testing.assert_array_equal(scores, np.repeat(expected, len(scores)))
    assert cropping.score([pillow, gray, pillow], draw=False)["id"].tolist() == ["1", "2", "3"]
    colours = np.dstack([deep, deep // 2, deep // 3])
    for sixteen in (deep, colours):  # not resized in whole levels of 8 bits
        close = cropping.score([sixteen, (sixteen // 257).astype(np.uint8)], draw=False)["anomaly_score"]
        np.testing.assert_allclose(*close, rtol=0.02)


def test_copies_take_pictures_as_the_run_does(cropping, tmp_path):
    expected = cropping.score(tmp_path / "a.png")["anomaly_score"]
    for copied in (copy.deepcopy(cropping), pickle.loads(pickle.dumps(cropping))):
        np.testing.assert_array_equal(copied.score(tmp_path / "a.png")["anomaly_score"], expected)


def test_pictures_are_judged_and_calibrated_with(cropping, tmp_path):
    cropping.calibrate([tmp_path / "a.png", tmp_path / "folder"], alpha=0.5)
    assert len(cropping.calibration.scores) == 2
    assert len(set(cropping.calibration.scores)) == 1


def test_what_is_no_picture_is_refused(cropping, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    wrong = {
        "cannot be read: .*broken.png: not a readable image": [tmp_path / "broken.png"],
        "missing.png: not a readable image": tmp_path / "missing.png",
        "the picture: of 8×8 pixels, smaller than the crop": np.zeros((8, 8), np.uint8),
        r"A picture is \(height, width\) or .*shape \(30, 40, 30\)": np.zeros((30, 40, 30), np.uint8),
        "Scorers take an array .*Received: int": 42,
        "mode I has 32 bits": Image.new("I", (40, 30)),
    }
    for message, pictures in wrong.items():
        with pytest.raises(ValueError, match=message):
            cropping.score(pictures)
    with pytest.raises(ValueError, match="label"):
        cropping.test(tmp_path / "a.png")


@pytest.mark.parametrize("around", [lambda scorer: scorer, agt.Patched, lambda s: agt.LocalNeighbours(s, factor=2)])
def test_command_line_and_python_take_pictures_alike_of_a_run_that_tells_nothing(around, trained, tmp_path):
    agt.save_run(tmp_path, around(agt.AnoGAN(trained, score="paper", chunk=4)))
    taken = agt.runs.preprocessing_of(agt.runs.read_run(tmp_path))
    assert taken == agt.scoring.preprocessing_of(agt.load_run(tmp_path))


def test_nothing_of_an_older_run_is_left(trained, tmp_path):
    of_encoder = agt.FAnoGAN(small_gan(self_supervision="rotation"), score="paper", chunk=4)
    agt.save_run(tmp_path / "run", of_encoder)
    assert {"encoder.weights.h5", "transformation_head.weights.h5"} <= {
        file.name for file in (tmp_path / "run").iterdir()
    }
    agt.save_run(tmp_path / "run", agt.AnoGAN(trained, steps=1, chunk=4, score="paper"))
    left = {file.name for file in (tmp_path / "run").iterdir()}
    assert left == {"run.json", "generator.weights.h5", "discriminator.weights.h5"}


def test_a_run_that_is_saved_again_keeps_what_it_told(scorer, digits, tmp_path):
    told = {"preprocessing": {"image_shape": [8, 8, 1], "crop": 24, "bits": 12, "scale": None}, "diagnosis": ["dark"]}
    agt.save_run(tmp_path / "run", scorer, **told)
    again = agt.load_run(tmp_path / "run")
    again.calibrate(digits.validation, alpha=0.2)
    agt.save_run(tmp_path / "run", again)
    run = agt.runs.read_run(tmp_path / "run")
    assert {name: run[name] for name in told} == told
    assert run["calibration"]["alpha"] == 0.2
    agt.save_run(tmp_path / "run", again, diagnosis=[])
    assert agt.runs.read_run(tmp_path / "run")["diagnosis"] == []
