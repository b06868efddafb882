import csv
import functools
import json
import os
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from anogan_tf import metrics, page, plots, report, table, written

RNG = np.random.default_rng(0)


def results(n=4, labels=(0, 1)):
    return [
        {
            "id": f"part {i}",
            "anomaly_score": 0.1 * i,
            "residual": 0.2,
            "discrimination": 0.3,
            "p_value": 1 / (i + 1),
            "prediction": int(i > 1),
            "label": labels[i % len(labels)],
        }
        for i in range(n)
    ]


def picture(side=8, channels=1):
    image, reconstruction = RNG.uniform(-1, 1, (2, side, side, channels))
    return {"image": image, "reconstruction": reconstruction, "anomaly_map": RNG.random((side, side))}


METRICS = {"threshold": 0.15, "threshold_method": "conformal", "alpha": 0.05, "auroc": 0.9, "f1": None, "n": 4}
REGION = {"box": (1, 2, 3, 4), "area": 4, "peak": 0.5, "peak_at": (1, 2)}


@pytest.fixture
def folder(tmp_path):
    rows = results()
    rows[3]["id"] = '<script>alert("x")</script>, "quoted"\nname'
    skipped = [("broken & bad.png", "not a readable image")]
    folder = tmp_path / "a" / "b"
    report.write(folder, rows, [[], [], [REGION], []], {3: picture(), 4: picture()}, METRICS, 0.4, skipped)
    return folder


def test_folder_holds_every_output(folder):
    assert {path.name for path in folder.iterdir()} == {
        "metrics.json", "scores.csv", "regions.json", "index.html", "histogram.png", "roc.png",
        "test_image_003.png", "test_image_004.png", "anomaly_map_003.tiff", "anomaly_map_004.tiff", "files.txt", "page",
    }  # fmt: skip
    layers = ("difference", "heat", "picture", "reconstruction", "thumbnail")
    suffixes = {"heat": "webp"}
    assert {path.name for path in (folder / "page").iterdir()} == {
        f"{name}_{number}.{suffixes.get(name, 'jpg')}" for name in layers for number in ("003", "004")
    }


def test_csv_has_a_row_an_image_and_the_columns_of_the_results(folder):
    with open(folder / "scores.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == table.COLUMNS
    assert len(rows) == 5
    assert rows[3]["id"] == '<script>alert("x")</script>, "quoted"\nname'
    assert float(rows[2]["anomaly_score"]) == pytest.approx(0.2)
    assert (rows[4]["id"], rows[4]["anomaly_score"], rows[4]["prediction"]) == ("broken & bad.png", "", "")
    assert rows[4]["error"] == "not a readable image"
    assert report.read(folder)["errors"] == [{"id": "broken & bad.png", "error": "not a readable image"}]


def test_json_keeps_numbers_and_nothing(folder):
    assert json.loads((folder / "metrics.json").read_text()) == METRICS
    region = {**REGION, "box": [1, 2, 3, 4], "peak_at": [1, 2]}
    assert json.loads((folder / "regions.json").read_text()) == {"part 2": [region]}


def content(folder):
    """What the page's script is given."""
    text = (folder / "index.html").read_text()
    (found,) = re.findall(r'<script type="application/json" id="content">(.*?)</script>', text)
    return json.loads(found)


def listed(folder):
    return [row[1] for row in content(folder)["rows"]]


def test_page_lists_the_most_anomalous_first_and_escapes_names(folder):
    text = (folder / "index.html").read_text()
    assert "<script>alert" not in text
    assert listed(folder) == ['<script>alert("x")</script>, "quoted"\nname', "part 2", "part 1", "part 0"]
    assert "broken &amp; bad.png" in text
    assert "undefined" in text


def test_more_pictures_than_are_listed_are_shown_the_most_anomalous_first(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "LISTED", 1)
    report.write(tmp_path, results(3), [[]] * 3, {n: picture() for n in (1, 2, 3)}, METRICS)
    assert listed(tmp_path) == ["part 2", "part 1", "part 0"]


def test_a_page_of_too_many_pictures_shows_the_top_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "LISTED", 2)
    asked = []
    report.write(tmp_path, results(3), [[]] * 3, {}, METRICS, thumbnails=lambda row: asked.append(row["id"]))
    assert listed(tmp_path) == asked == ["part 2", "part 1"]
    assert "The 2 most anomalous pictures are here; scores.csv has all 3." in (tmp_path / "index.html").read_text()
    assert not list(tmp_path.glob("page/thumbnail*"))  # none was made


