"""A scored image as one picture: the query, its reconstruction, where the two differ, and the map."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Sequence
from pathlib import Path

import contourpy
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from anogan_tf import look

LARGE = 800  # pixels of the longer side of the panel with the map
GAP, LINE = 8, 22  # pixels between panels, and of a line of text
HALO = "#000000AA"  # so that an outline is seen on any ground


def drawn(
    image: np.ndarray,
    reconstruction: np.ndarray,
    anomaly_map: np.ndarray,
    *,
    picture: np.ndarray | None = None,
    pixel_threshold: float | None = None,
    boxes: Sequence[tuple[int, int, int, int]] = (),
    title: str = "",
) -> Image.Image:
    """Three small panels in a column, and the map over the query beside them. Arguments as of `plots.result`.

    A figure takes six times as long, and a report draws a hundred.
    """
    query = look.shown(image if picture is None else picture)
    width, height = size = _large(query.shape)
    column = (max(height, LARGE // 2) - 2 * (GAP + LINE)) // 3
    lines = _wrapped(title, column + GAP + width)
    top = GAP + LINE * (len(lines) + 1)
    bottom = top + max(height, 3 * column + 2 * (GAP + LINE))
    sheet = Image.new("RGB", (column + width + 3 * GAP, bottom + GAP), "white")
    for row, (name, colours) in enumerate(look.compared(image, reconstruction).items()):
        place = (GAP, top + row * (column + GAP + LINE))
        _put(sheet, name, _stretched(colours, _inside(colours.shape, column)), place)
    over = _with_map(_stretched(query, size), anomaly_map, pixel_threshold, boxes)
    _put(sheet, "anomaly map", over, (column + 2 * GAP, top))
    for number, line in enumerate(lines):
        ImageDraw.Draw(sheet).text((GAP, GAP + number * LINE), line, "black", _font())
    return sheet


def _large(shape):
    """The size (width, height) of a picture `(height, width, …)` as many times larger, or as much smaller, as fits."""
    height, width = shape[:2]
    scale = LARGE // max(height, width) or LARGE / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _inside(shape, side):
    """The size (width, height) of a picture `(height, width, …)` that fills a square."""
    height, width = shape[:2]
    return max(1, side * width // max(height, width)), max(1, side * height // max(height, width))


def _stretched(colours, size):
    picture = Image.fromarray(look.in_bytes(colours))
    larger = size[0] >= picture.width
    return picture.resize(size, Image.Resampling.NEAREST if larger else Image.Resampling.BOX)


def _put(sheet, name, picture, place):
    """Pastes a panel, with its name above it."""
    sheet.paste(picture, place)
    ImageDraw.Draw(sheet).text((place[0], place[1] - LINE), name, "black", _font())


def _with_map(picture, anomaly_map, pixel_threshold, boxes):
    """A picture with the map over it, its outline, and frames in the pixels of the map."""
    values = look.resized(anomaly_map, LARGE)
    heat = Image.fromarray(look.in_bytes(look.heat(values, pixel_threshold)))
    heat = heat.resize(picture.size, Image.Resampling.BILINEAR)
    picture.paste(heat, mask=heat)
    draw = ImageDraw.Draw(picture, "RGBA")
    if pixel_threshold is not None:
        scale = np.divide(picture.size, values.shape[::-1])
        for line in contourpy.contour_generator(z=look.spread(values)).lines(pixel_threshold):
            _line(draw, (line + 0.5) * scale, 2)
    scale = np.divide(picture.size, anomaly_map.shape[::-1])
    for top, left, bottom, right in boxes:
        corners = [(left, top), (right + 1, top), (right + 1, bottom + 1), (left, bottom + 1), (left, top)]
        _line(draw, corners * scale, 1)
    return picture


def _line(draw, points, width):
    points = [tuple(point) for point in points.tolist()]
    draw.line(points, HALO, width + 2, joint="curve")
    draw.line(points, look.OUTLINE, width, joint="curve")


def _wrapped(text, width):
    """The lines of a text, of at most so many pixels."""
    return textwrap.wrap(text, int(width / _font().getlength("0")))


@functools.cache
def _font():
    """That of all figures, which comes with matplotlib."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 15)
