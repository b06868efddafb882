import io
import re

import numpy as np
import pytest
from PIL import Image

from anogan_tf import look, page


def opened(content):
    return Image.open(io.BytesIO(content))


def corners(path):
    """The polygons of a path of SVG, as arrays (points, 2)."""
    lines = [re.findall(r"(\d+) (\d+)", line) for line in path.split("Z")[:-1]]
    return [np.array(line, float) for line in lines]


def area(points):
    x, y = points.T
    return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2


@pytest.mark.parametrize("size", [(40, 60), (600, 400)])
def test_outline_is_around_what_exceeds_the_threshold(size):
    height, width = size
    rows, columns = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    disc = (0.25 - np.hypot(rows - 0.5, columns - 0.6)).astype(np.float32)  # above 0 within 0.25 of its middle
    (line,) = corners(page.outline(disc, 0.0))
    np.testing.assert_allclose(np.hypot(*(line / 1000 - [0.6, 0.5]).T), 0.25, atol=0.02)
    assert page.outline(disc, 1.0) == page.outline(disc, None) == ""


def test_outline_closes_at_the_edges_of_the_picture():
    half = np.zeros((20, 20), np.float32)
    half[:, 10:] = 1.0
    (line,) = corners(page.outline(half, 0.5))
    assert area(line) == pytest.approx(1000 * 500, rel=0.001)
    assert line.max() == 1000
    corner = np.zeros((20, 20), np.float32)
    corner[:5, :5] = corner[15:, 15:] = 1.0
    assert len(corners(page.outline(corner, 0.5))) == 2


def test_thumbnail_keeps_the_shape_of_its_picture():
    assert opened(page.thumbnail(np.zeros((600, 300, 3)))).size == (80, 160)
    assert opened(page.thumbnail(np.zeros((28, 28, 1)))).size == (28, 28)
    levels = np.asarray(opened(page.thumbnail(np.tile(np.linspace(-1, 1, 90)[:, None, None], (1, 90, 1)))), float)
    np.testing.assert_allclose(levels[..., 0].mean(axis=1), np.linspace(0, 255, 90), atol=4)


def test_layers_are_those_of_the_picture():
    rng = np.random.default_rng(0)
    image, reconstruction = np.kron(rng.uniform(-1, 1, (2, 4, 4, 3)), np.ones((1, 8, 8, 1)))
    anomaly_map = np.linspace(0, 1, 300 * 600, dtype=np.float32).reshape(300, 600)
    picture, heat, drawn, difference = map(
        opened, page.layers(image, reconstruction, anomaly_map, picture=np.zeros((300, 600, 3)), pixel_threshold=0.5)
    )
    assert picture.size == (600, 300)
    assert heat.size == (256, 128)
    opacity = np.asarray(heat)[..., 3]
    assert opacity[:62].max() == 0
    assert opacity[66:].min() > 60
    np.testing.assert_allclose(np.asarray(drawn, float) / 127.5 - 1, reconstruction, atol=0.1)
    assert np.asarray(difference, float).mean() == pytest.approx(
        255 * look.difference(image, reconstruction).mean(), rel=0.05
    )


def test_content_of_the_page_ends_no_script_and_has_no_markup():
    row = {"number": 1, "id": "</script><script>x</script> & \u2028", "anomaly_score": 1.0, "p_value": None}
    row |= {"decision": None, "prediction": 1, "label": None, "regions": []}
    counts = {"total": 1, "anomalous": 1, "suspicious": 0, "normal": 0}
    text = page.render([row], {}, {"threshold": 0.5, "threshold_method": "given"}, counts=counts)
    assert text.count("<script") == text.count("</script>") == 2
    assert "\u2028" not in text


@pytest.mark.parametrize(
    ("method", "promised", "not_promised"), [("split", "at most", "about"), ("cross", "about", "at most")]
)
def test_the_page_promises_no_more_than_the_calibration_does(method, promised, not_promised):
    metrics = {"threshold": 0.5, "threshold_method": "conformal", "alpha": 0.05, "calibration": {"method": method}}
    text = page.render([], {}, metrics, counts={"total": 1, "anomalous": 1, "suspicious": 0, "normal": 0})
    assert f"so that {promised} 5.0 % of new normal pictures exceed it" in text
    assert f'"promised": "{promised}"' in text
    assert f"{not_promised} 5.0 %" not in text


def test_the_page_says_what_to_mind():
    metrics = {"threshold": 0.5, "threshold_method": "given", "mind": ["The generator collapsed: <b>all</b> alike."]}
    counts = {"total": 1, "anomalous": 1, "suspicious": 0, "normal": 0}
    text = page.render([], {}, metrics, counts=counts)
    assert "<li>The generator collapsed: &lt;b&gt;all&lt;/b&gt; alike.</li>" in text
    assert "What to mind" not in page.render([], {}, metrics | {"mind": []}, counts=counts)


def test_a_normal_picture_has_no_colour_of_an_anomalous_one():
    """Blue, orange and vermillion stay apart for people who see no red or no green (Viénot et al. 1999)."""
    colours = np.array(
        [[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in (look.NORMAL, look.SUSPICIOUS, look.ANOMALOUS)]
    )
    protan = np.array([[0.112, 0.888, 0.0], [0.112, 0.888, 0.0], [0.004, -0.004, 1.0]])
    deutan = np.array([[0.293, 0.707, 0.0], [0.293, 0.707, 0.0], [-0.022, 0.022, 1.0]])
    for seen in (protan, deutan):
        linear = (colours / 255.0) ** 2.2 @ seen.T
        seen_colours = 255 * np.clip(linear, 0, 1) ** (1 / 2.2)
        for first, second in ((0, 1), (0, 2), (1, 2)):
            assert np.linalg.norm(seen_colours[first] - seen_colours[second]) > 50
