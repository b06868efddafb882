"""Arrays to matplotlib Figures, all in one `look`. Nothing here shows a figure or saves it, so it works headless."""

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib import patheffects
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike
from sklearn.metrics import roc_auc_score, roc_curve

from anogan_tf import look
from anogan_tf.look import ANOMALOUS, NORMAL, PALE, styled

LONGEST = 1024
HALO = (patheffects.withStroke(linewidth=3, foreground="#000000AA"),)  # so that an outline is seen on any ground


@styled
def result(
    image: np.ndarray,
    reconstruction: np.ndarray,
    anomaly_map: np.ndarray,
    *,
    picture: np.ndarray | None = None,
    pixel_threshold: float | None = None,
    boxes: Sequence[tuple[int, int, int, int]] = (),
    title: str = "",
) -> Figure:
    """One scored image: query x, reconstruction G(z), their difference, and the map over the query.

    Args:
        image: `(height, width, channels)` in [-1, 1].
        reconstruction: Of the same shape.
        anomaly_map: `(height, width)`, not negative; of the image's size or of any other.
        picture: What the map is laid over, large, in place of the query: `(height, width, channels)` in [-1, 1], of any
            size.
        pixel_threshold: The map is drawn where it exceeds this, within a contour; None to draw all of it, without.
        boxes: Frames to draw, (top, left, bottom, right) in the map's pixels, all four inside.
        title: Text above the panels, such as the score and the decision.
    """
    figure, axes = _row_of_four() if picture is None else _large_fourth(picture.shape)
    for axis, (name, panel) in zip(axes, look.compared(image, reconstruction).items(), strict=False):
        _panel(axis, panel, name)
    _overlay(axes[3], look.shown(image if picture is None else picture), anomaly_map, pixel_threshold, boxes)
    figure.suptitle(title, wrap=True)
    return figure


def shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """The `(height, width)` at which a picture of `size` is drawn: its own, or smaller, of the same shape."""
    scale = min(1.0, LONGEST / max(size))
    return tuple(max(1, round(side * scale)) for side in size)


def _row_of_four():
    figure = Figure(figsize=(10, 3), layout="constrained")
    return figure, figure.subplots(1, 4)


def _large_fourth(shape):
    """Three small panels in a column, and one for a picture of `shape` beside them."""
    height, width = 10.0 * np.array(shape[:2]) / max(shape[:2])
    height = max(height, 5.0)  # of the figure, where the picture is a strip
    figure = Figure(figsize=(width + height / 3, height + 0.4), layout="constrained")
    axes = figure.subplot_mosaic([[name, "map"] for name in "abc"], width_ratios=(height / 3, width))
    return figure, [axes[name] for name in ("a", "b", "c", "map")]


def _overlay(axis, picture, anomaly_map, pixel_threshold, boxes):
    """The map over a picture, both stretched to the size of the map, in whose pixels the axis counts."""
    height, width = anomaly_map.shape
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    _panel(axis, picture, "anomaly map", extent=extent)
    values = look.resized(anomaly_map, LONGEST)
    axis.imshow(look.heat(values, pixel_threshold), extent=extent)
    if pixel_threshold is not None and values.min() < pixel_threshold < values.max():
        line = {"colors": look.OUTLINE, "linewidths": 1.5, "origin": "upper", "extent": extent}
        axis.contour(look.spread(values), [pixel_threshold], **line).set_path_effects(HALO)
    for top, left, bottom, right in boxes:
        corner = (left - 0.5, top - 0.5)
        frame = Rectangle(corner, right - left + 1, bottom - top + 1, fill=False, ec=look.OUTLINE, ls=":", lw=1.5)
        frame.set_path_effects(HALO)
        axis.add_patch(frame)


