import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import anogan_tf as agt
from anogan_tf import judging, metrics, panels, plots, report, scoring, table
from tests.conftest import small_gan


@pytest.fixture
def paper(trained):
    return agt.AnoGAN(trained, steps=2, chunk=8, score="paper")


@pytest.fixture(scope="session")
def normal(digits):
    return np.concatenate([batch["image"] for batch in digits.validation])


def test_every_image_gets_one_result_and_ids_line_up(scorer, digits):
    results, threshold, accuracy = scorer.test(digits.test.take(3))
    samples = digits.samples.part("test")
    assert [result["id"] for result in results] == samples.ids[:48].tolist()
    assert [result["label"] for result in results] == samples.labels[:48].tolist()
    assert threshold == scorer.calibration.threshold
    assert accuracy == np.mean([result["prediction"] == result["label"] for result in results])


def test_results_have_the_documented_keys_in_order(scorer, digits):
    result = scorer.test(digits.test.take(1))
    assert (*result.results[0], "error") == table.COLUMNS  # which only rows without a score have
    for row in result.results:
        assert row["prediction"] == int(row["anomaly_score"] > result.threshold) == int(row["p_value"] <= result.alpha)


@pytest.mark.parametrize("form", ["array", "images", "labelled", "dicts"])
def test_all_forms_of_data_give_the_same_scores(paper, normal, form):
    dataset = tf.data.Dataset.from_tensor_slices
    data = {
        "array": normal,
        "images": dataset(normal).batch(5),
        "labelled": dataset((normal, np.zeros(len(normal), int))).batch(9),
        "dicts": dataset({"image": normal, "id": [f"n{i}" for i in range(len(normal))]}).batch(4),
    }[form]
    out = paper.score(data)
    np.testing.assert_array_equal(out["anomaly_score"], paper.score(normal)["anomaly_score"])
    assert out["id"][1] == ("n1" if form == "dicts" else "2")


