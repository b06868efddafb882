import io
import shutil

import numpy as np
import pytest
from PIL import Image

import anogan_tf as agt
from anogan_tf.data.images import Encoded
from anogan_tf.detector import RunDetector
from anogan_tf.runs import fingerprint
from tests.conftest import small_gan


@pytest.fixture(scope="module")
def run(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "small"
    scorer = agt.FAnoGAN(small_gan(), chunk=4)
    scorer.fit_reference(images[:20])
    scorer.calibrate(images[20:])
    agt.save_run(folder, scorer)
    return folder


def test_a_verdict_is_the_same_of_a_file_its_bytes_and_its_pixels(run, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (12, 10), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    detector = RunDetector(run)
    content = Encoded((tmp_path / "a.png").read_bytes())
    rows = [detector.read(picture) for picture in (tmp_path / "a.png", content, pixels, Image.fromarray(pixels))]
    first, *others = detector.judge(rows)
    assert others == [first] * 3
    assert first.size == (12, 10)
    assert first.anomaly_score == agt.load_run(run).score(pixels)["anomaly_score"][0]
    assert detector.judge([]) == []


def test_a_given_threshold_decides(run):
    pixels = np.zeros((8, 8), np.uint8)
    (calibrated,) = RunDetector(run).judge([RunDetector(run).read(pixels)])
    for threshold, prediction in ((calibrated.anomaly_score + 1e9, 0), (calibrated.anomaly_score - 1e-3, 1)):
        detector = RunDetector(run, threshold=threshold)
        (verdict,) = detector.judge([detector.read(pixels)])
        assert (verdict.prediction, detector.thresholds["suspicious"]) == (prediction, threshold)
        assert (verdict.decision == "normal") == (prediction == 0)
        assert verdict.p_value == calibrated.p_value


def test_a_fingerprint_is_of_all_that_decides_and_of_nothing_else(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "README.md").write_text("# A copy")
    (copy / "checkpoint.weights.h5").write_bytes(b"of a training")
    assert fingerprint(copy) == fingerprint(run)
    found = {fingerprint(run)}
    for name in ("run.json", "generator.weights.h5", "encoder.weights.h5", "reference.weights.h5"):
        with open(copy / name, "ab") as file:
            file.write(b" ")
        found.add(fingerprint(copy))
    assert len(found) == 5


def test_a_run_without_a_threshold_judges_nothing(tmp_path):
    agt.save_run(tmp_path, agt.AnoGAN(small_gan(), steps=1, chunk=4, score="paper"))
    with pytest.raises(ValueError, match="has no threshold"):
        RunDetector(tmp_path)


def test_a_picture_that_cannot_be_read_is_told_without_a_path(run):
    content = io.BytesIO()
    Image.new("F", (4, 4)).save(content, "tiff")
    with pytest.raises(ValueError, match=r"^the picture: a floating-point image has no known range"):
        RunDetector(run).read(Encoded(content.getvalue()))