@styled
def histogram(scores: ArrayLike, threshold: float, labels: ArrayLike | None = None) -> Figure:
    """The distribution of scores, by label where labels are given, with the threshold."""
    scores = np.asarray(scores)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    bins = np.histogram_bin_edges(scores, bins=min(50, max(10, len(scores) // 10)))
    if labels is None:
        axis.hist(scores, bins, color=PALE, label="pictures", density=True)
    else:
        for label, name, colour in ((0, "normal", NORMAL), (1, "anomalous", ANOMALOUS)):
            some = scores[np.asarray(labels) == label]
            if len(some):
                axis.hist(some, bins, alpha=0.6, label=name, color=colour, density=True)
    axis.axvline(threshold, color="black", linestyle="--", label=f"threshold {threshold:.4g}")
    axis.set(xlabel="anomaly score", ylabel="density")
    axis.legend()
    return figure


@styled
def roc(labels: ArrayLike, scores: ArrayLike) -> Figure:
    """The part of anomalous images found over the part of normal ones that raise an alarm, with its area, the AUROC."""
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axis = figure.subplots()
    false_positives, true_positives, _ = roc_curve(labels, scores)
    axis.plot(false_positives, true_positives, color=ANOMALOUS, label=f"AUROC {roc_auc_score(labels, scores):.3f}")
    axis.plot([0, 1], [0, 1], color=PALE, linestyle=":")
    axis.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
    axis.legend(loc="lower right")
    return figure


@styled
def samples(images: np.ndarray, columns: int = 8, title: str = "") -> Figure:
    """Images `(n, height, width, channels)` in [-1, 1], in a grid."""
    grid = look.grid([look.shown(image) for image in images], columns)
    figure = Figure(figsize=(columns, columns * grid.shape[0] / grid.shape[1] + 0.3), layout="constrained")
    _panel(figure.subplots(), grid)
    figure.suptitle(title)
    return figure


@styled
def losses(history: dict[str, Sequence[float]]) -> Figure:
    """Curves of a training, from a dict of a value per epoch for each name: losses, and beside them what is none."""
    names = sorted(history, key=lambda name: not name.endswith("loss"))
    groups = [list(group) for _, group in itertools.groupby(names, key=lambda name: name.endswith("loss"))]
    figure = Figure(figsize=(4.5 * len(groups), 3.5), layout="constrained")
    for axis, group in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups, strict=True):
        for name in group:
            axis.plot(range(1, len(history[name]) + 1), history[name], label=name.replace("_", " "))
        axis.set(xlabel="epoch")
        axis.legend()
    return figure


@styled
def reconstructions(
    images: Sequence[np.ndarray], reconstructed: Sequence[np.ndarray], titles: Sequence[str] = ()
) -> Figure:
    """Queries x, their reconstructions, and where the two differ; a column an image.

    Args:
        images: n images `(height, width, channels)` in [-1, 1].
        reconstructed: Of the same shapes.
        titles: What stands above each column, such as its score.
    """
    figure = Figure(figsize=(len(images), 3.3), layout="constrained")
    axes = figure.subplots(3, len(images), squeeze=False)
    for column, (image, reconstruction) in enumerate(zip(images, reconstructed, strict=True)):
        panels = look.shown(image), look.shown(reconstruction), look.difference(image, reconstruction)
        for axis, picture in zip(axes[:, column], panels, strict=True):
            _panel(axis, picture)
    for axis, title in zip(axes[0], titles, strict=False):
        axis.set_title(title)
    figure.suptitle("query, reconstruction, difference")
    return figure


@styled
def mapping_loss(losses_: np.ndarray) -> Figure:
    """The loss L(z) over the steps of a search, `(steps + 1, n)`: a line an image, and their mean."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    axis.plot(losses_, color=PALE, alpha=0.4, linewidth=0.8)
    axis.plot(np.mean(losses_, axis=1), color=ANOMALOUS, label="mean")
    axis.set(xlabel="step", ylabel="mapping loss L(z)")
    axis.legend()
    return figure


@styled
def search_path(
    images: Sequence[np.ndarray], reconstructions: Sequence[Sequence[np.ndarray]], steps: Sequence[int]
) -> Figure:
    """Queries, and what the search drew for them at some steps.

    Args:
        images: Queries `(n, height, width, channels)`.
        reconstructions: `(len(steps), n, height, width, channels)`.
        steps: The steps shown.
    """
    figure = Figure(figsize=(len(steps) + 1, len(images) + 0.3), layout="constrained")
    for row, axes in enumerate(figure.subplots(len(images), len(steps) + 1, squeeze=False)):
        names = ["query", *(f"step {step}" for step in steps)] if row == 0 else [""] * (len(steps) + 1)
        for axis, image, name in zip(axes, (images[row], *(r[row] for r in reconstructions)), names, strict=True):
            _panel(axis, look.shown(image), name)
    return figure


def pixels(figure: Figure) -> np.ndarray:
    """A figure as bytes `(height, width, 3)`."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def _panel(axis, image, name="", **options):
    axis.imshow(image, cmap="gray", vmin=0, vmax=1, **options)
    axis.set_title(name)
    axis.axis("off")