def test_score_batches_come_in_chunks_and_lose_nothing(paper, normal):
    batches = tf.data.Dataset.from_tensor_slices(normal).batch(3)
    sizes = [len(out["anomaly_score"]) for out in paper.score_batches(batches)]
    assert sizes == [8] * (len(normal) // 8) + [len(normal) % 8] * bool(len(normal) % 8)


def test_reference_does_not_depend_on_batches(trained, digits):
    scores = []
    for batch_size in (7, 50):
        data = tf.data.Dataset.from_tensor_slices(digits.samples.images[digits.samples.part("train").rows] / 127.5 - 1)
        anogan = agt.AnoGAN(trained, steps=1, chunk=8)
        anogan.fit_reference(data.map(lambda x: tf.cast(x, tf.float32)).batch(batch_size))
        scores.append(anogan.reference.learned["features"].mean)
    np.testing.assert_array_equal(*scores)


def test_calibration_sets_the_conformal_thresholds(paper, normal):
    paper.calibrate(normal, alpha=0.1)
    out = paper.score(normal)
    above = int(0.1 * (len(normal) + 1)) - 1  # the threshold is itself one of the scores
    assert np.sum(out["anomaly_score"] > paper.calibration.threshold) == above
    above = int(scoring.REGION_RATE * (len(normal) + 1)) - 1
    assert np.sum(out["anomaly_map"].max(axis=(1, 2)) > paper.calibration.pixel_threshold) == above


def test_calibration_learns_nothing_but_thresholds(trained, digits, normal):
    anogan = agt.AnoGAN(trained, steps=2, chunk=8)
    anogan.fit_reference(digits.reference)
    before = anogan.score(normal)["anomaly_score"]
    anogan.calibrate(digits.validation)
    np.testing.assert_array_equal(anogan.score(normal)["anomaly_score"], before)


def test_anomalous_images_do_not_calibrate(paper, digits):
    with pytest.raises(ValueError, match="normal images only"):
        paper.calibrate(digits.test.take(1))


def test_uncalibrated_test_is_refused_before_any_scoring(paper):
    def never():
        pytest.fail("images were read")
        yield

    with pytest.raises(ValueError, match=r"call calibrate.*midpoint"):
        paper.test(never())


def test_a_folder_that_cannot_be_written_is_refused_before_any_scoring(scorer, tmp_path):
    def never():
        pytest.fail("images were read")
        yield

    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file is a file"):
        scorer.test(never(), results_dir=tmp_path / "file" / "results")


@pytest.mark.parametrize("method", ["f1", "midpoint", 0.25])
def test_thresholds_by_explicit_choice(paper, digits, method):
    result = paper.test(digits.test.take(4), threshold=method)
    assert result.threshold_method == (method if isinstance(method, str) else "given")
    assert result.alpha is None
    assert result.results[0]["p_value"] is None


def test_unknown_threshold_is_refused(paper, digits):
    with pytest.raises(ValueError, match="threshold='best'"):
        paper.test(digits.test, threshold="best")


def test_class_indices_are_not_labels(scorer, normal):
    data = tf.data.Dataset.from_tensor_slices((normal, np.full(len(normal), 7))).batch(8)
    with pytest.raises(ValueError, match=r"Received: 7 for 1.*label != normal_class"):
        scorer.test(data)


def test_labels_are_needed_for_a_test(scorer, normal):
    for threshold in (None, "f1"):
        with pytest.raises(ValueError, match="needs labels"):
            scorer.test(normal, threshold=threshold)


def test_a_new_reference_asks_for_a_new_calibration(scorer, digits):
    scorer.fit_reference(digits.reference)
    assert scorer.calibration is None


def test_calibrated_scores_have_a_mask_of_anomalous_pixels(scorer, digits):
    out = scorer.score(digits.test.take(1))
    np.testing.assert_array_equal(out["anomaly_mask"], out["anomaly_map"] > scorer.calibration.pixel_threshold)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_reports_what_is_undefined(scorer, normal, tmp_path, label):
    data = tf.data.Dataset.from_tensor_slices((normal[:9], np.full(9, label))).batch(8)
    result = scorer.test(data, results_dir=tmp_path, pictures=1)
    assert result.auroc is None
    assert 0 <= result.accuracy <= 1
    assert json.loads((tmp_path / "metrics.json").read_text())["auroc"] is None
    page = (tmp_path / "index.html").read_text()
    assert "<dt>AUROC</dt><dd>undefined</dd>" in page
    assert f"All pictures are labelled {'anomalous' if label else 'normal'}" in page
    assert not (tmp_path / "roc.png").exists()


def test_scoring_tells_of_images_in_another_range(paper, normal):
    with pytest.warns(UserWarning, match=r"floats in \[-1, 1\]"):
        paper.score((normal + 1) / 2)
    with pytest.raises(ValueError, match=r"floats in \[-1, 1\]"):
        paper.calibrate((normal + 1) * 127.5)
    with pytest.raises(ValueError, match="a batch of int64"):
        paper.score([np.rint((normal + 1) * 127.5).astype(int)])


def test_batches_of_bytes_score_as_an_array_of_them(paper, normal):
    pictures = np.rint((normal[:6] + 1) * 127.5).astype(np.uint8)
    batches = tf.data.Dataset.from_tensor_slices(pictures).batch(4)
    np.testing.assert_array_equal(paper.score(batches)["anomaly_score"], paper.score(pictures)["anomaly_score"])


def test_wrong_shape_and_nan_are_refused(paper, normal):
    with pytest.raises(ValueError, match=r"Received: \(28, 8, 8, 3\)"):
        paper.score(np.repeat(normal, 3, axis=-1))
    with pytest.raises(ValueError, match="not finite"):
        paper.score(np.where(normal > 0.9, np.nan, normal))


def test_nothing_to_score_is_an_error(scorer):
    for method in (scorer.test, scorer.score):
        with pytest.raises(ValueError, match="no images"):
            method(np.zeros((0, 8, 8, 1), np.float32))


def planted_defects(n=6, size=32):
    """Pictures of 32 pixels of which half have a bright square, as the dicts of a test set with masks."""
    images = np.full((n, 8, 8, 1), -0.2, np.float32)
    masks = np.zeros((n, size, size), bool)
    for i in range(0, n, 2):
        images[i, 2:4, 4:6] = 1.0
        masks[i, 8:16, 16:24] = True
    labels = masks.any(axis=(1, 2)).astype(int)
    columns = {"image": images, "label": labels, "mask": masks, "height": np.full(n, size), "width": np.full(n, size)}
    return tf.data.Dataset.from_tensor_slices(columns).batch(4)


def test_defects_are_found_in_the_pixels_of_the_picture(gray_scorer, tmp_path):
    result = gray_scorer.test(planted_defects(), threshold="midpoint", results_dir=tmp_path)
    assert result.pixel_auroc > 0.9
    assert (result.auroc, result.accuracy) == (1.0, 1.0)
    for i, found in enumerate(result.regions):
        if i % 2:
            continue
        top, left, bottom, right = found[0]["box"]
        assert 8 <= found[0]["peak_at"][0] < 16
        assert 16 <= found[0]["peak_at"][1] < 24
        assert (top, left) >= (0, 0)
        assert (bottom, right) <= (32, 32)


@pytest.fixture(scope="module")
def gray_scorer():
    """An untrained scorer calibrated on gray images, for which anything bright is anomalous."""
    anogan = agt.AnoGAN(small_gan(), steps=1, chunk=4, score="paper", smoothing=0.0)
    gray = np.linspace(-0.25, -0.15, 40, dtype=np.float32)
    anogan.calibrate(np.broadcast_to(gray[:, None, None, None], (40, 8, 8, 1)))
    return anogan


def photograph(path, height, width, defect, *, levels=(102, 255), dtype=np.uint8):
    """A gray picture with a bright defect at (top, left, bottom, right)."""
    pixels = np.full((height, width), levels[0], dtype)
    top, left, bottom, right = defect
    pixels[top:bottom, left:right] = levels[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def files(paths, shape=(8, 8, 1), **options):
    return agt.data.read_files(agt.data.list_files(paths), agt.data.Preprocessing(shape, **options), 4, [])


@pytest.mark.parametrize(
    ("crop", "size", "centre"), [(None, (3000, 4000), (2250, 1500)), (2400, (2400, 2400), (1950, 700))]
)
def test_a_photograph_is_judged_and_drawn_in_its_own_pixels(gray_scorer, tmp_path, monkeypatch, crop, size, centre):
    shown = []
    monkeypatch.setattr(panels, "drawn", lambda *_, picture, **__: shown.append(picture) or Image.new("RGB", (1, 1)))
    path = photograph(tmp_path / "a.png", 3000, 4000, (1875, 1000, 2625, 2000))
    judged = judging.judge(gray_scorer, files([path], crop=crop), pictures=1)
    region = judged.regions[0][0]
    top, left, bottom, right = region["box"]
    assert top < centre[0] < bottom
    assert left < centre[1] < right
    assert bottom - top > 300
    judging.write_report(gray_scorer, judged, tmp_path / "out", {"threshold": 0.0, "threshold_method": "given"})
    written = np.asarray(Image.open(tmp_path / "out" / "anomaly_map_001.tiff"))
    assert written.shape == size
    assert metrics.regions(written, gray_scorer.calibration.pixel_threshold) == judged.regions[0]
    (picture,) = shown
    assert picture.shape == (*plots.shown_size(size), 3)
    scale = len(picture) / size[0]
    bright = np.argwhere(picture[..., 0] > 0.5).mean(axis=0) / scale
    np.testing.assert_allclose(bright, centre, atol=5)


def test_originals_of_a_tested_folder_are_read_again_whatever_the_cache(gray_scorer, tmp_path):
    for i in range(6):
        photograph(tmp_path / f"train/good/{i}.png", 40, 60, (0, 0, 0, 0))
    photograph(tmp_path / "test/good/0.png", 40, 60, (0, 0, 0, 0))
    photograph(tmp_path / "test/dent/0.png", 40, 60, (10, 10, 30, 30))
    seen = []
    for cache in (False, "memory", tmp_path / "cache"):
        tested = agt.data.load(tmp_path, image_shape=(8, 8, 1), cache=cache, validation_fraction=0.5).test
        drawn = judging.judge(gray_scorer, tested, pictures=1).drawn
        (image,) = drawn.values()
        seen.append(image["picture"]())
        assert seen[-1].shape == (40, 60, 3)
        np.testing.assert_array_equal(seen[-1][..., 0] > 0.5, np.pad(np.ones((20, 20), bool), ((10, 10), (10, 30))))
        assert list(drawn) == [1]


def test_significant_bits_hold_for_the_drawn_picture_too(gray_scorer, tmp_path):
    path = photograph(tmp_path / "a.tif", 30, 20, (5, 5, 15, 15), levels=(1638, 4095), dtype=np.uint16)
    (image,) = judging.judge(gray_scorer, files([path], bits=12), pictures=1).drawn.values()
    assert image["picture"]().max() == 1.0


@pytest.mark.filterwarnings("ignore:Drawn as the networks see it")
def test_a_picture_that_is_gone_when_it_is_drawn_costs_no_results(gray_scorer, tmp_path):
    path = photograph(tmp_path / "a.png", 30, 20, (5, 5, 15, 15))
    judged = judging.judge(gray_scorer, files([path]), pictures=1)
    path.unlink()
    judging.write_report(gray_scorer, judged, tmp_path / "out", {"threshold": 0.0, "threshold_method": "given"})
    assert (tmp_path / "out" / "test_image_001.png").exists()


def test_map_smoothing_is_a_gaussian_in_units_of_the_side(trained, normal):
    from scipy.ndimage import gaussian_filter

    raw, smooth = (
        agt.AnoGAN(trained, steps=1, chunk=8, score="paper", smoothing=s).score(normal)["anomaly_map"] for s in (0, 0.1)
    )
    np.testing.assert_allclose(smooth[3], gaussian_filter(raw[3], 0.8), atol=1e-6)


def test_memory_holds_no_pictures_without_a_folder(scorer, digits):
    assert judging.judge(scorer, digits.test.take(1), pictures=0).drawn == {}


def test_what_is_kept_keeps_no_chunk(scorer, digits):
    masked = ({**batch, "mask": np.zeros((len(batch["image"]), 8, 8), bool)} for batch in digits.test.take(3))
    judged = judging.judge(scorer, masked, pictures=2)
    for image in (*judged.drawn.values(), {"mask": judged.masks[0], "map": judged.maps[0]}):
        assert all(value.base is None for value in image.values() if isinstance(value, np.ndarray))
    assert {array.dtype for array in judged.masks} == {np.dtype(bool)}


def test_the_most_anomalous_images_are_drawn(scorer, digits, tmp_path):
    result = scorer.test(digits.test.take(3), results_dir=tmp_path / "new" / "folder", pictures=5)
    scores = [row["anomaly_score"] for row in result.results]
    expected = {report.picture_name(i + 1) for i in np.argsort(scores)[-5:]}
    assert {path.name for path in (tmp_path / "new" / "folder").glob("test_image_*.png")} == expected


def test_metrics_file_holds_what_the_result_says(scorer, digits, tmp_path):
    result = scorer.test(digits.test.take(3), results_dir=tmp_path, pictures=1)
    written = json.loads((tmp_path / "metrics.json").read_text())
    for name, value in result.metrics.items():
        assert written[name] == value
    assert written["settings"]["steps"] == 5
    assert written["versions"]["tensorflow"] == tf.__version__
    figures = metrics.image_metrics(
        [row["label"] for row in result.results], [row["anomaly_score"] for row in result.results], result.threshold
    )
    assert result.auroc == figures["auroc"]


def test_a_result_shows_itself(scorer, digits):
    result = scorer.test(digits.test.take(4))
    page = result._repr_html_()
    assert page.count("data:image/png;base64,") == 3  # histogram, ROC, strip
    assert f"AUROC {result.auroc:.3f}" in page
    scores = [result.results[number - 1]["anomaly_score"] for number in result.shown]
    assert scores == sorted((r["anomaly_score"] for r in result.results), reverse=True)[:8]
    assert "auroc=" in repr(result)
    assert len(repr(result)) < 500


def test_what_was_found_to_decide_is_drawn_without_another_search(monkeypatch):
    scorer = agt.FAnoGAN(small_gan(), score="paper", chunk=4)
    images = scorer.gan.generate(6)
    scorer.calibrate(images, alpha=0.2)
    kept = judging.Kept(2)
    results = [row for rows, _ in judging.judged_chunks(scorer, images, None, kept) for row in rows]
    most = sorted(results, key=lambda row: -row["anomaly_score"])[:2]
    assert set(kept.outputs) == {row["id"] for row in most}
    numbers = [int(name) - 1 for name in kept.outputs]
    again = [{"image": images[numbers], "id": np.array(list(kept.outputs))}]
    expected = list(judging.drawn_images(scorer, again))
    monkeypatch.setattr(agt.FAnoGAN, "score_chunk", lambda *_, **__: pytest.fail("made again"))
    for (name, parts, image), want in zip(judging.drawn_images(scorer, again, kept.outputs), expected, strict=True):
        assert (name, parts) == (want[0], want[1] | {"anomaly_score": parts["anomaly_score"]})
        for layer in ("image", "reconstruction", "anomaly_map"):
            np.testing.assert_array_equal(image[layer], want[2][layer])
        assert image["regions"] == want[2]["regions"]


def test_a_result_of_one_class_shows_itself(scorer, digits):
    normal = digits.validation.take(1)
    page = scorer.test(normal, threshold=1.0)._repr_html_()
    assert page.count("data:image/png;base64,") == 2
    assert "AUROC undefined" in page


def test_showing_a_result_leaves_no_figure_to_be_printed_again(scorer, digits):
    scorer.test(digits.test.take(1))._repr_html_()
    assert plt.get_fignums() == []


def test_the_reference_is_of_all_images_where_they_are_few(trained):
    images = np.random.default_rng(0).uniform(-1, 1, (100, 8, 8, 1)).astype(np.float32)
    anogan = agt.AnoGAN(trained, steps=1, chunk=8)
    anogan.fit_reference(images)
    evidence = [anogan.evidence(images[i : i + 10])["features"].numpy() for i in range(0, 100, 10)]
    expected = np.concatenate(evidence).mean(axis=0)
    assert np.abs(evidence[0].mean(axis=0) - expected).max() > 1e-3  # a part of them has another mean
    np.testing.assert_allclose(anogan.reference.learned["features"].mean, expected, atol=1e-5)


def test_the_reference_of_many_images_is_a_random_sample(trained, monkeypatch):
    """Sorted by class, the first ones would be of one class."""
    monkeypatch.setattr(scoring, "REFERENCE_IMAGES", 20)
    dark, bright = (np.full((30, 8, 8, 1), level, np.float32) for level in (-0.8, 0.8))
    means = []
    for images in (np.concatenate([dark, bright]), dark):
        anogan = agt.AnoGAN(trained, steps=1, chunk=8)
        anogan.fit_reference(images)
        means.append(anogan.reference.learned["features"].mean)
    assert np.abs(means[0] - means[1]).max() > 1e-3


def test_each_image_of_many_is_as_likely_in_a_sample():
    image = np.zeros(1)
    drawn = [
        row["id"]
        for seed in range(300)
        for row in scoring.sample(({"id": i, "image": image} for i in range(100)), 5, seed)
    ]
    counts, _ = np.histogram(drawn, bins=4, range=(0, 100))
    assert counts.sum() == 1500
    assert np.all(np.abs(counts - 375) < 75)  # four and a half deviations


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((0, 8, 1), np.uint8), r"A picture has pixels. Received: an array of shape \(0, 8, 1\)"),
        (np.zeros((20, 20, 1)), r"arrays of bytes \(uint8\).*Received: \(20, 20, 1\) of float64"),
    ],
    ids=["no pixels", "floats of another size"],
)
def test_what_is_no_picture_is_refused(scorer, picture, message):
    with pytest.raises(ValueError, match=message):
        scorer.score(picture)