def test_pictures_that_were_not_drawn_have_thumbnails(tmp_path):
    report.write(tmp_path, results(3), [[]] * 3, {3: picture()}, METRICS, thumbnails=lambda row: row["id"].encode())
    column = page.COLUMNS.index("has_thumbnail")
    assert [row[column] for row in content(tmp_path)["rows"]] == [1, 1, 1]
    assert (tmp_path / "page/thumbnail_001.jpg").read_bytes() == b"part 0"
    with Image.open(tmp_path / "page/thumbnail_003.jpg") as drawn:
        assert drawn.size == (8, 8)


def test_page_refers_to_files_of_its_folder_only(folder):
    references = re.findall(r'(?:src|href)="([^"]+)"', (folder / "index.html").read_text())
    assert {"scores.csv", "roc.png"} <= set(references)
    assert all((folder / reference).is_file() for reference in references)


def test_pictures_of_an_earlier_report_do_not_stay(folder):
    report.write(folder, results(2), [[], []], {1: picture()}, METRICS)
    assert [path.name for path in folder.glob("test_image_*")] == ["test_image_001.png"]
    assert [path.name for path in folder.glob("anomaly_map_*")] == ["anomaly_map_001.tiff"]


def test_what_others_put_there_stays_and_is_not_shown(folder):
    for name in ("test_image_009.png", "holiday.png"):
        (folder / name).write_bytes(b"mine")
    report.write(folder, results(2), [[], []], {1: picture()}, METRICS)
    for name in ("test_image_009.png", "holiday.png"):
        assert (folder / name).read_bytes() == b"mine"
        assert name not in (folder / "index.html").read_text()


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_every_file_of_a_report_is_listed_and_may_be_replaced(folder):
    assert written.listed(folder) == files(folder) - {"files.txt"}
    report.check(folder)
    (folder / "roc.png").unlink()
    (folder / "test_image_001.png").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"test_image_001\.png"):
        report.check(folder)


def test_what_a_crash_left_is_listed(tmp_path):
    def fail():
        raise KeyboardInterrupt

    drawn = {1: picture(), 2: picture() | {"size": (30, 20), "picture": fail}}
    with pytest.raises(KeyboardInterrupt):
        report.write(tmp_path, results(2), [[], []], drawn, METRICS)
    assert files(tmp_path) - {"files.txt"} <= written.listed(tmp_path)
    report.check(tmp_path)


def test_further_figures_are_shown_and_do_not_outlive_their_report(tmp_path):
    figures = {"search_path": plots.histogram([0.1], 0.5)}
    report.write(tmp_path, results(2), [[], []], {}, METRICS, figures=figures)
    assert 'src="search_path.png"' in (tmp_path / "index.html").read_text()
    report.write(tmp_path, results(2), [[], []], {}, METRICS)
    assert "search_path" not in (tmp_path / "index.html").read_text()
    assert not (tmp_path / "search_path.png").exists()


