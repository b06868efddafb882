"""One look for all that is drawn: colours that colour-blind people tell apart, and the style of figures."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import matplotlib
import numpy as np
from cycler import cycler

from anogan_tf import metrics

NORMAL, SUSPICIOUS, ANOMALOUS = "#0072B2", "#E69F00", "#D55E00"  # blue, orange, vermillion
OUTLINE, PALE = "#00E5FF", "#8A8A8A"
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 12.0,
    "axes.titlesize": 12.0,
    "figure.titlesize": 13.0,
    "legend.fontsize": 11.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=[NORMAL, ANOMALOUS, "#009E73", "#CC79A7", SUSPICIOUS, "#56B4E9"]),
    "grid.color": "#E5E5E5",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "image.interpolation": "nearest",
}
# From vermillion over orange to a light yellow: a weak map is no dark haze over its picture.
HEAT = matplotlib.colors.LinearSegmentedColormap.from_list("heat", [ANOMALOUS, SUSPICIOUS, "#FFF3A0"])
DIFFERENCE = matplotlib.colormaps["inferno"]
GAP = 0.06  # between the pictures of a grid, as a part of their longer side
FULL_DIFFERENCE = 0.5  # the part of black to white that a difference takes to be drawn at its brightest

P, R = ParamSpec("P"), TypeVar("R")


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """A decorator: what the function draws has the `STYLE`, whatever the settings of matplotlib are elsewhere."""

    @functools.wraps(function)
    def inside(*args: P.args, **options: P.kwargs) -> R:
        with matplotlib.rc_context(STYLE):
            return function(*args, **options)

    return inside


def shown(image: np.ndarray) -> np.ndarray:
    """An image `(height, width, 1 or 3)` in [-1, 1] as RGB in [0, 1]."""
    return np.broadcast_to(np.clip((image + 1.0) / 2.0, 0.0, 1.0), (*image.shape[:2], 3))


def grid(pictures: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Pictures of one size, RGB in [0, 1], as one picture: row by row, on white."""
    height, width, _ = pictures[0].shape
    gap = max(1, round(GAP * max(height, width)))
    rows = -(-len(pictures) // columns)
    canvas = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), np.float32)
    for i, picture in enumerate(pictures):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        canvas[top : top + height, left : left + width] = picture
    return canvas


def in_bytes(colours: np.ndarray) -> np.ndarray:
    """Colours in [0, 1] as bytes."""
    return np.rint(255 * np.asarray(colours)).astype(np.uint8)


def difference(image: np.ndarray, reconstruction: np.ndarray) -> np.ndarray:
    """|x - G(z)| of two images in [-1, 1], averaged over channels, as RGB in [0, 1]: black where there is none."""
    strength = np.abs(image - reconstruction).mean(axis=-1) / 2.0
    return DIFFERENCE(np.clip(strength / FULL_DIFFERENCE, 0.0, 1.0))[..., :3]


def heat(anomaly_map: np.ndarray, pixel_threshold: float | None = None) -> np.ndarray:
    """A map as colours to be laid over its picture.

    Args:
        anomaly_map: `(height, width)`.
        pixel_threshold: What the coloured part exceeds; None for all that is above 0, fainter where it is weak.

    Returns:
        RGB and opacity `(height, width, 4)` in [0, 1].
    """
    least = max(pixel_threshold or 0.0, 0.0)
    top = max(float(anomaly_map.max()), 1.5 * least, float(np.finfo(np.float32).tiny))
    strength = (anomaly_map.clip(least) - least) / (top - least)
    colours = HEAT(strength)
    opacity = 0.75 * strength if pixel_threshold is None else 0.35 + 0.4 * strength
    colours[..., 3] = np.where(anomaly_map > least, opacity, 0.0)
    return colours


def compared(image: np.ndarray, reconstruction: np.ndarray) -> dict[str, np.ndarray]:
    """The panels of an image beside its reconstruction, by their names, RGB in [0, 1]."""
    return {
        "query": shown(image),
        "reconstruction": shown(reconstruction),
        "difference": difference(image, reconstruction),
    }


def spread(values: np.ndarray) -> np.ndarray:
    """A map of one row or column as one of two, as contours need."""
    return np.pad(values, [(0, int(side < 2)) for side in values.shape], "edge")


def resized(anomaly_map: np.ndarray, longest: int) -> np.ndarray:
    """A map of at most `longest` pixels a side, in its own shape."""
    scale = min(1.0, longest / max(anomaly_map.shape))
    height, width = (max(1, round(side * scale)) for side in anomaly_map.shape)
    return metrics.resize_map(anomaly_map, (height, width))
