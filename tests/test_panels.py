import numpy as np
import pytest
from PIL import Image, ImageColor

from anogan_tf import look, metrics, panels, plots

RNG = np.random.default_rng(0)
CYAN = np.array(ImageColor.getrgb(look.OUTLINE))


def picture(height=64, width=64, channels=3):
    image, reconstruction = RNG.uniform(-1, 1, (2, height, width, channels))
    return {"image": image, "reconstruction": reconstruction, "anomaly_map": np.zeros((height, width), np.float32)}


def map_panel(sheet, size):
    """The panel with the map, `(height, width, 3)`, of a size (width, height): it ends a gap before the right edge."""
    width, height = size
    right = sheet.width - panels.GAP
    top = panels.GAP + panels.LINE
    return np.asarray(sheet)[top : top + height, right - width : right].astype(int)


def test_a_map_without_regions_leaves_the_picture_as_it_is():
    seen = picture()
    panel = map_panel(panels.drawn(**seen, pixel_threshold=0.5), (768, 768))  # 12 times as large
    expected = np.rint(127.5 * (seen["image"] + 1)).repeat(12, axis=0).repeat(12, axis=1)
    np.testing.assert_array_equal(panel, expected)


def test_a_defect_is_coloured_outlined_and_framed_where_it_is():
    seen = picture() | {"image": np.full((64, 64, 1), -1.0)}
    seen["anomaly_map"][20:30, 40:50] = 1.0
    (region,) = metrics.regions(seen["anomaly_map"], 0.5)
    panel = map_panel(panels.drawn(**seen, pixel_threshold=0.5, boxes=[region["box"]]), (768, 768))
    rows, columns = np.nonzero(np.abs(panel - CYAN).max(axis=-1) < 3)
    assert abs(rows.min() - 240) <= 6  # half a pixel of the map, where it falls from 1 to 0
    assert abs(rows.max() - 360) <= 6
    assert abs(columns.min() - 480) <= 6
    assert abs(columns.max() - 600) <= 6
    assert panel[300, 540].max() > 100  # in its colours
    assert panel[200:230].max() == panel[380:].max() == 0


@pytest.mark.parametrize(("shape", "size"), [((28, 28), (784, 784)), ((1600, 2400), (800, 533)), ((7, 300), (600, 14))])
def test_pictures_of_any_shape_are_drawn_as_large_as_is_of_use(shape, size):
    sheet = panels.drawn(**picture(32, 32, 1), picture=RNG.uniform(-1, 1, (*shape, 3)))
    assert sheet.width == (sheet.height - 4 * panels.GAP - 3 * panels.LINE) // 3 + size[0] + 3 * panels.GAP
    assert np.ptp(map_panel(sheet, size)) > 200


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (1, 1), (2, 800)])
@pytest.mark.parametrize("drawn", [panels.drawn, plots.result])
def test_strips_of_a_pixel_have_a_map(shape, drawn):
    seen = picture(*shape) | {"anomaly_map": np.linspace(0.0, 2.0, shape[0] * shape[1]).reshape(shape)}
    drawn(**seen, pixel_threshold=0.5)


def test_what_exceeds_the_threshold_in_a_strip_is_outlined():
    seen = picture(1, 40) | {"image": np.full((1, 40, 1), -1.0)}
    seen["anomaly_map"][0, 20:] = 1.0
    panel = map_panel(panels.drawn(**seen, pixel_threshold=0.5), (760, 19))
    assert np.abs(panel - CYAN).max(axis=-1).min() < 3


def test_a_long_title_goes_on_in_another_line_and_signs_are_no_formulas():
    one, two = (panels.drawn(**picture(), title=title) for title in ("$a_b$", "costs $5 or $6, " + "a" * 120))
    assert two.height == one.height + panels.LINE
    assert np.asarray(one.crop((0, 0, one.width, panels.LINE + panels.GAP)).convert("L")).min() < 50


def test_query_reconstruction_and_difference_are_below_each_other():
    seen = picture(32, 32)
    sheet = panels.drawn(**seen)  # 25 times as large, beside which three panels of 246 pixels fit
    each = [look.shown(seen[name]) for name in ("image", "reconstruction")]
    for row, colours in enumerate([*each, look.difference(seen["image"], seen["reconstruction"])]):
        top = panels.GAP + panels.LINE + row * (246 + panels.GAP + panels.LINE)
        expected = Image.fromarray(look.in_bytes(colours)).resize((246, 246), Image.Resampling.NEAREST)
        shown = sheet.crop((panels.GAP, top, panels.GAP + 246, top + 246))
        np.testing.assert_array_equal(np.asarray(shown), np.asarray(expected))