def test_json_has_numbers_that_json_knows(tmp_path):
    values = {
        "a": np.nan,
        "b": [np.float32(np.inf), (1, -np.inf)],
        "c": np.array([1.5, np.nan]),
        "d": {"e": np.int64(3)},
    }
    report.write_json(tmp_path / "file.json", values | {"path": tmp_path, "flag": True})
    read = json.loads((tmp_path / "file.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert read == {
        "a": None, "b": [None, [1, None]], "c": [1.5, None], "d": {"e": 3}, "path": str(tmp_path), "flag": True,
    }  # fmt: skip


def test_map_file_is_the_map_at_the_picture_s_own_size(tmp_path):
    drawn = picture(16) | {"size": (300, 200)}
    report.write(tmp_path, results(1), [[]], {1: drawn}, METRICS)
    with Image.open(tmp_path / "anomaly_map_001.tiff") as file:
        assert file.tag_v2[317] == 3  # differences of floats, which are small
        written = np.asarray(file)
    assert written.dtype == np.float32
    np.testing.assert_array_equal(written, metrics.resize_map(drawn["anomaly_map"], (300, 200)))


def test_pictures_are_read_one_at_a_time_when_they_are_drawn(tmp_path):
    def read(number):
        assert len(list(tmp_path.glob("test_image_*.png"))) == number - 1
        return np.zeros((30, 20, 3), np.float32)

    drawn = {n: picture() | {"size": (300, 200), "picture": functools.partial(read, n)} for n in (1, 2, 3)}
    report.write(tmp_path, results(3), [[]] * 3, drawn, METRICS)
    assert len(list(tmp_path.glob("test_image_*.png"))) == 3


def test_an_image_without_its_picture_is_drawn_as_the_networks_see_it(tmp_path):
    drawn = picture() | {"size": (300, 200), "picture": lambda: None}
    report.write(tmp_path, results(1), [[]], {1: drawn}, METRICS)
    assert (tmp_path / "test_image_001.png").exists()


def test_unlabelled_images_have_no_roc(tmp_path):
    rows = results(labels=(None,))
    report.write(tmp_path, rows, [[]] * 4, {}, METRICS)
    assert not (tmp_path / "roc.png").exists()


def test_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        report.write(tmp_path / "file" / "results", results(), [[]] * 4, {}, METRICS)


def test_whether_a_folder_can_be_written_is_told_without_making_it(tmp_path, monkeypatch):
    report.check_writable(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file/a/b: .*file is a file"):
        report.check_writable(tmp_path / "file" / "a" / "b")
    for missing in (os.W_OK, os.X_OK):
        monkeypatch.setattr("os.access", lambda _, mode, missing=missing: not mode & missing)  # root may do anything
        with pytest.raises(OSError, match="may not be written to"):
            report.check_writable(tmp_path / "a")


def test_names_that_are_no_utf8_are_escaped(tmp_path):
    rows = results(1)
    rows[0]["id"] = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    report.write(tmp_path, rows, [[]], {1: picture()}, METRICS)
    assert r"caf\udce9.png" in (tmp_path / "scores.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "figure",
    [
        lambda: plots.result(**picture(), pixel_threshold=0.5, title="score 1"),
        lambda: plots.result(**picture(16, 3)),
        lambda: plots.result(**picture(), picture=RNG.uniform(-1, 1, (90, 60, 3)), boxes=[(1, 2, 3, 4)]),
        lambda: plots.histogram([0.1, 0.2, 0.9], 0.5, [0, 0, 1]),
        lambda: plots.histogram([0.1], 0.5),
        lambda: plots.roc([0, 1, 1], [0.1, 0.3, 0.2]),
        lambda: plots.samples(RNG.uniform(-1, 1, (5, 8, 8, 3)), columns=4, title="t"),
        lambda: plots.losses({"d_loss": [1, 2], "g_loss": [2, 1], "d_real_accuracy": [0.5, 0.6]}),
        lambda: plots.mapping_loss(RNG.random((11, 3))),
        lambda: plots.search_path(RNG.uniform(-1, 1, (2, 8, 8, 1)), RNG.uniform(-1, 1, (3, 2, 8, 8, 1)), (0, 5, 9)),
    ],
)  # fmt: skip
def test_every_figure_can_be_saved_without_a_screen(figure, tmp_path):
    figure = figure()
    assert isinstance(figure, Figure)
    figure.savefig(tmp_path / "figure.png", dpi=40)
    assert np.asarray(Image.open(tmp_path / "figure.png").convert("L")).std() > 1


def test_samples_stand_row_by_row_on_white():
    shades = np.linspace(-1, 1, 5).reshape(5, 1, 1, 1) * np.ones((5, 8, 6, 1))
    grid = plots.samples(shades, columns=3).axes[0].get_images()[0].get_array()
    assert grid.shape == (2 * 8 + 1, 3 * 6 + 2, 3)
    for i, shade in enumerate(np.linspace(0, 1, 5)):
        top, left = i // 3 * 9, i % 3 * 7
        np.testing.assert_allclose(grid[top : top + 8, left : left + 6], shade, atol=1e-6)
    for white in (grid[8], grid[:, [6, 13]], grid[9:, 14:]):
        np.testing.assert_array_equal(white, 1.0)


def test_difference_is_bright_where_the_reconstruction_differs_and_black_elsewhere():
    image = np.full((8, 8, 1), -1.0)
    reconstruction = image.copy()
    reconstruction[2:4, 2:4] = 1.0
    panels = plots.result(image, reconstruction, np.zeros((8, 8))).axes
    difference = panels[2].get_images()[0].get_array()
    assert difference[3, 3].min() > 0.6
    assert difference[6, 6].max() < 0.02


def test_contour_is_drawn_only_above_the_pixel_threshold():
    quiet, loud, all_above = (
        plots.result(**picture(), pixel_threshold=t).axes[3].collections for t in (2.0, 0.5, -1.0)
    )
    assert not quiet
    assert loud
    assert not all_above


def test_heat_is_drawn_only_where_good_pictures_show_none():
    anomaly_map = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    shown, heat = overlay(plots.result(**picture() | {"anomaly_map": anomaly_map}, pixel_threshold=0.5)).get_images()
    np.testing.assert_array_equal(heat.get_array()[..., 3] > 0, anomaly_map > 0.5)
    assert shown.get_array().shape == (8, 8, 3)
    everywhere = overlay(plots.result(**picture() | {"anomaly_map": anomaly_map})).get_images()[1]
    assert (everywhere.get_array()[..., 3] > 0).sum() == 63


def test_page_and_pictures_say_which_of_three_answers(tmp_path):
    rows = [
        {"id": name, "anomaly_score": score, "p_value": None, "prediction": 1, "label": None, "decision": name}
        for name, score in (("suspicious", 2.0), ("anomalous", 9.0))
    ]
    figures = {"threshold": 1.0, "threshold_method": "conformal", "strict_threshold": 5.0, "strict_alpha": 0.01}
    report.write(tmp_path, rows, [[], []], {}, figures)
    text = (tmp_path / "index.html").read_text()
    column = page.COLUMNS.index("decision")
    assert [row[column] for row in content(tmp_path)["rows"]] == ["anomalous", "suspicious"]
    for name in ("suspicious", "anomalous"):
        assert f"<dt>{name}</dt><dd>1</dd>" in text
    assert "1.0 % of new normal" in text


def overlay(figure):
    return next(axis for axis in figure.axes if axis.get_title() == "anomaly map")


def test_map_contour_and_boxes_are_in_the_pixels_of_the_picture():
    small = np.zeros((8, 8), np.float32)
    small[2, 5] = 1.0
    anomaly_map = metrics.resize_map(small, (1600, 2400))
    (region,) = metrics.regions(anomaly_map, 0.4)
    seen = RNG.uniform(-1, 1, (*plots.shown_size((1600, 2400)), 3))
    axis = overlay(
        plots.result(
            **picture() | {"anomaly_map": anomaly_map}, picture=seen, pixel_threshold=0.4, boxes=[region["box"]]
        )
    )
    assert [tuple(image.get_extent()) for image in axis.get_images()] == [(-0.5, 2399.5, 1599.5, -0.5)] * 2
    assert axis.get_images()[0].get_array().shape == (683, 1024, 3)  # in its colours
    (frame,) = axis.patches
    vertices = axis.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(vertices.min(axis=0), frame.get_xy(), atol=3)
    np.testing.assert_allclose(
        vertices.max(axis=0), np.add(frame.get_xy(), [frame.get_width(), frame.get_height()]), atol=3
    )


@pytest.mark.parametrize(("size", "shown"), [((64, 48), (64, 48)), ((4000, 3000), (1024, 768)), ((1, 5000), (1, 1024))])
def test_large_pictures_are_shown_smaller_in_their_own_shape(size, shown):
    assert plots.shown_size(size) == shown
